"""RAR and 7z, read by libraries of the extra ``archives``: their formats are not of Python."""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from stages.core.errors import ArchiveError

# A piece: name in the archive, where its bytes begin in the file of all pieces, how many.
Piece = tuple[str, int, int]

END_OF_RAR = 10  # what UnRAR answers behind the last member; anything else is a fault
RAR_DIRECTORY, RAR_SPLIT = 0x20, 0x03
# How RAR 5 and RAR 3 end. UnRAR itself takes the end of a cut file for the end of the archive.
RAR_MARKS = (b"\x1d\x77\x56\x51\x03\x05\x04\0", b"\xc4\x3d\x7b\0\x40\x07\0")
TAIL = 4096  # bytes at the end that may follow the mark
RAR_FAULTS = {12: "its data are damaged", 13: "it is damaged", 15: "a piece of it is missing"}
MISSING = (
    "{shown} is a {kind} archive, which is read by an extra that is not installed. Run "
    "'uv run --extra archives dvc repro', or unpack it and give the folder as SMEARFLOW_MIRROR."
)
ENCRYPTED = (
    "{shown} is encrypted. Unpack it with its password, and give the folder as SMEARFLOW_MIRROR."
)
VOLUMES = (
    "{shown} is one of several pieces of an archive. Unpack them all together, and give the folder "
    "as SMEARFLOW_MIRROR."
)


def unpack_rar(path: Path, shown: str, sink: IO[bytes]) -> list[Piece]:
    """Unpack a RAR archive, one member behind the other, into one file.

    Parameters
    ----------
    path : pathlib.Path
    shown : str
        The archive's name for a person.
    sink : binary file
        Open for writing, empty.

    Returns
    -------
    list of (str, int, int)
        Name, start and length of each member in `sink`, without folders.

    Raises
    ------
    ArchiveError
        The extra is missing, or the archive is encrypted or a piece of a larger one.
    ValueError
        It is damaged.

    Notes
    -----
    The wrapper's own loop over members takes any fault for the end of the archive, so that a cut
    one would lose its last pictures in silence; the codes are looked at here.
    """
    unrar = _load("unrar.cffi.unrarlib", "RAR", shown)
    pieces: list[Piece] = []
    try:
        with unrar.RarArchive.open_for_processing(str(path)) as archive:
            while True:
                data = unrar.RARHeaderDataEx()
                code = unrar.RARReadHeaderEx(archive.handle, data)
                if code == END_OF_RAR:
                    break
                if code:
                    raise unrar.BadRarFile(code, "")
                header = unrar.RarHeader(archive, data)
                if header.Flags & RAR_SPLIT:
                    raise ArchiveError(VOLUMES.format(shown=shown))
                start = sink.tell()
                _test(header, sink)
                if not header.Flags & RAR_DIRECTORY:
                    pieces.append((header.FileNameW, start, sink.tell() - start))
    except unrar.BadRarFile as error:
        if error.code in (unrar.FLAGS_MISSING_PASSWORD, unrar.FLAGS_BAD_PASSWORD):
            raise ArchiveError(ENCRYPTED.format(shown=shown)) from None
        raise ValueError(RAR_FAULTS.get(error.code, f"UnRAR says {error.code}")) from None
    if not has_end_of_rar(path):
        raise ValueError("it has no end mark: it was cut, or written before RAR 3")
    return pieces


def has_end_of_rar(path: Path) -> bool:
    """Tell whether a RAR archive has its end mark, which a cut one lacks."""
    with path.open("rb") as stream:
        stream.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
        tail = stream.read()
    return any(mark in tail for mark in RAR_MARKS)


def unpack_7z(path: Path, shown: str, sink: IO[bytes]) -> list[Piece]:
    """Unpack a 7z archive; as `unpack_rar`."""
    py7zr = _load("py7zr", "7z", shown)
    pieces: list[Piece] = []
    try:
        # An open file, not a path: of a path, several parts would be unpacked at one time.
        with path.open("rb") as stream, py7zr.SevenZipFile(stream) as archive:
            if archive.needs_password():
                raise ArchiveError(ENCRYPTED.format(shown=shown))
            archive.extractall(factory=_factory(sink, pieces))
    except py7zr.PasswordRequired:
        raise ArchiveError(ENCRYPTED.format(shown=shown)) from None
    except (ArchiveError, OSError, MemoryError):
        raise
    except Exception as error:  # py7zr's decoders raise many kinds, by method and fault
        raise ValueError(str(error) or type(error).__name__) from None
    return pieces


def _test(header: Any, sink: IO[bytes]) -> None:
    """Let UnRAR write a member into `sink`; a full disk must not be lost in its callback."""
    faults: list[OSError] = []

    def write(chunk: bytes) -> None:
        try:
            sink.write(chunk)
        except OSError as error:
            faults.append(error)

    header.test(write)
    if faults:
        raise faults[0]


def _factory(sink: IO[bytes], pieces: list[Piece]) -> Any:
    io = importlib.import_module("py7zr.io")

    class Writer(io.Py7zIO):  # type: ignore[misc, name-defined]
        """Writes one member behind the last one."""

        def __init__(self, name: str) -> None:
            self._place = len(pieces)
            pieces.append((name, sink.tell(), 0))

        def write(self, content: bytes) -> int:
            name, start, size = pieces[self._place]
            if start + size != sink.tell():  # empty until now: others were written since
                start = sink.tell()
            sink.write(content)
            pieces[self._place] = (name, start, size + len(content))
            return len(content)

        def read(self, _: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, _: int = 0) -> int:
            return offset

        def flush(self) -> None:
            """Nothing waits."""

        def size(self) -> int:
            return pieces[self._place][2]

    class Factory(io.WriterFactory):  # type: ignore[misc, name-defined]
        """Makes a `Writer` for each member."""

        def create(self, filename: str) -> Any:
            return Writer(filename)

    return Factory()


def _load(module: str, kind: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ArchiveError(MISSING.format(shown=shown, kind=kind)) from None
