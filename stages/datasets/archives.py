"""Members of zip, tar and npz archives as byte streams; no archive's path becomes a file path."""

import bz2
import gzip
import lzma
import os
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.core.errors import ArchiveError, ImageError
from stages.datasets import contents

ZIP_ENDINGS = (".zip",)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NPZ_ENDINGS = (".npz",)
CLOSED_ENDINGS = (".rar", ".7z")

MAX_MEMBER_BYTES = 200 * 1024 * 1024  # no single cell picture comes near; a zip bomb does
BROKEN = (  # what Python's readers raise on damaged files
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field (PKWARE)
CHUNK = 1 << 20
STORED_BLOCK = 65_535  # the largest block that deflate stores uncompressed
WAY_OUT = (
    "Delete it and run 'uv run dvc repro -f -s download@HOSPITAL', or put a whole copy into a "
    "folder and give that as SMEARFLOW_MIRROR."
)


@dataclass(frozen=True)
class Member:
    """One file inside an archive, and where its bytes lie.

    Attributes
    ----------
    path : str
        Name in the archive: forward slashes, NFC, no ``.``, ``..`` or control characters. A
        text, never used as a file path.
    size : int
        Bytes once read (an upper bound, for pictures of an array).
    source : pathlib.Path
        The file that holds the bytes.
    offset, packed_size : int
        Where in `source`, and how long.
    method : str
        ``"stored"``; ``"zip_stored"`` or ``"zip_deflated"``, behind a zip's local header;
        ``"array"``, where `offset` counts pictures.
    crc : int, optional
        CRC-32 that the archive declares.
    """

    path: str
    size: int
    source: Path
    offset: int
    packed_size: int
    method: str
    crc: int | None = None


@contextmanager
def open_members(folder: Path) -> Iterator[list[Member]]:
    """List the members of every archive in a folder, sorted by path.

    Parameters
    ----------
    folder : pathlib.Path
        ``data/raw/<hospital>``. Files in it that are no archives are members themselves.

    Yields
    ------
    list of Member
        Without directories and links. Zips inside a zip or tar are opened, one level deep, and
        stand for their members. Readable by `read_member`, in any process, inside the block.

    Raises
    ------
    ArchiveError
        An archive is broken, encrypted, or of a kind that cannot be read.

    Notes
    -----
    Compressed tars, arrays and inner zips are unpacked beside `folder`, under names of ours, for
    as long as the block lasts; what a killed run leaves there the next run removes.
    """
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is missing. Run 'uv run dvc repro', which makes it.")
    with _scratch_beside(folder) as scratch:
        members = [
            member
            for path in sorted(folder.iterdir(), key=lambda path: path.name)
            if path.is_file() and path.name != contents.FILE
            for member in _list_archive(path, scratch)
        ]
        opened = [inner for member in members for inner in _open_inner(member, scratch)]
        yield sorted(opened, key=lambda member: member.path)


def read_member(member: Member) -> bytes:
    """Return the bytes of one member.

    Raises
    ------
    ImageError
        With the reason ``oversized`` (more than `MAX_MEMBER_BYTES`), or ``unreadable`` where the
        archive's copy is damaged.
    """
    if member.size > MAX_MEMBER_BYTES:
        raise ImageError("oversized", f"{member.size} bytes; a member may have {MAX_MEMBER_BYTES}")
    if member.method == "array":
        return encode_png(_open_array(member.source)[member.offset])
    with member.source.open("rb") as stream:
        stream.seek(_start(member, stream))
        packed = stream.read(member.packed_size)
    content = packed if member.method.endswith("stored") else _inflate(packed, member.size)
    if len(content) != member.size or (
        member.crc is not None and zlib.crc32(content) != member.crc
    ):
        raise ImageError("unreadable", "damaged inside the archive: its checksum differs")
    return content


def tidy(path: str) -> str:
    """Turn a name from an archive into plain text: see `Member.path`."""
    text = path.encode("utf-8", "replace").decode("utf-8").replace("\\", "/")
    text = "".join("_" if unicodedata.category(sign) == "Cc" else sign for sign in text)
    parts = unicodedata.normalize("NFC", text).split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode pixels as PNG without compression, so that every library version gives these bytes.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (height, width) or (height, width, 3), uint8
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row: filter 0, then its bytes
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    starts = range(0, len(raw), STORED_BLOCK)
    blocks = b"".join(_stored_block(raw, start) for start in starts)
    code = b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", code), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


class _Scratch:
    """A folder of unpacked files, named by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def fill(self, chunks: Iterable[bytes]) -> Path:
        """Write chunks to a new file."""
        self._count += 1
        path = self._folder / str(self._count)
        with path.open("wb") as sink:
            sink.writelines(chunks)
        return path


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[_Scratch]:
    place = folder.with_name(folder.name + ".unpacked.tmp")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield _Scratch(place)
    finally:
        _open_array.cache_clear()  # the next run uses the same names
        shutil.rmtree(place, ignore_errors=True)


def _list_archive(path: Path, scratch: _Scratch) -> list[Member]:
    name = path.name.lower()
    if name.endswith(CLOSED_ENDINGS):
        raise ArchiveError(
            f"{path}: {path.suffix} archives cannot be read here. Unpack it, and give the folder "
            "that holds the unpacked files as SMEARFLOW_MIRROR (one folder for each hospital)."
        )
    try:
        if name.endswith(ZIP_ENDINGS):
            return _list_zip(path, str(path))
        if name.endswith(NPZ_ENDINGS):
            return _list_arrays(path, scratch)
        if name.endswith(TAR_ENDINGS):
            return _list_tar(path, scratch)
    except BROKEN as error:
        raise ArchiveError(f"{path} is broken: {error}. {WAY_OUT}") from None
    size = path.stat().st_size
    return [Member(tidy(path.name), size, path, 0, size, "stored")]


def _list_zip(path: Path, shown: str) -> list[Member]:
    with zipfile.ZipFile(path) as packed:
        infos = [info for info in packed.infolist() if not info.is_dir()]
    return [_zip_member(info, path, shown) for info in infos]


def _zip_member(info: zipfile.ZipInfo, path: Path, shown: str) -> Member:
    if info.flag_bits & 0x1:
        raise ArchiveError(
            f"{shown}: {info.filename!r} is encrypted. Unpack it with its password, and give the "
            "folder as SMEARFLOW_MIRROR."
        )
    methods = {zipfile.ZIP_STORED: "zip_stored", zipfile.ZIP_DEFLATED: "zip_deflated"}
    if info.compress_type not in methods:
        raise ArchiveError(
            f"{shown}: {info.filename!r} is compressed by method {info.compress_type}; stored and "
            "deflated are read. Unpack it, and give the folder as SMEARFLOW_MIRROR."
        )
    return Member(
        tidy(info.filename),
        info.file_size,
        path,
        info.header_offset,
        info.compress_size,
        methods[info.compress_type],
        info.CRC,
    )


def _list_tar(path: Path, scratch: _Scratch) -> list[Member]:
    openers: dict[str, Callable[[Path], Any]] = {
        "gz": gzip.open,
        "tgz": gzip.open,
        "bz2": bz2.open,
        "xz": lzma.open,
    }
    opener = openers.get(path.name.lower().rpartition(".")[2])
    if opener is not None:
        try:
            with opener(path) as stream:
                path = scratch.fill(_chunks(stream))
        except OSError as error:
            if error.errno is not None:
                raise  # the disk, not the archive
            raise tarfile.TarError(str(error)) from None
    with tarfile.open(path, "r:") as packed:
        infos = [info for info in packed if not info.isdir()]
    _require_tar_end(path)
    stored = {info.name: info for info in infos if info.isreg() and not info.issparse()}
    return [
        # A link is the file that it names; one to nowhere has no bytes, and is rejected as empty.
        Member(tidy(info.name), at.size, path, at.offset_data, at.size, "stored")
        if (at := stored.get(info.linkname if info.islnk() else info.name)) is not None
        else Member(tidy(info.name), 0, path, info.offset_data, 0, "stored")
        for info in infos
    ]


def _require_tar_end(path: Path) -> None:
    """Refuse a tar without the zeros at its end: `tarfile` takes a cut one for a shorter one."""
    with path.open("rb") as stream:
        stream.seek(-min(tarfile.BLOCKSIZE, path.stat().st_size), os.SEEK_END)
        if any(stream.read()):
            raise tarfile.TarError("it ends too early")


def _list_arrays(path: Path, scratch: _Scratch) -> list[Member]:
    """List the pictures of an npz as MedMNIST publishes them: ``<part>/<label>/<index>.png``."""
    with zipfile.ZipFile(path) as packed:
        names = sorted(packed.namelist())
        parts = [
            name.removesuffix("_images.npy")
            for name in names
            if name.endswith("_images.npy") and name.replace("_images.npy", "_labels.npy") in names
        ]
        if not parts:
            raise ArchiveError(
                f"{path} holds {names}; pictures are read from pairs <part>_images and "
                "<part>_labels. Save them as class folders, and give these as SMEARFLOW_MIRROR."
            )
        members = []
        for part in parts:
            with packed.open(f"{part}_images.npy") as stream:
                images = scratch.fill(_chunks(stream))
            with packed.open(f"{part}_labels.npy") as stream:
                labels = _open_array(scratch.fill(_chunks(stream)))
            members += _array_members(part, images, np.asarray(labels))
    return members


def _array_members(part: str, source: Path, labels: np.ndarray) -> list[Member]:
    images = _open_array(source)
    usable = images.dtype == np.uint8 and (images.ndim == 3 or images.shape[3:] == (3,))
    if not usable or len(images) != len(labels):
        raise ArchiveError(
            f"{part}_images is {images.dtype} {images.shape} with {len(labels)} labels; it must "
            "be uint8 (n, height, width) or (n, height, width, 3), one label each."
        )
    names = ["-".join(str(int(value)) for value in np.ravel(label)) for label in labels]
    size = images[0].nbytes if len(images) else 0
    return [
        Member(f"{tidy(part)}/{name}/{index:06d}.png", size, source, index, size, "array")
        for index, name in enumerate(names)
    ]


@lru_cache(maxsize=8)
def _open_array(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _open_inner(member: Member, scratch: _Scratch) -> list[Member]:
    """Return the members of an inner zip, or the member itself where it is none.

    An inner zip whose files do not already lie in a folder of its name gets that folder, so
    that two inner zips never mix.
    """
    name = member.path.lower()
    if name.endswith((*CLOSED_ENDINGS, *TAR_ENDINGS, *NPZ_ENDINGS)):
        raise ArchiveError(
            f"{member.source.name} holds the archive {member.path!r}, and of inner archives only "
            "zip is read. Unpack it, and give the folder as SMEARFLOW_MIRROR."
        )
    if not name.endswith(ZIP_ENDINGS) or member.method == "array":
        return [member]
    shown = f"{member.source.name}, inner archive {member.path!r}"
    try:
        with member.source.open("rb") as stream:
            stream.seek(_start(member, stream))
            inner = scratch.fill(_unpack(stream, member))
        with inner.open("rb") as stream:
            if stream.read(2) != b"PK":  # not a zip but for its name
                return [member]
        found = _list_zip(inner, shown)
    except (*BROKEN, ImageError) as error:
        raise ArchiveError(f"{shown} is broken: {error}. {WAY_OUT}") from None
    parent, _, name = member.path.rpartition("/")
    own_folder = name[: -len(".zip")] + "/"
    top = [parent] if parent else []
    if not all(item.path.startswith((own_folder, "__MACOSX/")) for item in found):
        top.append(own_folder.rstrip("/"))
    return [replace(item, path="/".join([*top, item.path])) for item in found]


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _unpack(stream: IO[bytes], member: Member) -> Iterator[bytes]:
    """Yield the unpacked bytes of one member, in bounded memory."""
    left = member.packed_size
    inflater = zlib.decompressobj(-15) if member.method == "zip_deflated" else None
    while left:
        packed = stream.read(min(CHUNK, left))
        if not packed:
            raise zipfile.BadZipFile("it ends too early")
        left -= len(packed)
        while packed:
            yield inflater.decompress(packed, CHUNK) if inflater else packed
            packed = inflater.unconsumed_tail if inflater else b""
    if inflater:
        yield inflater.flush()


def _start(member: Member, stream: IO[bytes]) -> int:
    """Return where the member's bytes begin: in a zip, behind its local header."""
    if not member.method.startswith("zip_"):
        return member.offset
    stream.seek(member.offset)
    header = stream.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise ImageError("unreadable", "damaged inside the archive: its header is lost")
    _, name_length, extra_length = LOCAL_HEADER.unpack(header)
    return member.offset + LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        # One byte more than declared shows a size that lies, without unpacking all of a bomb.
        return zlib.decompressobj(-15).decompress(packed, size + 1)
    except zlib.error as error:
        raise ImageError("unreadable", f"damaged inside the archive: {error}") from None


def _stored_block(raw: bytes, start: int) -> bytes:
    block = raw[start : start + STORED_BLOCK]
    is_last = start + STORED_BLOCK >= len(raw)
    return struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
