"""Packing: a folder becomes one zip of the same bytes, whoever packs it and when."""

import os
import zipfile
from pathlib import Path

import pytest

from stages.core.errors import DownloadError
from stages.datasets.packing import pack_folder


def fill(folder: Path, names: list[str]) -> None:
    """Write small files in the given order."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 3)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of writing nor times nor rights of the files matter."""
    names = ["B/2.jpg", "A/1.jpg", ".hidden/Thumbs.db", "t.csv"]
    fill(tmp_path / "one", names)
    fill(tmp_path / "other", names[::-1])
    os.utime(tmp_path / "other/A/1.jpg", (1, 1))
    (tmp_path / "other/t.csv").chmod(0o600)
    pack_folder(tmp_path / "one", tmp_path / "one.zip")
    pack_folder(tmp_path / "other", tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert packed.namelist() == sorted(names)
        assert all(packed.read(name) == name.encode() * 3 for name in names)
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_links_are_followed_once(tmp_path: Path) -> None:
    """Linked files and folders are packed; a link to a folder above does not go round for ever."""
    fill(tmp_path / "elsewhere", ["1.jpg"])
    fill(tmp_path / "h", ["A/2.jpg"])
    (tmp_path / "h/B").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "h/A/up").symlink_to(tmp_path / "h")
    (tmp_path / "h/A/3.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    pack_folder(tmp_path / "h", tmp_path / "h.zip")
    with zipfile.ZipFile(tmp_path / "h.zip") as packed:
        assert packed.namelist() == ["A/2.jpg", "A/3.jpg", "B/1.jpg"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Nothing to pack is a fault of the folder, not an empty hospital."""
    (tmp_path / "h/A").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"holds no file. Put the hospital's pictures there"):
        pack_folder(tmp_path / "h", tmp_path / "h.zip")
