"""A folder of pictures as one zip: same files, same bytes."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import DownloadError

FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: the same bytes at any time
CHUNK = 1 << 20


def pack_folder(folder: Path, target: Path) -> None:
    """Pack a folder into an uncompressed zip: same files, same bytes.

    Parameters
    ----------
    folder : pathlib.Path
        All files below it are packed, hidden ones too; links are followed.
    target : pathlib.Path
        The zip to write, outside of `folder`.

    Raises
    ------
    DownloadError
        The folder holds no file.
    """
    files = sorted((_in_zip(path.relative_to(folder)), path) for path in _walk(folder))
    if not files:
        raise DownloadError(f"{folder} holds no file. Put the hospital's pictures there.")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for name, path in files:
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.create_system = 3  # unix, on every system
            info.external_attr = 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, CHUNK)


def _in_zip(path: Path) -> str:
    return path.as_posix().encode("utf-8", "replace").decode("utf-8")


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()  # a link to a folder above would never end
    for place, names, files in os.walk(folder, followlinks=True):
        if Path(place).resolve() in seen:
            names.clear()
            continue
        seen.add(Path(place).resolve())
        for name in files:
            yield Path(place) / name
