"""A table keeps its contract: columns, types, key, order, and the same bytes."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from stages.core import tables
from stages.core.errors import TableError
from stages.core.tables import FEATURES, PREDICTIONS, SPLIT


@pytest.fixture(autouse=True)
def at_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def split_rows(**changes):
    rows = pd.DataFrame(
        {
            "image_id": ["h/b", "h/a"],
            "hospital": "h",
            "label": "x",
            "group": ["h/b", "h/a"],
            "twin_group": ["h/b", "h/a"],
            "part": "train",
            "left_out_reason": None,
        }
    )
    return rows.assign(**changes)


def test_rows_are_sorted_and_come_back():
    SPLIT.write(split_rows(), "h")
    assert SPLIT.read("h", columns=["image_id"])["image_id"].tolist() == ["h/a", "h/b"]
    assert [row["image_id"] for row in SPLIT.stream("h")] == ["h/a", "h/b"]


def test_hospitals_are_read_one_by_one_and_together_by_name():
    """All hospitals, whatever the order in which they are named."""
    for name in ("south", "north"):
        SPLIT.write(split_rows(image_id=[f"{name}/b", f"{name}/a"], hospital=name), name)
    assert SPLIT.read("south")["image_id"].tolist() == ["south/a", "south/b"]
    both = SPLIT.read_all(["south", "north"], ["image_id"])
    assert both["image_id"].tolist() == ["north/a", "north/b", "south/a", "south/b"]
    assert both.index.tolist() == [0, 1, 2, 3]


def write_vectors(n_rows):
    """So many rows in groups of four."""
    rows = [{"image_id": f"h/{n:02d}", "view": "a", "vector": [float(n)]} for n in range(n_rows)]
    with FEATURES.writer("h") as append:
        for start in range(0, n_rows, 4):
            append(rows[start : start + 4])


def test_wanted_rows_are_streamed_and_no_others(monkeypatch):
    """In the order of the table; what is not there is not made up; a group without any is left."""
    write_vectors(12)
    real, groups = pq.ParquetFile.read_row_group, []

    def read(file, place, columns=None, **options):
        groups.append((place, columns))
        return real(file, place, columns, **options)

    monkeypatch.setattr(tables.pq.ParquetFile, "read_row_group", read)
    found = list(FEATURES.stream("h", ["image_id", "vector"], {"h/09", "h/00", "h/99"}))
    assert found == [{"image_id": "h/00", "vector": [0.0]}, {"image_id": "h/09", "vector": [9.0]}]
    assert [place for place, columns in groups if "vector" in columns] == [0, 2]
    groups.clear()
    assert list(FEATURES.stream("h", wanted=[])) == []
    assert all(columns == ["image_id"] for _, columns in groups)
    assert len(list(FEATURES.stream("h"))) == 12


def test_same_rows_in_any_order_give_the_same_bytes():
    SPLIT.write(split_rows(), "h")
    first = SPLIT.at("h").read_bytes()
    SPLIT.write(split_rows().iloc[::-1], "h")
    assert SPLIT.at("h").read_bytes() == first


def test_descriptions_and_units_travel_in_the_file():
    SPLIT.write(split_rows(), "h")
    field = pq.read_schema(SPLIT.at("h")).field("part")
    assert b"train" in field.metadata[b"description"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (split_rows(image_id="h/a"), r"split.*parquet: \{'image_id': 'h/a'\} stands twice"),
        (split_rows(label=None), r"label.* null values"),
        (split_rows(label=3), r"a value is wrong for its column"),
        (split_rows(extra=1), r"unknown columns \['extra'\]"),
        (split_rows().drop(columns="part"), r"missing columns \['part'\]"),
    ],
)
def test_a_broken_contract_is_refused_and_writes_nothing(rows, match):
    with pytest.raises(TableError, match=match):
        SPLIT.write(rows, "h")
    assert not list(Path().rglob("*.parquet*"))


def test_pieces_must_come_in_order():
    rows = [{"image_id": "h/b", "view": "a", "vector": [1.0]}]
    earlier = [{"image_id": "h/a", "view": "a", "vector": [1.0]}]
    with pytest.raises(TableError, match="out of order"), FEATURES.writer("h") as append:
        append(rows)
        append(earlier)
    assert not FEATURES.at("h").exists()


def test_open_columns_keep_their_names():
    rows = pd.DataFrame(
        {
            "image_id": ["h/a"], "hospital": ["h"], "part": ["test"], "predicted": ["x"],
            "p_x": [0.75], "p_y": [0.25],
        }
    )  # fmt: skip
    PREDICTIONS.write(rows, "h")
    assert PREDICTIONS.read("h")[["p_x", "p_y"]].to_numpy().tolist() == [[0.75, 0.25]]


def test_a_missing_table_says_how_to_make_it():
    with pytest.raises(
        TableError, match=r"data/split/h.parquet is missing. Run 'uv run dvc repro'"
    ):
        SPLIT.read("h")
    with pytest.raises(TableError, match=r"h.parquet is missing"):
        next(FEATURES.stream("h"))


def test_a_cut_table_says_what_to_do():
    SPLIT.write(split_rows(), "h")
    SPLIT.at("h").write_bytes(SPLIT.at("h").read_bytes()[:-20])
    with pytest.raises(
        TableError, match=r"data/split/h.parquet is no whole Parquet file.*Delete it"
    ):
        SPLIT.read("h")
