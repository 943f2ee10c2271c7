"""A few labels: as many as asked where the rest can still test, whole groups, the same by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.splits import few_labels

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=60)
NUMBERS = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True)


def images_of(rows):
    """One image for each (class, group)."""
    return pd.DataFrame(
        [(f"h/{n:03d}", label, f"h/p{group}") for n, (label, group) in enumerate(rows)],
        columns=["image_id", "label", "group"],
    )


@settings(deadline=None)
@given(rows=ROWS, numbers=NUMBERS, seed=st.integers(0, 99))
def test_no_group_stands_on_both_sides_and_half_of_each_class_tests(rows, numbers, seed):
    """No class gives more than asked; what is neither labelled nor tested is of their groups."""
    images = images_of(rows)
    known = images.set_index("image_id")
    totals = images["label"].value_counts()
    for number, draw in few_labels.draw(images, numbers, seed).items():
        given_, tested = known.loc[draw.labelled.index], known.loc[draw.tested]
        assert (given_["label"] == draw.labelled).all()
        assert not set(given_["group"]) & set(tested["group"])
        spent = known.drop(draw.tested)
        assert set(spent["group"]) == set(given_["group"])
        counts = given_["label"].value_counts().reindex(totals.index, fill_value=0)
        assert (counts <= number).all()
        left = tested["label"].value_counts().reindex(totals.index, fill_value=0)
        assert (2 * left >= totals).all()
        assert draw.n_by_class == counts.to_dict()
        assert (draw.reason is None) == (len(totals) > 1 and len(given_) > 0)
        assert (draw.note is None) == (draw.reason is not None or (counts == number).all())


@settings(deadline=None)
@given(rows=ROWS, numbers=NUMBERS, seed=st.integers(0, 9), shuffle=st.integers(0, 9))
def test_a_draw_does_not_depend_on_order_and_holds_the_smaller_ones(rows, numbers, seed, shuffle):
    """By name and seed alone: rows may come in any order, numbers too."""
    images = images_of(rows)
    draws = few_labels.draw(images, numbers, seed)
    mixed = images.sample(frac=1, random_state=shuffle)
    again = few_labels.draw(mixed, numbers[::-1], seed)
    assert list(draws) == list(again) == sorted(numbers)
    before = {}
    for number, draw in draws.items():
        assert draw.labelled.equals(again[number].labelled)
        assert draw.tested == again[number].tested
        assert before.items() <= draw.labelled.to_dict().items()
        before = draw.labelled.to_dict()


def test_single_images_are_drawn_as_asked_and_another_seed_draws_others():
    """Forty images a class, each a group: ten of each are labelled, thirty test."""
    images = images_of([("abcd"[n % 4], n) for n in range(160)])
    first, other = (few_labels.draw(images, [10], seed)[10] for seed in (1, 2))
    assert first.n_by_class == dict.fromkeys("abcd", 10)
    assert (len(first.labelled), len(first.tested)) == (40, 120)
    assert first.reason is first.note is None
    assert len(set(first.labelled.index) & set(other.labelled.index)) < 25


def test_few_patients_are_labelled_not_a_few_images_of_each():
    """Of twenty patients with ten images of each class, one is enough for ten labels."""
    images = images_of([("ab"[n % 2], n // 20) for n in range(400)])
    draw = few_labels.draw(images, [10], 1)[10]
    assert draw.n_by_class == {"a": 10, "b": 10}
    assert images.set_index("image_id").loc[draw.labelled.index, "group"].nunique() == 1
    assert len(draw.tested) == 380


@pytest.mark.parametrize(
    ("rows", "counts", "note"),
    [
        # Of five, two; of one, none.
        ([("a", n) for n in range(40)] + [("b", n) for n in range(50, 55)] + [("c", 99)],
         {"a": 10, "b": 2, "c": 0}, "fewer than 10 of b 2, c 0"),
        # One patient has most of class b: it tests, and the other ones give.
        ([("a", n) for n in range(40)] + [("b", 60)] * 8 + [("b", n) for n in range(70, 74)],
         {"a": 10, "b": 4}, "fewer than 10 of b 4"),
    ],
)  # fmt: skip
def test_a_class_that_is_too_small_gives_less_and_that_is_said(rows, counts, note):
    draw = few_labels.draw(images_of(rows), [10], 3)[10]
    assert draw.n_by_class == counts
    assert draw.note.startswith(note)
    assert draw.reason is None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("a", 1)], few_labels.ONE_CLASS),
        ([("a", n) for n in range(50)], few_labels.ONE_CLASS),
        ([("a", 1), ("b", 2)], few_labels.NOTHING_LEFT),
        ([("ab"[n % 2], 7) for n in range(50)], few_labels.NOTHING_LEFT),
        ([], few_labels.ONE_CLASS),
    ],
)
def test_where_nothing_can_be_labelled_or_tested_there_is_a_reason(rows, reason):
    """One class, one image, an image a class, one patient: no number, and no crash."""
    for draw in few_labels.draw(images_of(rows), [1, 10], 3).values():
        assert draw.reason == reason
        assert draw.note is None


def test_every_image_may_be_drawn():
    """Over seeds no image is left out: the draw is not of the first by name."""
    images = images_of([("ab"[n % 2], n) for n in range(20)])
    drawn = [few_labels.draw(images, [2], seed)[2].labelled.index for seed in range(60)]
    assert len(set(np.concatenate(drawn))) == 20
