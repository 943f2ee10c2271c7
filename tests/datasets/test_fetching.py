"""Fetching: the right file or one line that says why not, over connections that break."""

import errno
import fcntl
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core import store
from stages.core.errors import DownloadError
from stages.datasets import fetching, transfer
from stages.datasets.hospitals import Archive, Hospital
from tests.datasets.test_archives import zipped
from tests.made import publishers
from tests.made.publishers import Server

CONTENT = zipped({"A/1.jpg": bytes(range(256)) * 4000}, zipfile.ZIP_STORED)  # 1 MB
OTHER = zipped({"A/1.jpg": bytes(range(255)) * 4000}, zipfile.ZIP_STORED)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server; wait for nothing between attempts."""
    publishers.hurry(monkeypatch)
    with publishers.serve_file(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty project that has a .dvc folder, without a mirror."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.delenv("SMEARFLOW_MIRROR", raising=False)
    return root


def archive(*urls: str, **declared: object) -> Archive:
    """Describe an archive."""
    return Archive(name="h.zip", urls=list(urls), **declared)


def hospital(**source: object) -> Hospital:
    """Describe a hospital."""
    return Hospital(title="T", licence="L", citation="C", **source)


def fetch(one: Archive, project: Path) -> None:
    """Fetch one archive into the project's folder."""
    fetching.fetch_archives(hospital(archives=[one]), "h", project / "before", project)


def partial_files(project: Path) -> set[str]:
    """Name what waits for another attempt, locks aside."""
    names = {path.name for path in (project / ".dvc/tmp/smearflow").iterdir()}
    return {name for name in names if not name.endswith(".lock")}


def test_a_file_arrives_byte_for_byte(server: Server, project: Path) -> None:
    """Size and both checksums fit; nothing else stays."""
    md5 = hashlib.md5(CONTENT).hexdigest()
    whole = archive(server.url, bytes=len(CONTENT), sha256=SHA256, md5=md5)
    fetch(whole, project)
    assert (project / "h.zip").read_bytes() == CONTENT
    assert partial_files(project) == set()


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, project: Path) -> None:
    """Two cuts cost two more requests, not two more files."""
    server.cuts = [300_000, 200_000]
    fetch(archive(server.url, sha256=SHA256), project)
    assert (project / "h.zip").read_bytes() == CONTENT
    assert server.ranges[0] is None
    starts = [int(asked[len("bytes=") : -1]) for asked in server.ranges[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 300_000 < starts[1] + 1


def test_a_killed_run_goes_on_in_the_next(server: Server, project: Path) -> None:
    """What was fetched survives the end of the attempts, outside of data/raw."""
    server.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"h.zip cannot be had. .*RemoteProtocolError.*MIRROR"):
        fetch(archive(server.url), project)
    assert not (project / "h.zip").exists()
    assert len(partial_files(project)) == 2
    fetch(archive(server.url, sha256=SHA256), project)
    assert (project / "h.zip").read_bytes() == CONTENT
    assert server.ranges[-1] is not None


def test_a_new_version_is_never_mixed_with_the_old(server: Server, project: Path) -> None:
    """Where the publisher changed the file in between, it is fetched from the start."""
    server.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"cannot be had"):
        fetch(archive(server.url), project)
    server.content, server.etag = OTHER, '"2"'
    fetch(archive(server.url), project)
    assert (project / "h.zip").read_bytes() == OTHER


@pytest.mark.parametrize("fault", ["no ranges", "no version", "another place", "complete"])
def test_servers_that_cannot_go_on(fault: str, server: Server, project: Path) -> None:
    """Ranges that are ignored, unsafe, wrong or empty all end in the whole file."""
    server.cuts = [400_000]
    if fault == "no ranges":
        server.knows_ranges = False
    elif fault == "no version":
        server.etag = 'W/"1"'
    elif fault == "another place":
        server.shift = 7
    else:
        server.cuts = []
        name = hashlib.sha256(server.url.encode()).hexdigest()[:16]
        folder = project / ".dvc/tmp/smearflow"
        folder.mkdir(parents=True)
        (folder / f"{name}.part").write_bytes(CONTENT)
        (folder / f"{name}.part.version").write_text(server.etag)
    fetch(archive(server.url, sha256=SHA256), project)
    assert (project / "h.zip").read_bytes() == CONTENT
    if fault == "no version":
        assert server.ranges == [None, None]
    if fault == "complete":
        assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_busy_server_is_asked_again(server: Server, project: Path) -> None:
    """503 and 429 pass."""
    server.codes = [503, 429]
    fetch(archive(server.url, sha256=SHA256), project)
    assert len(server.ranges) == 3


def test_a_refusal_is_not_asked_again_and_the_next_address_helps(
    server: Server, project: Path
) -> None:
    """404 does not pass; a second address is tried."""
    server.codes = [404]
    other = server.url + "?second"
    fetch(archive(server.url, other, sha256=SHA256), project)
    assert len(server.ranges) == 2


def test_each_address_gets_its_fault(server: Server, project: Path) -> None:
    """One message names them all, and the way out."""
    server.codes = [403]
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    bad = [server.url, server.url + "?2", f"file://{project}/none.zip", "ftp://h/x", "http://[x"]
    pattern = (
        r"h.zip cannot be had. http\S+: HTTP 403 Forbidden; "
        r"http\S+\?2: the server answered with a web page, not with the file; "
        r"file:\S+: there is no file \S+none.zip; "
        r"ftp://h/x: addresses begin with https://, http:// or file://; .*'SMEARFLOW_MIRROR"
    )
    with pytest.raises(DownloadError, match=pattern):
        fetch(archive(*bad), project)


def test_no_connection_is_one_line(server: Server, project: Path) -> None:
    """A dead address is a fault like any other."""
    with pytest.raises(DownloadError, match=r"127.0.0.1:9/h.zip: ConnectError"):
        fetch(archive("http://127.0.0.1:9/h.zip"), project)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"bytes": 5}, f"bytes is {len(CONTENT)}, expected 5"),
        ({"sha256": "0" * 64}, f"sha256 is {SHA256}, expected 0000"),
        ({"md5": "0" * 32}, r"md5 is \w{32}, expected 0000"),
    ],
)
def test_a_wrong_file_is_not_kept(
    declared: dict, message: str, server: Server, project: Path
) -> None:
    """Expected, got, and what to do; nothing stays, neither here nor half-fetched."""
    with pytest.raises(
        DownloadError, match=rf"not the published file: {message}.*Nothing was kept"
    ):
        fetch(archive(server.url, **declared), project)
    assert not (project / "h.zip").exists()
    assert partial_files(project) == set()


def test_a_second_run_at_the_same_time_takes_its_own_file(server: Server, project: Path) -> None:
    """Two hospitals may share an address, and two experiments may run at once."""
    name = hashlib.sha256(server.url.encode()).hexdigest()[:16]
    folder = project / ".dvc/tmp/smearflow"
    folder.mkdir(parents=True)
    (folder / f"{name}.part").write_bytes(b"of the other run")
    with (folder / f"{name}.part.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetch(archive(server.url, sha256=SHA256), project)
    assert (folder / f"{name}.part").read_bytes() == b"of the other run"
    assert partial_files(project) == {f"{name}.part"}


def test_an_address_may_be_a_file(project: Path) -> None:
    """file:// is copied, from the project's folder or from anywhere."""
    (project / "own.zip").write_bytes(CONTENT)
    url = (project / "own.zip").as_uri()
    fetch(archive(url, sha256=SHA256), project)
    assert (project / "h.zip").read_bytes() == CONTENT
    assert (project / "own.zip").exists()


def test_an_archive_without_address_says_page_steps_and_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some publishers give files out by hand; a mirror that is set is the folder to use."""
    block = hospital(archives=[{"name": "h.zip", "by_hand": "Ask."}], page="https://h.example")
    told = (
        r"^h.zip is given out by hand only. See https://h.example and get it yourself. Ask. Put "
        r"what you got into the folder {0}/h, and run 'SMEARFLOW_MIRROR={0} uv run dvc repro'.$"
    )
    with pytest.raises(DownloadError, match=told.format(r"\.\./mirror")):
        fetching.fetch_archives(block, "h", project / "before", project)
    monkeypatch.setenv("SMEARFLOW_MIRROR", "/pictures")
    with pytest.raises(DownloadError, match=told.format("/pictures")):
        fetching.fetch_archives(block, "h", project / "before", project)


def test_what_came_whole_waits_for_the_others(server: Server, project: Path) -> None:
    """The second archive of two fails: no file appears, and the first one is not sent again."""
    one = {"name": "one.zip", "urls": [server.url + "?1"]}
    two = {"name": "two.zip", "urls": ["file:///none.zip"]}
    with pytest.raises(DownloadError, match=r"two.zip cannot be had.* Get all 2 archives your"):
        fetching.fetch_archives(hospital(archives=[one, two]), "h", project / "before", project)
    assert [path.name for path in project.iterdir()] == [".dvc"]
    two["urls"] = [server.url + "?2"]
    fetching.fetch_archives(hospital(archives=[one, two]), "h", project / "before", project)
    assert (project / "one.zip").read_bytes() == (project / "two.zip").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT)}-", None]  # it had all bytes already
    assert partial_files(project) == set()


def test_a_full_disk_is_no_fault_of_the_address(
    server: Server, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as what it is, at once."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_save", fail)
    with pytest.raises(OSError, match=r"No space left"):
        fetch(archive(server.url), project)
    assert len(server.ranges) == 1


def test_the_mirror_comes_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirror folder, mirror archive, own folder, addresses: in this order."""
    block = hospital(folder="mine")
    (project / "mine").mkdir()
    assert fetching.find_source(block, "h") == project / "mine"
    monkeypatch.setenv("SMEARFLOW_MIRROR", str(project / "mirror"))
    (project / "mirror").mkdir()
    assert fetching.find_source(block, "h") == project / "mine"
    (project / "mirror/h.tar.gz").write_bytes(b"")
    assert fetching.find_source(block, "h") == project / "mirror/h.tar.gz"
    (project / "mirror/h").mkdir()
    assert fetching.find_source(block, "h") == project / "mirror/h"
    assert fetching.find_source(hospital(archives=[{"name": "x.zip"}]), "g") is None


def test_missing_folders_have_a_way_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror or folder that is not there is named, with the place to correct it."""
    with pytest.raises(DownloadError, match=r"no folder \S+nowhere. Correct folder: of 'h'"):
        fetching.find_source(hospital(folder="nowhere"), "h")
    monkeypatch.setenv("SMEARFLOW_MIRROR", "nowhere")
    with pytest.raises(DownloadError, match=r"SMEARFLOW_MIRROR is 'nowhere', but .* unset it"):
        fetching.find_source(hospital(folder="nowhere"), "h")


def test_a_queued_experiment_finds_the_mirror(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a copy below .dvc/tmp/exps, where relative paths would lead nowhere."""
    copy = project / ".dvc/tmp/exps/standalone/tmp123"
    copy.mkdir(parents=True)
    (project / "mirror").mkdir()
    monkeypatch.chdir(copy)
    monkeypatch.setenv("SMEARFLOW_MIRROR", "mirror")
    assert fetching.mirror_folder() == project / "mirror"
    assert store.project_root() == project


def test_a_folder_of_archives_is_the_publisher_s(project: Path) -> None:
    """Archives and what lies beside them are copied; with folders or pictures it is packed."""
    declared = [Archive(name="master.csv"), Archive(name="one.zip")]

    def is_published(*names: str) -> bool:
        for name in names:
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_bytes(b"z")
        return fetching.is_published({name: project / name for name in names}, declared)

    assert is_published("master.csv", "one.zip", "two.RAR", "readme.txt")
    assert is_published("one.zip")
    assert not is_published("master.csv")
    assert not is_published("one.zip", "A/1.txt")
    assert not is_published("one.zip", "1.jpg")


def test_a_mirror_that_lacks_a_declared_archive_is_told(project: Path, caplog) -> None:
    """Its pictures are missing, which only counts can tell later; the log tells now."""
    declared = [Archive(name="one.zip"), Archive(name="two.zip")]
    files = {"one.zip": project / "one.zip"}
    assert fetching.is_published(files, declared)
    assert "there is no two.zip; its pictures are missing" in caplog.text
    caplog.clear()
    assert fetching.is_published(files | {"two.zip": project / "two.zip"}, declared)
    assert caplog.text == ""


def test_declared_files_of_a_mirror_are_checked(project: Path) -> None:
    """A damaged copy in the mirror is found, and the mirror's own file stays."""
    (project / "one.zip").write_bytes(CONTENT)
    (project / "raw").mkdir()
    wrong = [Archive(name="one.zip", sha256="0" * 64)]
    with pytest.raises(DownloadError, match=r"one.zip from \S+one.zip is not the published file"):
        fetching.copy_published({"one.zip": project / "one.zip"}, wrong, project / "raw")
    assert (project / "one.zip").exists()
    assert not (project / "raw/one.zip").exists()
    right = [Archive(name="one.zip", sha256=SHA256)]
    fetching.copy_published({"one.zip": project / "one.zip"}, right, project / "raw")
    assert (project / "raw/one.zip").read_bytes() == CONTENT


# -- taken over, and refused -----------------------------------------------------------------------


def test_the_declared_archive_of_an_earlier_run_is_taken_over(project: Path) -> None:
    """Byte for byte, and where it lay it stays."""
    (project / "before.zip").write_bytes(CONTENT)
    assert fetching.reuse(project / "before.zip", archive(sha256=SHA256), project / "h.zip")
    assert (project / "h.zip").read_bytes() == (project / "before.zip").read_bytes() == CONTENT


def test_it_is_copied_where_files_cannot_be_linked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fetching.os, "link", refuse)
    (project / "before.zip").write_bytes(CONTENT)
    assert fetching.reuse(project / "before.zip", archive(sha256=SHA256), project / "h.zip")
    assert (project / "h.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("declared", "content"),
    [
        ({"sha256": SHA256}, CONTENT[:-1]),  # damaged, or an older edition
        ({"sha256": SHA256}, None),
        ({}, CONTENT),  # nobody knows whether it is whole
        ({"md5": hashlib.md5(CONTENT).hexdigest(), "bytes": len(CONTENT)}, CONTENT),
    ],
)
def test_no_other_is_taken_over(declared: dict, content: bytes | None, project: Path) -> None:
    """It has to be fetched; nothing is written for it."""
    if content is not None:
        (project / "before.zip").write_bytes(content)
    assert not fetching.reuse(project / "before.zip", archive(**declared), project / "h.zip")
    assert not (project / "h.zip").exists()
    assert (project / "before.zip").exists() == (content is not None)


def test_sources_inside_data_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a link to it, a link in the mirror, and the mirror itself; from a copy too."""
    inside = project / "data/raw/h"
    inside.mkdir(parents=True)
    (project / "link").symlink_to(inside)
    (project / "mirror").mkdir()
    (project / "mirror/h").symlink_to(inside)
    copy = project / ".dvc/tmp/exps/standalone/tmp123"
    copy.mkdir(parents=True)
    told = r"inside the project's data/.* Nothing was changed. Move the pictures"
    for here in (project, copy):
        monkeypatch.chdir(here)
        for folder in ("data/raw/h", "data", "link", str(inside)):
            with pytest.raises(DownloadError, match=rf"^folder: of 'h' in \S+ is \S+, {told}"):
                fetching.find_source(hospital(folder=folder), "h")
    declared = hospital(archives=[{"name": "x.zip"}])
    for mirror in ("data/raw", "data", "mirror"):
        monkeypatch.setenv("SMEARFLOW_MIRROR", str(project / mirror))
        with pytest.raises(DownloadError, match=rf"^SMEARFLOW_MIRROR .*is \S+, {told}"):
            fetching.find_source(declared, "h")


def test_a_folder_whose_name_begins_like_data_is_not_inside(project: Path) -> None:
    (project / "database").mkdir()
    assert fetching.find_source(hospital(folder="database"), "h") == project / "database"


def test_an_address_inside_data_is_a_fault_and_the_next_one_helps(project: Path) -> None:
    """The file stays; a second address is tried."""
    (project / "data").mkdir()
    (project / "data/own.zip").write_bytes(CONTENT)
    (project / "own.zip").write_bytes(CONTENT)
    inside = (project / "data/own.zip").as_uri()
    with pytest.raises(DownloadError, match=r"cannot be had. file:\S+: a file:// address .*data/"):
        fetch(archive(inside, sha256=SHA256), project)
    assert not (project / "h.zip").exists()
    both = archive(inside, (project / "own.zip").as_uri(), sha256=SHA256)
    fetch(both, project)
    assert (project / "data/own.zip").read_bytes() == (project / "h.zip").read_bytes() == CONTENT
