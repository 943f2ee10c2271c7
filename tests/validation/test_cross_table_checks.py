"""What no single row tells is seen: sides, sizes, classes, and images lost between two tables."""

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import tables
from stages.validation.cross_table_checks import (
    ONE_SIDED,
    compare_classes,
    compare_sizes,
    count_parts,
    count_sides,
    derive_frames,
    name_owners,
)
from tests.made.good_tables import IDS, Defect, good_balance, good_tables

IS_GOOD = {"n_sides": 1, "as_asked": True, "accounted": True}


def find_faults(derived: dict[str, pd.DataFrame]) -> set[str]:
    """Frame and column of every value that its suite refuses."""
    faults = set()
    for name, frame in derived.items():
        for column in frame.columns[1:]:
            is_good = (
                frame[column] >= 1
                if column == "n_images"
                else frame[column] == IS_GOOD.get(column, True)
            )
            if not is_good.all():
                faults.add(f"{name}.{column}")
    return faults


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(tables.PARTS)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_count_sides_counts_distinct_parts_but_left_out(rows: list, random: object) -> None:
    """Each group has as many sides as it has parts; left_out is none, row order is nothing."""
    expected: dict[str, set[str]] = {}
    for group, part in rows:
        if part != "left_out":
            expected.setdefault(group, set()).add(part)
    random.shuffle(rows)
    counted = count_sides(pd.DataFrame(rows, columns=["group", "part"]), "group")
    assert dict(zip(counted["group"], counted["n_sides"], strict=True)) == {
        group: len(parts) for group, parts in expected.items()
    }


def test_derived_frames_of_good_tables() -> None:
    """Patients of one name in two hospitals are two; a left-out picture stands on no side."""
    derived = derive_frames(good_tables(), good_balance())
    assert derived["split_groups"]["group"].tolist() == IDS[:2]
    assert derived["split_twins"]["twin_group"].tolist() == IDS[:2]
    assert derived["split_patients"]["owner"].tolist() == ["north/p1"]
    assert derived["split_slides"]["owner"].tolist() == ["north/p1/s1"]
    assert derived["split_parts"].to_dict("list") == {"part": ["test", "train"], "n_images": [1, 1]}
    assert derived["split_sizes"]["place"].tolist() == ["north/train", "north/valid", "north/test"]
    assert derived["split_sizes"]["as_asked"].all()
    assert derived["split_classes"]["place"].tolist() == [
        "north/monocyte/train", "north/monocyte/test",
    ]  # fmt: skip
    assert derived["split_classes"]["accounted"].all()
    assert derived["coverage"]["image_id"].tolist() == IDS
    assert derived["coverage"].drop(columns="image_id").to_numpy().all()


def lose(name: str) -> Callable[[dict[str, pd.DataFrame]], None]:
    def plant(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = frames[name].iloc[1:]

    return plant


def change(name: str, defect: Defect) -> Callable[[dict[str, pd.DataFrame]], None]:
    def plant(frames: dict[str, pd.DataFrame]) -> None:
        frames[name] = defect.plant(frames[name])

    return plant


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (lose("images"), {"coverage.in_images"}),
        (lose("quality"), {"coverage.in_quality"}),
        (lose("labels"), {"coverage.in_labels", "coverage.split_agrees"}),
        (
            lose("split"),
            {
                "coverage.split_agrees",
                "split_parts.n_images",
                "split_sizes.as_asked",
                "split_classes.accounted",
            },
        ),
        (change("labels", Defect("keep", False)), {"coverage.split_agrees"}),
        (
            change("split", Defect("label", "basophil")),
            {"coverage.label_agrees", "split_classes.accounted"},
        ),
        (change("quality", Defect("hospital", "south")), {"coverage.hospital_agrees"}),
        (change("split", Defect("group", IDS[0], row=1)), {"split_groups.n_sides"}),
        (change("split", Defect("twin_group", IDS[0], row=1)), {"split_twins.n_sides"}),
        (change("labels", Defect("patient", "p1", row=1)), {"split_patients.n_sides"}),
        (change("labels", Defect("slide", "s1", row=1)), set()),
        (change("split", Defect("part", "unseen", row=2)), {"split_twins.n_sides"}),
    ],
)
def test_disagreeing_tables_and_leaks_are_found(
    plant: Callable[[dict[str, pd.DataFrame]], None], expected: set[str]
) -> None:
    """A picture lost between two tables, or a group on two sides, is seen where it should be."""
    frames = good_tables()
    plant(frames)
    assert find_faults(derive_frames(frames, good_balance())) == expected


def test_a_slide_is_that_of_its_patient() -> None:
    """S1 of two patients are two slides; without a patient the name alone counts."""
    labels = pd.DataFrame(
        {
            "image_id": IDS,
            "hospital": "north",
            "patient": ["p1", "p2", None, None],
            "slide": ["s1", "s1", "s1", "s1"],
        }
    )
    split = pd.DataFrame({"image_id": IDS, "part": ["train", "test", "train", "test"]})
    sides = count_sides(name_owners(labels, split, ["patient", "slide"]), "owner")
    assert sides.to_dict("list") == {
        "owner": ["north//s1", "north/p1/s1", "north/p2/s1"], "n_sides": [2, 1, 1],
    }  # fmt: skip


def test_frames_that_a_leaky_method_cannot_fulfil_are_those_of_one_side() -> None:
    derived = derive_frames(good_tables(), good_balance())
    assert set(ONE_SIDED) == {name for name, frame in derived.items() if "n_sides" in frame}


def split_of(*parts: str) -> pd.DataFrame:
    return pd.DataFrame({"hospital": "north", "label": "monocyte", "part": list(parts)})


def asked(**shares: float | None) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        "north": {part: {"asked": share, "tolerance": 0.1} for part, share in shares.items()},
        "empty": {},
    }


def test_a_size_is_compared_with_what_was_asked() -> None:
    """Too large, too small, and a part that nobody asked for; a publisher's parts are as it is."""
    split = split_of(*["train"] * 7, *["test"] * 3)
    for shares, faults in (
        ({"train": 0.7, "test": 0.3}, []),
        ({"train": 0.65, "test": 0.35}, []),
        ({"train": 0.5, "test": 0.5}, ["north/train", "north/test"]),
        ({"train": 0.7, "valid": 0.05, "test": 0.25}, []),
        ({"train": 0.7, "valid": 0.3}, ["north/valid", "north/test"]),
        ({"train": None, "test": None}, []),
    ):
        compared = compare_sizes(split, {"north": asked(**shares)["north"]})
        assert compared.loc[~compared["as_asked"].astype(bool), "place"].tolist() == faults


def test_an_empty_part_is_one_that_somebody_asked_for() -> None:
    split = split_of("train", "left_out")
    counts = count_parts(split, asked(train=0.5, valid=0.5))
    assert counts.to_dict("list") == {"part": ["train", "valid"], "n_images": [1, 0]}


def test_a_class_is_there_or_listed_but_not_both() -> None:
    split = split_of("train", "train")
    sizes = asked(train=0.5, test=0.5)
    for absent, faults in (
        ([], ["north/monocyte/test"]),
        (["north/monocyte/test"], []),
        (["north/monocyte/test", "north/monocyte/train"], ["north/monocyte/train"]),
    ):
        compared = compare_classes(split, sizes, absent)
        assert compared.loc[~compared["accounted"], "place"].tolist() == faults
