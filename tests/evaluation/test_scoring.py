from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from stages.core.errors import TableError
from stages.core.shares import describe_share
from stages.evaluation import metrics, scoring
from tests.bench import bench_coverage

LEUKAEMIA = ["AML", "APL", "healthy"]


def always(label):
    """One constant answer for every hospital."""
    return defaultdict(lambda: label)


def pictures(hospital, part, truth, predicted, groups=None, unit="patient"):
    """The frame that `score_hospitals` takes, for one hospital."""
    groups = groups if groups is not None else [f"{hospital}/{i}" for i in range(len(truth))]
    return pd.DataFrame(
        {
            "hospital": hospital,
            "part": part,
            "label": truth,
            "predicted": predicted,
            "group": groups,
            "unit": unit,
        }
    )


def test_a_hospital_on_both_sides_stops():
    mixed = pd.concat(
        [pictures("north", "test", ["a"], ["a"]), pictures("north", "unseen", ["b"], ["b"])]
    )
    with pytest.raises(TableError, match=r"data/split: hospital north.*test, unseen.*-f split"):
        scoring.score_hospitals(mixed, ["a", "b"], always("a"), 100, 1)


def three_hospitals():
    return pd.concat(
        [
            pictures("north", "test", ["a", "b"] * 30, ["a", "b"] * 28 + ["b", "a"] * 2),
            pictures("east", "unseen", ["a", "b"] * 20, ["a", "b"] * 10 + ["b", "b"] * 10),
            pictures("west", "unseen", ["a"] * 10, ["a"] * 6 + ["b"] * 4, unit="slide"),
        ]
    )


def test_report_holds_each_hospital_the_means_the_worst_and_the_drop():
    """Means weigh hospitals alike; the worst is by macro F1; every block has its counts."""
    scores = scoring.score_hospitals(three_hospitals(), ["a", "b", "c"], always("b"), 300, 1)
    content = scoring.report(scores, ["a", "b", "c"])
    north, east, west = (content["by_hospital"][name] for name in ("north", "east", "west"))
    assert north["metrics"]["accuracy"]["value"] == pytest.approx(56 / 60)
    assert (west["n_images"], west["n_groups"], west["unit"]) == (10, 10, "slide")
    assert west["n_by_class"] == {"a": 10, "b": 0, "c": 0}
    assert west["per_class"]["c"]["recall"] is None
    assert north["baseline"] == {
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": pytest.approx(1 / 3),
        "kappa": 0.0,
    }
    assert west["baseline"]["accuracy"] == 0.0
    assert west["baseline_class"] == "b"
    mean = content["mean_unseen"]
    for name in metrics.METRICS:
        expected = (east["metrics"][name]["value"] + west["metrics"][name]["value"]) / 2
        assert mean["metrics"][name]["value"] == pytest.approx(expected)
    assert (mean["n_images"], mean["unit"]) == (50, "patient + slide")
    assert content["drop"]["classes"] == ["a"]  # as west holds it alone
    of_a = 28 / 30 - (10 / 20 + 6 / 10) / 2
    assert content["drop"]["metrics"]["accuracy"]["value"] == pytest.approx(of_a)
    f1 = {name: content["by_hospital"][name]["metrics"]["macro_f1"] for name in ("east", "west")}
    worst = min(f1, key=lambda name: f1[name]["value"])
    assert content["worst_unseen"]["hospital"] == worst
    assert content["worst_unseen"]["metrics"]["macro_f1"] == f1[worst]
    for block in (north, east, west, mean, content["drop"]):
        of_one_class = {"kappa"} if block in (west, content["drop"]) else set()
        for name, one in block["metrics"].items():
            if name in of_one_class:  # where kappa is 0 whatever is called
                assert (one["low"], one["interval_reason"]) == (None, scoring.ALIKE)
            else:
                assert one["low"] <= one["value"] <= one["high"]


def test_the_mean_of_hospitals_is_surer_than_its_parts():
    """Independent draws within two equal hospitals: the mean's interval is 1/sqrt(2) as wide."""
    rng = np.random.default_rng(0)
    frames = []
    for name in ("east", "west"):
        truth = rng.choice(["a", "b"], 400)
        is_right = rng.random(400) < 0.7
        frames.append(
            pictures(
                name, "unseen", truth, np.where(is_right, truth, np.where(truth == "a", "b", "a"))
            )
        )
    scores = scoring.score_hospitals(pd.concat(frames), ["a", "b"], always("a"), 4000, 3)
    content = scoring.report(scores, ["a", "b"])

    def width(block):
        score = block["metrics"]["accuracy"]
        return score["high"] - score["low"]

    alone = np.mean([width(block) for block in content["by_hospital"].values()])
    assert width(content["mean_unseen"]) == pytest.approx(alone / np.sqrt(2), rel=0.12)


def in_groups(n_groups, n):
    return [f"p{i % n_groups}" for i in range(n)]


@pytest.mark.parametrize(("n_groups", "is_given"), [(1, False), (5, False), (6, True)])
def test_few_groups_give_scores_but_no_interval(n_groups, is_given):
    """Of one hospital that is too small the mean and the drop have none either; all say why."""
    frame = pd.concat(
        [
            pictures("north", "test", ["a", "b"] * 15, ["a", "b"] * 15),
            pictures("east", "unseen", ["a", "b"] * 15, ["a", "a", "a", "b", "a", "b"] * 5,
                     groups=in_groups(n_groups, 30)),
            pictures("west", "unseen", ["a", "b"] * 15, ["a", "b"] * 15),
        ]
    )  # fmt: skip
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 200, 1), ["a", "b"]
    )
    assert content["min_groups"] == 6
    east = content["by_hospital"]["east"]
    for block in (east, content["worst_unseen"], content["mean_unseen"], content["drop"]):
        score = block["metrics"]["macro_f1"]
        assert score["value"] is not None
        assert (score["low"] is not None) == (score["high"] is not None) == is_given
        assert block.get("interval_reason") == (None if is_given else "fewer than 6 groups at east")
    for block in (content["by_hospital"]["north"], content["mean_in_domain"]):
        assert block["metrics"]["macro_f1"]["low"] is not None
        assert "interval_reason" not in block


@pytest.mark.parametrize("classes", [["a", "b"], list("abcdefghijk")])
def test_a_perfect_hospital_has_an_interval_of_some_width(classes):
    """All right in every draw, and still not known to a hair; the more pictures, the surer."""
    widths = []
    for n in (5, 50):
        truth = classes * n
        frame = pictures("north", "test", truth, truth, groups=in_groups(10, len(truth)))
        [entry] = scoring.score_hospitals(frame, classes, always("a"), 1000, 1)
        for score in scoring.report([entry], classes)["by_hospital"]["north"]["metrics"].values():
            assert score["value"] == score["high"] == 1.0
            assert score["low"] < 1
        widths.append(1 - scoring.report([entry], classes)["mean_in_domain"]["metrics"]["accuracy"]
                      ["low"])  # fmt: skip
        # The rule of three for a share of which no miss was seen, and no more by many classes.
        assert 1.5 / len(truth) < widths[-1] < 12 / len(truth)
    assert widths[1] < widths[0]


def test_a_class_of_two_pictures_widens_the_interval():
    """Both right: redrawing alone cannot know that the next may be wrong."""
    truth = (["a"] * 99 + ["b"] * 99) + ["c"] * 2
    frame = pictures("north", "test", truth, truth, groups=in_groups(20, 200))
    [rare] = scoring.score_hospitals(frame, ["a", "b", "c"], always("a"), 1000, 1)
    score = scoring.report([rare], ["a", "b", "c"])["by_hospital"]["north"]["metrics"]["macro_f1"]
    assert 0.6 < score["low"] < 0.9


def test_where_no_patient_is_published_the_block_says_that_its_interval_is_too_narrow():
    """The hospital's, and every sum that it is in; not that of a hospital with patients."""
    content = scoring.report(
        scoring.score_hospitals(three_hospitals(), ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    for block in (content["by_hospital"]["west"], content["mean_unseen"], content["drop"]):
        assert "too narrow" in block["interval_note"]
    for name in ("north", "east"):
        assert "interval_note" not in content["by_hospital"][name]


def varied(seed):
    """Three hospitals of other classes: home has a to d, east b to e, west b and c."""
    rng = np.random.default_rng(seed)
    frames = []
    for name, part, held in (
        ("home", "test", "abcd"), ("east", "unseen", "bcde"), ("west", "unseen", "bc"),
    ):  # fmt: skip
        truth = rng.choice(list(held), 120)
        predicted = np.where(rng.random(120) < 0.7, truth, rng.choice(list("abcde"), 120))
        frames.append(pictures(name, part, truth, predicted, groups=in_groups(12, 120)))
    return pd.concat(frames)


def test_the_drop_compares_the_images_of_the_same_classes():
    """By scikit-learn, on the images of b and c: the only classes that all three hold."""
    frame, classes = varied(0), list("abcde")
    content = scoring.report(scoring.score_hospitals(frame, classes, always("b"), 500, 1), classes)
    drop = content["drop"]
    assert (drop["classes"], drop["n_classes_held"]) == (["b", "c"], 5)
    own = frame[frame["label"].isin(["b", "c"])]
    by_sklearn = {
        "macro_f1": lambda one: f1_score(
            one["label"], one["predicted"], labels=["b", "c"], average="macro"
        ),
        "balanced_accuracy": lambda one: recall_score(
            one["label"], one["predicted"], labels=["b", "c"], average="macro"
        ),
        "accuracy": lambda one: (one["label"] == one["predicted"]).mean(),
    }
    for name, measure in by_sklearn.items():
        home, east, west = (measure(own[own["hospital"] == h]) for h in ("home", "east", "west"))
        score = drop["metrics"][name]
        assert score["value"] == pytest.approx(home - (east + west) / 2)
        assert score["low"] < score["value"] < score["high"]
    means = [content[name]["metrics"]["macro_f1"]["value"] for name in ("mean_in_domain",
             "mean_unseen")]  # fmt: skip
    assert drop["metrics"]["macro_f1"]["value"] != pytest.approx(means[0] - means[1], abs=1e-3)


def test_hospitals_of_no_common_class_have_no_drop_and_say_so():
    """As a collection of sick and one of healthy people."""
    frame = pd.concat(
        [
            pictures("north", "test", ["a"] * 9, ["a"] * 9),
            pictures("east", "unseen", ["b"] * 9, ["b"] * 9),
        ]
    )
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    assert content["drop"] is None
    assert content["drop_reason"] == "no class is held by every hospital that is compared"
    assert content["mean_unseen"] is not None


def test_groups_without_the_shared_classes_do_not_count_for_the_drop():
    """East holds a in five of its twelve groups: too few, and the drop says so."""
    truth = ["a"] * 5 + ["b"] * 7
    frame = pd.concat(
        [
            pictures("north", "test", ["a"] * 20, ["a"] * 20),
            pictures("east", "unseen", truth, truth),
        ]
    )
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    assert content["drop"]["interval_reason"] == "fewer than 6 groups at east"
    assert "interval_reason" not in content["by_hospital"]["east"]


def test_without_an_unseen_hospital_its_numbers_are_null_with_a_reason():
    frame = pictures("north", "test", ["a", "b"] * 5, ["a", "b"] * 5)
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    assert content["mean_unseen"] is content["worst_unseen"] is content["drop"] is None
    assert "split.train_hospitals" in content["unseen_reason"]
    assert content["drop_reason"] == content["unseen_reason"]
    assert "in_domain_reason" not in content


def test_without_test_images_at_home_the_in_domain_mean_is_null_with_a_reason():
    """As split.method leave_hospitals_out leaves it: the unseen hospitals are scored as ever."""
    frame = pictures("east", "unseen", ["a", "b"] * 5, ["a", "b"] * 5)
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    assert content["mean_in_domain"] is content["drop"] is None
    assert "leave_hospitals_out" in content["in_domain_reason"]
    assert content["drop_reason"] == content["in_domain_reason"]
    assert content["mean_unseen"]["metrics"]["accuracy"]["value"] == 1.0
    assert "unseen_reason" not in content


def test_scores_depend_neither_on_row_order_nor_on_other_hospitals():
    """Shuffled rows, or one hospital fewer, leave every number of a hospital as it was."""
    frame = three_hospitals()
    classes = ["a", "b"]
    known = scoring.report(scoring.score_hospitals(frame, classes, always("a"), 200, 5), classes)
    shuffled = frame.sample(frac=1, random_state=2)
    again = scoring.report(scoring.score_hospitals(shuffled, classes, always("a"), 200, 5), classes)
    assert again == known
    fewer = frame[frame["hospital"] != "east"]
    rest = scoring.report(scoring.score_hospitals(fewer, classes, always("a"), 200, 5), classes)
    assert rest["by_hospital"]["west"] == known["by_hospital"]["west"]


def test_class_scores_are_listed_by_hospital_and_class():
    content = scoring.report(
        scoring.score_hospitals(three_hospitals(), ["b", "a"], always("a"), 100, 1), ["b", "a"]
    )
    listed = scoring.list_class_scores(content)
    assert list(zip(listed["hospital"], listed["class"], strict=True)) == [
        (hospital, name) for hospital in ("east", "north", "west") for name in ("a", "b")
    ]
    west = listed[listed["hospital"] == "west"].set_index("class")
    assert west.loc["a", "n"] == 10
    assert np.isnan(west.loc["b", "recall"])


def test_every_draw_is_scored_over_the_same_classes():
    """A class with one picture, called wrong: no draw may leave it out and look better for it.

    Of the other two classes all are right, so that the mean F1 over three classes never comes
    near 1, while that over two would be 1.
    """
    frame = pd.DataFrame(
        {
            "hospital": "north",
            "part": "unseen",
            "label": ["a"] * 30 + ["b"] * 30 + ["c"],
            "predicted": ["a"] * 30 + ["b"] * 30 + ["a"],
            "group": [str(number) for number in range(61)],
            "unit": "image",
        }
    )
    classes = ["a", "b", "c"]
    [scores] = scoring.score_hospitals(frame, classes, always("a"), 500, 1)
    # A draw with two of c and most of an imagined hit comes to a third of a hit for c.
    assert len(scores.draws["macro_f1"].scores) == 500
    assert np.quantile(scores.draws["macro_f1"].scores, 0.5) < 0.8
    assert np.quantile(scores.draws["balanced_accuracy"].scores, 0.5) < 0.8


def test_a_class_that_a_draw_lacks_counts_with_its_observed_score():
    """Observed recalls 1, 0.5 and 0; a draw without the last two has their observed ones."""
    observed = np.array([[4, 0, 0], [1, 1, 0], [1, 0, 0]], np.float64)
    draw = np.array([[6, 1, 0], [0, 0, 0], [0, 0, 0]], np.float64)
    assert metrics.balanced_accuracy(draw, observed) == pytest.approx((6 / 7 + 0.5 + 0) / 3)
    assert metrics.balanced_accuracy(draw) == pytest.approx(6 / 7)
    assert metrics.accuracy(draw, observed) == pytest.approx(6 / 7)


def test_each_official_part_is_scored_as_if_alone():
    """Two cameras of one hospital: the scores, baseline, counts and groups of each."""
    frame = pd.concat(
        [
            pictures("east", "unseen", ["a", "b"] * 20, ["a", "b"] * 19 + ["b", "b"]).assign(
                official_part="TestA"
            ),
            pictures("east", "unseen", ["a"] * 10, ["a"] * 4 + ["b"] * 6).assign(
                official_part="TestB"
            ),
            pictures("west", "unseen", ["a"] * 3, ["a"] * 3).assign(official_part="TestA"),
            pictures("north", "test", ["a"] * 3, ["a"] * 3).assign(official_part=None),
        ]
    )
    classes = ["a", "b"]
    found = scoring.score_official_parts(frame, classes, always("a"), 300, 1)
    parts = found["east"]["by_official_part"]
    assert list(parts) == ["TestA", "TestB"]
    for name, block in parts.items():
        rows = frame[(frame["hospital"] == "east") & (frame["official_part"] == name)]
        expected = metrics.score(rows["label"], rows["predicted"], classes)
        for metric, value in expected.items():
            assert block["metrics"][metric]["value"] == pytest.approx(value)
        assert (block["n_images"], block["n_groups"]) == (len(rows), rows["group"].nunique())
    assert parts["TestB"]["n_by_class"] == {"a": 10, "b": 0}
    assert parts["TestB"]["metrics"]["accuracy"]["value"] == 0.4
    assert parts["TestA"]["baseline"]["accuracy"] == 0.5
    assert found["west"]["by_official_part"] is found["north"]["by_official_part"] is None
    assert found["west"]["by_official_part_reason"].endswith("one official part: TestA")
    assert found["north"]["by_official_part_reason"].startswith("no official part of the scored")


def test_images_of_no_official_part_are_not_lost():
    """They are a part of their own, so that the parts add up to the hospital."""
    frame = pictures("east", "unseen", ["a", "b"] * 5, ["a", "b"] * 5)
    frame["official_part"] = ["TestA"] * 6 + [None] * 4
    found = scoring.score_official_parts(frame, ["a", "b"], always("a"), 100, 1)
    parts = found["east"]["by_official_part"]
    assert {name: block["n_images"] for name, block in parts.items()} == {
        "TestA": 6,
        "none published": 4,
    }


def test_an_official_part_draws_by_its_own_name():
    """Equal parts draw differently, and a part's interval does not hang on other parts."""
    rng = np.random.default_rng(2)
    one = pictures("east", "unseen", ["a", "b"] * 40, rng.choice(["a", "b"], 80))
    frame = pd.concat([one.assign(official_part=name) for name in ("A", "B", "C")])
    classes = ["a", "b"]
    found = scoring.score_official_parts(frame, classes, always("a"), 200, 1)
    parts = found["east"]["by_official_part"]
    assert parts["A"]["metrics"] != parts["B"]["metrics"]
    fewer = frame[frame["official_part"] != "B"].sample(frac=1, random_state=1)
    again = scoring.score_official_parts(fewer, classes, always("a"), 200, 1)
    assert again["east"]["by_official_part"]["A"] == parts["A"]


def patients(hospital, rows, is_patient=True, **more):
    """What `predictions.average_patients` gives: truth, call and number of images of each."""
    frame = pd.DataFrame(rows, columns=["label", "predicted", "n_images"])
    return frame.assign(hospital=hospital, is_patient=is_patient, n_labels=1, **more)


def test_patients_are_scored_one_by_one():
    """Accuracy with Wilson's interval of 4, macro F1, counts of each class and all confusions."""
    rows = [("AML", "AML", 5), ("AML", "APL", 9), ("APL", "APL", 2), ("APL", "APL", 1)]
    everyone = pd.concat(
        [patients("jhu", rows), patients("jhu", [("AML", "healthy", 1)], is_patient=False)]
    )
    by_part = everyone.assign(official_part="Validation")
    block = scoring.score_patients(everyone, by_part, LEUKAEMIA)["jhu"]["per_patient"]
    assert (block["n_patients"], block["n_images"]) == (4, 17)
    assert block["n_images_without_patient"] == 1
    assert block["accuracy"] == describe_share(3, 4)
    assert block["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert block["n_by_class"] == {"AML": 2, "APL": 2, "healthy": 0}
    assert block["confusion"]["AML"] == {"AML": 1, "APL": 1, "healthy": 0}
    assert block["confusion"]["APL"] == {"AML": 0, "APL": 2, "healthy": 0}
    assert "by_official_part" not in block


def test_patients_of_several_official_parts_are_scored_by_part_too():
    by_part = pd.concat(
        [
            patients("jhu", [("AML", "AML", 5), ("APL", "AML", 9)], official_part="Discovery"),
            patients("jhu", [("APL", "APL", 2)], official_part="Validation"),
            patients("jhu", [("APL", "AML", 1)], is_patient=False, official_part="Validation"),
            patients("x", [("APL", "APL", 2)], official_part="Other"),
        ]
    )
    everyone = by_part.drop(columns="official_part")
    found = scoring.score_patients(everyone, by_part, LEUKAEMIA)
    parts = found["jhu"]["per_patient"]["by_official_part"]
    assert {name: block["n_patients"] for name, block in parts.items()} == {
        "Discovery": 2,
        "Validation": 1,
    }
    assert parts["Discovery"]["accuracy"]["value"] == 0.5
    assert parts["Validation"]["accuracy"]["value"] == 1.0
    assert "by_official_part" not in found["x"]["per_patient"]


def test_patients_cannot_be_scored_where_unknown_or_of_several_classes():
    mixed = patients("munich", [("a", "a", 3), ("b", "b", 3), ("a", "b", 1)])
    mixed.loc[:1, "n_labels"] = 2
    nobody = patients("raabin", [("a", "a", 1)], is_patient=False)
    everyone = pd.concat([mixed, nobody])
    found = scoring.score_patients(everyone, everyone.assign(official_part=None), ["a", "b"])
    assert found["munich"]["per_patient"] is found["raabin"]["per_patient"] is None
    assert found["munich"]["per_patient_reason"].startswith("the images of 2 of 3 patients")
    assert "no patient" in found["raabin"]["per_patient_reason"]


def test_a_leak_is_told_beside_every_score():
    """Each hospital has its own sentence, each mean that of its part, the drop that of all."""
    content = scoring.report(
        scoring.score_hospitals(three_hospitals(), ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    content["screening"] = {"test": {"n": 60}, "unseen": {"n": 50}}
    measured = {
        "all": "all",
        "by_part": {"test": "test", "unseen": "unseen"},
        "by_hospital": {"north": "N", "east": "E", "west": "W"},
    }
    scoring.mark_leaky(content, measured, lambda block: f"leaky: {block}")
    assert {name: block["leaky"] for name, block in content["by_hospital"].items()} == {
        "north": "leaky: N", "east": "leaky: E", "west": "leaky: W",
    }  # fmt: skip
    assert content["mean_in_domain"]["leaky"] == content["screening"]["test"]["leaky"]
    assert content["mean_in_domain"]["leaky"] == "leaky: test"
    assert content["mean_unseen"]["leaky"] == content["screening"]["unseen"]["leaky"]
    assert content["mean_unseen"]["leaky"] == "leaky: unseen"
    assert content["drop"]["leaky"] == "leaky: all"
    worst = content["worst_unseen"]
    assert worst["leaky"] == content["by_hospital"][worst["hospital"]]["leaky"]


def test_a_leak_is_told_where_only_one_part_is_scored():
    frame = pictures("east", "unseen", ["a", "b"] * 5, ["a", "b"] * 5)
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    content["screening"] = None
    measured = {"all": 0, "by_part": {"unseen": 1}, "by_hospital": {"east": 2}}
    scoring.mark_leaky(content, measured, str)
    assert (content["mean_unseen"]["leaky"], content["worst_unseen"]["leaky"]) == ("1", "2")
    assert content["mean_in_domain"] is content["drop"] is None


def test_a_kappa_that_is_not_defined_is_null_with_its_reason():
    """One class throughout: chance agrees as well. The mean, the drop and the baseline say so."""
    frame = pd.concat(
        [
            pictures("north", "test", ["a", "b"] * 5, ["a", "b"] * 5),
            pictures("east", "unseen", ["a"] * 5, ["a"] * 5),
        ]
    )
    content = scoring.report(
        scoring.score_hospitals(frame, ["a", "b"], always("a"), 100, 1), ["a", "b"]
    )
    for block, where in (
        (content["by_hospital"]["east"], "east"),
        (content["mean_unseen"], "east"),
        (content["drop"], "north, east"),  # of the one class that both hold
    ):
        score = block["metrics"]["kappa"]
        assert (score["value"], score["low"], score["high"]) == (None, None, None)
        assert score["reason"] == f"every image is of one class and called so at {where}"
        assert block["metrics"]["accuracy"]["value"] is not None
    east, north = (content["by_hospital"][name] for name in ("east", "north"))
    assert east["baseline"]["kappa"] is None
    assert "kappa" in east["baseline_reason"]
    assert north["metrics"]["kappa"]["value"] == north["metrics"]["kappa"]["high"] == 1.0
    assert "baseline_reason" not in north


@pytest.mark.parametrize(
    ("world", "before"), [("3 %, high scores", 0.7), ("four common classes", 0.88)]
)
def test_intervals_of_six_groups_hold_the_truth(monkeypatch, world, before):
    """Of made hospitals of six patients each; plain percentiles fail, with a rare class by far."""
    monkeypatch.setattr(bench_coverage, "N_DRAWS", 400)
    made = bench_coverage.WORLDS[world]
    drawn = [
        bench_coverage.hospitals_of("macro F1", made, 6, np.random.default_rng([6, number]))
        for number in range(100)
    ]
    held = np.mean([bench_coverage.judge(one, "macro_f1") for one in drawn], axis=0)
    assert held[0] < before
    assert held[1] >= 0.9
