"""The command that keeps how pictures measure: the named hospitals, and no other one's numbers."""

import json

import pytest

from stages.core.errors import ParamsError, TableError
from stages.core.tables import QUALITY
from stages.tools import reference
from stages.validation import limits
from tests.stages.cohort import quality_rows, write_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two hospitals with measures."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, ("a", "b"))
    for name in ("a", "b"):
        QUALITY.write(quality_rows(f"{name}/{number}.png" for number in range(9)), name)


def kept():
    return json.loads(limits.REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("project")
def test_all_hospitals_or_those_named():
    """Other hospitals' numbers stay byte for byte; what is written is what validate reads."""
    reference.main()
    first = kept()
    assert set(first) == {"a", "b"}
    assert first["a"]["white_r"] == pytest.approx([180.8, 182, 184, 186, 187.2])
    rows = quality_rows(f"{name}/{number}.png" for name in "a" for number in range(20))
    for name in ("a", "b"):
        QUALITY.write(rows.assign(image_id=rows["image_id"].str.replace("a/", f"{name}/")), name)
    reference.main("b")
    assert kept()["a"] == first["a"]
    assert kept()["b"] != first["b"]
    assert limits.read_reference() == kept()


@pytest.mark.usefixtures("project")
def test_an_unknown_hospital_or_a_missing_table_writes_nothing():
    with pytest.raises(ParamsError, match=r"no hospital 'aa'.*Known: a, b"):
        reference.main("aa")
    QUALITY.at("b").unlink()
    with pytest.raises(TableError, match=r"quality/b.parquet is missing"):
        reference.main()
    assert not limits.REFERENCE.exists()
