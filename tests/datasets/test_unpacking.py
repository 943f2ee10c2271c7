"""RAR and 7z: read by the extra, whatever they are called; what is missing or broken is said."""

import io
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest

from stages.core.errors import ArchiveError
from tests.datasets.test_archives import FILES, read_all, zipped


def sevenzipped(files: dict[str, bytes], password: str | None = None) -> bytes:
    """Pack a 7z in memory."""
    sink = io.BytesIO()
    with py7zr.SevenZipFile(sink, "w", password=password) as packed:
        for name, content in files.items():
            packed.writestr(content, name)
    return sink.getvalue()


def rarred(files: dict[str, bytes], flags: int = 0) -> bytes:
    """Write a RAR 5 of stored members, from its public description; `flags` 8, 16: a volume."""

    def number(value: int) -> bytes:
        digits = bytearray()
        while value > 127:
            digits.append(value & 127 | 128)
            value >>= 7
        return bytes([*digits, value])

    def block(body: bytes, data: bytes = b"") -> bytes:
        header = number(len(body)) + body
        return zlib.crc32(header).to_bytes(4, "little") + header + data

    whole = b"Rar!\x1a\x07\x01\0" + block(number(1) + number(0) + number(0))
    for name, content in files.items():
        path = name.encode()
        body = number(2) + number(2 | flags) + number(len(content))
        body += number(4) + number(len(content)) + number(0o644)
        body += zlib.crc32(content).to_bytes(4, "little") + number(0) + number(1)
        whole += block(body + number(len(path)) + path, content)
    return whole + block(number(5) + number(4) + number(0))


@pytest.mark.parametrize("name", ["h.rar", "h.7z", "h.zip", "in.bin"])
@pytest.mark.parametrize("pack", [rarred, sevenzipped])
def test_rar_and_7z_are_read_by_the_extra(pack: Callable, name: str, tmp_path: Path) -> None:
    """Bytes and names come out as they went in, whatever the archive is called."""
    (tmp_path / name).write_bytes(pack(FILES))
    assert read_all(tmp_path) == FILES


@pytest.mark.parametrize(("pack", "module"), [(rarred, "unrar"), (sevenzipped, "py7zr")])
def test_without_the_extra_one_line_says_so(
    pack: Callable, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And names both ways out, for an inner archive too."""
    for name in [known for known in sys.modules if known.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "h.zip").write_bytes(zipped({"A/cells": pack(FILES)}))
    told = r"h.zip, inner archive 'A/cells' is a (RAR|7z) archive, .*--extra archives .*MIRROR"
    with pytest.raises(ArchiveError, match=told):
        read_all(tmp_path)


@pytest.mark.parametrize("pack", [rarred, sevenzipped])
def test_a_cut_rar_or_7z_loses_no_picture_in_silence(pack: Callable, tmp_path: Path) -> None:
    """UnRAR takes the end of a cut file for the end of the archive; we do not."""
    content = pack(FILES)
    for length in range(12, len(content), 40):
        (tmp_path / "h.bin").write_bytes(content[:length])
        with pytest.raises(ArchiveError, match=r"h.bin is broken: by its content, it is a"):
            read_all(tmp_path)
    (tmp_path / "h.bin").write_bytes(content.replace(b"one" * 9, b"two" * 9, 1))
    if pack is rarred:
        with pytest.raises(
            ArchiveError,
            match=r"RAR archive; its data are damaged.* another program opens it: Unpack it, and",
        ):
            read_all(tmp_path)


def test_encrypted_7z_and_volumes_of_rar_have_a_way_out(tmp_path: Path) -> None:
    """They are told apart from broken ones."""
    (tmp_path / "h.7z").write_bytes(sevenzipped(FILES, "secret"))
    with pytest.raises(ArchiveError, match=r"h.7z is encrypted. Unpack it with its password"):
        read_all(tmp_path)
    (tmp_path / "h.7z").unlink()
    (tmp_path / "h.part2.rar").write_bytes(rarred(FILES, flags=8))
    with pytest.raises(ArchiveError, match=r"one of several pieces .* Unpack them all together"):
        read_all(tmp_path)
