"""What a picture's path, and the tables beside it, say of it, by the rules of a layout."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.core.errors import HospitalError, name_some, say_counts
from stages.core.formats import PICTURE_ENDINGS
from stages.core.texts import clean, read_csv
from stages.datasets.hospitals import (
    CLASS_FOLDERS,
    FACTS_IN_PATHS,
    HOSPITALS_FILE,
    FactTable,
    Layout,
    compile_ending,
)
from stages.datasets.leftovers import is_leftover

GROUPING = ("patient", "slide")  # what images are grouped by, so that a lack of it is a leak

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class _Table:
    """A published table: by the picture's key, what it says of each of our facts."""

    rule: FactTable
    name: str
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, groups: Mapping[str, str]) -> dict[str, str] | None:
        """Return what the table says of a picture, or None where it has no line of it."""
        return self.rows.get(_as_key(groups.get(self.rule.match, "")))


class PathReader:
    """Reads the facts of a picture out of its path and the published tables.

    Facts and keys are compared clean (`texts.clean`), paths in composed Unicode, whatever form
    the disk, the table or the layout has.

    Parameters
    ----------
    layout : Layout
        The rules.
    tables : mapping of str to bytes
        Content of the published CSV files, by member path.

    Raises
    ------
    HospitalError
        A table is missing, is no strict CSV text, lacks a column or says two things of one key.
    """

    def __init__(self, layout: Layout, tables: Mapping[str, bytes]) -> None:
        self._image = compile_ending(layout.image)
        self._mask = compile_ending(layout.mask) if layout.mask else None
        self.named = set(self._image.groupindex)
        self._constants = layout.constants
        self.tables = [_index_table(rule, tables) for rule in layout.tables]
        self._sizes = {tuple(map(_range, text.split("x"))) for text in layout.sizes}

    def read(self, path: str) -> Facts | None:
        """Return the facts of a picture, or None where `path` is no picture of this layout."""
        groups = self.match(path)
        if groups is None:
            return None
        facts = {name: groups.get(name) or self._constants.get(name) for name in FACTS_IN_PATHS}
        for table in self.tables:
            facts |= {name: text for name, text in (table.find(groups) or {}).items() if text}
        return Facts(groups["whole"], **facts)

    def match(self, path: str) -> dict[str, str] | None:
        """Return what a picture's path says, by group of layout.image; ``whole`` is its name."""
        match = None if is_leftover(path) else self._image.search(_compose(path))
        if match is None:
            return None
        groups = {name: clean(text) for name, text in match.groupdict(default="").items()}
        return groups | {"whole": match["whole"]}

    def differs_by_ending(self, path: str) -> bool:
        """Tell whether `path` is no picture's, but would be with another ending of pictures."""
        whole = _compose(path)
        stem = whole.rpartition(".")[0] or whole
        return any(self._image.search(stem + ending) for ending in PICTURE_ENDINGS)

    def mask_of(self, path: str) -> str | None:
        """Return the ``(?P<of>...)`` of a mask's path, or None where `path` is no mask.

        A mask belongs to the picture whose ``image_path`` without its ending equals it.
        """
        match = self._mask.search(_compose(path)) if self._mask and not is_leftover(path) else None
        return match["of"] if match else None

    def is_odd_size(self, width: int, height: int) -> bool:
        """Tell whether a size is none of those that the hospital's camera gives."""
        return bool(self._sizes) and not any(
            low_w <= width <= high_w and low_h <= height <= high_h
            for (low_w, high_w), (low_h, high_h) in self._sizes
        )


def is_table_member(layout: Layout, path: str) -> bool:
    """Tell whether a member is one of the tables that the layout names."""
    return not is_leftover(path) and any(_is_member(rule, path) for rule in layout.tables)


def require_folders(
    hospital: str, layout: Layout, reader: PathReader, paths: Iterable[str]
) -> None:
    """Stop where class folders are expected and all pictures lie beside each other.

    Raises
    ------
    HospitalError
        With a path as it should be.
    """
    shown = [path for path in paths if not is_leftover(path)]
    is_flat = layout.image == CLASS_FOLDERS and any("/" not in path for path in shown)
    if is_flat and not any(map(reader.match, shown)):
        raise HospitalError(
            f"{hospital}: no picture lies in a folder. Put each into one that is named as its "
            f"class, as in {hospital}/neutrophils/1.jpg; or say in data/hospitals.yaml, "
            "layout.image, how labels stand in the names (data/README.md)."
        )


def join_tables(
    hospital: str, reader: PathReader, paths: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count how the pictures of a hospital meet each published table, and log it.

    Parameters
    ----------
    hospital : str
        For messages.
    reader : PathReader
    paths : sequence of str
        Of pictures, as ``reader.read`` takes them.

    Returns
    -------
    dict
        By table and key: ``n_images``, ``n_matched`` (pictures with a line in it) and for each
        fact that it tells ``n_<fact>``.

    Raises
    ------
    HospitalError
        A table meets no picture, tells a fact of none, or leaves more than half of the pictures
        without the patient or slide that it is there for: each of them would be a group of its
        own, and a patient in train and in test.
    """
    facts = {path: one for path in paths if (one := reader.read(path)) is not None}
    return {
        f"{table.name} by {table.rule.key}": _join(hospital, table, reader, facts)
        for table in reader.tables
        if facts
    }


def warn_of_lost_groups(
    hospital: str, layout: Layout, reader: PathReader, paths: Sequence[str]
) -> None:
    """Warn where folders may be patients or slides that no rule of the layout reads.

    Parameters and `paths` are those of `join_tables`.
    """
    facts = [one for one in map(reader.read, paths) if one is not None]
    for name in GROUPING:
        if facts and name in reader.named and not any(getattr(one, name) for one in facts):
            log.warning("filter: layout.image of %s names %s, and no path tells it", hospital, name)
    above = sorted({one.image_path.rpartition("/")[0].rpartition("/")[0] for one in facts})
    if layout.image == CLASS_FOLDERS and len(above) > 1:
        log.warning(
            "filter: class folders of %s lie in %d others (%s). If these are patients or slides, "
            "say so: layout.image, in data/README.md",
            hospital, len(above), name_some([folder or "the top" for folder in above]),
        )  # fmt: skip


def _join(
    hospital: str, table: _Table, reader: PathReader, facts: Mapping[str, Facts]
) -> dict[str, int]:
    rule, where = table.rule, f"{hospital}: table {table.name}"
    groups = {path: reader.match(path) or {} for path in facts}
    met = {path: row for path in facts if (row := table.find(groups[path])) is not None}
    unmet = [path for path in facts if path not in met]
    n = len(facts)
    if not met:
        keys = name_some([repr(key) for key in table.rows]) or "nothing"
        raise HospitalError(
            f"{where} meets none of the {n} pictures. Its {rule.key} is {keys}; the {rule.match} "
            f"of {unmet[0]} is {groups[unmet[0]].get(rule.match)!r}. Correct key or match in "
            f"layout.tables of {HOSPITALS_FILE}, or the table."
        )
    told = {name: sum(bool(row[name]) for row in met.values()) for name in rule.columns}
    for name in rule.columns:
        lacking = [path for path, one in facts.items() if not getattr(one, name)]
        if not told[name] or (name in GROUPING and 2 * len(lacking) > n):
            raise HospitalError(
                f"{where} tells the {name} of {told[name]} of the {n} pictures, and not of "
                f"{name_some(lacking)}. Complete its column {rule.columns[name]}, or correct "
                f"layout.tables of {HOSPITALS_FILE}."
            )
    log.log(
        logging.WARNING if unmet else logging.INFO,
        "filter: %s meets %d of %d pictures (%s)%s",
        where, len(met), n, say_counts(told), f", not {name_some(unmet)}" if unmet else "",
    )  # fmt: skip
    counts = {f"n_{name}": number for name, number in told.items()}
    return {"n_images": n, "n_matched": len(met), **counts}


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _compose(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _is_member(rule: FactTable, path: str) -> bool:
    return compile_ending(rule.member).search(_compose(path)) is not None


def _as_key(text: str) -> str:
    """Return a key as it is compared: a whole number is 12, also where it is 012 or 12.0."""
    number = re.fullmatch(r"0*([0-9]+?)(\.0*)?", text)
    return number[1] if number else text


def _index_table(rule: FactTable, tables: Mapping[str, bytes]) -> _Table:
    found = sorted(path for path in tables if not is_leftover(path) and _is_member(rule, path))
    if not found:
        raise HospitalError(
            f"no published file matches {rule.member!r}, which {HOSPITALS_FILE} names as a table. "
            "Put it beside the pictures (in the mirror, or as a second archive)."
        )
    table = _Table(rule, ", ".join(found))
    for path in found:
        for number, key, row in _read_rows(rule, path, tables[path]):
            if key and table.rows.setdefault(key, row) != row:
                raise HospitalError(
                    f"table {path}, line {number}: {rule.key} {key!r} has other values than in a "
                    f"line before: {row} and {table.rows[key]}. Correct the one that is wrong."
                )
    return table


def _read_rows(
    rule: FactTable, path: str, content: bytes
) -> Iterable[tuple[int, str, dict[str, str]]]:
    """Yield line, key and facts of each row of a published table."""
    where = f"table {path}"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HospitalError(
            f"{where} is no UTF-8 text ({error.reason} at byte {error.start}). "
            "Save it again as CSV in UTF-8."
        ) from None
    rows = iter(read_csv(where, text))
    number, header = next(rows, (1, []))
    wanted = dict.fromkeys([rule.key, *rule.columns.values()])
    missing = [name for name in wanted if name not in header]
    if missing:
        raise HospitalError(
            f"{where} has no column {name_some(missing)}; it has {', '.join(header)}. "
            f"Correct layout.tables in {HOSPITALS_FILE}."
        )
    for name in wanted:
        if header.count(name) > 1:
            raise HospitalError(
                f"{where}, line {number}: the column {name} stands twice. Rename the one that is "
                "not meant."
            )
    for number, cells in rows:
        if any(cells[len(header) :]):
            raise HospitalError(
                f"{where}, line {number}: has {len(cells)} cells, the header {len(header)}. Put a "
                "cell that holds a comma into double quotes."
            )
        row = dict(zip(header, cells + [""] * len(header), strict=False))
        yield (
            number,
            _as_key(row[rule.key]),
            {ours: row[theirs] for ours, theirs in rule.columns.items()},
        )
