"""gather: what training reads is of the training hospitals, and stays the same beside others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import gather
from stages.core import params
from stages.core.errors import TableError
from stages.core.tables import FEATURES, IMAGES, QUALITY, SPLIT, TRAINING, VECTORS
from stages.inputs import reading
from tests.stages.cohort import picture_rows, quality_rows, write_project, write_split

PARTS = ("train", "valid", "test", "left_out")
FILES = (TRAINING, VECTORS)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Hospitals a and b train, c is unseen."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, ("a", "b", "c"))
    for hospital in "abc":
        write_hospital(hospital)


def write_hospital(hospital, label="monocyte"):
    """Twelve pictures in groups of three; each patient's are in one part."""
    rows = picture_rows(hospital, n_patients=4, per_patient=3)
    rows["bytes"] = [f"picture {image_id}".encode() for image_id in rows["image_id"]]
    IMAGES.write(rows, hospital)
    QUALITY.write(quality_rows(rows["image_id"]), hospital)
    write_features(rows["image_id"], hospital)
    parts = ["unseen" if hospital == "c" else part for part in PARTS for _ in range(3)]
    split = rows.assign(group=hospital + rows["patient"], label=label, part=parts)
    write_split(split.assign(left_out_reason=None))


def write_features(image_ids, hospital):
    """Two views of each picture, of which the second is further out."""
    vectors = [
        {"image_id": image_id, "view": view, "vector": np.array([number, 3.0 * place], np.float32)}
        for number, image_id in enumerate(image_ids)
        for place, view in enumerate(("grey_world", "white_point"))
    ]
    FEATURES.write(pd.DataFrame(vectors), hospital)


def run():
    gather.main()
    return [table.at().read_bytes() for table in FILES]


def test_train_and_valid_alone_are_put_together():
    """With bytes, label, group and part; nothing of a test, a left-out or an unseen image."""
    run()
    split = SPLIT.read_all("abc").set_index("image_id")
    wanted = split[split["part"].isin(["train", "valid"])]
    found = TRAINING.read().set_index("image_id")
    assert found.index.tolist() == VECTORS.read()["image_id"].tolist() == wanted.index.tolist()
    assert len(found) == 2 * 6
    for name in ("hospital", "label", "group", "twin_group", "part"):
        assert found[name].tolist() == wanted[name].tolist()
    assert found["bytes"].tolist() == [f"picture {image_id}".encode() for image_id in found.index]


def test_training_gets_the_pictures_that_the_tables_hold():
    """Bytes and geometry come back as they went in, with a cell and without one."""
    run()
    rule = params.load("inputs").inputs
    for part in ("train", "valid"):
        expected = []
        for hospital in "ab":
            ids = set(reading.read_split([hospital], [part], ["image_id"])["image_id"])
            expected += reading.stream_pictures(hospital, rule, ids)
        assert list(reading.stream_training(part)) == expected
        assert len(expected) == 6
    assert len({place for *_, place in reading.stream_training("valid")}) > 2


def test_the_vector_of_a_picture_is_the_mean_of_its_views():
    """And of no other picture's, also where most rows of the table are not asked for."""
    run()
    vectors = VECTORS.read().set_index("image_id")["vector"]
    assert {name: vector.tolist() for name, vector in vectors.items()} == {
        f"{hospital}/p0{n // 3}/{n % 3}.jpg": [n, 1.5] for hospital in "ab" for n in range(6)
    }


def test_pieces_of_any_length_are_one_table(monkeypatch):
    """Pictures are not held in memory all at once."""
    run()
    whole = TRAINING.read()
    monkeypatch.setattr(gather, "ROW_GROUP", 5)
    gather.main()
    pd.testing.assert_frame_equal(TRAINING.read(), whole)


def test_an_unseen_hospital_changes_no_byte(project):
    """Added, removed or made anew: the model is not trained again for it."""
    before = run()
    write_project(Path(), ("a", "b"), split=split_rule())
    assert run() == before
    write_project(Path(), ("a", "b", "c", "d"), split=split_rule())
    write_hospital("d")
    write_split(SPLIT.read("d").assign(part="unseen"))
    write_hospital("c", label="platelet")
    assert run() == before


def split_rule():
    return params.load("split").split.model_dump() | {"train_hospitals": ["a", "b"]}


def test_the_label_of_a_test_image_is_nowhere(project):
    """Other labels there change no byte; another label of a training image does."""
    before = run()
    split = SPLIT.read_all("abc")
    tested = split["part"].isin(["test", "unseen", "left_out"])
    write_split(split.assign(label=split["label"].mask(tested, "label_of_a_test_image")))
    assert run() == before
    write_split(split.assign(label=split["label"].mask(split["part"] == "valid", "platelet")))
    assert run()[0] != before[0]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (IMAGES, r"data/images/b.parquet or data/quality/b.parquet has no row"),
        (QUALITY, r"data/images/b.parquet or data/quality/b.parquet has no row"),
        (FEATURES, r"data/features/b.parquet has no row"),
    ],
)
def test_a_picture_that_a_table_lacks_is_named(table, told):
    """A model of fewer images than the split counts would be trained in silence."""
    rows = table.read("b")
    table.write(rows[rows["image_id"] != "b/p01/1.jpg"], "b")
    with pytest.raises(TableError, match=rf"{told} of 1 pictures \(b/p01/1.jpg\).*dvc repro"):
        gather.main()
    assert not VECTORS.at().exists()
    table.write(rows.iloc[:0], "b")
    with pytest.raises(TableError, match=rf"{told} of \d pictures"):
        gather.main()


@pytest.mark.parametrize("table", [SPLIT, FEATURES])
def test_a_table_that_is_not_there_is_named(table):
    table.at("b").unlink()
    with pytest.raises(TableError, match=r"/b.parquet is missing. Run 'uv run dvc repro'"):
        gather.main()
