"""Label maps and taxonomies: published label -> cell type -> class, checked against counts.

Two tables that a person edits. ``data/labels/<hospital>.csv`` says once what each published label
of a hospital is, as finely as the hospital told it; ``data/taxonomies.csv`` says which classes an
experiment makes of cell types. So that no experiment can bend a hospital's facts.
"""

import csv
import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from stages.core.errors import MAX_NAMED, HospitalError, did_you_mean, name_some
from stages.core.store import project_root
from stages.core.texts import clean, read_csv

LABELS_FOLDER = Path("data/labels")
TAXONOMIES_FILE = Path("data/taxonomies.csv")
LABEL_COLUMNS = ("published_label", "cell_type", "reason", "expected", "source")
TAXONOMY_COLUMNS = ("taxonomy", "by", "value", "label", "only", "note")
VOCABULARY = "cell_types"  # the taxonomy that lists every cell type, each a class of its own
# Cell types that a publisher gave where finer ones exist.
COARSE = {
    "blast": ("lymphoblast", "monoblast", "myeloblast"),
    "immature_granulocyte": ("metamyelocyte", "myelocyte", "promyelocyte"),
    "neutrophil": ("band_neutrophil", "segmented_neutrophil"),
}


@dataclass(frozen=True)
class Taxonomy:
    """Which class each cell type, or each diagnosis, belongs to.

    Attributes
    ----------
    name : str
        As in ``data/taxonomies.csv``.
    by : {"cell_type", "diagnosis"}
        What `class_of` is read with.
    class_of : dict of str to str
        Class of each value; a value that is not here is in no class.
    only : dict of str to frozenset of str
        By diagnosis, the cell types that an image must be of to be in its class; a diagnosis that
        is not here takes every image, also untyped ones.
    """

    name: str
    by: Literal["cell_type", "diagnosis"]
    class_of: dict[str, str]
    only: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The classes, sorted, each once."""
        return sorted(set(self.class_of.values()))


def map_path(hospital: str) -> Path:
    """Return where the label map of a hospital lies."""
    return LABELS_FOLDER / f"{hospital}.csv"


def read_label_map(hospital: str, seen: Iterable[str] = ()) -> pd.DataFrame:
    """Read and check what the published labels of a hospital mean.

    Parameters
    ----------
    hospital : str
        Its name.
    seen : iterable of str
        Published labels that its pictures carry: if there is no map yet, the message holds the
        lines to write for them.

    Returns
    -------
    pandas.DataFrame, shape (n_labels, 5)
        ``published_label`` (unique), ``cell_type`` ("" where dropped), ``reason`` (why dropped),
        ``expected`` (Int64, pictures in the complete collection; missing where not known),
        ``source``.

    Raises
    ------
    HospitalError
        There is no map, or a line of it is wrong.
    """
    path = map_path(hospital)
    if not path.is_file():
        if (project_root() / path).is_file():
            raise HospitalError(
                f"{path} is in your project and not in Git, and a queued experiment has only what "
                f"Git knows. Run 'git add {path}' and start it again."
            )
        known = read_taxonomy(VOCABULARY).class_of
        lines = [suggest_line(label, known) for label in sorted(set(seen))] or [
            "Neutrophil,neutrophil,,,who says so"
        ]
        raise HospitalError(
            f"{path} is missing: nobody has said what the labels of {hospital!r} mean. Write it, "
            f"one line for each published label: {_quote([','.join(LABEL_COLUMNS), *lines], None)}."
        )
    return parse_label_map(str(path), read_text(path))


def parse_label_map(where: str, text: str) -> pd.DataFrame:
    """Read and check the text of a label map; `where` is what messages call it.

    Returns and raises as `read_label_map`. The cell types are those of today's vocabulary.
    """
    known = read_taxonomy(VOCABULARY).class_of
    rows = parse_rows(where, text, LABEL_COLUMNS)
    first: dict[str, int] = {}
    for number, row in rows:
        place = f"{where}, line {number}"
        _check_map_row(place, row, known)
        label = row["published_label"]
        if label in first:
            raise HospitalError(
                f"{place}: the published label {label!r} stands in line {first[label]} already. "
                "Leave one of the two."
            )
        first[label] = number
    frame = pd.DataFrame([row for _, row in rows], columns=list(LABEL_COLUMNS), dtype="str")
    frame["expected"] = pd.array(
        [int(text) if text else None for text in frame["expected"]], dtype="Int64"
    )
    return frame


def read_taxonomy(name: str, asked: str = "params.yaml, taxonomy") -> Taxonomy:
    """Read and check one taxonomy.

    Parameters
    ----------
    name : str
        As in ``data/taxonomies.csv``.
    asked : str
        Who asks for it, for the message that there is none of this name.

    Raises
    ------
    HospitalError
        There is none of this name (the message gives the nearest), or its lines are wrong.
    """
    rows = parse_rows(str(TAXONOMIES_FILE), read_text(TAXONOMIES_FILE), TAXONOMY_COLUMNS)
    known = list(dict.fromkeys(row["taxonomy"] for _, row in rows))
    if name not in known:
        hint = did_you_mean(name, known)
        raise HospitalError(
            f"{asked}: {name!r} is not in {TAXONOMIES_FILE}.{hint} Known: {', '.join(known)}."
        )
    cell_types = {row["value"] for _, row in rows if row["taxonomy"] == VOCABULARY}
    own = [(number, row) for number, row in rows if row["taxonomy"] == name]
    class_of: dict[str, str] = {}
    only: dict[str, frozenset[str]] = {}
    by = own[0][1]["by"]
    for number, row in own:
        where = f"{TAXONOMIES_FILE}, line {number}"
        if row["by"] not in ("cell_type", "diagnosis") or row["by"] != by:
            raise HospitalError(
                f"{where}: by is {row['by']!r}; it takes cell_type or diagnosis, "
                f"the same in all lines of {name!r}."
            )
        if not row["value"] or not row["label"]:
            raise HospitalError(f"{where}: value and label must not be empty. Fill or delete it.")
        if row["value"] in class_of:
            raise HospitalError(
                f"{where}: {row['value']!r} stands twice in {name!r}. Leave one of the two."
            )
        if by == "cell_type" and row["value"] not in cell_types:
            raise HospitalError(f"{where}: {say_unknown(row['value'], cell_types)}")
        class_of[row["value"]] = row["label"]
        if row["only"]:
            only[row["value"]] = _read_only(where, row, cell_types)
    return Taxonomy(name, "diagnosis" if by == "diagnosis" else "cell_type", class_of, only)


def to_cell_type(
    hospital: str, published: "pd.Series[str]", label_map: pd.DataFrame
) -> "pd.Series[str]":
    """Give each picture its cell type.

    Parameters
    ----------
    hospital : str
        For messages.
    published : pandas.Series of str, shape (n_images,)
        Published labels; missing where none was published.
    label_map : pandas.DataFrame
        As `read_label_map` gives it.

    Returns
    -------
    pandas.Series of str, shape (n_images,)
        Named ``cell_type``, on the same index; missing where no label was published or the map
        drops it.

    Raises
    ------
    HospitalError
        A published label is not in the map; the message holds the lines to add.
    """
    counts = count_unmapped(published, label_map)
    if counts:
        known = read_taxonomy(VOCABULARY).class_of
        shown = list(counts.items())[:MAX_NAMED]
        found = ", ".join(f"{label!r} ({n} images)" for label, n in shown)
        lines = [suggest_line(label, known) for label in counts]
        raise HospitalError(
            f"{map_path(hospital)} has no line for {len(counts)} published label(s) of "
            f"{hospital!r}: {found}. Add {_quote(lines)}, with the right cell type or, "
            "to drop these pictures, none and a reason."
        )
    return look_up(published, label_map)


def require_class_folders(
    hospital: str, image_ids: "pd.Series[str]", published: "pd.Series[str]"
) -> None:
    """Stop where labels seem to be read from folders of patients, below those of the classes.

    Parameters
    ----------
    hospital : str
        For messages.
    image_ids, published : pandas.Series of str, shape (n_images,)
        Published labels may be missing.

    Raises
    ------
    HospitalError
        A label that neither the map nor the vocabulary knows is the folder right above a picture,
        and pictures lie so below several folders. The message holds the layout to write: a line
        of the map for such a label would drop a patient.
    """
    known = read_taxonomy(VOCABULARY).class_of
    mapped = (
        set(read_label_map(hospital)["published_label"]) if map_path(hospital).is_file() else set()
    )
    strange = {
        label
        for label in published.dropna().unique()
        if label not in mapped and not _nearest(label, known)
    }
    folders = {
        image_id: parts
        for image_id, label in zip(image_ids, published, strict=True)
        if label in strange
        and len(parts := [clean(part) for part in image_id.split("/")[1:-1]]) > 1
        and parts[-1] == label
    }
    if len({tuple(parts[:-1]) for parts in folders.values()}) < 2:
        return
    example = min(folders)
    parts = folders[example]
    classes = [name in mapped or bool(_nearest(name, known)) for name in parts]
    place = classes.index(True) if any(classes) else len(parts) - 2
    n_below = len(parts) - 1 - place
    below = ["(?P<patient>[^/]+)/", "(?P<slide>[^/]+)/", *["[^/]+/"] * n_below][:n_below]
    image = f"(?P<label>[^/]+)/{''.join(below)}[^/]+\\.\\w+"
    raise HospitalError(
        f"{hospital}: no cell type is called {name_some(sorted(map(repr, strange)))}. A label is "
        f"the folder right above a picture, as in {example}. If {parts[place]!r} is the class and "
        f"{parts[place + 1]!r} a patient, write into the block of {hospital} in "
        f"data/hospitals.yaml layout: {{image: '{image}'}}. If {parts[-1]!r} is a class, say in "
        f"{map_path(hospital)} which cell type it is."
    )


def look_up(published: "pd.Series[str]", label_map: pd.DataFrame) -> "pd.Series[str]":
    """Give each published label its cell type as `to_cell_type`; missing where it has no line."""
    mapped = dict(zip(label_map["published_label"], label_map["cell_type"], strict=True))
    return _map(published, mapped, "cell_type")


def count_unmapped(published: "pd.Series[str]", label_map: pd.DataFrame) -> dict[str, int]:
    """Count the images of each published label that has no line in the map, sorted by label."""
    strange = published[~published.isin(label_map["published_label"])].dropna()
    return {str(label): int(n) for label, n in strange.value_counts().sort_index().items()}


def to_label(images: pd.DataFrame, taxonomy: Taxonomy) -> "pd.Series[str]":
    """Give each image its class.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``cell_type`` and, for a taxonomy by diagnosis, ``diagnosis``; missing values are
        allowed.
    taxonomy : Taxonomy
        The chosen one.

    Returns
    -------
    pandas.Series of str, shape (n_images,)
        Named ``label``, on the same index; missing where the image is in no class.
    """
    label = _map(images[taxonomy.by], taxonomy.class_of, "label")
    if not taxonomy.only:
        return label
    allowed = [
        value not in taxonomy.only or cell_type in taxonomy.only[value]
        for value, cell_type in zip(images[taxonomy.by], images["cell_type"], strict=True)
    ]
    return label.where(pd.Series(allowed, index=images.index, dtype=bool))


def check_counts(
    hospital: str, observed: Mapping[str, int], label_map: pd.DataFrame, *, partial: bool
) -> None:
    """Compare the number of pictures of each published label with the published number.

    Parameters
    ----------
    hospital : str
        For messages.
    observed : mapping of str to int
        Pictures of each published label, usable or not: publishers count files.
    label_map : pandas.DataFrame
        As `read_label_map` gives it; labels without ``expected`` are not compared.
    partial : bool
        The hospital is declared as a part of its collection, so that fewer are right as well.

    Raises
    ------
    HospitalError
        The numbers differ: pictures were lost, doubled or sorted differently on their way here.
    """
    published = label_map.dropna(subset=["expected"])
    expected = dict(zip(published["published_label"], published["expected"], strict=True))
    differing = [
        f"{label}: {observed.get(label, 0)} here, {n} published"
        for label, n in expected.items()
        if observed.get(label, 0) > n or (not partial and observed.get(label, 0) < n)
    ]
    if not differing:
        return
    more = f" and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
    way_out = (
        f"A part cannot hold more than the whole: correct expected in {map_path(hospital)}, or "
        "look for doubled pictures."
        if partial
        else f"If you have a part of the collection, add {hospital!r} to partial: in params.yaml; "
        f"otherwise fetch it again, or correct expected in {map_path(hospital)}."
    )
    raise HospitalError(
        f"{hospital}: the pictures are not those that were published "
        f"({'; '.join(differing[:MAX_NAMED])}{more}). {way_out}"
    )


def read_text(path: Path) -> str:
    """Read a file that people edit: UTF-8, with or without a byte order mark.

    Raises
    ------
    HospitalError
        It is not there, or is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise HospitalError(
            f"{path} is not here. Run from the project's top folder, which holds it."
        ) from None
    except UnicodeDecodeError as error:
        raise HospitalError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}). "
            "Save it again as CSV in UTF-8."
        ) from None


def suggest_line(published_label: str, known: Iterable[str]) -> str:
    """Return the line of a label map for a label, with the cell type whose name is nearest."""
    near = _nearest(published_label, known)
    row = [published_label, *(near or [""]), "" if near else "no cell type of ours", "", ""]
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().removesuffix("\r\n")


def say_unknown(name: str, known: Iterable[str]) -> str:
    """Say that a cell type is in no vocabulary, with the nearest one and the way out."""
    hint = did_you_mean(name, sorted(known))
    line = f"{VOCABULARY},cell_type,{name},{name},,"
    return (
        f"the cell type {name!r} is unknown.{hint} Correct it, or add '{line}' to "
        f"{TAXONOMIES_FILE} (and a line for each taxonomy that is to use it)."
    )


def parse_rows(where: str, text: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV table that people edit.

    Parameters
    ----------
    where : str
        What messages call the table.
    text : str
    columns : tuple of str
        Its header must be these.

    Returns
    -------
    list of (int, dict of str to str)
        Line number and cells by column, cleaned, of each line that holds something.

    Raises
    ------
    HospitalError
        The header, or the number of cells of a line, is another.
    """
    lines = iter(read_csv(where, text))
    number, header = next(lines, (1, []))
    if header != list(columns):
        raise HospitalError(
            f"{where}, line {number}: the columns are {','.join(header) or 'none'}; "
            f"they must be {','.join(columns)}, with commas between them."
        )
    rows = []
    for number, cells in lines:
        if len(cells) != len(columns):
            raise HospitalError(
                f"{where}, line {number}: has {len(cells)} cells, not {len(columns)}. "
                'Put a cell that holds a comma into double quotes, as in "Lymphocyte, variant".'
            )
        rows.append((number, dict(zip(columns, cells, strict=True))))
    return rows


def _nearest(published_label: str, known: Iterable[str]) -> list[str]:
    """Return the cell type whose name is nearest to a label, or nothing where none is near."""
    plain = "_".join(published_label.lower().replace("-", " ").replace("_", " ").split())
    return difflib.get_close_matches(plain, sorted(known), n=1, cutoff=0.8)


def _map(values: "pd.Series[str]", mapped: Mapping[str, str], name: str) -> "pd.Series[str]":
    # "" and an unknown value both become a missing one; the dtype must not depend on the content.
    found = [mapped.get(value) or None for value in values.astype(object)]
    return pd.Series(found, index=values.index, name=name, dtype="str")


def _check_map_row(where: str, row: Mapping[str, str], known: Iterable[str]) -> None:
    label, cell_type = row["published_label"], row["cell_type"]
    if not label:
        raise HospitalError(f"{where}: published_label is empty. Fill or delete the line.")
    if cell_type and cell_type not in known:
        raise HospitalError(f"{where}: {say_unknown(cell_type, known)}")
    if not cell_type and not row["reason"]:
        raise HospitalError(
            f"{where}: {label!r} has no cell type, so its pictures are dropped, and no reason. "
            "Give one of the two."
        )
    if row["expected"] and not (row["expected"].isascii() and row["expected"].isdigit()):
        raise HospitalError(
            f"{where}: expected is {row['expected']!r}; it takes the published number of "
            "pictures, or nothing where it is not known."
        )


def _read_only(where: str, row: Mapping[str, str], known: Iterable[str]) -> frozenset[str]:
    if row["by"] == "cell_type":
        raise HospitalError(
            f"{where}: only is {row['only']!r}; it restricts a diagnosis to cell types, and this "
            "line is by cell_type. Empty it."
        )
    names = row["only"].split()
    for name in names:
        if name not in known:
            raise HospitalError(f"{where}, only: {say_unknown(name, known)}")
    return frozenset(names)


def _quote(lines: list[str], limit: int | None = MAX_NAMED) -> str:
    shown = ", ".join(f"'{line}'" for line in lines[:limit])
    more = len(lines) - len(lines[:limit])
    return f"{shown} and {more} more" if more else shown
