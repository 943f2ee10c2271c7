"""Doubt: known temperatures and thresholds, an oracle for the cut, promises kept and broken."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from stages.core.params import EvaluateParams
from stages.evaluation import doubt

CLASSES = ["a", "b", "c", "d"]
PLACES = {"home": "home", "away": "away", "copy": "away", "far": "far"}


def answers(probabilities, labels, hospital="home", part="test", groups=None):
    """A table of what a model says, one row for each line of `probabilities`."""
    values = np.asarray(probabilities, float)
    frame = pd.DataFrame(values, columns=[f"p_{name}" for name in CLASSES[: values.shape[1]]])
    frame["predicted"] = np.asarray(CLASSES)[values.argmax(axis=1)]
    frame["label"] = list(labels)
    frame["group"] = [f"g{i}" for i in range(len(frame))] if groups is None else groups
    return frame.assign(hospital=hospital, part=part)


def calls(confidences, rights):
    """Calls of class a with these probabilities, right or not; the rest goes to b, c and d."""
    p = np.asarray(confidences, float)
    rest = (1 - p)[:, None] / 3
    values = np.concatenate([p[:, None], rest, rest, rest], axis=1)
    return answers(values, ["a" if right else "b" for right in rights])


def tell(scored, valid=None, wished_error=0.05, classes=CLASSES):
    """What `score` says of the only hospital, or of each of several."""
    valid = scored.iloc[:0] if valid is None else valid
    rule = EvaluateParams(bootstrap=400, error=wished_error)
    found = doubt.score(scored, valid, PLACES, classes, rule, 1)
    blocks = {name: block["doubt"] for name, block in found.items()}
    return blocks if len(blocks) > 1 else next(iter(blocks.values()))


def draw_world(n, sharpness, seed=0):
    """Truths drawn from known probabilities, told by a model that is too sure by `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 4))
    true = softmax(logits, axis=1)
    labels = [CLASSES[rng.choice(4, p=row)] for row in true]
    return answers(softmax(sharpness * logits, axis=1), labels)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_makes_a_model_too_sure(sharpness):
    found = doubt.fit(draw_world(4000, sharpness), CLASSES, 0.05)
    assert found.temperature == pytest.approx(sharpness, rel=0.1)


def test_images_that_are_all_right_do_not_make_every_call_certain():
    """The likelihood alone would ask for a temperature of 0; a few images tell less than many."""
    few, many = (doubt.fit(calls([0.9] * n, [True] * n), CLASSES, 0.05) for n in (10, 1000))
    assert doubt.COLDEST < many.temperature < few.temperature < 1
    sure = doubt.measure(calls([0.9], [True]), CLASSES, few.temperature)["confidence"].item()
    assert sure == pytest.approx(11 / 12, abs=1e-4)  # (n + 1) / (n + 2)


@given(
    st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.7, 0.9, 0.99]), st.booleans()), min_size=1),
    st.sampled_from([0.02, 0.1, 0.3]),
)
def test_the_threshold_accepts_the_most_images_that_keep_the_promise(made, error):
    """Every cut is tried; equally sure images stand on one side of it."""
    valid = calls(*zip(*made, strict=True))
    found = doubt.fit(valid, CLASSES, error)
    confidence = doubt.measure(valid, CLASSES, found.temperature)["confidence"]
    right = valid["label"] == "a"
    accepted = {}
    for cut in confidence.unique():
        kept = confidence >= cut
        if ((~right[kept]).sum() + 0.5) / (kept.sum() + 1) <= error:
            accepted[int(kept.sum())] = cut
    assert found.threshold == (accepted[max(accepted)] if accepted else None)
    assert (found.reason is None) == bool(accepted)


def test_a_promise_of_one_in_a_hundred_needs_forty_nine_right_calls():
    found = {n: doubt.fit(calls([0.9] * n, [True] * n), CLASSES, 0.01) for n in (48, 49)}
    assert found[48].threshold is None
    assert found[48].reason == "of 48 images not even the surest promise an error of 0.01"
    assert (found[49].n_images, found[49].reason) == (49, None)
    assert found[49].threshold is not None


def test_without_validation_images_nothing_is_promised():
    home = tell(calls([0.9] * 8, [True] * 8))["home"]
    assert (home["temperature"], home["n_images"]) == (1.0, 0)
    assert home["reason"] == "no image to learn it from"
    told = ("threshold", "accepted", "error_of_accepted", "promise")
    assert [home[name] for name in told] == [None] * 4
    assert home["overconfidence"]["value"] == pytest.approx(-0.1)


def test_scores_of_known_answers():
    """Sixty sure calls of which six are wrong, forty unsure ones of which half are."""
    confidences = [0.9] * 60 + [0.4] * 40
    rights = [i >= 6 for i in range(60)] + [i % 2 == 0 for i in range(40)]
    rows = calls(confidences, rights)
    block = tell(rows, valid=rows, wished_error=0.12)
    assert block["error"]["value"] == 0.26
    assert block["error_of_surest_half"]["n"] == 60  # equally sure images stay together
    assert block["error_of_surest_half"]["value"] == 0.1
    assert block["close"]["value"] == 0  # .4 beside .2: exactly half as probable is not close
    assert block["top_3"]["value"] == 1
    # |.9 - .9| over 60 images, |.4 - .5| over 40: no bin mixes the two.
    assert block["ece"] == pytest.approx(0.04)
    assert block["overconfidence"]["value"] == pytest.approx(-0.04)
    assert block["overconfidence"]["low"] < -0.04 < block["overconfidence"]["high"]
    home = block["home"]
    assert (home["accepted"]["value"], home["accepted"]["n"]) == (0.6, 100)
    assert (home["error_of_accepted"]["value"], home["error_of_accepted"]["n"]) == (0.1, 60)
    assert (home["wished_error"], home["n_images"], home["promise"]) == (0.12, 100, "open")
    assert "reason" not in home


def test_no_image_of_a_hospital_teaches_the_doubt_that_is_judged_there():
    """Home learns from validation, elsewhere from unseen hospitals of other places."""
    valid = calls([0.9] * 60, [True] * 60)
    hospitals = {
        "home": ("test", [True] * 50), "away": ("unseen", [True, False] * 25),
        "copy": ("unseen", [False] * 40), "far": ("unseen", [True] * 70),
    }  # fmt: skip
    scored = pd.concat(
        [
            calls([0.9] * len(rights), rights).assign(hospital=name, part=part)
            for name, (part, rights) in hospitals.items()
        ]
    )
    found = tell(scored, valid, 0.1)
    assert {block["home"]["n_images"] for block in found.values()} == {60}
    assert len({block["home"]["temperature"] for block in found.values()}) == 1
    assert found["home"]["elsewhere"] is None
    assert found["home"]["elsewhere_reason"] == "it trains: home tells"
    assert [found[name]["elsewhere"]["n_images"] for name in ("away", "copy", "far")] == [
        70, 70, 90,
    ]  # fmt: skip
    # Sure at home and at far, where every call is right; a coin at away: one promise is broken.
    assert (found["home"]["home"]["promise"], found["away"]["home"]["promise"]) == (
        "kept", "broken",
    )  # fmt: skip
    assert found["far"]["elsewhere"]["threshold"] is None
    alone = tell(scored[scored["hospital"].isin(["away", "copy"])], valid, 0.1)
    assert {block["elsewhere_reason"] for block in alone.values()} == {"no other place is unseen"}
    wrong = scored.assign(label=scored["label"].where(scored["hospital"] != "far", "c"))
    again = tell(wrong, valid, 0.1)["far"]
    for name in ("home", "elsewhere"):
        for key in ("temperature", "threshold"):
            assert again[name][key] == found["far"][name][key]


def test_close_calls_and_the_three_most_probable():
    rows = answers(
        [[0.5, 0.3, 0.15, 0.05], [0.5, 0.2, 0.16, 0.14], [0.1, 0.2, 0.3, 0.4]], ["b", "d", "a"]
    )
    found = doubt.measure(rows, CLASSES, 1.0)
    assert found["close"].tolist() == [True, False, True]
    assert found["in_top"].tolist() == [True, False, False]
    assert not found["right"].any()
    block = tell(rows)
    assert block["close_of_wrong"]["value"] == pytest.approx(2 / 3)
    assert block["top_3"]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("n", "n_wrong", "promise"), [(400, 0, "kept"), (40, 1, "open"), (60, 20, "broken")]
)
def test_a_promise_is_kept_broken_or_open(n, n_wrong, promise):
    rows = calls([0.9] * n, [i >= n_wrong for i in range(n)])
    valid = calls([0.9] * 100, [True] * 100)
    assert tell(rows, valid)["home"]["promise"] == promise


def test_few_groups_and_few_classes_give_values_without_ends():
    rows = calls([0.9] * 10, [True] * 9 + [False]).assign(group="one patient")
    block = tell(rows, calls([0.9] * 100, [True] * 100))
    home = block["home"]
    assert (home["error_of_accepted"]["value"], home["promise"]) == (0.1, None)
    assert block["overconfidence"]["low"] is None
    assert block["overconfidence"]["interval_reason"] == "too few groups: 1; 6 are needed"
    block = tell(answers([[0.7, 0.2, 0.1]] * 8, ["a"] * 8), classes=CLASSES[:3])
    assert block["top_3"] is None
    assert "3 classes or fewer" in block["top_3_reason"]


def test_images_of_one_patient_widen_the_interval_of_overconfidence():
    rng = np.random.default_rng(3)
    sick = rng.random(20) < 0.5
    rows = calls([0.9] * 400, np.repeat(sick, 20))
    own, alone = (
        tell(rows.assign(group=groups))
        for groups in (np.repeat(np.arange(20), 20).astype(str), np.arange(400).astype(str))
    )
    wide, narrow = (one["overconfidence"] for one in (own, alone))
    assert wide["value"] == narrow["value"] == pytest.approx(0.9 - sick.mean())
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_a_well_calibrated_model_lies_on_the_diagonal():
    """And one that is three times as sure does not, until its temperature is known."""
    block = tell(draw_world(4000, 3.0, seed=5), draw_world(4000, 3.0, seed=6))
    assert block["home"]["ece"] < 0.03 < 0.1 < block["ece"]
    listed = doubt.list_reliability(draw_world(4000, 1.0), CLASSES)
    assert listed["n"].tolist() == [400] * 10
    assert (listed["confidence"] - listed["accuracy"]).abs().max() < 0.08
    assert listed["confidence"].is_monotonic_decreasing


def test_risk_of_the_surest_images():
    """Of equally sure images none comes first; all answered, the error is that of all."""
    rows = calls([0.9] * 10 + [0.5] * 10, [True] * 10 + [False] * 5 + [True] * 5)
    listed = doubt.list_risk(rows, CLASSES)
    risk = dict(zip(listed["coverage"], listed["error"], strict=True))
    assert risk[0.5] == 0
    assert risk[0.75] == pytest.approx(2.5 / 15)
    assert risk[1.0] == pytest.approx(0.25)
    shuffled = rows.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(doubt.list_risk(shuffled, CLASSES), listed)
    one = doubt.list_risk(rows.iloc[:1], CLASSES)
    assert one[["coverage", "error"]].to_numpy().tolist() == [[1.0, 0.0]]


def test_probabilities_of_zero_are_no_certainty():
    """Neighbours and trees say 0; one such that was wrong must not make all numbers infinite."""
    rows = answers([[1, 0, 0, 0]] * 30, ["a"] * 29 + ["b"])
    found = doubt.fit(rows, CLASSES, 0.1)
    assert np.isfinite(found.temperature)
    sure = doubt.measure(rows, CLASSES, found.temperature)["confidence"]
    assert sure.iloc[0] == pytest.approx(29 / 30, abs=0.03)


def test_strangers_are_doubted_as_unseen_hospitals_taught():
    """By unseen images alone where there are any; else by validation images; else not at all."""
    unseen = draw_world(300, 3.0, seed=1).assign(hospital="away", part="unseen")
    home = draw_world(300, 1.0, seed=2)
    valid = draw_world(300, 0.5, seed=3).assign(part="valid")
    found = doubt.fit_for_strangers(pd.concat([home, unseen]), valid, CLASSES, 0.3)
    assert (found["learnt_from"], found["hospitals"], found["n_images"]) == (
        "unseen",
        ["away"],
        300,
    )
    assert found["temperature"] == doubt.fit(unseen, CLASSES, 0.3).temperature
    found = doubt.fit_for_strangers(home, valid, CLASSES, 0.3)
    assert (found["learnt_from"], found["hospitals"]) == ("valid", ["home"])
    assert found["temperature"] == doubt.fit(valid, CLASSES, 0.3).temperature
    found = doubt.fit_for_strangers(home, valid.iloc[:0], CLASSES, 0.3)
    assert (found["learnt_from"], found["hospitals"], found["threshold"]) == ("nothing", [], None)
    assert found["temperature"] == 1
