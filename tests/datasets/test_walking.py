"""The walk: nothing is opened that may wait, nothing is missing in silence, names decide."""

import os
import socket
import stat
from pathlib import Path

import pytest

from stages.core.errors import DownloadError
from stages.datasets import walking
from stages.datasets.walking import walk
from tests.datasets.test_packing import fill


def test_files_are_found_under_their_names(tmp_path: Path) -> None:
    """A folder gives its files, a file itself."""
    fill(tmp_path, ["B/2.jpg", "A/deep/1.jpg", "t.csv"])
    found = walk(tmp_path)
    assert list(found.files) == ["A/deep/1.jpg", "B/2.jpg", "t.csv"]
    assert all(path == tmp_path / name for name, path in found.files.items())
    assert (found.left_out, found.links, found.say()) == ([], [], [])
    assert walk(tmp_path / "t.csv").files == {"t.csv": tmp_path / "t.csv"}


@pytest.mark.parametrize("at", ["A", "A/deep"])
def test_a_folder_that_may_not_be_listed_stops(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class without a right to read it would be missing. (Root may list everything, so the
    refusal is planted.)"""
    fill(tmp_path, ["A/deep/1.jpg", "B/2.jpg"])
    listed = os.scandir

    def refuse(place: Path) -> object:
        if Path(place) == tmp_path / at:
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DownloadError, match=rf"/{at} cannot be read \(Permission denied\).*right"):
        walk(tmp_path)


def test_a_file_that_may_not_be_read_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any is copied, and by the same words as a folder."""
    fill(tmp_path, ["A/1.jpg", "A/2.jpg"])
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "2.jpg")
    with pytest.raises(DownloadError, match=r"A/2.jpg cannot be read \(Permission denied\).*right"):
        walk(tmp_path)


def test_what_is_no_regular_file_is_listed_and_never_opened(tmp_path: Path) -> None:
    """A pipe waits for ever, a device gives bytes for ever."""
    fill(tmp_path, ["A/1.jpg"])
    os.mkfifo(tmp_path / "A/pipe.jpg")
    (tmp_path / "A/null.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        place = Path.cwd()
        os.chdir(tmp_path / "A")  # a socket's address is short
        try:
            listener.bind("talk.jpg")
        finally:
            os.chdir(place)
    found = walk(tmp_path)
    assert list(found.files) == ["A/1.jpg"]
    assert {one.path: (one.reason, one.detail.partition(",")[0]) for one in found.left_out} == {
        "A/null.jpg": ("no_file", "a device"),
        "A/pipe.jpg": ("no_file", "a named pipe"),
        "A/talk.jpg": ("no_file", "a socket"),
    }
    assert "does not read 3 of what lies there: A/null.jpg (a device" in found.say()[0]


@pytest.mark.parametrize("target", ["/nowhere/1.jpg", "gone.jpg", "also"])
def test_a_broken_link_is_called_one(target: str, tmp_path: Path) -> None:
    """Moved disks and unfetched stores leave links to nothing, or round in a circle."""
    fill(tmp_path, ["A/1.jpg"])
    (tmp_path / "A/also").symlink_to("link.jpg")
    (tmp_path / "A/link.jpg").symlink_to(target)
    with pytest.raises(DownloadError, match=rf"A/link.jpg -> {target}.*a broken link leads"):
        walk(tmp_path)


def test_links_are_followed_once(tmp_path: Path) -> None:
    """Linked files and folders are found; one to a folder above does not go round for ever."""
    fill(tmp_path / "elsewhere", ["1.jpg"])
    fill(tmp_path / "h", ["A/2.jpg"])
    (tmp_path / "h/B").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "h/A/up").symlink_to(tmp_path / "h")
    (tmp_path / "h/A/out").symlink_to(tmp_path)
    (tmp_path / "h/A/3.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    found = walk(tmp_path / "h")
    assert list(found.files) == ["A/2.jpg", "A/3.jpg", "B/1.jpg"]
    assert found.links == ["A/3.jpg", "B/"]
    assert [one.path for one in found.left_out] == ["A/out/", "A/up/"]
    assert found.say()[0] == "follows 2 links: A/3.jpg, B/"


@pytest.mark.parametrize("backwards", [False, True])
def test_names_and_not_the_disk_decide_on_links(
    backwards: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class linked under another label keeps its own, in whatever order a disk lists them."""
    fill(tmp_path / "out", ["x/1.jpg"])
    fill(tmp_path / "h", ["lymphocytes/1.jpg", "zz/2.jpg"])
    for name, target in {
        "a": "lymphocytes",
        "zzz": "lymphocytes",
        "m": "../out/x",
        "n": "../out",
    }.items():
        (tmp_path / "h" / name).symlink_to(target)
    listed = os.scandir

    class Reversed(list):
        def __enter__(self) -> list:
            return self

        def __exit__(self, *fault: object) -> None:
            """Nothing to close."""

    if backwards:
        monkeypatch.setattr(
            walking.os, "scandir",
            lambda place: Reversed(sorted(listed(place), key=lambda one: one.name, reverse=True)),
        )  # fmt: skip
    found = walk(tmp_path / "h")
    assert list(found.files) == ["lymphocytes/1.jpg", "m/1.jpg", "zz/2.jpg"]
    assert [(one.path, one.detail) for one in found.left_out] == [
        ("a/", "a link to a folder that is read as 'lymphocytes'"),
        ("n/x/", "a link to a folder that is read as 'm'"),
        ("zzz/", "a link to a folder that is read as 'lymphocytes'"),
    ]


def test_what_systems_left_is_listed_and_not_entered(tmp_path: Path) -> None:
    """Neither its pictures are found nor a folder of it that nobody may list stops the walk."""
    left = ["#recycle/A/1.jpg", "A/@eaDir/1.jpg/THUMB.jpg", ".Trash-1000/x.jpg", "A/Thumbs.db"]
    fill(tmp_path, ["A/1.jpg", *left])
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / ".gone").symlink_to("/nowhere")
    found = walk(tmp_path)
    assert list(found.files) == ["A/1.jpg"]
    expected = ["#recycle/", ".Trash-1000/", ".gone", "A/@eaDir/", "A/Thumbs.db", "lost+found/"]
    assert [(one.path, one.reason) for one in found.left_out] == [(p, "hidden") for p in expected]
    assert stat.S_ISDIR((tmp_path / "lost+found").stat().st_mode)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Nothing to pack is a fault of the folder, not an empty hospital; so is nobody's file."""
    (tmp_path / "h/A").mkdir(parents=True)
    (tmp_path / "h/A/.DS_Store").write_bytes(b"x")
    with pytest.raises(DownloadError, match=r"holds no file. Put the hospital's pictures there"):
        walk(tmp_path / "h")
