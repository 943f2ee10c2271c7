"""download: the whole stage in an empty project, for each kind of source."""

import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from stages import download
from stages.core.errors import DownloadError, HospitalError

ROOT = Path(__file__).resolve().parents[2]
BLOCK = {"title": "T", "licence": "CC BY 4.0", "citation": "C", "page": "https://example.org"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project of its own, with a mirror beside it."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (tmp_path / "mirror").mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("SMEARFLOW_MIRROR", raising=False)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    return root


def declare(**blocks: dict) -> None:
    """Write data/hospitals.yaml."""
    content = {name: BLOCK | block for name, block in blocks.items()}
    Path("data/hospitals.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def fill(folder: Path) -> None:
    """Write two files of a hospital, one of them hidden."""
    for name in ("A/1.jpg", ".DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names_in(path: str) -> list[str]:
    """List a zip."""
    with zipfile.ZipFile(path) as packed:
        return packed.namelist()


def test_a_folder_is_packed_with_its_licence(project: Path) -> None:
    """about.json tells whose pictures these are, without paths and dates."""
    declare(h={"folder": "mine"})
    fill(project / "mine")
    download.main("h")
    assert names_in("data/raw/h/h.zip") == [".DS_Store", "A/1.jpg"]
    about = json.loads(Path("data/raw/h/about.json").read_text())
    archives = about.pop("archives")
    assert about == BLOCK
    assert [sorted(archive) for archive in archives] == [["bytes", "name", "sha256"]]
    assert str(project) not in Path("data/raw/h/about.json").read_text()


def test_a_second_run_gives_the_same_bytes(project: Path) -> None:
    """Files that went are gone, files that stayed are the same."""
    declare(h={"folder": "mine"})
    fill(project / "mine")
    download.main("h")
    first = {path.name: path.read_bytes() for path in Path("data/raw/h").iterdir()}
    (project / "data/raw/h/old.zip").write_bytes(b"old")
    download.main("h")
    assert first == {path.name: path.read_bytes() for path in Path("data/raw/h").iterdir()}


def test_a_mirror_goes_before_the_address(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the publisher are copied, pictures are packed."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    declare(h={"archives": [{"name": "pub.zip"}]}, g={"archives": [{"name": "pub.zip"}]})
    fill(project / "../mirror/h")
    (project / "../mirror/g").mkdir()
    (project / "../mirror/g/pub.zip").write_bytes(b"whatever the publisher sent")
    download.main("h")
    download.main("g")
    assert names_in("data/raw/h/h.zip") == [".DS_Store", "A/1.jpg"]
    assert Path("data/raw/g/pub.zip").read_bytes() == b"whatever the publisher sent"
    assert sorted(path.name for path in Path("data/raw/g").iterdir()) == ["about.json", "pub.zip"]


def test_addresses_are_used_where_the_mirror_has_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All archives of the block arrive."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    (project / "one.zip").write_bytes(b"1")
    url = (project / "one.zip").as_uri()
    declare(h={"archives": [{"name": "a.zip", "urls": [url]}, {"name": "b.zip", "urls": [url]}]})
    download.main("h")
    names = sorted(path.name for path in Path("data/raw/h").iterdir())
    assert names == ["a.zip", "about.json", "b.zip"]


def test_a_failure_leaves_what_was_there(project: Path) -> None:
    """One bad archive of two: nothing new, nothing half-written, the old one stays."""
    (project / "one.zip").write_bytes(b"1")
    good = {"name": "a.zip", "urls": [(project / "one.zip").as_uri()]}
    declare(h={"archives": [good]})
    download.main("h")
    declare(h={"archives": [good, {"name": "b.zip", "urls": good["urls"], "sha256": "0" * 64}]})
    with pytest.raises(DownloadError, match=r"b.zip .* sha256 is .*, expected 000"):
        download.main("h")
    assert [path.name for path in Path("data/raw").iterdir()] == ["h"]
    assert sorted(path.name for path in Path("data/raw/h").iterdir()) == ["a.zip", "about.json"]


def test_a_wrong_simulated_block_names_the_key() -> None:
    """The message leads to the line."""
    declare(h={"simulated": {"sed": 1}})
    with pytest.raises(HospitalError, match=r"data/hospitals.yaml, h.simulated.\w+: "):
        download.main("h")
    assert not Path("data/raw/h").exists()


def test_a_simulated_hospital_is_published_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator gets the block and the name of the zip."""
    declare(h={"simulated": {}})
    monkeypatch.setattr(download.smears.SmearSpec, "model_validate", lambda block: ("spec", block))
    monkeypatch.setattr(
        download.smears,
        "publish",
        lambda spec, hospital, target: target.write_text(f"{spec} {hospital}"),
    )
    download.main("h")
    assert Path("data/raw/h/h.zip").read_text() == "('spec', {}) h"


def run_limited(limit: int) -> subprocess.CompletedProcess:
    """Run the stage where no file may grow beyond `limit` bytes, as on a full disk."""

    def limit_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "stages.download", "h"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=limit_files,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_ends_with_one_line(project: Path) -> None:
    """Exit 1, no traceback, nothing half-written; with room, the same command works."""
    declare(h={"folder": "mine"})
    fill(project / "mine")
    (project / "mine/A/big.jpg").write_bytes(bytes(300_000))
    done = run_limited(100_000)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Nothing half-written was kept" in done.stderr.splitlines()[-1]
    assert list(Path("data/raw").iterdir()) == []
    assert run_limited(10_000_000).returncode == 0
    assert len(names_in("data/raw/h/h.zip")) == 3
