"""Groups join what must not be parted, and nothing else."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from stages.splits.grouping import group_images, join_twins

NO_COPIES = pd.DataFrame(columns=["patient", "slide", "pixel_sha256"])
VALUE = st.none() | st.sampled_from("abc")


def frame(rows):
    names = [f"h/{index:02d}" for index in range(len(rows))]
    return pd.DataFrame(
        {
            "image_id": names,
            "patient": [row[0] for row in rows],
            "slide": [row[1] for row in rows],
            "field": [row[3] if len(row) > 3 else None for row in rows],
            "twin_group": [names[row[2]] for row in rows],
            "pixel_sha256": [f"{index:064d}" for index in range(len(rows))],
        },
        dtype=object,
    )


def test_a_twin_joins_two_patients():
    """Two patients who share a picture are one group; a third is not."""
    pictures = frame([("p", None, 0), ("p", None, 1), ("q", None, 1), ("r", None, 3)])
    grouped = group_images(pictures, NO_COPIES)
    assert grouped["group"].tolist() == ["h/00", "h/00", "h/00", "h/03"]
    assert grouped["unit"].tolist() == ["patient"] * 4


def test_slides_of_two_patients_may_carry_one_number():
    """S1 of one patient is not S1 of another; without patients a slide's name joins."""
    pictures = frame([("p", "S1", 0), ("q", "S1", 1), (None, "S1", 2), (None, "S1", 3)])
    assert group_images(pictures, NO_COPIES)["group"].tolist() == ["h/00", "h/01", "h/02", "h/02"]


def test_a_field_joins_only_where_neither_patient_nor_slide_is_known():
    """Field 7 of two slides, or of two patients, is two fields; it starts anew on each."""
    pictures = frame(
        [
            ("p", None, 0, "f7"), ("q", None, 1, "f7"), (None, "S1", 2, "f7"),
            (None, "S2", 3, "f7"), (None, None, 4, "f7"), (None, None, 5, "f7"),
            (None, None, 6, "f8"), (None, None, 7, None),
        ]
    )  # fmt: skip
    groups = group_images(pictures, NO_COPIES)["group"]
    assert groups.tolist() == [f"h/0{number}" for number in (0, 1, 2, 3, 4, 4, 6, 7)]


def test_unit_is_the_widest_thing_known():
    pictures = frame(
        [
            ("p", "s", 0, "f"), (None, "s", 1, "f"), (None, None, 2, "f"), (None, None, 4),
            (None, None, 4), (None, None, 5), (None, "s", 7), (None, None, 7, "f"),
        ]
    )  # fmt: skip
    assert group_images(pictures, NO_COPIES)["unit"].tolist() == [
        "patient", "slide", "field", "twins", "twins", "image", "slide", "field",
    ]  # fmt: skip


@given(
    st.lists(st.tuples(VALUE, VALUE, st.integers(0, 11), VALUE), min_size=1, max_size=12),
    st.randoms(),
)
def test_groups_hold_what_is_linked_whatever_the_order(rows, random):
    """Exactly what a search over all pairs joins; the order of the rows means nothing."""
    rows = [(p, s, min(t, len(rows) - 1), f) for p, s, t, f in rows]
    pictures = frame(rows)
    grouped = pictures.join(group_images(pictures, NO_COPIES))

    def is_linked(one, other):
        patient, slide, twin, field = (
            mine == theirs for mine, theirs in zip(one, other, strict=True)
        )
        if twin or (one[0] is not None and patient):
            return True
        if one[0] is not None or other[0] is not None:
            return False
        return slide if one[1] is not None else slide and field and one[3] is not None

    smallest = list(range(len(rows)))
    for _ in rows:
        smallest = [
            min(
                smallest[other]
                for other, row in enumerate(rows)
                if other == one or is_linked(row, rows[one])
            )
            for one in range(len(rows))
        ]
    assert grouped["group"].tolist() == [f"h/{index:02d}" for index in smallest]
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = pictures.iloc[order]
    again = shuffled.join(group_images(shuffled, NO_COPIES)).sort_index()
    assert again["group"].tolist() == grouped["group"].tolist()


@given(st.integers(1, 12))
def test_nothing_known_means_every_picture_its_own_group(n):
    pictures = frame([(None, None, index) for index in range(n)])
    assert group_images(pictures, NO_COPIES)["group"].nunique() == n


def test_a_rejected_copy_joins_its_patient_to_that_of_the_kept_picture():
    """P and q share one picture, of which q's was rejected; two rejected ones join r and s."""
    pictures = frame([("p", None, 0), ("q", None, 1), ("r", None, 2), ("s", None, 3)])
    copies = pd.DataFrame(
        {
            "patient": ["q", "r", "s"],
            "slide": None,
            "pixel_sha256": [pictures["pixel_sha256"][0], "f" * 64, "f" * 64],
        }
    )
    groups = group_images(pictures, copies)["group"]
    assert groups.tolist() == ["h/00", "h/00", "h/02", "h/02"]


def test_twins_and_groups_join_each_other():
    """A twin at another hospital makes one group of both its pictures' groups, and no more."""
    images = pd.DataFrame(
        {
            "image_id": ["a/1", "a/2", "b/1", "b/2", "b/3"],
            "group": ["a/1", "a/1", "b/1", "b/1", "b/3"],
            "twin_group": ["a/1", "a/2", "a/2", "b/2", "b/3"],
        }
    )
    joined = join_twins(images)["group"]
    assert joined.nunique() == 2
    assert joined[:4].nunique() == 1
