"""What a person says a picture shows: kept as a review, or in a file to take along."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.answering import writing
from stages.answering.model import AnsweringModel
from stages.core.errors import PipelineError
from stages.labels import reviews, taxonomy
from stages.labels.reviews import REVIEWS_FILE, Review

STRANGER = (
    "Kept in the file of corrections, under Download. This picture is none of the project's, so "
    "the next training cannot learn from it. Add such pictures as a hospital first: README.md, "
    "'Add your hospital'."
)


@dataclass(frozen=True)
class Correction:
    """One answer of a person.

    Attributes
    ----------
    picture : str
        As its sender named it.
    image_ids : tuple of str
        The pictures of the project with these pixels; none of a stranger's.
    review : Review
        About the first of them; of a stranger's picture without image_id.
    """

    picture: str
    image_ids: tuple[str, ...]
    review: Review


def list_cell_types(models: Iterable[AnsweringModel]) -> list[str]:
    """Return the cell types to choose from: the project's, or those that the models know."""
    if taxonomy.TAXONOMIES_FILE.is_file():
        return sorted(taxonomy.read_taxonomy(taxonomy.VOCABULARY).class_of)
    known = {name for one in models for names in one.about.cell_types.values() for name in names}
    return sorted(known)


def keep(one: Correction) -> str:
    """Keep a correction as a review of each picture of the project with these pixels.

    Returns
    -------
    str
        What became of it, for its writer.

    Raises
    ------
    PipelineError
        The writer gave no name, or the table of reviews cannot take it.
    """
    if not one.review.reviewer.strip():
        raise PipelineError("Write your name or initials first: a correction is of a person.")
    if not one.image_ids:
        return STRANGER
    rows = [Review(name, *_columns(one.review)) for name in one.image_ids]
    reviews.append(REVIEWS_FILE, rows)
    return (
        f"Kept in {REVIEWS_FILE} for {' and '.join(one.image_ids)}. The next 'uv run dvc repro' "
        "takes it in the place of the published label."
    )


def find_earlier(image_ids: Sequence[str]) -> list[Review]:
    """Return the reviews of these pictures that the project holds already."""
    if not (image_ids and REVIEWS_FILE.is_file()):
        return []
    return [one for one in reviews.read() if one.image_id in image_ids]


def to_csv(corrections: Iterable[Correction]) -> bytes:
    """Return a table: picture, and the columns of data/reviews.csv.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["picture", *reviews.COLUMNS])
    for one in corrections:
        for name in one.image_ids or ("",):
            cells = [one.picture, name, *_columns(one.review)]
            rows.writerow([writing.harmless(cell) for cell in cells])
    return text.getvalue().encode(errors="replace")


def _columns(one: Review) -> tuple[str, str, str, str]:
    return one.cell_type, one.pixel_sha256, one.reviewer, one.note
