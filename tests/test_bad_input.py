"""Bad input ends with one line that names it and a way out; nothing half-written; a rerun is right.

Each test runs the real command in a copy of the project; Python has its libraries already.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.made import warm_python
from tests.projects import Project, environment
from tests.stages.cohort import (
    picture_rows,
    write_label_map,
    write_pictures,
    write_project,
    write_reviews,
)

LIBRARIES = ["cv2", "httpx", "pandas", "pyarrow.parquet", "pydantic", "ruamel.yaml", "scipy.stats"]


@pytest.fixture(scope="module")
def python():
    with warm_python.start(LIBRARIES) as command:
        yield command


@pytest.fixture
def project(tmp_path, python):
    made = Project(tmp_path / "smearflow")
    made.python = str(python)
    return made


def assert_refused(done, *words):
    """Exit code 1, one line of error in which all words stand, no traceback."""
    assert done.returncode == 1, done.stderr
    told = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert len(told) == 1, done.stderr
    for word in words:
        assert word in told[0]


def results(project):
    """What lies in the folders that stages write to, beside what is in Git."""
    tracked = set(project.git("ls-files", "-o", "--exclude=__pycache__").split("\n"))
    return sorted(
        name for name in tracked if name.startswith(("data/", "metrics/")) and "timing" not in name
    )


@pytest.fixture
def committed(project):
    project.commit("start")
    return project


def test_unknown_parameter(committed):
    committed.edit_yaml("params.yaml", split__vald=0.1)
    assert_refused(committed.stage("split"), "split.vald", "Did you mean 'valid'?")
    assert results(committed) == []


def test_mistyped_value(committed):
    committed.edit_yaml("params.yaml", seed="forty-two")
    assert_refused(committed.stage("harmonise"), "params.yaml, seed", "'forty-two'", "integer")
    assert results(committed) == []


def test_unknown_hospital(committed):
    """Our line names the nearest block; DVC, which looks first, names the block that is missing."""
    committed.edit_yaml(
        "params.yaml", hospitals=["demo_nort"], split__train_hospitals=["demo_nort"]
    )
    done = committed.stage("download", "demo_nort")
    assert_refused(done, "has no block 'demo_nort'", "Did you mean 'demo_north'?")
    done = committed.dvc("repro", "download@demo_nort", check=False)
    assert done.returncode != 0
    assert "'demo_nort' are missing from 'data/hospitals.yaml'" in done.stderr
    assert results(committed) == []


def test_missing_mirror(committed):
    done = committed.stage("download", "munich", SMEARFLOW_MIRROR="no/such/folder")
    assert_refused(done, "SMEARFLOW_MIRROR", "no/such/folder")
    assert results(committed) == []


def test_wrong_checksum(committed, tmp_path):
    (tmp_path / "smears.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    archive = {
        "name": "smears.zip", "urls": [(tmp_path / "smears.zip").as_uri()], "sha256": "0" * 64,
    }  # fmt: skip
    block = {"title": "P", "licence": "none", "citation": "none", "archives": [archive]}
    committed.edit_yaml("data/hospitals.yaml", porto=block)
    assert_refused(committed.stage("download", "porto"), "smears.zip", "0" * 64, "sha256")
    assert results(committed) == []


@pytest.fixture
def cohort(committed, monkeypatch):
    """Three made hospitals whose tables stand where `filter` would leave them."""
    monkeypatch.chdir(committed.folder)
    write_project(committed.folder)
    write_pictures(pd.concat([picture_rows(name) for name in "abc"]))
    return committed


def test_label_that_is_not_in_the_map(cohort):
    write_label_map(cohort.folder, "b", {"SNE": "segmented_neutrophil", "LY": "lymphocyte"})
    assert_refused(cohort.stage("harmonise"), "data/labels/b.csv", "'MO'", "Add")
    assert "data/labels.parquet" not in results(cohort)


def test_review_with_an_unknown_cell_type(cohort):
    write_reviews(cohort.folder, "a/p00/0.jpg,monocite,,Berg,")
    told = ("data/reviews.csv, line 2", "'monocite'", "Did you mean 'monocyte'?")
    assert_refused(cohort.stage("harmonise"), *told)
    assert "data/labels.parquet" not in results(cohort)


def test_class_missing_from_the_training_part(cohort):
    for hospital in "ab":
        codes = {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "basophil"}
        write_label_map(cohort.folder, hospital, codes)
    cohort.stage("harmonise", check=True)
    assert_refused(cohort.stage("split"), "monocyte", "training part", "Add a training hospital")
    assert not [name for name in results(cohort) if name.startswith("data/split")]


def test_empty_test_hospital(cohort):
    write_label_map(cohort.folder, "c", {"SNE": "blast", "LY": "blast", "MO": "blast"})
    cohort.stage("harmonise", check=True)
    assert_refused(cohort.stage("split"), "c has no picture to test on", "Leave it out")
    assert not [name for name in results(cohort) if name.startswith("data/split")]


def test_full_disk(cohort):
    """No file may grow beyond 512 bytes: what a full disk does to a writer."""
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)); "
        "sys.argv = ['stages/harmonise.py']; "
        "runpy.run_module('stages.harmonise', run_name='__main__')"
    )
    variables = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = cohort.run(sys.executable, "-c", code, check=False, **variables)
    assert_refused(done, "too large", "run the same command again")
    assert not [name for name in results(cohort) if "labels.parquet" in name]
    cohort.stage("harmonise", check=True)
    assert "data/labels.parquet" in results(cohort)


def test_stage_killed_half_way(committed):
    """SIGKILL while the archive is being made: no result; a rerun gives the bytes of a calm run."""
    committed.edit_yaml("data/hospitals.yaml", demo_north__simulated__n_images=80)
    raw = committed.folder / "data/raw"
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.download", "demo_north"],
        cwd=committed.folder, env=environment(), start_new_session=True,
    )  # fmt: skip
    for _ in range(6000):
        if (raw / "demo_north.tmp").exists() or running.poll() is not None:
            break
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert running.returncode == -signal.SIGKILL
    assert not (raw / "demo_north").exists()
    committed.stage("download", "demo_north", check=True)
    after_kill = contents(raw)
    (raw / "demo_north").rename(raw / "put_aside")
    committed.stage("download", "demo_north", check=True)
    (raw / "put_aside").rename(raw / "first")
    assert contents(raw / "demo_north") == {
        Path(name).name: content for name, content in after_kill.items()
    }


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
