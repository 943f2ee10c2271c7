"""validate: good tables give metrics; one bad row stops the run, named, and leaves no metrics."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import validate
from stages.core import store, tables
from stages.core.errors import TableError
from stages.splits.leaks import LEAKY
from stages.validation import limits
from tests.stages.cohort import write_split

ROOT = Path(__file__).resolve().parents[2]
HOSPITALS = ["north", "south"]
METRICS = Path("metrics/validate.json")


def pictures(hospital: str) -> dict[str, list[str]]:
    return {
        "image_id": [f"{hospital}/a/1.png", f"{hospital}/a/2.png"],
        "hospital": [hospital, hospital],
    }


def write_hospital(hospital: str) -> None:
    own = pd.DataFrame(pictures(hospital))
    digit = str(HOSPITALS.index(hospital))
    images = own.assign(
        path=["a/1.png", "a/2.png"],
        published_label="a",
        patient=[f"{hospital} p1", None],
        slide=None,
        field=None,
        diagnosis=None,
        official_part=None,
        official_side=None,
        simulated=False,
        place=hospital,
        expert_1=None,
        expert_2=None,
        sha256=[digit + "a" * 63, digit + "b" * 63],
        pixel_sha256=[digit + "c" * 63, digit + "d" * 63],
        width=64,
        height=64,
        format="png",
        mode="RGB",
        bytes=b"bytes",
        mask=None,
        phash=bytes(32),
        twin_group=own["image_id"],
        warnings=[[], []],
    )
    tables.IMAGES.write(images[tables.IMAGES.schema.names], hospital)
    rejected = pd.DataFrame(columns=tables.REJECTED.schema.names, dtype=object)
    if hospital == "north":
        rejected.loc[0] = [
            "north/a/3.png", "north", "a/3.png", "a", "p1", None, None, "empty", "no bytes",
        ]  # fmt: skip
    tables.REJECTED.write(rejected, hospital)
    measures = {
        field.name: 0.5 if not field.nullable else None
        for field in tables.QUALITY.schema
        if field.name not in own
    }
    flags = [["no_cell"], ["no_cell"]]
    quality = own.assign(**measures).assign(has_cell=False, n_cells=0, flags=flags)
    tables.QUALITY.write(quality, hospital)


def write_labels_and_split(**changed: object) -> None:
    own = pd.concat([pd.DataFrame(pictures(hospital)) for hospital in HOSPITALS], ignore_index=True)
    labels = own.assign(
        published_label="a",
        cell_type="monocyte",
        label="monocyte",
        patient=["north p1", None, "south p1", None],
        slide=None,
        group=own["image_id"],
        unit=["patient", "image", "patient", "image"],
        official_part=None,
        official_side=None,
        keep=True,
        drop_reason=None,
    )
    tables.LABELS.write(labels)
    placed = {
        "twin_group": own["image_id"],
        "part": ["train", "test", "unseen", "unseen"],
        "left_out_reason": None,
    }
    split = labels[["image_id", "hospital", "label", "group"]].assign(**(placed | changed))
    write_split(split)
    half = {"asked": 0.5, "tolerance": 0.01}
    sizes = {"north": {"train": half, "test": half}}
    store.write_metrics("split", {"sizes": sizes, "absent": []})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two hospitals whose tables are as expected."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data" / "expectations", tmp_path / "data" / "expectations")
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content |= {"hospitals": HOSPITALS, "partial": []}
    content["split"]["train_hospitals"] = ["north"]
    content["expectations"] = {"max_flagged": 1.0, "min_per_class": 1, "max_drift": 0.25}
    (tmp_path / limits.REFERENCE).write_text("{}", encoding="utf-8")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for hospital in HOSPITALS:
        write_hospital(hospital)
    write_labels_and_split()
    return tmp_path


@pytest.mark.usefixtures("project")
def test_good_tables_give_the_same_metrics_every_time() -> None:
    """Counts of expectations and rows by table, none failed, and no byte differs in a rerun.

    A removed hospital's files stay on disk; they are none of this experiment's business.
    """
    validate.main()
    first = METRICS.read_bytes()
    content = json.loads(first)
    assert content["n_failed"] == 0
    assert content["not_checked"] == {"hospital_drift": limits.NO_REFERENCE}
    rows = {name: counted["n_rows"] for name, counted in content["by_table"].items()}
    assert rows == {
        "images": 4,
        "rejected": 1,
        "quality": 4,
        "labels": 4,
        "split": 4,
        "split_groups": 4,
        "split_patients": 2,
        "split_slides": 0,
        "split_twins": 4,
        "split_parts": 2,
        "split_sizes": 3,
        "split_classes": 2,
        "coverage": 4,
        "hospital_flags": 2,
        "training_classes": 1,
    }
    rows |= content["not_checked"]
    suites = sorted(path.stem for path in Path("data/expectations").glob("*.json"))
    assert sorted(rows) == suites, "a suite that nothing is held against"
    assert content["n_expectations"] == sum(
        counted["n_expectations"] for counted in content["by_table"].values()
    )
    for table in (tables.IMAGES, tables.REJECTED, tables.QUALITY, tables.SPLIT):
        table.at("removed").write_bytes(b"no parquet")
    validate.main()
    assert METRICS.read_bytes() == first


@pytest.mark.usefixtures("project")
def test_a_group_on_two_sides_stops_the_run_and_leaves_no_metrics() -> None:
    """The message names suite, column and group; metrics of an earlier, good run are gone."""
    METRICS.write_text('{"n_failed": 0}', encoding="utf-8")
    write_labels_and_split(
        group=["north/a/1.png", "north/a/1.png", "south/a/1.png", "south/a/2.png"]
    )
    with pytest.raises(
        TableError, match=r"1 of \d+ expectations do not hold: split_groups, n_sides, .* dvc repro"
    ) as caught:
        validate.main()
    assert "1 row, first north/a/1.png" in str(caught.value)
    assert not METRICS.exists()


def test_what_a_leaky_method_cannot_fulfil_is_not_checked(project: Path) -> None:
    """The same table that is refused above passes by name, and the metrics say what was skipped."""
    method = LEAKY[0]
    write_labels_and_split(
        group=["north/a/1.png", "north/a/1.png", "south/a/1.png", "south/a/2.png"]
    )
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content["split"]["method"] = method
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    validate.main()
    written = json.loads(METRICS.read_text(encoding="utf-8"))
    assert sorted(written["not_checked"]) == [
        "hospital_drift", "split_groups", "split_patients", "split_slides", "split_twins",
    ]  # fmt: skip
    assert not set(written["not_checked"]) & set(written["by_table"])
    assert f"split.method {method} " in written["not_checked"]["split_groups"]
    write_labels_and_split(part=["train", "train", "unseen", "unseen"])
    with pytest.raises(TableError, match=r"3 of \d+ expectations do not hold: split_parts"):
        validate.main()


def set_limits(**changed: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content["expectations"] |= changed
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def keep_reference(**changed: float) -> None:
    """The tables' own quantiles of north, some measures moved."""
    kept = limits.describe(tables.QUALITY.read("north"))
    kept |= {name: [value + by for value in kept[name]] for name, by in changed.items()}
    limits.REFERENCE.write_text(json.dumps({"north": kept}), encoding="utf-8")


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (
            {"max_flagged": 0.9},
            r"hospital_flags, .* 2 rows, first north: 100\.0% of 2 pictures are flagged, most "
            r"often no_cell, where expectations\.max_flagged in params\.yaml allows 90\.0%",
        ),
        (
            {"min_per_class": 2},
            r"training_classes, .* 1 row, first monocyte: 1 training pictures, where "
            r"expectations\.min_per_class in params\.yaml asks for 2",
        ),
        (
            {"max_drift": 0.1},
            r"hospital_drift, .* 1 row, first north, mean_g: median 50\.5 in data/reference\.json, "
            r"0\.5 now, .* allows 0\.1 .*stages\.tools\.reference north'\)",
        ),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_broken_limit_names_what_was_found_and_the_parameter(limit, told) -> None:
    """Of flagged pictures, of a class's training pictures, and of a measure's drift."""
    keep_reference(mean_g=50.0 * ("max_drift" in limit))
    set_limits(**limit)
    with pytest.raises(TableError, match=told) as caught:
        validate.main()
    assert str(caught.value).startswith("1 of ")
    assert not METRICS.exists()


@pytest.mark.usefixtures("project")
def test_a_hospital_of_the_reference_is_asked_measure_by_measure() -> None:
    """One that measures as before passes, and is counted."""
    keep_reference()
    validate.main()
    content = json.loads(METRICS.read_text(encoding="utf-8"))
    n_measures = len(limits.describe(tables.QUALITY.read("north")))
    assert content["by_table"]["hospital_drift"]["n_rows"] == n_measures > 5
    assert content["not_checked"] == {}


@pytest.mark.usefixtures("project")
def test_a_missing_table_is_named() -> None:
    """A table that no stage has written yet is one line with the command that writes it."""
    tables.SPLIT.at("south").unlink()
    with pytest.raises(TableError, match=r"split/south.parquet is missing. Run 'uv run dvc repro'"):
        validate.main()


def test_as_a_program_it_ends_with_one_line(project: Path) -> None:
    """The command of DVC and CI: exit code 1 and one line that names the row, no traceback.

    A process of its own, because Great Expectations would write to whatever it thinks is home.
    """
    frame = tables.LABELS.read()
    tables.LABELS.write(frame.assign(unit="smear"))
    run = subprocess.run(
        [sys.executable, "-m", "stages.validate"],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(project / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("validate: 1 of ")
    assert (
        "labels, unit, expect_column_values_to_be_in_set: 4 rows, first north/a/1.png, "
        in run.stderr
    )
    assert not (project / METRICS).exists()
    assert not (project / "home").exists(), "the library wrote into the home folder"


def test_great_expectations_is_imported_where_used() -> None:
    """Importing the stage loads neither Great Expectations nor TensorFlow: both take seconds."""
    program = (
        "import sys, stages.validate; "
        "print(sorted({'great_expectations', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_pictures_that_may_have_lost_a_part_are_counted_and_named(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flag of quality is no error: the run goes on, and the user knows where to look."""
    quality = tables.QUALITY.read("south")
    quality["flags"] = [["no_cell", "broken"], ["no_cell"]]
    tables.QUALITY.write(quality, "south")
    with caplog.at_level(logging.WARNING):
        validate.main()
    assert store.read_metrics("validate")["n_broken"] == 1
    [line] = [record.getMessage() for record in caplog.records]
    assert "1 pictures have a break" in line
    assert quality["image_id"][0] in line
    assert "get the file again" in line
