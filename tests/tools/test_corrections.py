"""Corrections become reviews that harmonise reads, or a file of a stranger's pictures."""

import csv
import io

import pandas as pd
import pytest

from stages.answering.model import AnsweringModel
from stages.core.errors import PipelineError
from stages.labels import reviews
from stages.labels.reviews import Review
from stages.tools import corrections
from stages.tools.corrections import Correction
from tests.made.answering import write_export
from tests.made.own_project import write_project

PIXELS = "0" * 64


def make(image_ids=("east/0.png",), cell_type="monocyte", reviewer="Dr. Berg", note="=1+1"):
    review = Review(image_ids[0] if image_ids else "", cell_type, PIXELS, reviewer, note)
    return Correction("a.png", tuple(image_ids), review)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    return tmp_path


def test_harmonise_reads_what_was_kept(place):
    """The review decides on the picture's cell type; at two hospitals on both."""
    told = corrections.keep(make(["east/0.png", "west/0.png"]))
    assert "east/0.png and west/0.png" in told
    kept = reviews.read()
    assert [one.image_id for one in kept] == ["east/0.png", "west/0.png"]
    settled = reviews.settle(kept, {"east/0.png": PIXELS}, {}, ["east"])
    assert settled.answers == {"east/0.png": "monocyte"}
    assert corrections.find_earlier(["east/0.png"]) == [kept[0]]
    assert corrections.find_earlier([]) == []


def test_the_last_word_of_a_person_counts(place):
    corrections.keep(make())
    corrections.keep(make(cell_type=""))
    [one] = reviews.read()
    assert one.cell_type == ""


def test_a_strangers_picture_is_kept_for_the_file_alone(place):
    """And its sender is told so; nothing is written."""
    told = corrections.keep(make([]))
    assert "none of the project's" in told
    assert not reviews.REVIEWS_FILE.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"reviewer": "  "}, "name or initials"), ({"cell_type": "monozyt"}, "monocyte"),
     ({"note": "x" * 3000}, "Shorten")],
)  # fmt: skip
def test_what_cannot_be_kept_is_told(place, changes, words):
    with pytest.raises(PipelineError, match=words):
        corrections.keep(make(**changes))
    assert not reviews.REVIEWS_FILE.exists()


def test_the_file_has_a_row_for_each_picture_and_no_formula(place):
    table = corrections.to_csv([make(), make([]), make(["a/1", "b/1"])]).decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["image_id"] for row in rows] == ["east/0.png", "", "a/1", "b/1"]
    assert {row["note"] for row in rows} == {"'=1+1"}
    assert list(rows[0])[1:] == list(reviews.COLUMNS)
    assert len(pd.read_csv(io.StringIO(table))) == 4


def test_cell_types_are_the_projects_or_those_that_the_model_knows(place, tmp_path):
    model = AnsweringModel(write_export(tmp_path / "export"))
    assert "plasma_cell" in corrections.list_cell_types([model])
    (place / "data/taxonomies.csv").unlink()
    assert corrections.list_cell_types([model]) == ["basophil", "eosinophil", "monocyte"]
