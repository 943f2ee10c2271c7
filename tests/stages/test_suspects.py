"""The suspects stage: what it writes, what it never reads, and the same bytes twice."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import suspects
from stages.core import tables
from tests.stages.cohort import picture_rows, write_project

CLASSES = ["basophil", "lymphocyte", "monocyte"]
PARTS = ("train", "train", "valid", "train", "test", "train")
N = 60
WRONG = {"a/07": "monocyte", "b/18": "monocyte", "b/31": "basophil"}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Two training hospitals and one that is never seen; three training labels are wrong."""
    monkeypatch.chdir(tmp_path)
    write_project(Path(), ("a", "b", "c"))
    write_split(split_rows())
    for hospital in "abc":
        write_hospital(hospital)


def split_rows():
    """Sixty images a hospital in groups of six, each group in one part; with the truth."""
    names = [(hospital, n) for hospital in "abc" for n in range(N)]
    rows = pd.DataFrame({"image_id": [f"{h}/{n:02d}" for h, n in names]})
    rows["hospital"] = rows["image_id"].str[0]
    rows["true"] = [CLASSES[n % 3] for _, n in names]
    rows["label"] = rows["image_id"].map(WRONG).fillna(rows["true"])
    rows["group"] = [f"{h}/{n - n % 6:02d}" for h, n in names]
    rows["twin_group"] = rows["image_id"]
    rows["part"] = ["unseen" if h == "c" else PARTS[n // 6 % 6] for h, n in names]
    return rows.assign(left_out_reason=None)


def write_split(rows):
    tables.SPLIT.write(rows[tables.SPLIT.schema.names])


def write_hospital(hospital):
    """Features that tell the class, augmented views that tell a wrong one, and small images.

    The images of wrong labels look like their true class more than others do.
    """
    rng = np.random.default_rng(ord(hospital))
    rows = []
    for n in range(N):
        image_id = f"{hospital}/{n:02d}"
        centre = (9 if image_id in WRONG else 6) * np.eye(8)
        vectors = {
            "grey_world": centre[n % 3] + rng.normal(scale=0.5, size=8),
            "white_point": centre[n % 3] + rng.normal(scale=0.5, size=8),
            "white_point/augmented_1": 60 * np.eye(8)[(n + 1) % 3],
        }
        rows += [
            {"image_id": image_id, "view": view, "vector": vector.astype(np.float32)}
            for view, vector in vectors.items()
        ]
    tables.FEATURES.write(pd.DataFrame(rows), hospital)
    images = picture_rows(hospital, n_patients=10)
    images["image_id"] = [f"{hospital}/{n:02d}" for n in range(N)]
    images["bytes"] = [encode(n) for n in range(N)]
    tables.IMAGES.write(images, hospital)


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
    true = split_rows().set_index("image_id")["true"]
    assert found["suggested"].tolist() == true[found["image_id"]].tolist()
    assert (found["p_suggested"] > found["p_label"]).all()
    assert sorted(found["rank"]) == [1, 2, 3]
    assert found.sort_values("rank")["p_label"].is_monotonic_increasing

    content = json.loads(Path("metrics/suspects.json").read_text())
    assert set(content) == {
        "accuracy", "by_class", "by_hospital", "classes_left_out", "n_folds", "n_groups",
        "n_images", "n_left_out", "n_suspects",
    }  # fmt: skip
    n_images = int(split_rows()["part"].isin(["train", "valid"]).sum())
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


def test_labels_of_test_and_unseen_images_change_no_byte():
    """The rule that only evaluate reads them: change them, and look for suspects again."""
    suspects.main()
    before = read_outputs()
    rows = split_rows()
    held_back = rows["part"].isin(["test", "unseen"])
    rows.loc[held_back, "label"] = rows.loc[held_back, "label"].map(
        {"basophil": "monocyte", "monocyte": "a_class_of_nobody", "lymphocyte": "basophil"}
    )
    write_split(rows)
    suspects.main()
    assert read_outputs() == before


def test_a_changed_training_label_changes_the_suspects():
    """The test above can fail: a label of the validation part is read."""
    rows = split_rows()
    chosen = rows.index[rows["part"] == "valid"][0]
    rows.loc[chosen, "label"] = CLASSES[(CLASSES.index(rows.loc[chosen, "true"]) + 1) % 3]
    write_split(rows)
    suspects.main()
    assert rows.loc[chosen, "image_id"] in set(tables.SUSPECTS.read()["image_id"])


def test_no_suspect_is_an_empty_table_and_a_sheet_that_says_so():
    rows = split_rows()
    write_split(rows.assign(label=rows["true"]))
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
    rows = split_rows()
    rows.loc[rows["image_id"].isin(["a/07", "b/07"]), "twin_group"] = "a/07"
    write_split(rows)
    images = suspects._read_images().set_index("image_id")
    together = images.index[images["group"] == images.loc["a/07", "group"]]
    assert sorted(together) == [f"{h}/{n:02d}" for h in "ab" for n in range(6, 12)]
    assert (
        images["group"].nunique()
        == rows[rows["part"].isin(["train", "valid"])]["group"].nunique() - 1
    )


def test_groups_stay_whole_where_the_split_parts_them():
    """A leaky split puts images of one group in train and valid: they are judged together."""
    rows = split_rows()
    seen = rows["hospital"] != "c"
    rows.loc[seen, "part"] = [PARTS[n % 6] for n in range(int(seen.sum()))]
    write_split(rows)
    images = suspects._read_images()
    groups = rows.set_index("image_id")["group"]
    assert (images.groupby(images["image_id"].map(groups))["group"].nunique() == 1).all()
    assert images["group"].nunique() == 20


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
