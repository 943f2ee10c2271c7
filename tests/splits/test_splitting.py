"""The split keeps groups whole, loses nothing, and depends on nothing that it should not."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from stages.core.errors import SplitError
from stages.images.near_duplicates import group_twins as find_twins
from stages.splits.grouping import join_by
from stages.splits.leaks import LEAKY
from stages.splits.splitting import (
    PUBLISHED,
    assign_parts,
    group_twins,
    leave_out_twins,
    list_official,
    plan_hospitals,
    require_trainable,
)
from tests.made.splits import METHODS, PARTS, make, place, rule, tables

WHY_LEFT_OUT = re.compile(
    r"group of a/\d+ in (valid|test)|group of b/\d+ in (valid|test)|no official part|"
    r"official part [VZ] is no part of ours"
)


TOLD = pd.DataFrame(
    [("a", "A", "train"), ("a", "B", "test"), ("a", "B", "test"), ("a", "Z", None),
     ("a", None, None), ("b", None, None), ("c", "A", "test")],
    columns=["hospital", "official_part", "official_side"],
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_publisher_s_parts_are_those_that_the_images_bear(method):
    """Of training hospitals alone, in any order of rows; of no account for other methods."""
    for labels in (TOLD, TOLD[::-1]):
        found = list_official(labels, rule(method=method))
        assert found == ({"a": {"A": "train", "B": "test"}} if method in PUBLISHED else {})


def test_what_is_listed_is_what_is_planned():
    """A hospital whose images bear no part is divided as it is without a publisher."""
    plans = plan_hospitals(rule(method="cohort"), list_official(TOLD, rule(method="cohort")), {})
    assert plans["a"].official == {"A": "train", "B": "test"}
    assert (plans["b"].official, plans["b"].method) == ({}, "grouped")
    none = TOLD[TOLD["official_side"].isna()]
    assert list_official(none, rule(method="official")) == {}


methods = pytest.mark.parametrize("method", METHODS)
folds = pytest.mark.parametrize("fold", [None, 1])


@methods
@folds
@settings(deadline=None, max_examples=10)
@given(labels=tables(), seed=st.integers(0, 5))
def test_no_image_is_lost_and_no_group_is_parted(method, fold, labels, seed):
    """Each image has one part, or none and a reason; groups are whole where that is promised."""
    n_folds = 2 if method == "leave_hospitals_out" else 3
    placed = place(labels, seed, method=method, fold=fold, folds=n_folds)
    assert placed.index.equals(labels.index)
    assert (placed["part"] == "left_out").equals(placed["left_out_reason"].notna())
    assert all(WHY_LEFT_OUT.fullmatch(why) for why in placed["left_out_reason"].dropna())
    if method not in PUBLISHED:
        assert set(placed["part"]) <= {"train", "valid", "test", "unseen"}
    used = placed["part"] != "left_out"
    if method not in LEAKY:
        assert placed["part"][used].groupby(labels["group"][used]).nunique().max() == 1
    home = ["a", "b"]
    if method == "leave_hospitals_out" and fold is not None:
        home = [name for place, name in enumerate(home) if place != fold]
    assert (placed["part"] == "unseen").equals(~labels["hospital"].isin(home))


@methods
@folds
@settings(deadline=None, max_examples=10)
@given(labels=tables(), random=st.randoms())
def test_row_order_class_names_and_other_hospitals_mean_nothing(method, fold, labels, random):
    """A hospital's images stay where they are, whoever else is there and whatever is renamed."""
    asked = {"method": method, "fold": fold, "folds": 2}
    placed = place(labels, **asked)
    order = list(labels.index)
    random.shuffle(order)
    renamed = labels.loc[order].assign(label=labels["label"].map({"x": "m", "y": "n", "z": "a"}))
    assert place(renamed, **asked).sort_index().equals(placed)
    alone = labels[labels["hospital"] != "c"]
    assert place(alone, **asked).equals(placed.loc[alone.index])
    third = labels[labels["hospital"] == "c"]
    if third.empty:
        return
    # A third training hospital, at the end: it is fold 0 of 2, and moves neither a nor b.
    joined = place(labels, train_hospitals=["a", "b", "c"], **asked)
    assert joined.loc[alone.index].equals(placed.loc[alone.index])


@methods
@settings(deadline=None, max_examples=10)
@given(labels=tables(), n_folds=st.integers(2, 5))
def test_every_image_is_held_back_in_one_fold(method, labels, n_folds):
    """Over all folds each image of the pool is tested once; of a publisher's, validated once."""
    labels = labels[labels["hospital"] != "c"]
    if method == "leave_hospitals_out":
        n_folds, held = 2, "unseen"
    else:
        held = "valid" if method in PUBLISHED else "test"
    drawn = [
        place(labels, method=method, fold=fold, folds=n_folds, valid=0.1) for fold in range(n_folds)
    ]
    times = sum((placed["part"] == held).astype(int) for placed in drawn)
    if method not in PUBLISHED:
        assert set(times) == {1}
        return
    is_pool = drawn[0]["part"].isin(["train", "valid"])
    assert set(times[is_pool]) == {1}
    assert set(times[~is_pool]) <= {0}
    published = labels["official_part"].map({"A": "train", "B": "test"})
    published = published.mask(
        (labels["official_part"] == "V") & (labels["hospital"] == "b"), "train"
    )
    if method == "official":
        assert is_pool.equals(published == "train")
        assert (drawn[1]["part"] == "test").equals(published == "test")


def test_fractions_hold_in_every_class_and_hospital():
    """With many small groups each class is divided as asked, within two points."""
    labels = make()
    counts = pd.crosstab(
        [labels["hospital"], labels["label"]], place(labels, 3)["part"], normalize="index"
    )
    drawn = counts.loc[["a", "b"]]
    assert (drawn["train"] - 0.6).abs().max() < 0.02
    assert (drawn["valid"] - 0.2).abs().max() < 0.02
    assert (drawn["test"] - 0.2).abs().max() < 0.02


@pytest.mark.parametrize("n_images", [83, 110])
def test_folds_of_lone_images_are_as_even_as_those_of_scikit_learn(n_images):
    """Classes, and sizes, of the folds differ by one image at most."""
    rng = np.random.default_rng(5)
    labels = pd.DataFrame({"image_id": [f"a/{i:03d}" for i in range(n_images)], "hospital": "a"})
    labels["label"] = rng.choice(list("uvwxy"), n_images, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    labels["group"] = labels["image_id"]
    asked = {"train_hospitals": ["a"], "folds": 4, "valid": 0.0}
    ours = [
        labels.loc[place(labels, fold=fold, **asked)["part"] == "test", "label"]
        for fold in range(4)
    ]
    theirs = [
        labels["label"].iloc[held]
        for _, held in StratifiedKFold(4, shuffle=True, random_state=1).split(
            labels, labels["label"]
        )
    ]
    for folds_of_one in (ours, theirs):
        counts = pd.DataFrame([held.value_counts() for held in folds_of_one]).fillna(0)
        assert (counts.max() - counts.min()).max() <= 1
        assert counts.sum(axis=1).max() - counts.sum(axis=1).min() <= 1


def test_a_fold_leaves_the_share_asked_for_valid():
    """Valid is a share of the whole, whatever the fold takes."""
    part = place(make(), fold=1, folds=4)["part"].iloc[:180]
    shares = part.value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.25, abs=0.02)
    assert shares["valid"] == pytest.approx(0.2, abs=0.02)


def test_random_divides_groups_that_grouped_keeps():
    """The two differ in the unit alone: where every image is its own group they are one."""
    labels = make(n_groups=20, per_group=9)
    parted = labels["group"].groupby(place(labels, method="random")["part"]).nunique()
    assert parted["test"] > 10
    alone = labels.assign(group=labels["image_id"])
    assert place(alone, method="random").equals(place(alone, method="grouped"))


def test_leaving_hospitals_out_holds_nothing_back_at_home():
    """Places i, i + folds, ... of the training hospitals are unseen; the others train and tune."""
    labels = make(hospitals=("a", "b", "c", "d", "e"))
    asked = {"method": "leave_hospitals_out", "train_hospitals": ["d", "a", "c", "b"], "folds": 3}
    part = place(labels, fold=0, **asked)["part"]
    by_hospital = part.groupby(labels["hospital"]).agg(lambda parts: "+".join(sorted(set(parts))))
    home = "train+valid"
    assert by_hospital.to_dict() == {
        "a": home, "b": "unseen", "c": home, "d": "unseen", "e": "unseen",
    }  # fmt: skip
    assert (part[labels["hospital"] == "a"] == "valid").mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("hospitals", "fold"), [(["a", "b"], 2), (["a"], 0)])
def test_a_fold_without_hospitals_to_test_or_train_stops(hospitals, fold):
    with pytest.raises(SplitError, match=r"split.fold: fold \d of 3 leaves .* Lower folds"):
        plan_hospitals(
            rule(method="leave_hospitals_out", train_hospitals=hospitals, fold=fold), {}, {}
        )


PLACES = {"a": "a", "a2": "a", "b": "b", "b2": "elsewhere", "b3": "elsewhere", "c": "c"}


@given(order=st.permutations(list(PLACES)), n_folds=st.integers(2, 5))
def test_copies_of_one_hospital_leave_together_and_once(order, n_folds):
    """Whatever their order, also where the original is not there: each place in one fold, whole.

    No other test has two hospitals of one place.
    """
    asked = rule(method="leave_hospitals_out", train_hospitals=order, folds=n_folds)
    mention = list(dict.fromkeys(PLACES[name] for name in order))
    times = Counter()
    for fold in range(min(n_folds, len(mention))):
        plans = plan_hospitals(asked.model_copy(update={"fold": fold}), {}, PLACES)
        assert list(plans) == [name for name in order if name in plans]
        held = {PLACES[name] for name in order if name not in plans}
        assert held == set(mention[fold::n_folds])
        assert not held & {PLACES[name] for name in plans}
        times.update(held)
    assert set(times.values()) == {1}
    if n_folds > len(mention):
        told = rf"fold 4 of {n_folds} leaves 0 of the 4 places .* Lower folds"
        with pytest.raises(SplitError, match=told):
            plan_hospitals(asked.model_copy(update={"fold": n_folds - 1}), {}, PLACES)


@methods
def test_a_hospital_whose_copy_trains_is_not_unseen(method):
    """Its score would be one of pictures that the model knows; both train, or both are unseen."""
    places = {"a": "a", "a2": "a", "b": "b"}
    asked = rule(method=method, train_hospitals=["b", "a2"], fold=None)
    told = r"train_hospitals: a2 trains, and a, .* is unseen.* Put a into .*, or take a out of"
    with pytest.raises(SplitError, match=told):
        plan_hospitals(asked, {}, places)
    plan_hospitals(asked.model_copy(update={"train_hospitals": ["b", "a2", "a"]}), {}, places)
    plan_hospitals(asked.model_copy(update={"train_hospitals": ["b"]}), {}, places)


def test_folds_that_leave_nothing_to_train_stop():
    with pytest.raises(SplitError, match=r"split.valid: got 0.5; with one of 2 folds.*raise folds"):
        plan_hospitals(rule(valid=0.5, test=0.0, folds=2, fold=0), {}, {})
    plan_hospitals(rule(valid=0.5, test=0.0, folds=2), {}, {})


def published(*rows):
    """Images of hospital a: group, official part."""
    return pd.DataFrame(
        {
            "image_id": [f"a/{i}" for i in range(len(rows))],
            "hospital": "a",
            "label": "x",
            "group": [f"a/{group}" for group, _ in rows],
            "official_part": [part for _, part in rows],
        }
    )


def test_a_cohort_keeps_the_published_test_part_whole():
    """A group in two parts stays in the later one; its images in the earlier one are left out."""
    labels = published(
        ("g", "tr"), ("g", "va"), ("g", "te"), ("h", "tr"), ("h", "va"), ("i", "tr"), ("j", "Z"),
        ("k", None),
    )  # fmt: skip
    parts = {"a": {"tr": "train", "va": "valid", "te": "test"}}
    asked = {"parts": parts, "train_hospitals": ["a"]}
    placed = place(labels, method="cohort", **asked)
    expected = ["left_out", "left_out", "test", "left_out", "valid", "train", *["left_out"] * 2]
    assert placed["part"].tolist() == expected
    assert placed["left_out_reason"].tolist() == [
        "group of a/2 in test", "group of a/2 in test", None, "group of a/4 in valid", None, None,
        "official part Z is no part of ours", "no official part",
    ]  # fmt: skip
    leaky = place(labels, method="official", **asked)
    assert leaky["part"].tolist() == [
        "train", "valid", "test", "train", "valid", "train", "left_out", "left_out",
    ]  # fmt: skip


def test_without_a_published_valid_part_one_is_drawn_from_train():
    """The share of split.valid of the train part, whole groups; the test part is as published."""
    labels = make(hospitals=("a",)).assign(official_part="tr")
    labels.loc[labels["group"] > "a/040", "official_part"] = "te"
    asked = {"parts": {"a": {"tr": "train", "te": "test"}}, "train_hospitals": ["a"]}
    for method in ("cohort", "official"):
        part = place(labels, method=method, **asked)["part"]
        assert (part == "test").equals(labels["official_part"] == "te")
        share = (part == "valid").sum() / (part != "test").sum()
        assert share == pytest.approx(0.2, abs=0.02)
        n_sides = part.groupby(labels["group"]).nunique().max()
        assert n_sides == (1 if method == "cohort" else 2)


@pytest.mark.parametrize("method", PUBLISHED)
def test_folds_of_a_cohort_take_the_published_valid_part_in(method):
    """All that is published to learn from takes its turn; the published test part never moves."""
    labels = published(*[(g, "tr") for g in range(6)], *[(g, "va") for g in range(6, 9)], (9, "te"))
    parts = {"a": {"tr": "train", "va": "valid", "te": "test"}}
    asked = {"parts": parts, "train_hospitals": ["a"], "method": method, "folds": 3}
    valid = [
        set(np.flatnonzero(place(labels, fold=i, **asked)["part"] == "valid")) for i in range(3)
    ]
    assert sorted(len(one) for one in valid) == [3, 3, 3]
    assert set.union(*valid) == set(range(9))


@pytest.mark.parametrize(("method", "instead"), PUBLISHED.items())
def test_a_hospital_without_published_parts_is_divided_by_its_own_rule(method, instead):
    """The plan says so by hospital; the images stand as they would by the other method."""
    labels = make().assign(official_part=None)
    labels.loc[labels["hospital"] == "b", "official_part"] = "A"
    parts = {"a": {}, "b": {"A": "train"}}
    plans = plan_hospitals(rule(method=method), parts, {})
    assert {name: plan.method for name, plan in plans.items()} == {"a": instead, "b": method}
    placed = assign_parts(labels, plans, 1)
    other = place(labels, method=instead, parts=parts)
    assert placed[labels["hospital"] == "a"].equals(other[labels["hospital"] == "a"])


def test_seed_moves_groups():
    labels = make()
    assert not place(labels, 1).equals(place(labels, 2))
    assert place(labels, 1).equals(place(labels, 1))


def test_each_hospital_is_drawn_by_its_own_name():
    """Two hospitals alike in all but their name are not divided alike."""
    labels = make(hospitals=("a", "b"))
    part = place(labels)["part"]
    first, second = (part[labels["hospital"] == name].tolist() for name in "ab")
    assert first != second


def test_a_hospital_without_pictures_stops():
    with pytest.raises(SplitError, match=r"train_hospitals: no picture of 'b'.*another taxonomy"):
        place(make(hospitals=("a",)))


def test_images_without_a_group_stop():
    """A missing group would drop the image from every part, unseen by anyone."""
    labels = make()
    labels.loc[[7, 8], "group"] = None
    with pytest.raises(
        SplitError, match=r"group: 2 images have none, first a/002_1, a/002_2.*harm"
    ):
        place(labels)


def test_twins_across_hospitals_leave_the_lower_side():
    """Train keeps its picture; the copies in test and unseen are left out, with the reason."""
    images = pd.DataFrame(
        {
            "image_id": ["a/1", "b/1", "c/1", "c/2", "b/0"],
            "hospital": ["a", "b", "c", "c", "b"],
            "twin_group": ["a/1", "a/1", "a/1", "c/2", "a/1"],
            "part": ["test", "train", "unseen", "unseen", "left_out"],
            "left_out_reason": pd.Series(
                [None, None, None, None, "no official part"], dtype=object
            ),
        }
    )
    result = leave_out_twins(images)
    assert result["part"].tolist() == ["left_out", "train", "left_out", "unseen", "left_out"]
    assert result["left_out_reason"].tolist() == [
        "twin of b/1 in train", None, "twin of b/1 in train", None, "no official part",
    ]  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6), st.sampled_from(["train", "valid", "test", "unseen", "left_out"])
        ),
        max_size=30,
    )
)
def test_no_twin_stays_on_two_sides(rows):
    images = pd.DataFrame(
        {
            "image_id": [f"h/{i}" for i in range(len(rows))],
            "hospital": "h",
            "twin_group": [f"h/t{t}" for t, _ in rows],
            "part": pd.Series([part for _, part in rows], dtype=object),
        }
    )
    images["left_out_reason"] = images["part"].map({"left_out": "before"}).astype(object)
    result = images.assign(**leave_out_twins(images))
    used, before = result[result["part"] != "left_out"], images[images["part"] != "left_out"]
    assert used.empty or used.groupby("twin_group")["part"].nunique().max() == 1
    assert (result["part"] == "left_out").equals(result["left_out_reason"].notna())
    assert set(used["twin_group"]) == set(before["twin_group"])


def trainable(labels, hospitals, **changes):
    plans = plan_hospitals(rule(**changes), PARTS, {})
    require_trainable(labels.assign(**assign_parts(labels, plans, 1)), hospitals, plans)


def test_a_class_that_is_not_trained_stops():
    labels = make()
    labels.loc[labels["hospital"] == "c", "label"] = "w"
    with pytest.raises(SplitError, match=r"no picture of w is in the training part, but c has 180"):
        trainable(labels, ["a", "b", "c"])


@pytest.mark.parametrize("method", ["grouped", "leave_hospitals_out"])
def test_an_empty_unseen_hospital_stops(method):
    labels = make(hospitals=("a", "b", "d"))
    with pytest.raises(SplitError, match=r"c has no picture to test on.*hospitals:"):
        trainable(labels, ["a", "b", "c", "d"], method=method)


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"test": 0.0}, "raise split.test"),
        ({"folds": 60, "fold": 59}, "lower split.folds"),
        ({"method": "cohort"}, r"its published test part \(layout.official_parts"),
    ],
)
def test_a_training_hospital_without_a_test_stops(changes, way):
    """Each way out is one that helps there."""
    labels = make(n_groups=9).assign(official_part="A")
    with pytest.raises(SplitError, match=rf"a has no picture to test on.*{way}"):
        trainable(labels, ["a", "b", "c"], **changes)


def test_a_hospital_of_copies_is_called_so():
    """The same pictures under a second name: no share of the split brings them back."""
    split = make(hospitals=("a", "b"))
    split["part"] = split["hospital"].map({"a": "test", "b": "left_out"})
    split["left_out_reason"] = None
    split.loc[split["hospital"] == "b", "left_out_reason"] = "twin of a/1.jpg in test"
    split = pd.concat([split, split.head(3).assign(part="train")])
    split.loc[split["part"] == "test", "label"] = split["label"].iloc[0]
    told = r"all pictures of b are copies of other.*, as twin of a/1.jpg in test. Take b out"
    with pytest.raises(SplitError, match=told):
        require_trainable(split, ["a", "b"], {})
    with pytest.raises(SplitError, match=r"c has no picture to test on(?!.*split.test)"):
        require_trainable(split, ["a", "c"], {})


def test_while_hospitals_are_left_out_the_others_need_no_test():
    """But someone must be tested."""
    trainable(make(), ["a", "b", "c"], method="leave_hospitals_out")
    trainable(make(), ["a", "b", "c"], method="leave_hospitals_out", fold=0, folds=2)
    labels = make(hospitals=("a", "b"))
    with pytest.raises(SplitError, match=r"all of them train: a, b. Take one out .* choose a fold"):
        trainable(labels, ["a", "b"], method="leave_hospitals_out")


def near(*set_bits):
    """A 256-bit hash with these bits set."""
    return sum(1 << bit for bit in set_bits).to_bytes(32, "big")


def find(image_ids, hashes):
    return find_twins(image_ids, hashes, 2)


def test_an_unseen_picture_is_no_bridge_between_training_pictures():
    """A is near c and c near b, but a is not near b: c is left out, a and b stay where they are."""
    images = pd.DataFrame(
        {
            "image_id": ["a/1", "b/1", "c/1", "c/2", "d/1"],
            "hospital": ["a", "b", "c", "c", "d"],
            "phash": [near(1, 2), near(3, 4), near(1, 3), near(90, 91, 92, 93), near(90, 91, 92)],
            "part": ["train", "test", "unseen", "unseen", "unseen"],
            "left_out_reason": None,
        }
    )
    images["twin_group"] = group_twins(images, find)
    assert images["twin_group"].tolist() == ["a/1", "b/1", "a/1", "c/2", "c/2"]
    parts = leave_out_twins(images)["part"].tolist()
    assert parts == ["train", "test", "left_out", "unseen", "unseen"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "valid", "test", "unseen"]),
            st.lists(st.integers(0, 5), max_size=4),
        ),
        min_size=1,
        max_size=14,
    )
)
def test_unseen_pictures_change_nothing_at_home(rows):
    """The parts of the training hospitals are the same with and without an unseen hospital."""
    images = pd.DataFrame(
        {
            "image_id": [f"h/{i:02d}" for i in range(len(rows))],
            "hospital": "h",
            "phash": [near(*set(bits)) for _, bits in rows],
            "part": [part for part, _ in rows],
            "left_out_reason": None,
        }
    )
    home = images[images["part"] != "unseen"]
    alone = leave_out_twins(home.assign(twin_group=group_twins(home, find)))
    together = leave_out_twins(images.assign(twin_group=group_twins(images, find)))
    assert together["part"][home.index].equals(alone["part"])


def twins_of_three_hospitals(seed):
    """Images with few hashes, so that twins abound; near twins of a hospital share their group."""
    rng = np.random.default_rng(seed)
    n = 24
    labels = pd.DataFrame({"hospital": ["a", "b", *rng.choice(list("abcc"), n - 2)]})
    labels["image_id"] = [f"{name}/{row:02d}" for row, name in enumerate(labels["hospital"])]
    labels["label"] = "x"
    labels["official_part"] = ["A", "A", *rng.choice(["A", "B", "Z"], n - 2)]
    labels["phash"] = [near(*set(bits)) for bits in rng.integers(0, 11, (n, 4)).tolist()]
    at_home = pd.concat(
        pd.Series(find(list(own["image_id"]), list(own["phash"])), index=own.index)
        for _, own in labels.groupby("hospital")
    ).sort_index()
    patients = labels["hospital"] + pd.Series(rng.integers(0, 12, n)).astype(str)
    return labels.assign(group=[f"g{code}" for code in join_by(n, [at_home, patients])])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in LEAKY])
def test_no_near_twin_stands_on_another_side(method):
    """Whatever is left out for other reasons: here a third of what the cohorts publish."""
    for seed in range(15):
        labels = twins_of_three_hospitals(seed)
        images = labels.join(place(labels, seed, parts={"a": PARTS["a"], "b": PARTS["a"]},
                                   method=method))  # fmt: skip
        images["twin_group"] = group_twins(images, find)
        images = images.assign(**leave_out_twins(images))
        used = images[images["part"] != "left_out"]
        bits = np.unpackbits(np.array([list(phash) for phash in used["phash"]], np.uint8), axis=1)
        apart = (bits[:, None] != bits[None]).sum(axis=2)
        sides = used["part"].to_numpy()
        assert not ((apart <= 2) & (sides[:, None] != sides[None])).any()


def test_an_unseen_picture_joins_the_twin_that_is_used():
    """C is near a left-out picture and near one that trains, in whichever order they are named."""
    for left, trains in (("a/1", "a/2"), ("a/2", "a/1")):
        images = pd.DataFrame(
            {
                "image_id": [left, trains, "c/1"],
                "hospital": ["a", "a", "c"],
                "phash": [near(1, 2), near(3, 4), near(1, 3)],
                "part": ["left_out", "train", "unseen"],
                "left_out_reason": ["no official part", None, None],
            }
        )
        for rows in (images, images[::-1]):
            found = rows.assign(twin_group=group_twins(rows, find))
            assert found["twin_group"][2] == trains
            assert leave_out_twins(found)["left_out_reason"][2] == f"twin of {trains} in train"
