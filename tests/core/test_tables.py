"""A table keeps its contract: columns, types, key, order, and the same bytes."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

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
    SPLIT.write(split_rows())
    assert SPLIT.read(columns=["image_id"])["image_id"].tolist() == ["h/a", "h/b"]
    assert [row["image_id"] for row in SPLIT.stream()] == ["h/a", "h/b"]


def test_same_rows_in_any_order_give_the_same_bytes():
    SPLIT.write(split_rows())
    first = SPLIT.at().read_bytes()
    SPLIT.write(split_rows().iloc[::-1])
    assert SPLIT.at().read_bytes() == first


def test_descriptions_and_units_travel_in_the_file():
    SPLIT.write(split_rows())
    field = pq.read_schema(SPLIT.at()).field("part")
    assert b"train" in field.metadata[b"description"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (split_rows(image_id="h/a"), r"split.parquet: \{'image_id': 'h/a'\} stands twice"),
        (split_rows(label=None), r"label.* null values"),
        (split_rows(label=3), r"a value is wrong for its column"),
        (split_rows(extra=1), r"unknown columns \['extra'\]"),
        (split_rows().drop(columns="part"), r"missing columns \['part'\]"),
    ],
)
def test_a_broken_contract_is_refused_and_writes_nothing(rows, match):
    with pytest.raises(TableError, match=match):
        SPLIT.write(rows)
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
            "image_id": ["h/a"], "hospital": ["h"], "part": ["test"], "label": ["x"],
            "predicted": ["x"], "p_x": [0.75], "p_y": [0.25],
        }
    )  # fmt: skip
    PREDICTIONS.write(rows)
    assert PREDICTIONS.read()[["p_x", "p_y"]].to_numpy().tolist() == [[0.75, 0.25]]


def test_a_missing_table_says_how_to_make_it():
    with pytest.raises(TableError, match=r"split.parquet is missing. Run 'uv run dvc repro'"):
        SPLIT.read()
    with pytest.raises(TableError, match=r"h.parquet is missing"):
        next(FEATURES.stream("h"))


def test_a_cut_table_says_what_to_do():
    SPLIT.write(split_rows())
    SPLIT.at().write_bytes(SPLIT.at().read_bytes()[:-20])
    with pytest.raises(TableError, match=r"split.parquet is no whole Parquet file.*Delete it"):
        SPLIT.read()
