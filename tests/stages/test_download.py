"""download: the whole stage in an empty project, for each kind of source."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages import download
from stages.core.errors import DownloadError, HospitalError
from stages.datasets import contents

ROOT = Path(__file__).resolve().parents[2]
BLOCK = {"title": "T", "licence": "CC BY 4.0", "citation": "C", "page": "https://example.org"}
RAW = Path("data/raw/h")


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


def publish(name: str, content: bytes, checked: bool = True) -> dict:
    """Write a publisher's file outside of the project; return how it is declared."""
    path = Path("..") / name
    path.write_bytes(content)
    sha256 = {"sha256": hashlib.sha256(content).hexdigest()} if checked else {}
    return {"name": name, "urls": [path.resolve().as_uri()], **sha256}


def names_in(path: Path) -> list[str]:
    """List a zip."""
    with zipfile.ZipFile(path) as packed:
        return packed.namelist()


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_is_packed_and_its_licence_lies_apart(project: Path) -> None:
    """Whose pictures these are stands in data/about, without paths and dates."""
    declare(h={"folder": "mine"})
    fill(project / "mine")
    download.main("h")
    assert sorted(files_in(RAW)) == ["contents.json", "h.zip"]
    assert names_in(RAW / "h.zip") == ["A/1.jpg"]
    assert json.loads(Path("data/about/h.json").read_text()) == BLOCK
    written = (RAW / "contents.json").read_text() + Path("data/about/h.json").read_text()
    assert str(project) not in written


def test_the_archives_are_listed_with_their_checksums(project: Path) -> None:
    """What the next stage reads: files, the layout, and whether anybody drew the pictures."""
    declare(h={"folder": "mine", "layout": {"sizes": ["9x9"], "official_parts": {"A": "train"}}})
    fill(project / "mine")
    download.main("h")
    found = contents.read(RAW)
    content = (RAW / "h.zip").read_bytes()
    assert [one.model_dump() for one in found.archives] == [
        {"name": "h.zip", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    ]
    assert (found.layout.sizes, found.layout.official_parts) == (["9x9"], {"A": "train"})
    assert found.simulated is False
    assert [(one.path, one.reason) for one in found.left_out] == [(".DS_Store", "hidden")]


def test_a_corrected_citation_changes_no_byte_of_the_archives(project: Path) -> None:
    """Nothing is filtered again for it; a corrected layout is another matter."""
    fill(project / "mine")
    declare(h={"folder": "mine"})
    download.main("h")
    first = files_in(RAW)
    declare(h={"folder": "mine", "citation": "as it should be", "licence": "CC0"})
    download.main("h")
    assert files_in(RAW) == first
    assert json.loads(Path("data/about/h.json").read_text())["citation"] == "as it should be"
    declare(h={"folder": "mine", "layout": {"sizes": ["9x9"]}})
    download.main("h")
    assert [name for name in first if files_in(RAW)[name] != first[name]] == ["contents.json"]


def test_a_second_run_gives_the_same_bytes() -> None:
    """Archives that are no longer declared are gone, those that stayed are the same."""
    one, two = publish("a.zip", b"1"), publish("b.zip", b"2")
    declare(h={"archives": [one]})
    download.main("h")
    first = files_in(RAW)
    declare(h={"archives": [one, two]})
    download.main("h")
    assert sorted(files_in(RAW)) == ["a.zip", "b.zip", "contents.json"]
    declare(h={"archives": [one]})
    download.main("h")
    assert files_in(RAW) == first


def test_a_mirror_goes_before_the_address(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the publisher are copied, pictures are packed."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    declare(h={"archives": [{"name": "pub.zip"}]}, g={"archives": [{"name": "pub.zip"}]})
    fill(project / "../mirror/h")
    (project / "../mirror/g").mkdir()
    (project / "../mirror/g/pub.zip").write_bytes(b"whatever the publisher sent")
    download.main("h")
    download.main("g")
    assert names_in(RAW / "h.zip") == ["A/1.jpg"]
    copied = files_in(Path("data/raw/g"))
    assert sorted(copied) == ["contents.json", "pub.zip"]
    assert copied["pub.zip"] == b"whatever the publisher sent"


def test_the_raw_folder_of_another_project_is_a_mirror(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its archives are copied; what that project wrote of them is not taken for one."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    declare(h={"archives": [{"name": "pub.zip"}]})
    (project / "../mirror/h").mkdir()
    (project / "../mirror/h/pub.zip").write_bytes(b"z")
    (project / "../mirror/h/contents.json").write_text("{}")
    download.main("h")
    assert [one.name for one in contents.read(RAW).archives] == ["pub.zip"]
    download.main("h")


def test_addresses_are_used_where_the_mirror_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All archives of the block arrive."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    declare(h={"archives": [publish("a.zip", b"1"), publish("b.zip", b"2", checked=False)]})
    download.main("h")
    assert sorted(files_in(RAW)) == ["a.zip", "b.zip", "contents.json"]


def test_what_was_verified_is_not_fetched_again() -> None:
    """The address is dead by then; an archive without a checksum would have to be fetched."""
    first, second = publish("a.zip", b"1"), publish("b.zip", b"2", checked=False)
    declare(h={"archives": [first, second]})
    download.main("h")
    before = files_in(RAW)
    Path("../a.zip").unlink()
    download.main("h")
    assert files_in(RAW) == before
    Path("../b.zip").unlink()
    with pytest.raises(DownloadError, match=r"b.zip cannot be had.*there is no file"):
        download.main("h")
    assert files_in(RAW) == before


def test_a_failure_leaves_what_was_there() -> None:
    """One bad archive of two: nothing new, nothing half-written, the old one stays."""
    good = publish("a.zip", b"1")
    declare(h={"archives": [good]})
    download.main("h")
    before = files_in(RAW)
    declare(h={"archives": [good, publish("b.zip", b"2") | {"sha256": "0" * 64}]})
    with pytest.raises(DownloadError, match=r"b.zip .* sha256 is .*, expected 000"):
        download.main("h")
    assert [path.name for path in Path("data/raw").iterdir()] == ["h"]
    assert files_in(RAW) == before


# -- what a person keeps inside data/ stays there --------------------------------------------------


def folder_inside(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(h={"folder": str(inside)})


def link_to_inside(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("../link").symlink_to(inside.resolve())
    declare(h={"folder": "../link"})


def address_inside(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = (inside / "by_hand.zip").resolve().as_uri()
    declare(h={"archives": [{"name": "by_hand.zip", "urls": [url]}]})


def mirror_inside(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(h={"archives": [{"name": "by_hand.zip"}]})
    monkeypatch.setenv("SMEARFLOW_MIRROR", str(inside.parent))


def link_in_mirror(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(h={"archives": [{"name": "by_hand.zip"}]})
    Path("../mirror/h").symlink_to(inside.resolve())
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")


SOURCES = (folder_inside, link_to_inside, address_inside, mirror_inside, link_in_mirror)


@pytest.mark.parametrize("name_it", SOURCES)
@pytest.mark.parametrize("place", ["data/mine/h", "data/raw/elsewhere"])
def test_a_source_inside_data_is_refused(
    monkeypatch: pytest.MonkeyPatch, name_it: Callable, place: str
) -> None:
    """A run or a checkout may delete what lies there; the files are untouched."""
    fill(Path(place))
    (Path(place) / "by_hand.zip").write_bytes(b"PK of eleven gigabytes")
    before = files_in(Path(place))
    name_it(Path(place), monkeypatch)
    if name_it is mirror_inside:
        declare(elsewhere={"archives": [{"name": "x.zip"}]}, h={"archives": [{"name": "x.zip"}]})
    told = r"inside the project's data/.* Nothing was changed. Move the pictures to a folder outsi"
    with pytest.raises(DownloadError, match=told):
        download.main("h")
    assert files_in(Path(place)) == before
    assert not (RAW / "contents.json").exists()


@pytest.mark.parametrize("name_it", SOURCES)
def test_a_person_s_own_files_where_download_writes_stay(
    monkeypatch: pytest.MonkeyPatch, name_it: Callable
) -> None:
    """Put straight into data/raw/<hospital>, and named in any way."""
    fill(RAW)
    (RAW / "by_hand.zip").write_bytes(b"PK of eleven gigabytes")
    before = files_in(RAW)
    name_it(RAW, monkeypatch)
    told = r"data/raw/h holds 3 files or folders .*\.DS_Store, A, by_hand.zip.* Nothing was changed"
    with pytest.raises(DownloadError, match=rf"{told}.*folder outside data/.*SMEARFLOW_MIRROR"):
        download.main("h")
    assert files_in(RAW) == before


def test_a_picture_put_beside_what_download_wrote_stays(project: Path) -> None:
    """The source is right, and all that is strange is one file; without it all goes on."""
    declare(h={"folder": "mine"})
    fill(project / "mine")
    download.main("h")
    (RAW / "mine.jpg").write_bytes(b"mine")
    before = files_in(RAW)
    with pytest.raises(DownloadError, match=r"holds 1 files .*\(mine.jpg\)"):
        download.main("h")
    assert files_in(RAW) == before
    (RAW / "mine.jpg").rename("../mine.jpg")
    download.main("h")


# -- drawn smears, and a full disk -----------------------------------------------------------------


def test_a_wrong_simulated_block_names_the_key() -> None:
    """The message leads to the line."""
    declare(h={"simulated": {"sed": 1}})
    with pytest.raises(HospitalError, match=r"data/hospitals.yaml, h.simulated.\w+: "):
        download.main("h")
    assert not RAW.exists()


def test_a_simulated_hospital_is_published_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator gets the block and the name of the zip; that it is drawn is told."""
    declare(h={"simulated": {}})
    spec = download.cohorts.SmearSpec
    monkeypatch.setattr(spec, "model_validate", lambda block: ("spec", block))
    monkeypatch.setattr(
        download.cohorts,
        "publish",
        lambda spec, hospital, target: target.write_text(f"{spec} {hospital}"),
    )
    download.main("h")
    assert (RAW / "h.zip").read_text() == "('spec', {}) h"
    assert contents.read(RAW).simulated is True


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
    download.main("h")
    assert len(names_in(RAW / "h.zip")) == 2


def test_links_and_what_is_left_out_are_said(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pipe is not waited for; of a class linked under another name it is said where it is."""
    caplog.set_level("INFO")
    declare(h={"folder": "mine"})
    fill(project / "mine")
    os.mkfifo(project / "mine/A/pipe.jpg")
    (project / "mine/B").symlink_to("A")
    (project / "mine/A/2.jpg").symlink_to("1.jpg")
    download.main("h")
    assert names_in(RAW / "h.zip") == ["A/1.jpg", "A/2.jpg"]
    assert "h follows 1 links: A/2.jpg" in caplog.text
    assert "does not read 3 of what lies there: .DS_Store (hidden" in caplog.text
    assert "B/ (a link to a folder that is read as 'A')" in caplog.text


@pytest.mark.parametrize("name", ["cells", "cells.tbz2", "cells.dat"])
def test_an_archive_of_any_name_is_the_publisher_s(
    name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied as it is, also beside the thumbnails of a network disk."""
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    declare(h={"archives": [{"name": name}]})
    (project / "../mirror/h/@eaDir").mkdir(parents=True)
    (project / "../mirror/h/@eaDir/t.jpg").write_bytes(b"thumbnail")
    (project / "../mirror/h" / name).write_bytes(b"BZh91AY&SY and more")
    download.main("h")
    assert sorted(files_in(RAW)) == sorted(["contents.json", name])
    assert [one.path for one in contents.read(RAW).left_out] == ["@eaDir/"]
