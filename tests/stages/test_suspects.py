"""The suspects stage: what it writes, what it never reads, and the same bytes twice."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import suspects
from stages.core import tables
from tests.stages.cohort import write_project

CLASSES = ["basophil", "lymphocyte", "monocyte"]
PARTS = ("train", "train", "valid", "train", "test", "train")
N = 60
WRONG = {"a/07": "monocyte", "b/18": "monocyte", "b/31": "basophil"}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """What gather leaves of two training hospitals; three of the labels are wrong."""
    monkeypatch.chdir(tmp_path)
    write_project(Path(), ("a", "b", "c"))
    write_training(training_rows())


def training_rows():
    """Sixty images a hospital in groups of six, those of train and valid alone; with the truth."""
    names = [(hospital, n) for hospital in "ab" for n in range(N) if PARTS[n // 6 % 6] != "test"]
    rows = pd.DataFrame({"image_id": [f"{h}/{n:02d}" for h, n in names]})
    rows["hospital"] = rows["image_id"].str[0]
    rows["true"] = [CLASSES[n % 3] for _, n in names]
    rows["label"] = rows["image_id"].map(WRONG).fillna(rows["true"])
    rows["group"] = [f"{h}/{n - n % 6:02d}" for h, n in names]
    rows["twin_group"] = rows["image_id"]
    rows["part"] = [PARTS[n // 6 % 6] for _, n in names]
    rows["bytes"] = [encode(n) for _, n in names]
    return rows.assign(
        centre_x=None, centre_y=None, radius=None, white_r=1.0, white_g=1.0, white_b=1.0,
        cell_mask=None,
    )  # fmt: skip


def write_training(rows):
    """Pictures, and vectors that tell the class.

    The images of wrong labels look like their true class more than others do.
    """
    tables.TRAINING.write(rows[tables.TRAINING.schema.names])
    rng = np.random.default_rng(7)
    vectors = [
        ((9 if row.label != row.true else 6) * np.eye(8)[CLASSES.index(row.true)]
         + rng.normal(scale=0.35, size=8)).astype(np.float32)
        for row in rows.itertuples()
    ]  # fmt: skip
    tables.VECTORS.write(pd.DataFrame({"image_id": rows["image_id"], "vector": vectors}))


def encode(number):
    """A PNG of one colour, which tells the image."""
    return cv2.imencode(".png", np.full((20, 20, 3), (3 * number, 90, 40), np.uint8))[1].tobytes()


def read_sheet():
    return cv2.imread(str(suspects.SHEET))


def read_outputs():
    """Every byte that the stage wrote."""
    files = [tables.SUSPECTS.at(), Path("metrics/suspects.json"), suspects.SHEET]
    return {str(path): path.read_bytes() for path in files}


def test_it_names_the_wrong_labels_and_shows_them():
    """The three wrong labels, their right class, the counts and a sheet in the order of rank."""
    suspects.main()
    found = tables.SUSPECTS.read()
    assert dict(zip(found["image_id"], found["label"], strict=True)) == WRONG
    true = training_rows().set_index("image_id")["true"]
    assert found["suggested"].tolist() == true[found["image_id"]].tolist()
    assert (found["p_suggested"] > found["p_label"]).all()
    assert sorted(found["rank"]) == [1, 2, 3]
    assert found.sort_values("rank")["p_label"].is_monotonic_increasing

    content = json.loads(Path("metrics/suspects.json").read_text())
    assert set(content) == {
        "accuracy", "by_class", "by_hospital", "classes_left_out", "n_folds", "n_groups",
        "n_images", "n_left_out", "n_suspects",
    }  # fmt: skip
    n_images = len(training_rows())
    assert content["n_images"] == n_images == 108
    assert content["accuracy"]["value"] == pytest.approx(1 - 3 / n_images, rel=1e-5)
    assert content["by_hospital"] == {
        "a": {"n_images": 54, "n_suspects": 1}, "b": {"n_images": 54, "n_suspects": 2},
    }  # fmt: skip

    sheet = read_sheet()
    assert sheet.shape == (192, 960, 3)
    by_rank = found.sort_values("rank")["image_id"]
    shown = [int(sheet[80, 80 + 160 * place][0]) // 3 for place in range(3)]
    assert shown == [int(name[2:]) for name in by_rank]
    assert not list(Path().rglob("*.tmp"))


def test_the_same_input_gives_the_same_bytes():
    """That no other label is read holds by construction: nothing but data/training is there."""
    suspects.main()
    before = read_outputs()
    suspects.main()
    assert read_outputs() == before
    assert sorted(path.name for path in Path("data").glob("*.parquet")) == ["suspects.parquet"]


def test_a_changed_training_label_changes_the_suspects():
    """Those of the validation part are judged too."""
    rows = training_rows()
    chosen = rows.index[rows["part"] == "valid"][0]
    rows.loc[chosen, "label"] = CLASSES[(CLASSES.index(rows.loc[chosen, "true"]) + 1) % 3]
    write_training(rows)
    suspects.main()
    assert rows.loc[chosen, "image_id"] in set(tables.SUSPECTS.read()["image_id"])


def test_no_suspect_is_an_empty_table_and_a_sheet_that_says_so():
    rows = training_rows()
    write_training(rows.assign(label=rows["true"]))
    suspects.main()
    found = tables.SUSPECTS.read()
    assert found.empty
    assert list(found.columns) == tables.SUSPECTS.schema.names
    sheet = read_sheet()
    assert (sheet[:160] == 255).all()
    assert (sheet[160:, :160] < 128).any()
    assert json.loads(Path("metrics/suspects.json").read_text())["by_class"] == {}


def test_twins_of_two_hospitals_are_judged_together():
    """An image that two hospitals publish is in two groups there, and in one here."""
    rows = training_rows()
    rows.loc[rows["image_id"].isin(["a/07", "b/07"]), "twin_group"] = "a/07"
    write_training(rows)
    images = suspects._read_images().set_index("image_id")
    together = images.index[images["group"] == images.loc["a/07", "group"]]
    assert sorted(together) == [f"{h}/{n:02d}" for h in "ab" for n in range(6, 12)]
    assert images["group"].nunique() == rows["group"].nunique() - 1


def test_groups_stay_whole_where_the_split_parts_them():
    """A leaky split puts images of one group in train and valid: they are judged together."""
    rows = training_rows()
    write_training(rows.assign(part=["valid" if n % 4 == 1 else "train" for n in range(len(rows))]))
    images = suspects._read_images()
    groups = rows.set_index("image_id")["group"]
    assert (images.groupby(images["image_id"].map(groups))["group"].nunique() == 1).all()
    assert images["group"].nunique() == 18


def test_more_suspects_than_the_sheet_holds(monkeypatch):
    """Only the first are drawn; the table has them all."""
    monkeypatch.setattr(suspects, "N_SHOWN", 2)
    suspects.main()
    found = tables.SUSPECTS.read()
    assert len(found) == 3
    sheet = read_sheet()
    assert (sheet[:, 320:] == 255).all()
    second = found.loc[found["rank"] == 2, "image_id"].item()
    assert int(sheet[80, 240][0]) // 3 == int(second[2:])
