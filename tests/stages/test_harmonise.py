"""harmonise: all pictures come out, with a class or a reason, counts and groups."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages import harmonise
from stages.core.errors import HospitalError
from stages.core.tables import LABELS, REJECTED
from tests.stages.cohort import CODES, picture_rows, write_label_map, write_pictures, write_project


@pytest.fixture(autouse=True)
def at_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    write_pictures(pd.concat([picture_rows(name) for name in "abc"]))


def test_in_is_kept_plus_dropped():
    write_label_map(Path(), "b", CODES | {"MO": ""})
    text = Path("data/labels/b.csv").read_text()
    Path("data/labels/b.csv").write_text(text.replace("MO,,,,", "MO,,blurred by scanner,,"))
    harmonise.main()
    labels = LABELS.read()
    metrics = json.loads(Path("metrics/harmonise.json").read_text())
    assert len(labels) == 3 * 72 == metrics["n_kept"] + metrics["n_dropped"]
    assert metrics["by_hospital"]["b"]["n_by_drop_reason"] == {"blurred by scanner": 24}
    assert metrics["classes"] == ["lymphocyte", "monocyte", "segmented_neutrophil"]


def test_a_patient_is_one_group_and_the_unit_says_so():
    harmonise.main()
    labels = LABELS.read()
    assert labels["group"].nunique() == 36
    assert set(labels["unit"]) == {"patient"}


def test_a_second_run_gives_the_same_bytes():
    harmonise.main()
    first = Path("data/labels.parquet").read_bytes()
    harmonise.main()
    assert Path("data/labels.parquet").read_bytes() == first


def test_a_wrong_count_stops_unless_the_collection_is_declared_partial():
    write_label_map(Path(), "a", CODES, expected="25")
    with pytest.raises(HospitalError, match=r"a.*partial"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()
    write_project(Path(), partial=["a"])
    write_label_map(Path(), "a", CODES, expected="25")
    harmonise.main()
    write_label_map(Path(), "a", CODES, expected="23")
    with pytest.raises(HospitalError, match=r"24"):
        harmonise.main()


def test_a_label_outside_the_map_names_the_line_to_add():
    write_label_map(Path(), "c", {"SNE": "segmented_neutrophil", "LY": "lymphocyte"})
    with pytest.raises(HospitalError, match=r"data/labels/c.csv has no line for 1 .*'MO' \(24 im"):
        harmonise.main()


def test_a_rejected_copy_joins_two_patients():
    """The copy of p00's picture under p01 was rejected; its patient still belongs to p00's."""
    kept = picture_rows("a").iloc[0]
    copy = {
        "image_id": "a/p01/copy.jpg", "hospital": "a", "path": "p01/copy.jpg",
        "published_label": kept["published_label"], "patient": "p01", "slide": None,
        "pixel_sha256": kept["pixel_sha256"], "reason": "duplicate", "detail": "the same pixels",
    }  # fmt: skip
    REJECTED.write(pd.DataFrame([copy]), "a")
    harmonise.main()
    labels = LABELS.read().query("hospital == 'a'")
    assert labels["group"].nunique() == 11
    assert labels[labels["patient"].isin(["p00", "p01"])]["group"].nunique() == 1
