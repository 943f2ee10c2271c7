"""The report counts what stands where, and what was asked bounds what may come out."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.store import to_json
from stages.splits.split_report import MAX_PAIRS, list_absent, report
from stages.splits.splitting import PUBLISHED, assign_parts, leave_out_twins, plan_hospitals
from tests.made.splits import METHODS, PARTS, make, rule, tables


def counted(labels, parts=PARTS, seed=1, **changes):
    """The report on images that are divided as asked, without twins; as it stands in the file."""
    asked = rule(**changes)
    plans = plan_hospitals(asked, parts, {})
    split = labels.assign(**assign_parts(labels, plans, seed), twin_group=labels["image_id"])
    return read(split, asked, plans)


def read(split, asked, plans):
    unknown = {name: None for name in ("patient", "slide") if name not in split}
    return json.loads(to_json(report(split.assign(**unknown), asked, plans)))


def hand_made(*rows, hospital="a", **changes):
    """The report on images whose label, group, part, patient, slide, twin_group are as given."""
    columns = ["label", "group", "part", "patient", "slide", "twin_group"]
    split = pd.DataFrame(rows, columns=columns, dtype=object)
    split["image_id"] = [f"{hospital}/{number:02d}" for number in range(len(rows))]
    split = split.assign(hospital=hospital, left_out_reason=None)
    asked = rule(**({"train_hospitals": [hospital]} | changes))
    return read(split, asked, plan_hospitals(asked, {}, {}))


def test_counts_add_up():
    """Every image is in one part; those left out are counted by reason, without naming images."""
    labels = make(n_groups=12).assign(official_part="A")
    labels.loc[labels["image_id"].str.endswith("_2"), "official_part"] = "B"
    labels.loc[:4, "official_part"] = None
    labels.loc[5, "official_part"] = "Z"
    content = counted(labels, method="cohort")
    assert sum(content["n_by_part"].values()) == content["n_images"] == 108
    assert content["n_by_part"]["left_out"] == content["n_left_out"] > 40
    # The third image of each group of a and b is published as test; 22 groups have it still.
    assert content["n_left_out_by_reason"] == {
        "group in test": 44, "no official part": 5, "official part Z is no part of ours": 1,
    }  # fmt: skip
    by_class = [
        n for parts in content["by_hospital"].values() for counts in parts.values()
        for n in counts.values()
    ]  # fmt: skip
    assert sum(by_class) == 108


def test_the_method_is_named_and_where_another_was_used():
    labels = make().assign(official_part="A")
    labels.loc[labels["group"].str.endswith("7"), "official_part"] = "B"
    content = counted(labels, parts={"a": PARTS["a"]}, method="official", fold=1)
    assert (content["method"], content["fold"]) == ("official", 1)
    assert content["method_by_hospital"] == {"b": "random"}
    assert counted(make())["method_by_hospital"] == {}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in PUBLISHED])
@pytest.mark.parametrize("fold", [None, 1])
@settings(deadline=None, max_examples=25)
@given(
    labels=tables(), seed=st.integers(0, 3), n_folds=st.integers(2, 6),
    valid=st.sampled_from([0.0, 0.1, 0.3, 0.45]), test=st.sampled_from([0.0, 0.05, 0.5]),
)  # fmt: skip
def test_no_part_is_further_from_what_was_asked_than_it_can_be(
    method, fold, labels, seed, n_folds, valid, test
):
    """For any groups and classes: the tolerance that is proven is one that holds."""
    if method == "leave_hospitals_out":
        fold = None
    changes = {"method": method, "fold": fold, "folds": n_folds, "valid": valid, "test": test}
    sizes = counted(labels, seed=seed, **changes)["sizes"]
    assert sorted(sizes) == ["a", "b"]
    for size in sizes.values():
        assert sum(part["asked"] for part in size.values()) == pytest.approx(1)
        for part in size.values():
            assert abs(part["share"] - part["asked"]) <= part["tolerance"]


@pytest.mark.parametrize("n_classes", [1, 2, 3])
@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_the_tolerance_holds_where_it_is_tight(n_classes, n_folds):
    """One group of everything: the part that gets it is as far off as the bound says."""
    labels = make(n_groups=1, per_group=n_classes, hospitals=("a",))
    changes = {"train_hospitals": ["a"], "folds": n_folds, "valid": 0.0}
    (size,) = counted(labels, fold=0, **changes)["sizes"].values()
    for part in size.values():
        distance = abs(part["share"] - part["asked"])
        assert distance <= part["tolerance"] <= distance + 0.0002


def test_the_tolerance_is_small_where_groups_are_many():
    """Eleven classes of 400 lone images: two points and a half; then nothing gross passes."""
    labels = make(n_groups=4400, per_group=1, hospitals=("a",), classes=tuple("abcdefghijk"))
    (size,) = counted(labels, train_hospitals=["a"])["sizes"].values()
    for part in size.values():
        assert abs(part["share"] - part["asked"]) < 0.001
        assert part["tolerance"] < 0.04


def test_twins_that_were_left_out_widen_the_tolerance():
    """They were dealt to some part, which nobody knows any more."""
    labels = make(n_groups=40, hospitals=("a",))
    asked = rule(train_hospitals=["a"])
    plans = plan_hospitals(asked, {}, {})
    placed = labels.assign(**assign_parts(labels, plans, 1), twin_group=labels["image_id"])
    stolen = placed[placed["part"] == "test"].index
    placed.loc[stolen, "twin_group"] = placed.loc[placed["part"] == "train", "twin_group"].iloc[0]
    whole = read(placed, asked, plans)["sizes"]["a"]
    split = placed.assign(**leave_out_twins(placed))
    part = read(split, asked, plans)["sizes"]["a"]["test"]
    assert part["share"] == 0
    assert part["tolerance"] == pytest.approx(whole["test"]["tolerance"] + len(stolen) / 120)


def test_of_a_publisher_no_size_is_asked():
    labels = make().assign(official_part="A")
    size = counted(labels, method="cohort")["sizes"]["b"]
    assert sorted(size) == ["test", "train", "valid"]
    assert size["test"] == {
        "share": 0, "asked": None, "asked_reason": "its publisher divides the images",
    }  # fmt: skip
    asked = counted(labels, method="cohort", parts={"a": {"A": "train"}}, valid=0.0)["sizes"]
    assert sorted(asked["a"]) == ["train"]
    assert sorted(asked["b"]) == ["test", "train"]


def test_classes_that_a_part_lacks_and_those_of_one_group_are_listed():
    """Of parts asked for only, and of a left-out image as little as of none."""
    rows = [
        ("x", "g1", "train", None, None, "t1"),
        ("x", "g2", "valid", None, None, "t2"),
        ("x", "g3", "test", None, None, "t3"),
        ("y", "g1", "train", None, None, "t4"),
        ("y", "g1", "train", None, None, "t5"),
        ("y", "g3", "left_out", None, None, "t6"),
        ("z", "g2", "valid", None, None, "t7"),
        ("z", "g4", "test", None, None, "t8"),
    ]
    content = hand_made(*rows)
    assert content["absent"] == ["a/y/test", "a/y/valid", "a/z/train"]
    assert content["single_group_classes"] == ["a/y"]
    assert hand_made(*rows, test=0.0)["absent"] == ["a/y/valid", "a/z/train"]


def test_a_class_of_another_hospital_fills_no_gap():
    """Absent is said hospital by hospital."""
    rows = [("a", "x", "train"), ("b", "x", "test"), ("c", "x", "unseen")]
    split = pd.DataFrame(rows, columns=["hospital", "label", "part"])
    sizes = {"a": {"train": {}, "test": {}}, "b": {"train": {}}}
    assert list_absent(split, sizes) == ["a/x/test", "b/x/train"]


def test_an_unseen_hospital_lacks_nothing():
    """Nothing is asked of it, so that it has no absent class; but one of a single group."""
    labels = make(n_groups=30)
    labels.loc[(labels["hospital"] == "c") & (labels["group"] != "c/000"), "label"] = "x"
    content = counted(labels)
    assert content["absent"] == []
    assert content["single_group_classes"] == ["c/y", "c/z"]


def test_a_class_of_one_group_is_no_fault():
    """A single patient's class is listed, wherever it came to stand, and nothing breaks."""
    labels = make()
    labels.loc[labels["group"] == "a/007", "label"] = "rare"
    for method in METHODS:
        content = counted(labels.assign(official_part="A"), method=method)
        assert content["single_group_classes"] == ["a/rare"]
        if method == "grouped":
            assert len([name for name in content["absent"] if name.startswith("a/rare")]) == 2


def test_patients_slides_and_clusters_on_two_sides_are_counted():
    """Unseen is no side of the training hospitals' images; an image alone is no cluster."""
    content = hand_made(
        ("x", "g1", "train", "p1", "s1", "t1"),
        ("x", "g1", "test", "p1", "s2", "t2"),
        ("x", "g1", "valid", "p1", "s2", "t1"),
        ("x", "g2", "train", "p2", "s1", "t4"),
        ("x", "g2", "train", "p2", "s1", "t4"),
        ("x", "g3", "left_out", "p2", "s1", "t4"),
        ("x", "g3", "test", None, None, "t7"),
    )
    assert content["on_two_sides"] == {
        "patients": {"n": 2, "n_on_two_sides": 1},
        "slides": {"n": 3, "n_on_two_sides": 1},
        "twin_clusters": {"n": 2, "n_on_two_sides": 1},
    }
    nothing = hand_made(("x", "g", "train", None, None, "t"))["on_two_sides"]
    assert nothing["slides"] == nothing["twin_clusters"] == {"n": 0, "n_on_two_sides": 0}


def test_twins_of_two_classes_are_named():
    """Of each cluster its first image and the first of another class, also one that is left out."""
    content = hand_made(
        ("x", "g1", "train", None, None, "t1"),
        ("x", "g1", "train", None, None, "t1"),
        ("y", "g1", "left_out", None, None, "t1"),
        ("z", "g1", "train", None, None, "t1"),
        ("y", "g2", "train", None, None, "t2"),
        ("y", "g2", "train", None, None, "t2"),
    )
    assert content["conflicting_twins"] == {
        "n_clusters": 1, "pairs": ["a/00 (x) and a/02 (y)"],
    }  # fmt: skip
    many = [(label, "g", "train", None, None, f"t{i:02d}") for i in range(30) for label in "xy"]
    conflicts = hand_made(*many)["conflicting_twins"]
    assert (conflicts["n_clusters"], len(conflicts["pairs"])) == (30, MAX_PAIRS)


def test_the_leaks_are_those_of_the_split():
    """Whole groups leak nothing; image by image the same groups leak nearly all."""
    labels = make(n_groups=20, per_group=9)
    labels["patient"] = labels["group"].str.split("/").str[1]
    honest = counted(labels)
    assert honest["leaks"]["all"]["patient_in_train"]["value"] == 0
    assert honest["leaks"]["all"]["slide_in_train"] is None
    leaky = counted(labels, method="random")
    assert leaky["leaks"]["by_part"]["test"]["patient_in_train"]["value"] > 0.9
    assert leaky["leaks"]["by_part"]["unseen"]["patient_in_train"]["value"] == 0
    assert leaky["on_two_sides"]["patients"]["n_on_two_sides"] == 40


def test_the_report_names_the_class_that_a_group_bends_and_no_other_hospital():
    """One patient of hospital a owns 40 pictures of a class, which no split can divide."""
    owned = pd.DataFrame(
        {
            "image_id": [f"a/big_{i}" for i in range(40)],
            "hospital": "a", "label": "rare", "group": "a/big",
        }
    )  # fmt: skip
    shares = counted(pd.concat([make(), owned], ignore_index=True))["class_shares"]
    assert shares["largest_distance"] > shares["tolerance"]
    assert {"a/train/rare", "a/test/rare"} <= set(shares["beyond"])
    assert not any(name.startswith("b/") for name in shares["beyond"])
    assert counted(make())["class_shares"]["beyond"] == []
