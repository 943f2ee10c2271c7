"""split: honest parts of the labelled pictures, twins across hospitals left out."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import harmonise, split
from stages.core.errors import SplitError
from stages.core.tables import LABELS, SPLIT
from tests.stages.cohort import picture_rows, write_label_map, write_pictures, write_project


@pytest.fixture(autouse=True)
def at_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)


def run(pictures):
    write_pictures(pictures)
    harmonise.main()
    split.main()
    return SPLIT.read_all(sorted(set(pictures["hospital"])))


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
    assert (metrics["method"], metrics["fold"]) == ("grouped", None)
    leak = metrics["leaks"]["all"]
    assert (leak["twin_in_train"]["value"], leak["patient_in_train"]["value"]) == (0, 0)
    assert (
        leak["n_tested"]
        == leak["twin_in_train"]["n"]
        == len(result.query("part in ['test', 'unseen']"))
    )


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


def choose(**changes):
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["split"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(content))


def publish_parts(pictures, **official_parts):
    """Give hospital a two parts, patients apart but for one; b says nothing."""
    is_a = pictures["hospital"] == "a"
    pictures.loc[is_a, "official_part"] = "learn"
    pictures.loc[is_a & (pictures["patient"] >= "p09"), "official_part"] = "check"
    last_of_p00 = pictures.index[is_a & (pictures["patient"] == "p00")][-1]
    pictures.loc[last_of_p00, "official_part"] = "check"
    pictures["official_side"] = pictures["official_part"].map(official_parts)


def test_a_cohort_follows_the_publisher_and_keeps_groups_whole():
    pictures = three_hospitals()
    publish_parts(pictures, learn="train", check="test")
    choose(method="cohort")
    result = run(pictures).set_index("image_id")
    metrics = json.loads(Path("metrics/split.json").read_text())
    assert metrics["method_by_hospital"] == {"b": "grouped"}
    official = LABELS.read().set_index("image_id")["official_part"]
    own = result[result["hospital"] == "a"]
    assert (own["part"] == "test").equals(official[own.index] == "check")
    left = own[own["part"] == "left_out"]
    assert left["left_out_reason"].tolist() == ["group of a/p00/5.jpg in test"] * 5
    assert metrics["n_left_out_by_reason"] == {"group in test": 5}
    assert (own["part"] == "valid").any()
    assert metrics["leaks"]["all"]["patient_in_train"]["value"] == 0


def test_official_parts_are_left_as_they_are_and_their_leak_is_measured():
    """The one image of a patient who also trains is tested; no twin is left out."""
    pictures = three_hospitals()
    publish_parts(pictures, learn="train", check="test")
    first, second = pictures.index[pictures["image_id"].isin(["a/p01/0.jpg", "c/p01/0.jpg"])]
    pictures.loc[second, "phash"] = pictures.loc[first, "phash"]
    choose(method="official")
    result = run(pictures)
    assert (result["part"] != "left_out").all()
    metrics = json.loads(Path("metrics/split.json").read_text())
    assert metrics["method_by_hospital"] == {"b": "random"}
    leaks = metrics["leaks"]["by_hospital"]
    share = leaks["a"]["patient_in_train"]
    assert (share["value"], share["n"]) == (pytest.approx(1 / 19, abs=1e-6), 19)
    assert leaks["a"]["slide_in_train"] is None
    if result.set_index("image_id").loc["a/p01/0.jpg", "part"] == "train":
        assert leaks["c"]["twin_in_train"]["value"] == pytest.approx(1 / 72, abs=1e-6)


def test_folds_test_every_image_once():
    pictures = three_hospitals()
    times = pd.Series(0, index=sorted(pictures.loc[pictures["hospital"] != "c", "image_id"]))
    for fold in range(3):
        choose(folds=3, fold=fold)
        result = run(pictures).set_index("image_id")
        times[result.index[result["part"] == "test"]] += 1
    assert (times == 1).all()


def test_leaving_hospitals_out_tests_others_than_train():
    choose(method="leave_hospitals_out", train_hospitals=["a", "b", "c"], folds=3, fold=1)
    result = run(three_hospitals())
    parts = result.groupby("hospital")["part"].agg(lambda part: "+".join(sorted(set(part))))
    assert parts.to_dict() == {"a": "train+valid", "b": "unseen", "c": "train+valid"}
    choose(fold=None)
    with pytest.raises(SplitError, match=r"all of them train: a, b, c"):
        split.main()


def test_copies_of_one_hospital_leave_together():
    """What filter wrote of the place decides; a copy of what trains cannot be unseen."""
    pictures = three_hospitals()
    pictures.loc[pictures["hospital"] == "c", "place"] = "a"
    choose(method="leave_hospitals_out", train_hospitals=["a", "b", "c"], folds=2, fold=0)
    result = run(pictures)
    unseen = set(result.loc[result["part"] == "unseen", "hospital"])
    assert unseen == {"a", "c"}
    choose(method="grouped", train_hospitals=["a", "b"], fold=None)
    with pytest.raises(SplitError, match=r"a trains, and c, .* is unseen"):
        split.main()


def test_a_class_that_cannot_be_learnt_stops_and_writes_nothing():
    write_label_map(
        Path(), "a", {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "basophil"}
    )
    write_label_map(
        Path(), "b", {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "basophil"}
    )
    with pytest.raises(SplitError, match=r"no picture of monocyte is in the training part, but c"):
        run(three_hospitals())
    assert not Path("data/split").exists()
