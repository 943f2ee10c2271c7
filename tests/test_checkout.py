"""The project as others get it: cloned by Git for Windows, downloaded as a zip without Git."""

import io
import subprocess
import tarfile

import pytest

from tests.projects import ROOT, Project


@pytest.fixture
def committed(tmp_path):
    project = Project(tmp_path / "smearflow")
    project.commit("start")
    return project


def test_git_for_windows_changes_no_byte(committed, tmp_path):
    """Its default, core.autocrlf, would change the hash of every file that DVC tracks."""
    clone = tmp_path / "windows"
    committed.git("clone", "-q", "-c", "core.autocrlf=true", ".", str(clone))
    names = committed.git("ls-files").splitlines()
    assert len(names) > 200
    assert [n for n in names if (clone / n).read_bytes() != (ROOT / n).read_bytes()] == []


def test_a_downloaded_zip_runs_without_git(committed, tmp_path):
    """DVC refuses a folder without Git before any stage; what `git archive` writes tells it so."""
    folder = tmp_path / "unpacked"
    packed = subprocess.run(
        ["git", "archive", "HEAD"], cwd=committed.folder, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    committed.folder = folder
    assert not (folder / ".git").exists()
    done = committed.dvc("repro", "plots", GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert "Running stage 'plots'" in done.stdout
    assert (folder / "data/plots.js").is_file()
