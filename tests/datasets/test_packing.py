"""Packing: files become one zip of the same bytes, whoever packs them and when."""

import os
import zipfile
from pathlib import Path

from stages.datasets.packing import pack
from stages.datasets.walking import walk


def fill(folder: Path, names: list[str]) -> None:
    """Write small files in the given order."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 3)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of writing nor times nor rights of the files matter."""
    names = ["B/2.jpg", "A/1.jpg", "t.csv"]
    fill(tmp_path / "one", names)
    fill(tmp_path / "other", names[::-1])
    os.utime(tmp_path / "other/A/1.jpg", (1, 1))
    (tmp_path / "other/t.csv").chmod(0o600)
    pack(walk(tmp_path / "one").files, tmp_path / "one.zip")
    pack(walk(tmp_path / "other").files, tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert packed.namelist() == sorted(names)
        assert all(packed.read(name) == name.encode() * 3 for name in names)
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
