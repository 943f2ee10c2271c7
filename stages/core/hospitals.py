"""data/hospitals.yaml: where a hospital's archives come from, and what its paths and tables say."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from stages.core.errors import HospitalError, did_you_mean, name_some
from stages.core.settings import Group, explain, read_yaml

LEFT_BEHIND = ("__macosx", "thumbs.db", "desktop.ini")
HOSPITALS_FILE = Path("data/hospitals.yaml")
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
CLASS_FOLDERS = r"(?:[^/]+/)*(?P<label>[^/]+)/[^/]+\.(?i:jpe?g|png|bmp|tiff?)"
FACTS_IN_PATHS = (
    "label", "patient", "slide", "field", "diagnosis", "official_part", "expert_1", "expert_2",
)  # fmt: skip
SIZE = r"^\d+(-\d+)?x\d+(-\d+)?$"  # width x height in px, each a number or a range


class Archive(Group):
    """One file that a hospital publishes."""

    name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    urls: list[str] = []
    bytes: int | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class FactTable(Group):
    """A CSV table among the published files that tells more of each picture.

    ``key`` is the table's column that equals the group ``match`` of the picture's pattern;
    ``columns`` gives, for each of our facts, the table's column.
    """

    member: str
    key: str
    match: str
    columns: dict[str, str]


class Layout(Group):
    """How paths are read. Patterns match the end of a path, from the start of a folder on.

    ``image`` may name groups of `FACTS_IN_PATHS`, and others that tables are joined by; ``mask``
    names one group, ``of``. ``constants`` hold for every picture that says nothing else.
    ``sizes`` are those that the hospital's camera gives, ``width x height`` in px.
    ``official_parts`` tells which of our parts each of the publisher's parts or cohorts is;
    images of a part that it does not name are left out where the split follows the publisher.
    """

    image: str = CLASS_FOLDERS
    mask: str | None = None
    tables: list[FactTable] = []
    constants: dict[str, str] = {}
    sizes: list[Annotated[str, Field(pattern=SIZE)]] = []
    official_parts: dict[str, Literal["train", "valid", "test"]] = {}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        groups = _groups("image", self.image)
        if self.mask is not None and "of" not in _groups("mask", self.mask):
            raise ValueError("mask needs a group (?P<of>...): the picture's path without ending")
        for rule in self.tables:
            _groups("tables, member", rule.member)
            if rule.match not in groups:
                raise ValueError(f"tables, match: {rule.match!r} is no group of image")
        for name in [*self.constants, *(fact for rule in self.tables for fact in rule.columns)]:
            if name not in FACTS_IN_PATHS:
                hint = did_you_mean(name, FACTS_IN_PATHS)
                raise ValueError(
                    f"{name!r} is no fact of a picture.{hint} Known: {', '.join(FACTS_IN_PATHS)}"
                )
        return self


class Hospital(Group):
    """One block of data/hospitals.yaml."""

    title: str
    licence: str
    citation: str
    page: str | None = None
    stain: str | None = None
    camera: str | None = None
    um_per_px: Annotated[float, Field(gt=0)] | None = None
    archives: list[Archive] = []
    folder: str | None = None
    simulated: dict[str, Any] | None = None
    layout: Layout = Field(default_factory=Layout)

    @model_validator(mode="after")
    def _has_one_kind_of_source(self) -> Self:
        kinds = [bool(self.archives), self.folder is not None, self.simulated is not None]
        if sum(kinds) != 1:
            raise ValueError("needs exactly one of archives:, folder: or simulated:")
        return self


@dataclass(frozen=True)
class Facts:
    """What a path, and the tables beside it, say of one picture; None where nothing is said."""

    image_path: str
    label: str | None = None
    patient: str | None = None
    slide: str | None = None
    field: str | None = None
    diagnosis: str | None = None
    official_part: str | None = None
    expert_1: str | None = None
    expert_2: str | None = None


def load(name: str) -> Hospital:
    """Read the block of one hospital.

    Raises
    ------
    HospitalError
        There is no such block, or it is wrong; the message names the nearest block.
    """
    blocks = read_yaml(HOSPITALS_FILE)
    if name not in blocks:
        hint = did_you_mean(name, blocks)
        raise HospitalError(
            f"{HOSPITALS_FILE} has no block {name!r}.{hint} Correct hospitals: in params.yaml, "
            f"or add the block (README, 'Add your hospital'). Known: {', '.join(blocks)}."
        )
    try:
        return Hospital.model_validate(blocks[name])
    except ValidationError as error:
        raise HospitalError(f"{HOSPITALS_FILE}, {name}: {explain(error, Hospital)}") from None


class PathReader:
    """Reads the facts of a picture out of its path and the published tables.

    Parameters
    ----------
    layout : Layout
        The rules.
    tables : mapping of str to bytes
        Content of the published CSV files, by member path.

    Raises
    ------
    HospitalError
        A table is missing, is no CSV text, lacks a column or says two things of one key.
    """

    def __init__(self, layout: Layout, tables: Mapping[str, bytes]) -> None:
        self._image = compile_ending(layout.image)
        self._mask = compile_ending(layout.mask) if layout.mask else None
        self._constants = layout.constants
        self._tables = [(rule, _index_table(rule, tables)) for rule in layout.tables]
        self._sizes = {tuple(map(_range, text.split("x"))) for text in layout.sizes}

    def read(self, path: str) -> Facts | None:
        """Return the facts of a picture, or None where `path` is no picture of this layout."""
        match = None if is_hidden(path) else self._image.search(path)
        if match is None:
            return None
        groups = match.groupdict()
        facts: dict[str, str | None] = {
            name: groups.get(name) or self._constants.get(name) for name in FACTS_IN_PATHS
        }
        for rule, rows in self._tables:
            row = rows.get(_as_key(groups.get(rule.match)), {})
            for ours, theirs in rule.columns.items():
                facts[ours] = row.get(theirs) or facts.get(ours)
        return Facts(match["whole"], **facts)

    def mask_of(self, path: str) -> str | None:
        """Return the ``(?P<of>...)`` of a mask's path, or None where `path` is no mask.

        A mask belongs to the picture whose ``image_path`` without its ending equals it.
        """
        match = self._mask.search(path) if self._mask and not is_hidden(path) else None
        return match["of"] if match else None

    def is_odd_size(self, width: int, height: int) -> bool:
        """Tell whether a size is none of those that the hospital's camera gives."""
        return bool(self._sizes) and not any(
            low_w <= width <= high_w and low_h <= height <= high_h
            for (low_w, high_w), (low_h, high_h) in self._sizes
        )


def compile_ending(pattern: str) -> re.Pattern[str]:
    """Compile a pattern so that it matches the end of a path, from the start of a folder."""
    return re.compile(rf"(?:^|/)(?P<whole>{pattern})\Z")


def is_hidden(path: str) -> bool:
    """Tell whether a file or a folder above it was left by a system: .DS_Store, Thumbs.db.

    Notes
    -----
    macOS zips hold a ``__MACOSX/…/._NAME`` for each file and notebooks leave copies in
    ``.ipynb_checkpoints``: under the right folder names, so that patterns alone would count them.
    """
    return any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in path.split("/"))


def is_table_member(layout: Layout, path: str) -> bool:
    """Tell whether a member is one of the tables that the layout names."""
    return not is_hidden(path) and any(
        compile_ending(rule.member).search(path) for rule in layout.tables
    )


def _groups(key: str, pattern: str) -> set[str]:
    try:
        return set(compile_ending(pattern).groupindex)
    except re.error as error:
        raise ValueError(f"{key}: {pattern!r} is no regular expression: {error}") from None


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _as_key(text: str | None) -> str | None:
    return str(int(text)) if text is not None and text.isdigit() else text


def _index_table(rule: FactTable, tables: Mapping[str, bytes]) -> dict[str | None, dict[str, str]]:
    pattern = compile_ending(rule.member)
    found = sorted(path for path in tables if not is_hidden(path) and pattern.search(path))
    if not found:
        raise HospitalError(
            f"no published file matches {rule.member!r}, which {HOSPITALS_FILE} names as a table. "
            "Put it beside the pictures (in the mirror, or as a second archive)."
        )
    rows: dict[str | None, dict[str, str]] = {}
    for path in found:
        for number, row in _read_rows(rule, path, tables[path]):
            key = _as_key(row[rule.key])
            if key and rows.setdefault(key, row) != row:
                raise HospitalError(
                    f"table {path}, line {number}: {rule.key} {key!r} has other values than in a "
                    f"line before: {row} and {rows[key]}. Correct the one that is wrong."
                )
    return rows


def _read_rows(rule: FactTable, path: str, content: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HospitalError(
            f"table {path} is no UTF-8 text ({error.reason} at byte {error.start}). "
            "Save it again as CSV in UTF-8."
        ) from None
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    wanted = [rule.key, *rule.columns.values()]
    header = [name.strip() for name in reader.fieldnames or []]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise HospitalError(
            f"table {path} has no column {name_some(missing)}; it has {', '.join(header)}. "
            f"Correct layout.tables in {HOSPITALS_FILE}."
        )
    reader.fieldnames = header
    for row in reader:
        yield reader.line_num, {name: (row[name] or "").strip() for name in wanted}
