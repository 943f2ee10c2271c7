"""The split keeps groups whole, loses nothing, and depends on nothing that it should not."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import SplitError
from stages.core.params import SplitParams
from stages.core.splitting import (
    assign_parts,
    group_twins,
    leave_out_twins,
    report,
    require_trainable,
)
from stages.core.twins import group_twins as find_twins

RULE = SplitParams(train_hospitals=["a", "b"], valid=0.2, test=0.2)


def make(n_groups=60, per_group=3, hospitals=("a", "b", "c"), classes=("x", "y", "z")):
    rows = [
        (f"{h}/{g:03d}_{i}", h, classes[(g + i) % len(classes)], f"{h}/{g:03d}")
        for h in hospitals
        for g in range(n_groups)
        for i in range(per_group)
    ]
    return pd.DataFrame(rows, columns=["image_id", "hospital", "label", "group"])


@st.composite
def tables(draw):
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.sampled_from("xyz")),
            min_size=1,
            max_size=60,
        )
    )
    rows += [("a", 20, "x"), ("b", 20, "x")]
    return pd.DataFrame(
        [(f"{h}/{i}", h, label, f"{h}/g{g}") for i, (h, g, label) in enumerate(rows)],
        columns=["image_id", "hospital", "label", "group"],
    )


@settings(deadline=None)
@given(tables(), st.integers(0, 5))
def test_no_group_on_two_sides_and_no_image_lost(labels, seed):
    part = assign_parts(labels, RULE, seed)
    assert part.index.equals(labels.index)
    assert part.groupby(labels["group"]).nunique().max() == 1
    trained = labels["hospital"].isin(RULE.train_hospitals)
    assert set(part[~trained]) <= {"unseen"}
    assert set(part[trained]) <= {"train", "valid", "test"}


@settings(deadline=None)
@given(tables(), st.randoms())
def test_row_order_class_names_and_other_hospitals_mean_nothing(labels, random):
    part = assign_parts(labels, RULE, 1)
    order = list(labels.index)
    random.shuffle(order)
    renamed = labels.loc[order].assign(label=labels["label"].map({"x": "m", "y": "n", "z": "a"}))
    assert assign_parts(renamed, RULE, 1).sort_index().equals(part)
    alone = labels[labels["hospital"] != "c"]
    assert assign_parts(alone, RULE, 1).equals(part[alone.index])
    one = SplitParams(train_hospitals=["a"], valid=0.2, test=0.2)
    only_a = labels[labels["hospital"] == "a"]
    assert assign_parts(only_a, one, 1).equals(part[only_a.index])


def test_fractions_hold_in_every_class_and_hospital():
    """With many small groups each class is divided as asked, within two points."""
    labels = make()
    counts = pd.crosstab(
        [labels["hospital"], labels["label"]], assign_parts(labels, RULE, 3), normalize="index"
    )
    drawn = counts.loc[["a", "b"]]
    assert (drawn["train"] - 0.6).abs().max() < 0.02
    assert (drawn["valid"] - 0.2).abs().max() < 0.02
    assert (drawn["test"] - 0.2).abs().max() < 0.02


def test_seed_moves_groups():
    labels = make()
    assert not assign_parts(labels, RULE, 1).equals(assign_parts(labels, RULE, 2))
    assert assign_parts(labels, RULE, 1).equals(assign_parts(labels, RULE, 1))


def test_each_hospital_is_drawn_by_its_own_name():
    """Two hospitals alike in all but their name are not divided alike."""
    labels = make(hospitals=("a", "b"))
    part = assign_parts(labels, RULE, 1)
    first, second = (part[labels["hospital"] == name].tolist() for name in "ab")
    assert first != second


def test_a_hospital_without_pictures_stops():
    with pytest.raises(SplitError, match=r"train_hospitals: no picture of 'b'.*another taxonomy"):
        assign_parts(make(hospitals=("a",)), RULE, 1)


def test_twins_across_hospitals_leave_the_lower_side():
    """Train keeps its picture; the copies in test and unseen are left out, with the reason."""
    images = pd.DataFrame(
        {
            "image_id": ["a/1", "b/1", "c/1", "c/2"],
            "hospital": ["a", "b", "c", "c"],
            "twin_group": ["a/1", "a/1", "a/1", "c/2"],
            "part": ["test", "train", "unseen", "unseen"],
        }
    )
    result = leave_out_twins(images)
    assert result["part"].tolist() == ["left_out", "train", "left_out", "unseen"]
    assert result["left_out_reason"].tolist() == [
        "twin of b/1 in train", None, "twin of b/1 in train", None,
    ]  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["train", "valid", "test", "unseen"])),
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
    result = images.assign(**leave_out_twins(images))
    used = result[result["part"] != "left_out"]
    assert used.empty or used.groupby("twin_group")["part"].nunique().max() == 1
    assert (result["part"] == "left_out").equals(result["left_out_reason"].notna())
    assert set(used["twin_group"]) == set(images["twin_group"])


def split_of(labels, part):
    return labels.assign(part=part, twin_group=labels["image_id"])


def test_a_class_that_is_not_trained_stops():
    labels = make()
    labels.loc[labels["hospital"] == "c", "label"] = "w"
    split = split_of(labels, assign_parts(labels, RULE, 1))
    with pytest.raises(SplitError, match=r"no picture of w is in the training part, but c has 180"):
        require_trainable(split, ["a", "b", "c"])


def test_an_empty_test_hospital_stops():
    labels = make(hospitals=("a", "b"))
    split = split_of(labels, assign_parts(labels, RULE, 1))
    with pytest.raises(SplitError, match=r"c has no picture to test on.*hospitals:"):
        require_trainable(split, ["a", "b", "c"])


def test_the_report_measures_leaks_that_are_put_in():
    """An honest split has none; a split by picture of the same groups is measured as leaky."""
    labels = make()
    honest = split_of(labels, assign_parts(labels, RULE, 1))
    assert report(honest)["leaks"] == {
        "share_of_test_with_twin_in_train": 0.0,
        "share_of_test_with_group_in_train": 0.0,
    }
    leaky = honest.copy()
    one_each = ~leaky.loc[leaky["part"] == "train", "group"].duplicated()
    leaky.loc[one_each[one_each].index, "part"] = "test"
    n_moved, n_test = int(one_each.sum()), int((leaky["part"] == "test").sum())
    share = report(leaky)["leaks"]["share_of_test_with_group_in_train"]
    assert share == pytest.approx(n_moved / n_test)


def test_the_report_names_the_class_that_a_group_bends_and_no_other_hospital():
    """One patient of hospital a owns 40 pictures of a class, which no split can divide."""
    owned = pd.DataFrame(
        {
            "image_id": [f"a/big_{i}" for i in range(40)],
            "hospital": "a", "label": "rare", "group": "a/big",
        }
    )  # fmt: skip
    labels = pd.concat([make(), owned], ignore_index=True)
    shares = report(split_of(labels, assign_parts(labels, RULE, 1)))["class_shares"]
    assert shares["largest_distance"] > shares["tolerance"]
    assert {"a/train/rare", "a/test/rare"} <= set(shares["beyond"])
    assert not any(name.startswith("b/") for name in shares["beyond"])
    even = make()
    assert report(split_of(even, assign_parts(even, RULE, 1)))["class_shares"]["beyond"] == []


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
        }
    )
    images["twin_group"] = group_twins(images, find)
    assert images["twin_group"].tolist() == ["a/1", "b/1", "a/1", "c/2", "c/2"]
    parts = leave_out_twins(images)["part"].tolist()
    assert parts == ["train", "test", "left_out", "unseen", "unseen"]


@settings(deadline=None)
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
        }
    )
    home = images[images["part"] != "unseen"]
    alone = leave_out_twins(home.assign(twin_group=group_twins(home, find)))
    together = leave_out_twins(images.assign(twin_group=group_twins(images, find)))
    assert together["part"][home.index].equals(alone["part"])
