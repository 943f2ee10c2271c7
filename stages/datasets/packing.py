"""A folder of pictures as one zip: same files, same bytes."""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: the same bytes at any time
CHUNK = 1 << 20


def pack(files: Mapping[str, Path], target: Path) -> None:
    """Pack files into an uncompressed zip: same files, same bytes.

    Parameters
    ----------
    files : mapping of str to pathlib.Path
        As `walking.walk` found them, by their names in the zip.
    target : pathlib.Path
        The zip to write.
    """
    ordered = sorted((_in_zip(name), path) for name, path in files.items())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for name, path in ordered:
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.create_system = 3  # unix, on every system
            info.external_attr = 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, CHUNK)


def _in_zip(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
