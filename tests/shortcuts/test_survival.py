"""Changed pictures: the draw depends on names alone, the shares are right, silence has a reason."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from stages.core.errors import TableError
from stages.shortcuts import survival

CLASSES = ["basophil", "eosinophil", "monocyte"]


def make_images(**counts):
    """Images of some hospitals, with a column that goes along."""
    rows = [(f"{name}/{i:03d}.png", name, i) for name, n in counts.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["image_id", "hospital", "extra"])


def make_calls(*calls):
    """The calls of images 0, 1, ... of one hospital: class and probability."""
    index = pd.Index([f"north/{i:03d}.png" for i in range(len(calls))], name="image_id")
    return pd.DataFrame(calls, columns=["call", "p"], index=index)


def report(before, after, hospitals=None, share=1.0, groups=None, bad="kept", classes=CLASSES):
    images = pd.DataFrame({"hospital": hospitals or ["north"] * len(before)})
    images["group"] = groups if groups is not None else list(before.index)
    return survival.report(before, after, images, classes, bad, share, 1)


@given(st.randoms(use_true_random=False), st.integers(1, 25), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_draw_knows_names_alone(random, max_images, seed):
    """Neither row order nor the other hospitals nor other columns matter; more contains fewer."""
    images = make_images(north=20, east=7)
    drawn = survival.choose_images(images, max_images, seed)
    order = list(range(len(images)))
    random.shuffle(order)
    muddled = images.iloc[order].assign(extra=0)
    again = survival.choose_images(muddled, max_images, seed)
    alone = survival.choose_images(images[images["hospital"] == "north"], max_images, seed)
    more = survival.choose_images(images, max_images + 3, seed)
    assert drawn["image_id"].tolist() == sorted(again["image_id"]) == again["image_id"].tolist()
    assert alone["image_id"].tolist() == [i for i in drawn["image_id"] if i.startswith("north")]
    assert set(drawn["image_id"]) <= set(more["image_id"])
    counts = drawn["hospital"].value_counts()
    assert counts.to_dict() == {"north": min(20, max_images), "east": min(7, max_images)}
    assert drawn["extra"].equals(images.set_index("image_id").loc[drawn["image_id"], "extra"]
                                 .reset_index(drop=True))  # fmt: skip


def test_the_draw_is_spread_and_follows_the_seed():
    """Not the first by name: of 400 images the mean place of 100 drawn is near the middle."""
    images = make_images(north=400)
    places = survival.choose_images(images, 100, 1)["extra"]
    assert places.mean() == pytest.approx(199.5, abs=3.5 * 400 / np.sqrt(12 * 100))
    assert set(places) != set(survival.choose_images(images, 100, 2)["extra"])


def test_no_image_is_an_error():
    """Predictions of other hospitals only: one line with the way out."""
    with pytest.raises(TableError, match=r"data/predictions holds no image.*dvc repro"):
        survival.add_groups(make_images(), pd.DataFrame({"image_id": [], "group": []}))


def test_calls_are_the_most_probable_classes():
    """The first of equally probable ones, as everywhere; the index stays."""
    table = pd.DataFrame([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], index=["b", "a"], columns=CLASSES)
    calls = survival.name_calls(table)
    assert calls["call"].tolist() == ["eosinophil", "basophil"]
    assert calls["p"].tolist() == [0.5, 0.4]
    assert calls.index.tolist() == ["b", "a"]


def test_stored_calls_are_read_by_class():
    """The columns are found by name, in any order, and any others are left alone."""
    table = pd.DataFrame(
        {"p_monocyte": [0.7], "image_id": ["x"], "p_basophil": [0.1], "p_eosinophil": [0.2],
         "p_other": [0.99]}
    )  # fmt: skip
    calls = survival.stored_calls(table, CLASSES)
    assert calls.loc["x"].tolist() == ["monocyte", 0.7]


def test_predictions_of_another_model_are_refused():
    table = pd.DataFrame({"image_id": ["x"], "p_basophil": [1.0], "p_monocyte": [0.0]})
    with pytest.raises(TableError, match=r"no column p_eosinophil: another model.*dvc repro"):
        survival.stored_calls(table, CLASSES)


def test_known_shares():
    """The four surest of eight: kept, called otherwise, less sure, and kept at the edge."""
    before = make_calls(
        ("basophil", 0.95), ("basophil", 0.95), ("monocyte", 0.99), ("eosinophil", 0.9),
        ("monocyte", 0.89), ("eosinophil", 0.5), ("eosinophil", 0.5), ("eosinophil", 0.4),
    )  # fmt: skip
    after = make_calls(
        ("basophil", 0.99), ("monocyte", 0.99), ("monocyte", 0.89), ("eosinophil", 0.9),
        ("monocyte", 0.4), ("eosinophil", 0.95), ("eosinophil", 0.4), ("eosinophil", 0.4),
    )  # fmt: skip
    content = report(before, after, share=0.5)
    block = content["all"]
    assert content["by_hospital"]["north"]["least_p"] == 0.9
    assert (block["n_images"], block["n_confident"]) == (8, 4)
    kept, still = block["keeps_confident_call"], block["still_confident"]
    assert (block["keeps_call"]["value"], block["keeps_call"]["n"]) == (7 / 8, 8)
    assert "keeps_verdict" not in block
    assert (kept["value"], kept["n"], kept["n_groups"]) == (0.5, 4, 4)
    assert (still["value"], still["n"], still["n_groups"]) == (4 / 8, 8, 8)
    assert block["calls"] == {"basophil": 1, "eosinophil": 4, "monocyte": 3}
    assert block["by_call"] == {
        "basophil": {"n": 2, "kept": 1}, "eosinophil": {"n": 4, "kept": 4},
        "monocyte": {"n": 2, "kept": 2},
    }  # fmt: skip


def test_intervals_are_by_groups():
    """Ten patients of ten calls that live or die together: as sure as ten calls, not a hundred."""
    before, after = many(40, 60)
    groups = [f"p{i // 10}" for i in range(100)]
    share = report(before, after, groups=groups)["all"]["keeps_confident_call"]
    low, high = beta.ppf([0.025, 0.975], 4.5, 6.5)
    assert (share["n"], share["n_groups"]) == (100, 10)
    assert low - 0.15 < share["low"] < low + 0.03
    assert high - 0.03 < share["high"] < high + 0.15
    few = report(before, after, groups=[f"p{i // 20}" for i in range(100)])["all"]
    assert few["keeps_confident_call"]["low"] is few["still_confident"]["low"] is None
    assert few["keeps_confident_call"]["interval_reason"].startswith("too few groups: 5")


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_a_model_of_smoothed_labels_is_judged(smoothing):
    """No call is meant to exceed 1 - smoothing: the surest are judged, however sure they are."""
    rng = np.random.default_rng(0)
    p = (1 - smoothing) * rng.uniform(0.5, 1.0, 80)
    before = make_calls(*[("basophil", one) for one in p])
    content = report(before, before, share=0.25)
    assert (content["flagged"], content["not_judged"]) == (["north"], {})
    assert content["all"]["n_confident"] == 20
    assert content["by_hospital"]["north"]["least_p"] == np.sort(p)[-20]


@given(
    st.lists(st.sampled_from([0.4, 0.5, 0.7, 0.9]), min_size=1, max_size=30),
    st.sampled_from([0.07, 0.1, 0.25, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_surest_calls_of_each_hospital_are_taken(p, share):
    """At least the share, all ties with the last, none that is less sure; apart by hospital."""
    calls = make_calls(*[("basophil", one) for one in p])
    found = survival.find_confident(calls, ["north"] * len(p), share)
    taken, rest = calls["p"][found["sure"]], calls["p"][~found["sure"]]
    assert len(taken) >= share * len(p) - 1e-9
    assert len(taken[taken > taken.min()]) < share * len(p)
    assert rest.empty or rest.max() < taken.min() == found["least"].iloc[0]
    low = calls.set_axis([f"east/{i}" for i in range(len(p))]).assign(p=0.1)
    both = survival.find_confident(
        pd.concat([calls, low]), ["north"] * len(p) + ["east"] * len(p), share
    )
    assert both["sure"].iloc[: len(p)].tolist() == found["sure"].tolist()
    assert both["sure"].iloc[len(p) :].all()


calls = st.lists(
    st.tuples(
        st.sampled_from(["east", "north", "west"]),
        st.sampled_from(CLASSES), st.sampled_from([0.4, 0.9, 0.95]),
        st.sampled_from(CLASSES), st.sampled_from([0.4, 0.9, 0.95]),
    ),
    min_size=1,
    max_size=40,
)  # fmt: skip


@given(calls)
@settings(deadline=None, max_examples=40)
def test_hospitals_add_up(rows):
    """Counts of the hospitals sum to those of all; each share is that of a plain loop."""
    before = make_calls(*[(call, p) for _, call, p, _, _ in rows])
    after = make_calls(*[(call, p) for *_, call, p in rows])
    content = report(before, after, [row[0] for row in rows], 0.5)
    blocks = content["by_hospital"]
    assert list(blocks) == sorted({row[0] for row in rows})
    least = {name: blocks[name]["least_p"] for name in blocks}
    for name, block in [*blocks.items(), ("all", content["all"])]:
        own = [row for row in rows if name in (row[0], "all")]
        sure = [row for row in own if row[2] >= least[row[0]]]
        kept = [row for row in sure if row[3] == row[1] and row[4] >= least[row[0]]]
        still = [row for row in own if row[4] >= least[row[0]]]
        assert (block["n_images"], block["n_confident"]) == (len(own), len(sure))
        assert block["still_confident"]["value"] == pytest.approx(len(still) / len(own))
        assert sum(block["calls"].values()) == len(own)
        assert block["keeps_confident_call"]["value"] == pytest.approx(len(kept) / len(sure))


def many(n_kept, n_lost, n_unsure=0):
    """Calls of which so many are kept, lost, or were never sure."""
    before = make_calls(*[("basophil", 0.99)] * (n_kept + n_lost), *[("basophil", 0.5)] * n_unsure)
    after = make_calls(*[("basophil", 0.99)] * n_kept, *[("basophil", 0.3)] * (n_lost + n_unsure))
    return before, after


@pytest.mark.parametrize(
    ("n_kept", "n_lost", "flagged"),
    [(6, 4, ["north"]), (5, 5, []), (10, 0, ["north"]), (0, 10, [])],
)
def test_a_hospital_is_flagged_where_most_confident_calls_survive(n_kept, n_lost, flagged):
    """More than half of ten: six are enough, five are not; unsure calls do not dilute it."""
    content = report(*many(n_kept, n_lost, 30), share=0.25)
    assert (content["flagged"], content["not_judged"]) == (flagged, {})
    assert "flagged_reason" not in content


def test_few_confident_calls_flag_nobody_and_clear_nobody():
    """Nine calls that all survive are too few to judge by, and that is said."""
    content = report(*many(9, 0))
    assert content["flagged"] is None
    assert content["flagged_reason"] == "no hospital is judged"
    assert content["not_judged"] == {"north": "9 confident calls; 10 are needed"}


def test_flags_are_by_hospital():
    """The pooled share is no flag: of three hospitals the one with the kept calls is named."""
    before, after = many(12, 14)
    content = report(before, after, ["west"] * 12 + ["east"] * 11 + ["north"] * 3)
    assert content["flagged"] == ["west"]
    assert list(content["not_judged"]) == ["north"]
    assert content["by_hospital"]["north"]["keeps_confident_call"]["n"] == 3


def test_an_image_outside_of_the_split_is_named():
    """Its group is not known: one line with the way out."""
    split = pd.DataFrame({"image_id": ["north/000.png"], "group": ["p"], "label": ["secret"]})
    known = survival.add_groups(make_images(north=1), split)
    assert list(known.columns) == ["image_id", "hospital", "extra", "group"]
    with pytest.raises(TableError, match=r"data/split has no row of 1 images .*001.*dvc repro"):
        survival.add_groups(make_images(north=2), split)


@pytest.mark.parametrize("bad", ["kept", "lost"])
def test_where_nothing_is_compared_the_reason_stands(bad):
    """A test that cannot be made: counts, but no share."""
    before, _ = many(12, 0)
    content = report(before, "one hospital", bad=bad)
    assert content["flagged"] is None
    assert content["not_judged"] == {"north": "one hospital"}
    for block in (content["all"], content["by_hospital"]["north"]):
        assert (block["n_images"], block["n_confident"]) == (12, 12)
        for name in ("keeps_call", "keeps_confident_call", "still_confident", "calls", "by_call"):
            assert block[name] is None
            assert block[f"{name}_reason"] == "one hospital"


@pytest.mark.parametrize(
    ("n_kept", "n_lost", "flagged", "not_judged"),
    [(4, 6, ["north"], {}), (5, 5, [], {}), (10, 0, [], {}),
     (0, 9, None, {"north": "9 calls; 10 are needed"})],
)  # fmt: skip
def test_where_calls_must_stay_a_hospital_is_flagged_that_loses_most(
    n_kept, n_lost, flagged, not_judged
):
    """Less than half of ten stay; that the probability falls is no fault."""
    before = make_calls(*[("basophil", 0.99)] * (n_kept + n_lost))
    after = make_calls(*[("basophil", 0.4)] * n_kept, *[("monocyte", 0.99)] * n_lost)
    content = report(before, after, bad="lost")
    assert (content["flagged"], content["not_judged"]) == (flagged, not_judged)
    assert content["all"]["keeps_confident_call"]["value"] == 0


def test_a_verdict_survives_where_one_disease_becomes_another():
    """Of four, two change their class, and one of them between healthy and sick."""
    before = make_calls(("AML", 0.9), ("AML", 0.9), ("healthy", 0.9), ("APL", 0.9))
    after = make_calls(("APL", 0.9), ("healthy", 0.9), ("healthy", 0.9), ("APL", 0.9))
    block = report(before, after, classes=["AML", "APL", "healthy"])["all"]
    assert block["keeps_verdict"]["value"] == 0.75
    assert block["keeps_call"]["value"] == 0.5


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=30), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_examples_take_turns_among_the_classes_called(calls, n_examples):
    """As many as there are; no class is shown twice more often than one that has more to show."""
    before = make_calls(*[(call, 0.9) for call in calls])
    chosen = survival.choose_examples(before, n_examples, seed=1)
    assert len(chosen) == len(set(chosen)) == min(n_examples, len(calls))
    assert survival.choose_examples(before[::-1], n_examples, seed=1) == chosen
    shown = before.loc[chosen, "call"].value_counts()
    for call, n in before["call"].value_counts().items():
        assert shown.get(call, 0) >= min(n, shown.max() - 1)


def test_examples_follow_the_seed():
    before, _ = many(40, 0)
    first = survival.choose_examples(before, 6, seed=1)
    assert survival.choose_examples(before, 6, seed=2) != first != sorted(before.index)[:6]


def test_as_many_images_of_each_hospital_and_call_are_picked():
    """Whatever the order of the rows; where there are fewer, all."""
    calls = pd.DataFrame(
        {"hospital": ["a"] * 6 + ["b"] * 4, "call": list("xxxxyy") + list("xyyy")},
        index=[f"i{number}" for number in range(10)],
    )
    chosen = survival.choose_by_call(calls, 2, seed=1)
    counts = calls.loc[chosen].value_counts().to_dict()
    assert counts == {("a", "x"): 2, ("a", "y"): 2, ("b", "x"): 1, ("b", "y"): 2}
    assert survival.choose_by_call(calls[::-1], 2, seed=1) == chosen
    others = {tuple(sorted(survival.choose_by_call(calls, 2, seed=seed))) for seed in range(5)}
    assert len(others) > 1
