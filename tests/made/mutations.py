"""Damaged files of every kind, drawn by a seed: headers, lengths, truncations, tag soup."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping

import numpy as np

WILD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)  # where readers overflow
HEADER = 512  # bytes at both ends of a file that say how the rest is read


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of seven ways, one to three times."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        damaged = WAYS[int(rng.integers(len(WAYS)))](damaged, rng)
    return bytes(damaged)


def _place(content: bytearray, rng: np.random.Generator, width: int = 1) -> int:
    """Pick a place, two times of three where a file describes itself."""
    last = max(len(content) - width, 0)
    near = int(rng.integers(min(HEADER, last) + 1))
    return (near, last - near, int(rng.integers(last + 1)))[int(rng.integers(3))]


def _flip(content: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(int(rng.integers(1, 9)) if content else 0):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return content


def _overwrite_number(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Put an extreme length, offset or count where two or four bytes may hold one."""
    width = int(rng.choice([2, 4]))
    number = WILD[int(rng.integers(len(WILD)))] & (256**width - 1)
    at = _place(content, rng, width)
    content[at : at + width] = number.to_bytes(width, "big" if rng.integers(2) else "little")
    return content


def _cut(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content[: int(rng.integers(len(content) + 1))]


def _zero(content: bytearray, rng: np.random.Generator) -> bytearray:
    at, n = _place(content, rng), int(rng.integers(1, 4096))
    content[at : at + n] = bytes(len(content[at : at + n]))
    return content


def _lose(content: bytearray, rng: np.random.Generator) -> bytearray:
    at = _place(content, rng)
    del content[at : at + int(rng.integers(1, 4096))]
    return content


def _repeat(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Put a piece of the file elsewhere once more: tags and chunks in the wrong order."""
    start, n = _place(content, rng), int(rng.integers(1, 256))
    at = _place(content, rng)
    content[at:at] = content[start : start + n]
    return content


def _soup(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Mix the entries of twelve bytes, as a TIFF's tags are, near the start or the end."""
    at = _place(content, rng)
    words = np.frombuffer(bytes(content[at : at + 120]), np.uint8)
    words = words[: len(words) // 12 * 12].reshape(-1, 12)
    content[at : at + words.size] = rng.permutation(words).tobytes()
    return content


WAYS: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    _flip, _overwrite_number, _cut, _zero, _lose, _repeat, _soup,
)  # fmt: skip


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Pack a zip in memory."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return sink.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    """Pack a tar in memory."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return sink.getvalue()


PACKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda files: gzip.compress(tarred(files), 1),
    "tar.bz2": lambda files: bz2.compress(tarred(files), 1),
    "tar.xz": lambda files: lzma.compress(tarred(files), preset=0),
}
