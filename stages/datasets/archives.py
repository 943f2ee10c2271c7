"""Members of zip, tar and npz archives as byte streams; no archive's path becomes a file path."""

import bz2
import errno
import gzip
import lzma
import os
import posixpath
import re
import shutil
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.core import formats
from stages.core.errors import ArchiveError, ImageError
from stages.datasets import contents, unpacking
from stages.datasets.leftovers import is_leftover

NAMED_ARCHIVE = (  # what is called so and is none has lost its content
    ".zip", ".npz", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst",
    ".tzst", ".lz", ".lz4",
)  # fmt: skip
PACKED_ENDINGS = {".tgz": ".tar", ".tbz2": ".tar", ".tbz": ".tar", ".txz": ".tar"} | dict.fromkeys(
    (".gz", ".bz2", ".xz"), ""
)
PIECE = re.compile(  # of an archive that was cut: cells.zip.001, cells.z01, cells.7z.aa
    r"\.(?:zip|rar|7z|tar|t?gz|t?bz2|t?xz|zst)(?:[._-]|[._-]?part)(?:\d{1,4}|a[a-z])$|\.[zr]\d\d$"
)
DOCUMENTS = {"[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"}  # zips, but not of pictures
DOCUMENT = formats.Format("a document of a program", "other")
INNER = ", inner archive "
MAX_DEPTH = 8  # archives in archives: a zip that holds itself would never end
MAX_LINKS = 8  # one behind the other; a circle ends here
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
    OverflowError,
)
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field (PKWARE)
CHUNK = 1 << 20
STORED_BLOCK = 65_535  # the largest block that deflate stores uncompressed
WAY_OUT = (
    "Delete it and run 'uv run dvc repro -f -s download@HOSPITAL', or put a whole copy into a "
    "folder and give that as SMEARFLOW_MIRROR."
)
UNPACK = (
    "Unpack it, and name the unpacked folder as folder: in data/hospitals.yaml, or as "
    "SMEARFLOW_MIRROR (one folder for each hospital)."
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
        Without directories and links. Archives inside an archive are opened and stand for their
        members. Readable by `read_member`, in any process, inside the block.

    Raises
    ------
    ArchiveError
        An archive is broken, encrypted, a piece of a larger one, or of a kind that is not read.

    Notes
    -----
    The content tells what an archive is, never the name. Members that are called pictures are not
    looked at here, because there may be a million; `recognise` looks when they are read.

    Compressed files, arrays and inner archives are unpacked beside `folder`, under names of ours,
    for as long as the block lasts; what a killed run leaves there the next run removes.
    """
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is missing. Run 'uv run dvc repro', which makes it.")
    with _scratch_beside(folder) as scratch:
        members: list[Member] = []
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            if path.is_file() and path.name != contents.FILE:
                members += _open_file(path, path.name, scratch)
        yield sorted(members, key=lambda member: member.path)


@contextmanager
def file_opener() -> Iterator[Callable[[Path, str], list[Member]]]:
    """Give a function that lists the members of one file of anybody's, as `open_members` does.

    Yields
    ------
    callable
        Takes a file and the name under which it is to be known. What it unpacks lies in the folder
        that ``TMPDIR`` names, for as long as the block lasts.
    """
    with tempfile.TemporaryDirectory(prefix="smearflow-") as place:
        scratch = _Scratch(Path(place))
        yield lambda path, name: _open_file(path, name, scratch)


def _open_file(path: Path, name: str, scratch: "_Scratch") -> list[Member]:
    size = path.stat().st_size
    return _open(Member(tidy(name), size, path, 0, size, "stored"), str(path), scratch)


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
    # A damaged list of members may say that a small picture is packed in the rest of the archive.
    packed = _read_packed(member, min(member.packed_size, 2 * member.size + CHUNK))
    content = packed if member.method.endswith("stored") else _inflate(packed, member.size)
    if len(content) != member.size or (
        member.crc is not None and zlib.crc32(content) != member.crc
    ):
        raise ImageError("unreadable", "damaged inside the archive: its checksum differs")
    return content


def read_head(member: Member) -> bytes:
    """Return the first `formats.HEAD` bytes of a member, or none where they cannot be read."""
    if member.method == "array":
        return encode_png(_open_array(member.source)[member.offset])[: formats.HEAD]
    try:
        packed = _read_packed(member, min(member.packed_size, 4 * formats.HEAD))
        if member.method.endswith("stored"):
            return packed[: formats.HEAD]
        return zlib.decompressobj(-15).decompress(packed, formats.HEAD)
    except (ImageError, zlib.error):
        return b""


def recognise(member: Member) -> formats.Format | None:
    """Name the format of a listed member by its content.

    Raises
    ------
    ArchiveError
        It is called a picture and is an archive: its pictures would be lost as one file that is
        none. Under other names `open_members` has opened or refused it, but for documents.
    """
    found = formats.recognise(read_head(member), member.path)
    if found is None or found.kind != "archive":
        return found
    if member.path.lower().endswith(formats.PICTURE_ENDINGS):
        raise ArchiveError(
            f"{member.path!r} is a {found.name} archive, whatever its name says. {UNPACK}"
        )
    return DOCUMENT


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

    def create(self) -> IO[bytes]:
        """Open a new file for writing."""
        self._count += 1
        return (self._folder / str(self._count)).open("wb")

    def fill(self, chunks: Iterable[bytes]) -> Path:
        """Write chunks to a new file."""
        with self.create() as sink:
            sink.writelines(chunks)
        return Path(sink.name)


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


@dataclass(frozen=True)
class _Archive:
    """An archive as a file of its own: its path and its name in the archive, and for a person."""

    at: Path
    name: str
    shown: str
    scratch: _Scratch


def _open(
    member: Member, shown: str, scratch: _Scratch, depth: int = 0, is_inner: bool = False
) -> list[Member]:
    """Return the members of an archive, or the member itself where it is none.

    An inner archive whose files do not already lie in a folder of its name gets that folder, so
    that two inner archives never mix.
    """
    kind = _kind(member, shown)
    if kind is None:
        return [member]
    if kind not in READERS or depth > MAX_DEPTH:
        what = f"a {kind} archive, which is not read"
        deep = f"an archive within {MAX_DEPTH} others, and no deeper one is read"
        raise ArchiveError(f"{shown} is {deep if kind in READERS else what}. {UNPACK}")
    try:
        found = READERS[kind](_Archive(_whole(member, scratch), member.path, shown, scratch))
    except (*BROKEN, ImageError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk, not the archive
        what = "" if kind in member.path else f"by its content, it is a {kind} archive; "
        other = f" Or, if another program opens it: {UNPACK}" if kind in ("RAR", "7z") else ""
        raise ArchiveError(f"{shown} is broken: {what}{error}. {WAY_OUT}{other}") from None
    if found is None:
        return [member]
    if kind in OPENERS:  # one packed file, which may be a tar: still the same archive
        return _open(found[0], shown, scratch, depth + 1, is_inner)
    top = _own_folder(member.path, found) if is_inner else ""
    outer = shown.partition(INNER)[0]
    opened = [replace(one, path=top + one.path) for one in found]
    return [
        inner
        for one in opened
        for inner in _open(one, f"{outer}{INNER}{one.path!r}", scratch, depth + 1, True)
    ]


def _kind(member: Member, shown: str) -> str | None:
    """Name the kind of an archive by its content; None where the member is none."""
    name = member.path.lower()
    if is_leftover(name) or name.endswith(formats.PICTURE_ENDINGS):
        return None
    head = read_head(member)
    found = formats.recognise(head, name)
    if found is not None and found.kind in ("picture", "foreign"):
        return None
    is_archive = found is not None and found.kind == "archive"
    if PIECE.search(name) or (is_archive and re.search(r"\.\d{3}$", name)):
        raise ArchiveError(
            f"{shown} is a piece of an archive that was cut. Unpack all pieces together with the "
            "program that made them, and give the folder as SMEARFLOW_MIRROR."
        )
    if found is not None and found.kind == "archive":
        return found.name
    if name.endswith((".zip", ".npz")):
        return "zip"  # a program may stand before it
    if name.endswith(NAMED_ARCHIVE):
        what = formats.describe(head)
        raise ArchiveError(f"{shown} is broken: it holds {what}, and no archive. {WAY_OUT}")
    return None


def _whole(member: Member, scratch: _Scratch) -> Path:
    """Return a file that holds the member and nothing else."""
    if member.method == "stored" and member.size == member.source.stat().st_size:
        return member.source
    with member.source.open("rb") as stream:
        stream.seek(_start(member, stream))
        return scratch.fill(_unpack(stream, member))


def _own_folder(path: str, found: Sequence[Member]) -> str:
    """Return the folders, with a slash, that the members of an inner archive are put into."""
    parent, _, name = path.rpartition("/")
    own = re.sub(r"(?i)(?:\.tar)?\.\w{2,4}$", "", name) or name
    top = [parent] if parent else []
    if not all(one.path.startswith(own + "/") or is_leftover(one.path) for one in found):
        top.append(own)
    return "".join(f"{part}/" for part in top)


def _list_zip(archive: _Archive) -> list[Member] | None:
    _require_one_volume(archive)
    with zipfile.ZipFile(archive.at) as packed:
        infos = [info for info in packed.infolist() if not _is_folder(info)]
    if infos and all(info.filename.endswith(".npy") for info in infos):
        return _list_arrays(archive.at, archive.scratch)
    is_called_zip = archive.name.lower().endswith(".zip")
    if not is_called_zip and any(info.filename in DOCUMENTS for info in infos):
        return None
    return [_zip_member(info, archive.at, archive.shown) for info in infos]


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.is_dir() or (info.filename.endswith("\\") and not info.file_size)  # PowerShell 5


def _require_one_volume(archive: _Archive) -> None:
    """Refuse the last piece of a zip in several, which Python's reader takes for a broken one."""
    with archive.at.open("rb") as stream:
        stream.seek(-min(1 << 16, archive.at.stat().st_size), os.SEEK_END)
        _, mark, end = stream.read().rpartition(b"PK\x05\x06")
    number = int.from_bytes(end[:2], "little")
    if mark and number not in (0, 0xFFFF) and len(end) >= 18:
        raise ArchiveError(
            f"{archive.shown} is the last of {number + 1} pieces of a zip. Unpack all pieces "
            "together with the program that made them, and give the folder as SMEARFLOW_MIRROR."
        )


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


def _list_packed(archive: _Archive, opener: Callable[[Path], IO[bytes]]) -> list[Member]:
    """Unpack what a stream compressor packed: one file, under the name without its ending."""
    with opener(archive.at) as stream:
        whole = archive.scratch.fill(_chunks(stream))
    name = archive.name
    for ending, instead in PACKED_ENDINGS.items():
        if name.lower().endswith(ending):
            name = name[: -len(ending)] + instead
            break
    size = whole.stat().st_size
    return [Member(name, size, whole, 0, size, "stored")]


def _list_unpacked(
    archive: _Archive, unpack: Callable[[Path, str, IO[bytes]], list[unpacking.Piece]]
) -> list[Member]:
    with archive.scratch.create() as sink:
        pieces = unpack(archive.at, archive.shown, sink)
        return [
            Member(tidy(name), size, Path(sink.name), start, size, "stored")
            for name, start, size in pieces
        ]


def _list_tar(archive: _Archive) -> list[Member]:
    path = archive.at
    with tarfile.open(path, "r:") as packed:
        infos = [info for info in packed if not info.isdir()]
        end = packed.offset
    _require_tar_end(path, end)
    # A later entry of a name replaces an earlier one, as where the tar is unpacked.
    named = {posixpath.normpath(info.name): info for info in infos}
    members = []
    for info in infos:
        at = _follow(info, named)
        offset, size = (info.offset_data, 0) if at is None else (at.offset_data, at.size)
        members.append(Member(tidy(info.name), size, path, offset, size, "stored"))
    return members


def _follow(info: tarfile.TarInfo, named: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """Return the file that an entry of a tar is or links to.

    None: a link to nothing or to a folder, a pipe, a device. Without bytes, it is rejected as
    empty.
    """
    at: tarfile.TarInfo | None = info
    for _ in range(MAX_LINKS):
        if at is None or not (at.islnk() or at.issym()):
            break
        beside = posixpath.dirname(at.name) if at.issym() else ""  # a hard link's is a whole path
        at = named.get(posixpath.normpath(posixpath.join(beside, at.linkname)))
    return at if at is not None and at.isreg() and not at.issparse() else None


def _require_tar_end(path: Path, end: int) -> None:
    """Refuse a tar that is not zeros where `tarfile` stopped.

    It takes a cut tar for a shorter one, and a damaged header for the end.
    """
    with path.open("rb") as stream:
        stream.seek(end)
        block = stream.read(tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.TarError("it ends too early")
    if any(block):
        raise tarfile.TarError(f"the header at byte {end} is damaged")


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


OPENERS: dict[str, Callable[[Path], Any]] = {
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
}
READERS: dict[str, Callable[[_Archive], list[Member] | None]] = {
    "zip": _list_zip,
    "tar": _list_tar,
    "RAR": partial(_list_unpacked, unpack=unpacking.unpack_rar),
    "7z": partial(_list_unpacked, unpack=unpacking.unpack_7z),
    **{kind: partial(_list_packed, opener=opener) for kind, opener in OPENERS.items()},
}


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


def _read_packed(member: Member, size: int) -> bytes:
    with member.source.open("rb") as stream:
        stream.seek(_start(member, stream))
        return stream.read(size)


def _start(member: Member, stream: IO[bytes]) -> int:
    """Return where the member's bytes begin: in a zip, behind its local header."""
    length = os.fstat(stream.fileno()).st_size
    if not 0 <= member.offset <= length or min(member.size, member.packed_size) < 0:
        raise ImageError("unreadable", "damaged inside the archive: its place is lost")
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
