"""Pictures that a person asks about: found in files, folders and archives, and made ready."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArchiveError, DownloadError, ImageError
from stages.core.params import FilterParams, InputsParams
from stages.datasets import archives, filtering, walking
from stages.datasets.archives import Member
from stages.datasets.leftovers import is_leftover
from stages.images import cell_masks, contact_sheets, decoding, lost_parts
from stages.inputs import preparation
from stages.models import classifiers
from stages.models.recipes import ClassifierRecipe, Single

Pixels = NDArray[np.uint8]

NO_CELL, AT_BORDER, BROKEN = "no_cell", "at_border", "broken"


@dataclass(frozen=True)
class Asked:
    r"""One file that is asked about.

    Attributes
    ----------
    name : str
        As the person named it, with what lies below the folder or archive; signs that would break
        a line, or that are no text, as ``\n`` or ``\udcff``.
    member : Member, optional
        Where its bytes lie.
    problem : str, optional
        Why there is none.
    """

    name: str
    member: Member | None = None
    problem: str | None = None

    @property
    def folder(self) -> str:
        """The folder or archive that it lies in, for counting."""
        return self.name.rpartition("/")[0] or "."


@dataclass(frozen=True)
class Rule:
    """How pictures are made ready for a model.

    Attributes
    ----------
    inputs, filter : InputsParams, FilterParams
    recipes : dict of str to Single
        Of the model, or of each of its members.
    radius : float, optional
        Of a usual cell of the place, px; None: each picture's own.
    with_tiles : bool
        Whether a small copy with outlines is kept.
    """

    inputs: InputsParams
    filter: FilterParams
    recipes: Mapping[str, Single]
    radius: float | None = None
    with_tiles: bool = False


@dataclass(frozen=True)
class Ready:
    """A picture that a model can be asked about, or why it cannot be.

    Attributes
    ----------
    name, folder : str
        Of `Asked`.
    sha256 : str, optional
        Of the file.
    problem : str, optional
        Why there is no answer, for a person.
    flags : tuple of str
        ``no_cell``, ``at_border`` (a part of the cell is missing), ``unsure_outline`` and
        ``broken`` (rows of one colour, as a broken camera or file leaves them).
    radius : float, optional
        Of the cell by which the crop is scaled, px.
    pixels : dict of int to numpy.ndarray of uint8, shape (n_views, side, side, 3)
        By side.
    vectors : dict of str to numpy.ndarray of float32, shape (n_views, n_columns)
        Of the members that take no pixels.
    tile : numpy.ndarray of uint8, shape (160, 160, 3), optional
    """

    name: str
    folder: str
    sha256: str | None = None
    problem: str | None = None
    flags: tuple[str, ...] = ()
    radius: float | None = None
    pixels: Mapping[int, Pixels] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    tile: Pixels | None = None


@contextmanager
def find(arguments: Sequence[str]) -> Iterator[list[Asked]]:
    """List what a person asks about.

    Parameters
    ----------
    arguments : sequence of str
        Pictures, folders, and archives, also in folders and in archives.

    Yields
    ------
    list of Asked
        In the order of the arguments, below them by name; a file that is named twice stands once.
        What cannot be opened has a problem. Files that systems leave, as ``Thumbs.db``, are not
        listed. Readable inside the block.
    """
    with archives.file_opener() as open_file:
        found: dict[str, Asked] = {}
        for argument in arguments:
            for asked in _list(argument, open_file):
                found.setdefault(asked.name, asked)
        yield [replace(asked, name=_escape(asked.name)) for asked in found.values()]


def make_ready(asked: Asked, rule: Rule) -> Ready:
    """Read, judge, outline and prepare a picture; runs on every core."""
    blank = Ready(asked.name, asked.folder)
    if asked.member is None:
        return Ready(asked.name, asked.folder, problem=asked.problem)
    try:
        content = archives.read_member(asked.member)
    except ImageError as error:
        is_packed = asked.member.method.startswith("zip_")
        changed = "unreadable: it became shorter while it was read"
        problem = str(error) if is_packed or error.reason == "oversized" else changed
        return Ready(asked.name, asked.folder, problem=problem)
    except OSError as error:
        return Ready(asked.name, asked.folder, problem=f"cannot be read: {error.strerror}")
    checksum = hashlib.sha256(content).hexdigest()
    try:
        rgb = decoding.decode(content).rgb
        decoding.check_size(rgb, rule.filter)
    except ImageError as error:
        return Ready(asked.name, asked.folder, checksum, _explain(error, asked.member))
    return _prepare(blank, checksum, rgb, rule)


def _prepare(blank: Ready, checksum: str, rgb: Pixels, rule: Rule) -> Ready:
    outlined = cell_masks.segment(rgb)
    marks = {
        NO_CELL: not outlined.has_cell,
        AT_BORDER: cell_masks.touches_border(outlined.cell),
        cell_masks.UNSURE: outlined.is_unsure,
        BROKEN: lost_parts.has_break(rgb),
    }
    place = preparation.Geometry(
        outlined.centre, rule.radius or outlined.cell_radius, outlined.white, outlined.packed
    )
    balances = sorted(rule.inputs.white_balance)
    pixels: dict[int, Pixels] = {}
    vectors = {}
    for name, recipe in rule.recipes.items():
        if recipe.side not in pixels:
            views = [
                preparation.prepare(rgb, place, rule.inputs, recipe.side, balance)
                for balance in balances
            ]
            pixels[recipe.side] = np.stack(views)
        if isinstance(recipe, ClassifierRecipe) and not recipe.has_network:
            vectors[name] = classifiers.vectorise(recipe, pixels[recipe.side])
    tile = None
    if rule.with_tiles:
        tile = contact_sheets.draw_outlines(rgb, outlined.cell, outlined.nucleus)
    return Ready(
        blank.name,
        blank.folder,
        checksum,
        flags=tuple(name for name, marked in marks.items() if marked),
        radius=place.radius,
        pixels=pixels,
        vectors=vectors,
        tile=tile,
    )


def _explain(error: ImageError, member: Member) -> str:
    try:
        found = archives.recognise(member)
    except ArchiveError as refused:
        return _say(refused)
    return ": ".join(filtering.explain(error.reason, error.detail, found))


def measure_radius(asked: Asked, rule: FilterParams) -> tuple[float, bool] | None:
    """Return a cell's radius, px, and whether its outline is sure; None where there is no cell."""
    if asked.member is None:
        return None
    try:
        rgb = decoding.decode(archives.read_member(asked.member)).rgb
        decoding.check_size(rgb, rule)
    except (ImageError, OSError):
        return None
    outlined = cell_masks.segment(rgb)
    if outlined.cell_radius is None:
        return None
    return outlined.cell_radius, not outlined.is_unsure


def _list(argument: str, open_file: Callable[[Path, str], list[Member]]) -> Iterator[Asked]:
    path = Path(argument)
    top = argument.rstrip("/") or argument
    try:
        if not argument:  # what a shell makes of a variable that is not set; not this folder
            yield Asked(top, problem="an empty name")
        elif not path.is_dir():
            yield from _open(path, top, open_file)
        else:
            yield from _list_folder(path, top, open_file)
    except OSError as error:  # a name that is too long, a folder above that may not be entered
        yield Asked(top, problem=str(error.strerror))


def _list_folder(
    path: Path, top: str, open_file: Callable[[Path, str], list[Member]]
) -> Iterator[Asked]:
    try:
        found = walking.walk(path)
    except DownloadError:  # for a hospital, one file that cannot be read is a reason to stop
        files, problems = _walk_around(path)
    else:  # hidden files are nobody's question; other links to a folder end in a slash
        files = found.files
        problems = {one.path: one.detail for one in found.left_out
                    if one.reason != "hidden" and not one.path.endswith("/")}  # fmt: skip
    if not files and not problems:
        yield Asked(top, problem="holds no file that can be read")
    for below, file in files.items():
        yield from _open(file, f"{top}/{below}", open_file)
    for below, problem in problems.items():
        yield Asked(f"{top}/{below}".removesuffix("/."), problem=problem)


def _walk_around(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """List files below a folder in which something cannot be read; and that, with the reason."""
    files: dict[str, Path] = {}
    problems: dict[str, str] = {}

    def refuse(error: OSError) -> None:
        problems[_below(Path(error.filename), folder)] = str(error.strerror)

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        for path in (Path(place, name) for name in names if not is_leftover(name)):
            files[_below(path, folder)] = path
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                problems[_below(path, folder)] = "a link to a folder beside what cannot be read"
    return dict(sorted(files.items())), problems


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _open(path: Path, name: str, open_file: Callable[[Path, str], list[Member]]) -> Iterator[Asked]:
    """Yield a file, or what lies in it."""
    try:
        if not path.is_file():
            raise FileNotFoundError(2, "is no file" if path.exists() else "there is no such file")
        if not os.access(path, os.R_OK):
            raise PermissionError(13, "you may not read it")
        members = open_file(path, path.name)
    except ArchiveError as error:
        yield Asked(name, problem=_say(error))
        return
    except OSError as error:
        yield Asked(name, problem=str(error.strerror))
        return
    if len(members) == 1 and members[0].source == path and members[0].method == "stored":
        yield Asked(name, members[0])
        return
    inside = sorted((one for one in members if not is_leftover(one.path)), key=lambda one: one.path)
    if not inside:
        yield Asked(name, problem="an archive without a file")
    seen: Counter[str] = Counter()
    for one in inside:
        seen[one.path] += 1  # an archive may hold two files of one name
        again = f" ({seen[one.path]})" if seen[one.path] > 1 else ""
        yield Asked(f"{name}/{one.path}{again}", one)


def _escape(name: str) -> str:
    """Return a name that stays in its line, in a terminal too, and that UTF-8 can write."""
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")
        else sign
        for sign in name
    )


def _say(error: ArchiveError) -> str:
    """Return an error with the way out of a person who gives files, not of a hospital's block."""
    told = str(error).replace(archives.WAY_OUT, "Get a whole copy of it.")
    told = told.replace(archives.UNPACK, "Unpack it, and give the folder.")
    return told.replace(" as SMEARFLOW_MIRROR", "")
