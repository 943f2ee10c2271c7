"""The leak is measured as a person would count it, and nothing is said where nothing is known."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from stages.splits.leaks import describe, measure

COLUMNS = ["image_id", "hospital", "part", "group", "twin_group", "patient", "slide"]
NAMES = ["twin", "patient", "slide", "slide_or_patient", "group"]


def frame(*rows):
    """Images of one hospital each: hospital, part, group, twin_group, patient, slide."""
    return pd.DataFrame(
        [(f"{row[0]}/{number}", *row) for number, row in enumerate(rows)],
        columns=COLUMNS,
        dtype=object,
    )


def test_each_leak_is_counted_by_itself():
    """Four test images: a twin, a patient, and a slide in train; the last has none of them."""
    images = frame(
        ("a", "train", "g1", "t1", "p1", "s1"),
        ("a", "test", "g2", "t1", "p2", "s1"),  # near twin of another patient's image
        ("a", "test", "g1", "t2", "p1", "s1"),  # same slide
        ("a", "test", "g1", "t3", "p1", "s2"),  # same patient, another slide
        ("a", "test", "g3", "t4", "p3", "s3"),
        ("a", "valid", "g3", "t4", "p3", "s3"),  # valid is no train
        ("a", "left_out", "g3", "t5", "p3", "s3"),
    )
    block = measure(images)["all"]
    assert block["n_tested"] == 4
    shares = {name: block[f"{name}_in_train"]["value"] for name in NAMES}
    assert shares == {
        "twin": 0.25, "patient": 0.5, "slide": 0.25, "slide_or_patient": 0.5, "group": 0.5,
    }  # fmt: skip


def test_names_start_anew_at_each_hospital_and_patient():
    """P1 of another hospital, and S1 of another patient, are others; without a patient S1 is S1."""
    images = frame(
        ("a", "train", "g1", "t1", "p1", "s1"),
        ("a", "train", "g2", "t2", None, "s1"),
        ("a", "test", "g3", "t3", "p2", "s1"),
        ("a", "test", "g2", "t4", None, "s1"),
        ("b", "unseen", "g5", "t5", "p1", "s1"),
        ("b", "unseen", "g6", "t1", "p2", None),
    )
    measured = measure(images)
    assert sorted(measured["by_hospital"]) == ["a", "b"]
    home, away = measured["by_hospital"]["a"], measured["by_hospital"]["b"]
    assert (home["slide_in_train"]["value"], home["slide_in_train"]["n"]) == (0.5, 2)
    assert (home["patient_in_train"]["value"], home["patient_in_train"]["n"]) == (0.0, 1)
    assert (home["slide_or_patient_in_train"]["value"]) == 0.5
    assert (away["patient_in_train"]["value"], away["slide_in_train"]["n"]) == (0.0, 1)
    assert away["twin_in_train"]["value"] == 0.5
    assert measured["all"]["twin_in_train"]["value"] == 0.25
    assert measured["by_part"] == {"test": home, "unseen": away}


def test_a_share_is_of_the_images_of_which_it_is_known():
    """One slide of three is published, no patient: None with a reason, and n beside the share."""
    images = frame(
        ("a", "train", "g1", "t1", None, "s1"),
        ("a", "test", "g1", "t2", None, "s1"),
        ("a", "test", "g2", "t3", None, None),
        ("a", "test", "g3", "t4", None, None),
    )
    block = measure(images)["all"]
    assert block["patient_in_train"] is None
    assert block["patient_in_train_reason"] == "no patient is published of the tested images"
    for name in ("slide_in_train", "slide_or_patient_in_train"):
        assert (block[name]["value"], block[name]["n"]) == (1.0, 1)
    assert block["group_in_train"]["n"] == 3


def test_where_nothing_is_tested_nothing_is_said():
    measured = measure(frame(("a", "train", "g", "t", "p", "s")))
    assert measured["by_hospital"] == measured["by_part"] == {}
    assert measured["all"]["n_tested"] == 0
    for name in NAMES:
        assert measured["all"][f"{name}_in_train"] is None
        assert measured["all"][f"{name}_in_train_reason"] == "nothing is tested"
    assert describe(measured["all"]) == "leaky: nothing is tested"


def test_the_sentence_of_a_leaky_score():
    twin, kin = {"value": 0.12}, {"value": 0.8}
    assert describe({"twin_in_train": twin, "slide_or_patient_in_train": kin}) == (
        "leaky: 12.0 % of test images have a twin in train, 80.0 % share a slide or patient"
    )
    assert describe({"twin_in_train": twin, "slide_or_patient_in_train": None}) == (
        "leaky: 12.0 % of test images have a twin in train, slides and patients are not published"
    )


NAME = st.sampled_from(["x", "y", "z"])
ROW = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["train", "valid", "test", "unseen", "left_out"]),
    NAME, NAME, st.none() | NAME, st.none() | NAME,
)  # fmt: skip


def count_by_hand(rows, tested, same, is_known):
    """Hits and n: tested rows that are known, and have such a relation to a row of train."""
    known = [row for row in tested if is_known(row)]
    trained = [row for row in rows if row[1] == "train" and is_known(row)]
    return sum(any(same(one, other) for other in trained) for one in known), len(known)


@settings(deadline=None, max_examples=50)
@given(st.lists(ROW, max_size=15), st.randoms())
def test_every_share_is_what_counting_by_hand_gives(rows, random):
    """Row by row, all against all; the interval is SciPy's; the order of rows means nothing."""
    shuffled = frame(*rows).sample(frac=1, random_state=random.randint(0, 99))
    measured = measure(shuffled)
    groups = {("all", None): rows}
    for index, key in ((0, "by_hospital"), (1, "by_part")):
        for name in {row[index] for row in rows if row[1] in ("test", "unseen")}:
            groups[key, name] = [row for row in rows if row[index] == name]
    assert len(groups) == 1 + len(measured["by_hospital"]) + len(measured["by_part"])

    def is_patient(one, other):
        return one[4] is not None and (one[0], one[4]) == (other[0], other[4])

    def is_slide(one, other):
        return one[5] is not None and (one[0], *one[4:]) == (other[0], *other[4:])

    links = {
        "twin": (lambda one, other: one[3] == other[3], lambda row: True),
        "group": (lambda one, other: one[2] == other[2], lambda row: True),
        "patient": (is_patient, lambda row: row[4] is not None),
        "slide": (is_slide, lambda row: row[5] is not None),
        "slide_or_patient": (
            lambda one, other: is_patient(one, other) or is_slide(one, other),
            lambda row: row[4] is not None or row[5] is not None,
        ),
    }
    for (key, name), own in groups.items():
        block = measured["all"] if name is None else measured[key][name]
        tested = [row for row in own if row[1] in ("test", "unseen")]
        assert block["n_tested"] == len(tested)
        for link, (same, is_known) in links.items():
            hits, n = count_by_hand(rows, tested, same, is_known)
            share = block[f"{link}_in_train"]
            if n == 0:
                assert share is None
                continue
            assert (share["value"], share["n"]) == (hits / n, n)
            interval = binomtest(hits, n).proportion_ci(method="wilson")
            assert (share["low"], share["high"]) == pytest.approx(interval)
