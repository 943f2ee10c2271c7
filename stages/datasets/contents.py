"""What ``data/raw/<hospital>`` holds: its files with checksums, and how their paths are read.

``contents.json`` lies beside the archives, so that what comes after needs no data/hospitals.yaml:
a corrected citation there changes nothing here.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from stages.core.errors import ArchiveError, DownloadError, name_some
from stages.core.settings import Group
from stages.core.store import to_json
from stages.datasets.hospitals import Hospital, Layout

FILE = "contents.json"
LISTS = (FILE, "about.json")  # the second one is of versions before 0.2


class Archived(Group):
    """One file as it was written."""

    name: str
    bytes: int
    sha256: str


class LeftOut(Group):
    """One entry of a person's folder that was not taken, and why.

    Attributes
    ----------
    path : str
        Below the folder, with forward slashes; a folder's ends with one.
    reason : str
        ``"hidden"`` or ``"no_file"``, as in the table ``rejected``.
    detail : str
        For a person.
    """

    path: str
    reason: str
    detail: str


class Contents(Group):
    """What download wrote for one hospital.

    Attributes
    ----------
    archives : list of Archived
        Sorted by name.
    layout : Layout
        The rules by which paths and tables are read.
    simulated : bool
        Whether the pictures are drawn by us.
    same_as : str, optional
        The hospital that this one is a copy or a part of; `Hospital.same_as`.
    left_out : list of LeftOut
        Sorted by path.
    """

    archives: list[Archived]
    layout: Layout
    simulated: bool
    same_as: str | None = None
    left_out: list[LeftOut] = []


def write(block: Hospital, folder: Path, left_out: Sequence[LeftOut] = ()) -> Contents:
    """List the files of a folder, and what was not taken; write ``contents.json`` beside them."""
    archives = [
        Archived(name=path.name, bytes=path.stat().st_size, sha256=checksum(path, "sha256"))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name != FILE  # a mirror may be another project's data/raw
    ]
    contents = Contents(
        archives=archives,
        layout=block.layout,
        simulated=block.simulated is not None,
        same_as=block.same_as,
        left_out=list(left_out),
    )
    (folder / FILE).write_text(to_json(contents.model_dump()), encoding="utf-8")
    return contents


def read(folder: Path) -> Contents:
    """Read what `write` wrote.

    Raises
    ------
    ArchiveError
        It is not there, or not ours.
    """
    try:
        return Contents.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArchiveError(
            f"{folder / FILE} is missing. Run 'uv run dvc repro', which makes it."
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise ArchiveError(
            f"{folder / FILE} is not what download writes. Delete it and run 'uv run dvc repro'."
        ) from None


def require_own(folder: Path) -> None:
    """Check that a folder holds nothing but what download wrote there.

    Raises
    ------
    DownloadError
        Names what else it holds. Nothing was touched.

    Notes
    -----
    The folder is replaced as a whole. Whoever puts pictures of their own there would lose them.
    """
    if not folder.is_dir():
        if folder.exists():
            raise DownloadError(f"{folder} is a file of somebody's. Move it out of data/.")
        return
    written = _read_checksums(folder)
    strange = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in LISTS
        and not (path.is_file() and written.get(path.name) == checksum(path, "sha256"))
    )
    if strange:
        raise DownloadError(
            f"{folder} holds {len(strange)} files or folders that download did not write so "
            f"({name_some(strange)}). Nothing was changed. Move them to a folder outside data/, "
            "and name that as folder: in data/hospitals.yaml, or as SMEARFLOW_MIRROR."
        )


def _read_checksums(folder: Path) -> dict[str, str]:
    """Return sha256 by name of what this version or an older one wrote; nothing where unknown."""
    for name in LISTS:
        try:
            listed = json.loads((folder / name).read_text(encoding="utf-8"))["archives"]
            return {one["name"]: one["sha256"] for one in listed}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def checksum(path: Path, method: str) -> str:
    """Return the checksum of a file in hexadecimal; `method` is of `hashlib`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, method).hexdigest()
