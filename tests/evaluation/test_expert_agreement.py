"""Agreement of two experts: scikit-learn's kappa, a textbook's interval, and nothing uncounted."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from stages.evaluation.expert_agreement import agree, compare_experts, standard_error
from stages.labels.taxonomy import Taxonomy

CLASSES = ["a", "b", "c"]
# 100 patients by two psychologists; J. L. Fleiss, Statistical Methods for Rates and Proportions
# (2nd ed., 1981), table 13.1: kappa 0.676, standard error 0.087 or 0.088, interval 0.50 to 0.85.
FLEISS = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
LOPSIDED = np.array([[40, 25, 3], [2, 9, 0], [1, 6, 14]])
LABEL = st.none() | st.sampled_from([*CLASSES, "z"])


def rows_of(counts):
    """Two columns of labels that have these counts."""
    first, second = np.indices(counts.shape)
    names = np.array(CLASSES[: len(counts)], dtype=object)
    pairs = (names[place.ravel()].repeat(counts.ravel()) for place in (first, second))
    return tuple(pd.Series(labels, dtype="str") for labels in pairs)


def series(*labels):
    return pd.Series(labels, dtype="str")


def test_a_textbook_example():
    found = agree(*rows_of(FLEISS), CLASSES)
    assert found["n_images"] == found["n_both_labelled"] == 100
    assert found["agreement"]["value"] == pytest.approx(0.89)
    assert found["agreement"]["n"] == 100
    assert found["kappa"]["value"] == pytest.approx(0.6765, abs=5e-5)
    assert standard_error(FLEISS) == pytest.approx(0.0877, abs=5e-5)
    assert found["kappa"]["low"] == pytest.approx(0.5046, abs=5e-5)
    assert found["kappa"]["high"] == pytest.approx(0.8484, abs=5e-5)


@pytest.mark.parametrize("counts", [FLEISS, LOPSIDED, LOPSIDED.T, LOPSIDED[:2, :2]])
def test_the_standard_error_is_that_of_redrawn_images(counts):
    """Drawing images anew moves kappa as far as the formula says."""
    rng = np.random.default_rng(7)
    n = counts.sum()
    draws = rng.multinomial(n, counts.ravel() / n, size=20_000).reshape(-1, *counts.shape)
    shares = draws / n
    by_chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    kappas = (np.trace(shares, axis1=1, axis2=2) - by_chance) / (1 - by_chance)
    assert standard_error(counts) == pytest.approx(kappas.std(), rel=0.06)


@given(st.lists(st.tuples(LABEL, LABEL), max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs):
    """Over all classes and for each against the others; every image is compared or left out."""
    first = pd.Series([pair[0] for pair in pairs], dtype="str")
    second = pd.Series([pair[1] for pair in pairs], dtype="str")
    found = agree(first, second, CLASSES)
    compared = [(a, b) for a, b in pairs if a in CLASSES and b in CLASSES]
    assert found["n_images"] == len(compared) == len(pairs) - found["n_left_out"]
    assert found["n_both_labelled"] == len(pairs)
    assert set(found["by_class"]) == {name for pair in compared for name in pair}
    blocks = [(found["kappa"], compared)]
    for name, row in found["by_class"].items():
        blocks.append((row["kappa"], [(a == name, b == name) for a, b in compared]))
        assert row["n_first"] == sum(a == name for a, _ in compared)
        assert row["n_second"] == sum(b == name for _, b in compared)
        assert row["n_both"] == sum(a == b == name for a, b in compared)
    for block, labels in blocks:
        used = {name for pair in labels for name in pair}
        if len(used) < 2:
            assert block["value"] is None
            assert block["value_reason"]
        else:
            expected = cohen_kappa_score(*zip(*labels, strict=True))
            assert block["value"] == pytest.approx(expected, abs=1e-9)
            if block["low"] is None:
                assert block["interval_reason"]
            else:
                assert -1 <= block["low"] <= block["value"] <= block["high"] <= 1
    if compared:
        share = sum(a == b for a, b in compared) / len(compared)
        assert found["agreement"]["value"] == pytest.approx(share)
        assert found["agreement"]["low"] <= share <= found["agreement"]["high"]
    else:
        assert found["agreement"]["value"] is None


@given(st.permutations(range(24)))
def test_neither_order_nor_names_nor_who_is_first_matter(order):
    first, second = rows_of(np.array([[5, 3, 0], [1, 7, 2], [0, 1, 5]]))
    start = agree(first, second, CLASSES)
    shuffled = agree(first[list(order)], second[list(order)], CLASSES[::-1])
    assert shuffled == start
    swapped = agree(second, first, CLASSES)
    assert swapped["kappa"]["low"] == pytest.approx(start["kappa"]["low"])
    renamed = {"a": "y", "b": "x", "c": "w"}
    other = agree(first.map(renamed), second.map(renamed), list(renamed.values()))
    assert other["kappa"]["high"] == pytest.approx(start["kappa"]["high"])


def test_two_who_never_differ_get_no_interval_of_kappa():
    """Four images in perfect agreement do not prove a kappa of 1 to 1."""
    found = agree(series("a", "a", "b", "b"), series("a", "a", "b", "b"), CLASSES)
    assert found["kappa"]["value"] == 1
    assert found["kappa"]["low"] is found["kappa"]["high"] is None
    assert "standard error is 0" in found["kappa"]["interval_reason"]
    assert found["agreement"]["low"] < 0.6


def test_one_class_throughout_has_no_kappa():
    found = agree(series("a", "a"), series("a", "a"), CLASSES)
    assert found["kappa"]["value"] is None
    assert found["kappa"]["value_reason"] == "both gave one and the same class throughout"
    assert found["agreement"]["value"] == 1


MAP = pd.DataFrame(
    {
        "published_label": ["NGS", "NGB", "KSC", "EOS"],
        "cell_type": ["segmented_neutrophil", "band_neutrophil", "smudge_cell", ""],
    }
)
NEUTROPHILS = Taxonomy(
    "t", "cell_type", {"segmented_neutrophil": "neutrophil", "band_neutrophil": "neutrophil"}
)
TWO = Taxonomy("t", "cell_type", {"segmented_neutrophil": "seg", "band_neutrophil": "band"})
IMAGES = pd.DataFrame(
    [
        ("NGS", "NGS"), ("NGS", "NGS"), ("NGB", "NGS"), ("NGB", "NGB"), ("NGB", "KSC"),
        ("EOS", "NGS"), ("???", "NGS"), ("NGS", None), (None, "!!!"), (None, None),
    ],
    columns=["expert_1", "expert_2"],
    dtype="str",
)  # fmt: skip


def test_experts_are_compared_in_the_classes_of_the_experiment():
    """Band against segmented is a difference in one scheme, and none in another."""
    found = compare_experts(IMAGES, MAP, TWO)["experts"]
    assert (found["n_both_labelled"], found["n_left_out"], found["n_images"]) == (7, 3, 4)
    assert found["agreement"]["value"] == 0.75
    assert found["by_class"]["band"]["n_first"] == 2
    assert found["by_class"]["band"]["n_second"] == 1
    assert compare_experts(IMAGES, MAP, NEUTROPHILS)["experts"]["agreement"]["value"] == 1


def test_an_expert_label_outside_the_map_is_counted_and_listed():
    """By either expert, also where the other gave none; the image is left out, not the hospital."""
    found = compare_experts(IMAGES, MAP, TWO)["experts"]
    assert found["n_by_unknown_label"] == {"!!!": 1, "???": 1}


@pytest.mark.parametrize(
    ("images", "scheme", "reason"),
    [
        (IMAGES.iloc[7:], TWO, "no image bears the labels of two experts"),
        (IMAGES, Taxonomy("leukaemia3", "diagnosis", {"AML": "AML"}), "leukaemia3 is by diagnosis"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(images, scheme, reason):
    found = compare_experts(images, MAP, scheme)
    assert found["experts"] is None
    assert reason in found["experts_reason"]


def test_labels_of_no_class_leave_nothing_to_compare():
    found = compare_experts(IMAGES.iloc[[4, 5, 6]], MAP, TWO)["experts"]
    assert (found["n_images"], found["n_left_out"], found["by_class"]) == (0, 3, {})
    assert found["agreement"]["value"] is None
    assert found["kappa"]["value"] is None
    assert not any(isinstance(v, float) and math.isnan(v) for v in found["kappa"].values())
