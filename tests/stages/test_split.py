"""split: honest parts of the labelled pictures, twins across hospitals left out."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages import harmonise, split
from stages.core.errors import SplitError
from stages.core.tables import SPLIT
from tests.stages.cohort import picture_rows, write_label_map, write_pictures, write_project


@pytest.fixture(autouse=True)
def at_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)


def run(pictures):
    write_pictures(pictures)
    harmonise.main()
    split.main()
    return SPLIT.read()


def three_hospitals():
    return pd.concat([picture_rows(name) for name in "abc"], ignore_index=True)


def test_every_kept_picture_has_one_part():
    result = run(three_hospitals())
    assert len(result) == 216
    assert set(result.loc[result["hospital"] == "c", "part"]) == {"unseen"}
    assert set(result.loc[result["hospital"] != "c", "part"]) == {"train", "valid", "test"}
    assert result.groupby("group")["part"].nunique().max() == 1
    metrics = json.loads(Path("metrics/split.json").read_text())
    assert sum(metrics["n_by_part"].values()) == 216
    assert metrics["leaks"]["share_of_test_with_twin_in_train"] == 0


def test_a_planted_twin_in_the_unseen_hospital_is_left_out():
    pictures = three_hospitals()
    trained = run(pictures).query("hospital == 'a' and part == 'train'")["image_id"].iloc[0]
    stolen = pictures.loc[pictures["image_id"] == trained, "phash"].iloc[0]
    copy = pictures.index[pictures["hospital"] == "c"][5]
    pictures.loc[copy, "phash"] = stolen
    result = run(pictures).set_index("image_id")
    left = result.loc[pictures.loc[copy, "image_id"]]
    assert (left["part"], left["left_out_reason"]) == ("left_out", f"twin of {trained} in train")
    assert (result["part"] == "left_out").sum() == 1


def test_adding_a_hospital_moves_nobody():
    pictures = three_hospitals()
    before = run(pictures).set_index("image_id")["part"]
    write_project(Path(), hospitals=("a", "b", "c", "d"))
    after = run(pd.concat([pictures, picture_rows("d")])).set_index("image_id")["part"]
    known = before.index[~before.index.str.startswith("c/")]
    assert after[known].equals(before[known])


def test_a_class_that_cannot_be_learnt_stops_and_writes_nothing():
    write_label_map(
        Path(), "a", {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "basophil"}
    )
    write_label_map(
        Path(), "b", {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "basophil"}
    )
    with pytest.raises(SplitError, match=r"no picture of monocyte is in the training part, but c"):
        run(three_hospitals())
    assert not Path("data/split.parquet").exists()
