"""Reviews: what people say a picture shows, in the place of its published label.

``data/reviews.csv``, in Git, holds a row for each answer of a reviewer about a picture. Rows are
added by hand or by `append`; `harmonise` applies them after the label maps.
"""

import csv
import io
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import HospitalError, name_some, say_counts
from stages.core.settings import NAME
from stages.core.store import write_bytes
from stages.core.texts import clean
from stages.labels import harmonising, taxonomy
from stages.labels.taxonomy import Taxonomy

REVIEWS_FILE = Path("data/reviews.csv")
COLUMNS = ("image_id", "cell_type", "pixel_sha256", "reviewer", "note")
DROP_REASON = "review"
NO_CELL = "no usable cell"  # how an empty cell_type is told
NONE = "none"  # the cell type of a picture that has none, in counts
MAX_TEXT = 2_000  # characters of a note: a table that people open line by line
SHA256 = re.compile(r"[0-9a-f]{64}")
# What a spreadsheet would run as a formula, behind any number of apostrophes.
FORMULA = re.compile(r"'*[=+\-@]")


@dataclass(frozen=True)
class Review:
    """One answer of one person about one picture.

    Attributes
    ----------
    image_id : str
        ``<hospital>/<path>``, compared clean (`texts.clean`).
    cell_type : str
        One of the cell types; "": no usable cell.
    pixel_sha256 : str
        Of the picture that the reviewer saw, as in `tables.IMAGES`; "": not noted.
    reviewer, note : str
        Free text.
    """

    image_id: str
    cell_type: str
    pixel_sha256: str = ""
    reviewer: str = ""
    note: str = ""


@dataclass(frozen=True)
class Settled:
    """What a table of reviews comes to.

    Attributes
    ----------
    answers : dict of str to str
        By image_id the cell type that all its reviewers name; "": no usable cell.
    n_applied : int
        Reviews behind these answers.
    faults : list of (str, str)
        image_id and reason of each review that is not applied.
    elsewhere : dict of str to int
        Reviews by hospital that is not in this experiment.
    """

    answers: dict[str, str]
    n_applied: int
    faults: list[tuple[str, str]]
    elsewhere: dict[str, int]


def read(path: Path = REVIEWS_FILE) -> list[Review]:
    """Read and check a table of reviews.

    Raises
    ------
    HospitalError
        There is none, or a line of it is wrong.
    """
    if not path.is_file():
        raise HospitalError(
            f"{path} is not here. Run from the project's top folder; where the file was lost, "
            f"'git restore {path}' brings it back, or write one with the line "
            f"'{','.join(COLUMNS)}': no reviews."
        )
    return parse(str(path), taxonomy.read_text(path))


def parse(where: str, text: str) -> list[Review]:
    """Read and check the text of a table of reviews; `where` is what messages call it.

    Returns
    -------
    list of Review
        In the order of the lines.

    Raises
    ------
    HospitalError
        A column, a cell or a cell type is wrong, or one reviewer gives two answers about one
        picture; with the line.
    """
    known = taxonomy.read_taxonomy(taxonomy.VOCABULARY).class_of
    found: list[Review] = []
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for number, row in taxonomy.parse_rows(where, text, COLUMNS):
        place = f"{where}, line {number}"
        one = Review(**row | {name: _unguard(row[name]) for name in ("reviewer", "note")})
        _check(place, one, known)
        line, answer = first.setdefault((one.image_id, one.reviewer), (number, one.cell_type))
        if answer != one.cell_type:
            raise HospitalError(
                f"{place}: {one.reviewer or 'the same reviewer'} calls {one.image_id!r} "
                f"{one.cell_type or NO_CELL} here and {answer or NO_CELL} in line {line}. "
                "Leave one of the two; another reviewer needs another name."
            )
        found.append(one)
    return found


def append(path: Path, rows: Iterable[Review]) -> None:
    """Add answers to a table of reviews; the file is made where there is none.

    Parameters
    ----------
    path : pathlib.Path
        The table. The rows of others stay.
    rows : iterable of Review
        Each takes the place of the earlier answer of its reviewer about its picture.

    Raises
    ------
    HospitalError
        An answer, or a line of the file, is wrong; the file stays as it was.

    Notes
    -----
    The file is read again under a lock, so that of two people who save at one time none loses an
    answer. Rows are sorted by image_id and reviewer: the same answers give the same bytes.
    A reviewer or a note that begins with ``=``, ``+``, ``-`` or ``@`` gets an apostrophe before
    it, with which a spreadsheet shows it and runs nothing; `read` takes it off again.
    """
    known = taxonomy.read_taxonomy(taxonomy.VOCABULARY).class_of
    added = [Review(*map(clean, astuple(one))) for one in rows]
    for one in added:
        _check(f"{path}, the new answer about {one.image_id!r}", one, known)
    with _locked(path.parent):
        before = read(path) if path.is_file() else []
        latest = {(one.image_id, one.reviewer): one for one in [*before, *added]}
        # A browser may send half a character, which no file can hold.
        write_bytes(
            path, _to_text([latest[key] for key in sorted(latest)]).encode(errors="replace")
        )


def settle(
    reviews: Sequence[Review],
    pixels: Mapping[str, str],
    unusable: Mapping[str, str],
    hospitals: Collection[str],
) -> Settled:
    """Find the answer about each picture, and what cannot be applied.

    Parameters
    ----------
    reviews : sequence of Review
    pixels : mapping of str to str
        pixel_sha256 of each usable picture, by clean image_id.
    unusable : mapping of str to str
        Pictures that no review can be applied to, with the reason.
    hospitals : collection of str
        Of the experiment.

    Notes
    -----
    Where reviewers disagree, none of them is followed: the picture keeps its published label, and
    the disagreement is listed for them to settle. Which of two experts is right cannot be told
    here, and a run that stops would make one slip of one person the problem of all.
    """
    faults, elsewhere, valid = [], Counter[str](), defaultdict[str, list[str]](list)
    for one in reviews:
        hospital = one.image_id.partition("/")[0]
        if hospital not in hospitals:
            elsewhere[hospital] += 1
        elif reason := _find_fault(one, pixels, unusable):
            faults.append((one.image_id, reason))
        else:
            valid[one.image_id].append(one.cell_type)
    answers = {}
    for image_id, named in valid.items():
        if len(set(named)) == 1:
            answers[image_id] = named[0]
        else:
            told = ", ".join(name or NO_CELL for name in sorted(set(named)))
            faults += [(image_id, f"reviewers disagree: {told}")] * len(named)
    n_applied = sum(len(valid[image_id]) for image_id in answers)
    return Settled(answers, n_applied, faults, dict(sorted(elsewhere.items())))


def apply(
    labels: pd.DataFrame,
    reviews: Sequence[Review],
    rejected: pd.DataFrame,
    hospitals: Collection[str],
    chosen: Taxonomy,
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Let reviews decide on cell type and class in the place of published labels.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        Of all hospitals, index unique; needs ``image_id``, ``pixel_sha256``, ``diagnosis`` and
        what `harmonising.label_images` gives.
    reviews : sequence of Review
    rejected : pandas.DataFrame, shape (n_rejected, n_columns)
        Needs ``image_id``, ``reason`` and ``detail`` of `tables.REJECTED`.
    hospitals : collection of str
        Of the experiment.
    chosen : Taxonomy

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_columns)
        With ``cell_type``, ``label``, ``keep`` and ``drop_reason`` of the reviewed pictures; the
        reason is ``review`` where there is no usable cell. Nothing else changes.
    dict
        Counts of reviews: ``n``, ``n_applied``, ``n_not_applied``, ``n_elsewhere`` by hospital.
        Counts of the pictures that they decide on: ``n_pictures`` is ``n_confirmed`` (the cell
        type as published), ``n_type_changed`` and ``n_dropped`` (no usable cell) together;
        ``n_class_changed``: to another class, into one or out of one; ``changes`` by cell type
        before and after. ``not_applied``: image_id and reason.

    Notes
    -----
    A review is of its own picture alone. A near twin keeps its label until it is reviewed as well;
    `split` lists twins of two classes.
    """
    names = labels["image_id"].map(clean)
    unusable = {
        clean(one.image_id): f"left out by filter: {one.reason}, {one.detail}"
        for one in rejected.itertuples()
    }
    for name in names[names.duplicated()]:
        unusable[name] = "two pictures have this name but for blanks"
    settled = settle(
        reviews, dict(zip(names, labels["pixel_sha256"], strict=True)), unusable, hospitals
    )
    before = labels[names.isin(settled.answers.keys())]
    after = _relabel(before, [settled.answers[names[place]] for place in before.index], chosen)
    result = labels.copy()
    result.loc[after.index, after.columns] = after
    return result, _count(len(reviews), settled, before, after)


def say(counts: Mapping[str, Any]) -> list[str]:
    """Tell in plain lines what `apply` counted; none where there are no reviews."""
    lines = []
    if counts["n_pictures"]:
        found = {
            "as published": counts["n_confirmed"],
            "another cell type": counts["n_type_changed"],
            NO_CELL: counts["n_dropped"],
        }
        lines.append(f"by reviews: {say_counts(found)}; class changed: {counts['n_class_changed']}")
    if counts["not_applied"]:
        told = name_some([f"{one['image_id']} ({one['reason']})" for one in counts["not_applied"]])
        lines.append(f"reviews not applied ({counts['n_not_applied']}): {told}")
    if counts["n_elsewhere"]:
        told = say_counts(counts["n_elsewhere"])
        lines.append(f"reviews of hospitals that are not in this experiment: {told}")
    return lines


def _relabel(before: pd.DataFrame, answers: list[str], chosen: Taxonomy) -> pd.DataFrame:
    """Return cell type, class and whether and why not it is kept, of pictures with an answer."""
    cell_type = pd.Series([name or None for name in answers], before.index, dtype="str")
    own = before.assign(cell_type=cell_type)
    classified = harmonising.classify(own, chosen, pd.Series(DROP_REASON, before.index))
    has_none = cell_type.isna()
    # By diagnosis, an untyped picture would stay; here a person saw that it shows no cell.
    return pd.DataFrame(
        {
            "cell_type": cell_type,
            "label": classified["label"].mask(has_none),
            "keep": classified["keep"] & ~has_none,
            "drop_reason": classified["drop_reason"].mask(has_none, DROP_REASON),
        }
    )


def _count(
    n_reviews: int, settled: Settled, before: pd.DataFrame, after: pd.DataFrame
) -> dict[str, object]:
    old, new = (frame["cell_type"].astype(object).fillna(NONE) for frame in (before, after))
    labels = [frame["label"].astype(object).fillna(NONE) for frame in (before, after)]
    has_cell = after["cell_type"].notna()
    changes: dict[str, Counter[str]] = defaultdict(Counter)
    for one, other in zip(old[old != new], new[old != new], strict=True):
        changes[one][other] += 1
    return {
        "n": n_reviews,
        "n_applied": settled.n_applied,
        "n_not_applied": len(settled.faults),
        "n_elsewhere": settled.elsewhere,
        "n_pictures": len(after),
        "n_confirmed": int(((old == new) & has_cell).sum()),
        "n_type_changed": int(((old != new) & has_cell).sum()),
        "n_dropped": int((~has_cell).sum()),
        "n_class_changed": int((labels[0] != labels[1]).sum()),
        "changes": changes,
        "not_applied": [
            {"image_id": image_id, "reason": reason}
            for image_id, reason in sorted(set(settled.faults))
        ],
    }


def _find_fault(one: Review, pixels: Mapping[str, str], unusable: Mapping[str, str]) -> str | None:
    if one.image_id in unusable:
        return unusable[one.image_id]
    if one.image_id not in pixels:
        return "no such picture"
    if one.pixel_sha256 not in ("", pixels[one.image_id]):
        return "the picture is not the one that was reviewed: its pixels have changed"
    return None


def _check(place: str, one: Review, known: Collection[str]) -> None:
    hospital, _, path = one.image_id.partition("/")
    if not (re.match(NAME, hospital) and path):
        raise HospitalError(
            f"{place}: image_id is {one.image_id!r}; it must be <hospital>/<path>, as the pages "
            "and tables name the picture. Correct it, or delete the line."
        )
    if one.cell_type and one.cell_type not in known:
        raise HospitalError(f"{place}: {taxonomy.say_unknown(one.cell_type, known)}")
    if one.pixel_sha256 and not SHA256.fullmatch(one.pixel_sha256):
        raise HospitalError(
            f"{place}: pixel_sha256 is {one.pixel_sha256!r}; it has 64 digits of 0-9 and a-f. Copy "
            "it whole, or leave it empty."
        )
    for name, text in (("reviewer", one.reviewer), ("note", one.note)):
        if len(text) > MAX_TEXT:
            raise HospitalError(
                f"{place}: {name} has {len(text):,} characters, more than {MAX_TEXT:,}: an open "
                "quote, or a text for another place. Shorten it."
            )


def _to_text(reviews: Iterable[Review]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in reviews:
        guarded = replace(one, reviewer=_guard(one.reviewer), note=_guard(one.note))
        writer.writerow(astuple(guarded))
    return text.getvalue()


def _guard(text: str) -> str:
    return f"'{text}" if FORMULA.match(text) else text


def _unguard(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder that ends with this process; others wait for it.

    On the folder and not on the table, which is replaced by another file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield  # there, a folder cannot be locked
        return
    import fcntl

    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
