"""What a picture's path, and the tables beside it, say of it, by the rules of a layout."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stages.core.errors import HospitalError, name_some
from stages.datasets.hospitals import (
    FACTS_IN_PATHS,
    HOSPITALS_FILE,
    FactTable,
    Layout,
    compile_ending,
)

LEFT_BEHIND = ("__macosx", "thumbs.db", "desktop.ini")


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
