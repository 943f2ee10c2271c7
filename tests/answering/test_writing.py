"""Answers survive a kill, and become files that hold nothing to fear."""

import csv
import json
import subprocess
import sys
from functools import partial

import pytest

from stages.answering import writing
from stages.answering.model import ACCEPTED, NOT_READ, Answer
from stages.answering.writing import Journal
from stages.core.errors import PipelineError
from tests.dependencies import ROOT

ABOUT = {"model_sha256": "abc", "taxonomy": "shared5", "commit": None, "scale": "hospital"}
ANSWERS = [
    Answer("a/1.png", "a", ACCEPTED, {"monocyte": 0.75, "basophil": 0.25}, ("broken",), None, "f0"),
    Answer("a/ü <b>.png", "a", NOT_READ, {}, (), "empty: the file has no bytes"),
    Answer("=1+1.png", ".", ACCEPTED, {"basophil": 0.5, "monocyte": 0.5}, (), None, "f1", 12.5),
]


def fill(path, signature="s", answers=ANSWERS):
    journal = Journal(path, signature)
    for one in answers[journal.n_done :]:
        journal.add(one, {"tile": "data:"})
    return journal


def test_a_journal_goes_on_where_it_stopped(tmp_path):
    """At any byte of it: whole lines stay, the one that was cut is written again."""
    path = tmp_path / "x.partial"
    fill(path).close()
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        journal = fill(path)
        assert [one for one, _ in journal.read()] == ANSWERS
        journal.close()
        assert path.read_bytes() == whole


def test_a_journal_of_other_questions_is_not_used(tmp_path):
    """Another model, scale or list of pictures has another signature."""
    path = tmp_path / "x.partial"
    fill(path).close()
    journal = Journal(path, "another")
    assert journal.n_done == 0
    assert list(journal.read()) == []
    journal.close()
    assert writing.sign("a", "bc") != writing.sign("ab", "c")


def test_csv_has_a_row_for_each_picture(tmp_path):
    """Top three, every class, the trace; a name that a spreadsheet would run is harmless."""
    journal = fill(tmp_path / "x.partial")
    writing.write_csv(tmp_path / "x.csv", journal, ["basophil", "monocyte"], ABOUT)
    journal.close()
    with (tmp_path / "x.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a/1.png", "a/ü <b>.png", "'=1+1.png"]
    assert rows[0]["class_1"] == "monocyte"
    assert float(rows[0]["p_2"]) == float(rows[0]["p_basophil"]) == 0.25
    assert rows[0]["class_3"] == rows[1]["p_monocyte"] == ""
    assert rows[1]["problem"].startswith("empty")
    assert (rows[2]["cell_radius_px"], rows[2]["model_sha256"]) == ("12.5", "abc")


def test_json_and_page_hold_the_same_answers(tmp_path):
    """The page escapes names, and asks for nothing outside."""
    journal = fill(tmp_path / "x.partial")
    counts = {"verdicts": {ACCEPTED: 2, NOT_READ: 1}, "by_folder": {}}
    writing.write_json(tmp_path / "x.json", journal, counts, ABOUT)
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert content["model"] == ABOUT
    assert content["counts"] == counts
    assert [one["picture"] for one in content["pictures"]] == [one.picture for one in ANSWERS]
    assert content["pictures"][0]["chances"] == {"monocyte": 0.75, "basophil": 0.25}
    promise = {"wished_error": 0.1, "threshold": 0.5, "learnt_from": "unseen", "hospitals": ["x"]}
    writing.write_page(tmp_path / "x.html", journal, counts, ABOUT, promise)
    journal.close()
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "a/ü &lt;b&gt;.png" in page
    assert "default-src 'none'" in page
    assert "(50.0 % or more)" in " ".join(page.split())


def test_a_page_without_a_promise_says_why(tmp_path):
    """Also where hospitals to learn it from are known."""
    journal = fill(tmp_path / "x.partial")
    promise = {"wished_error": 0.1, "threshold": None, "learnt_from": "unseen",
               "hospitals": ["x"], "reason": "too few images"}  # fmt: skip
    writing.write_page(tmp_path / "x.html", journal, {"verdicts": {}, "by_folder": {}}, ABOUT,
                       promise)  # fmt: skip
    journal.close()
    assert "too few images: no call is accepted." in (tmp_path / "x.html").read_text()


def test_a_failing_write_leaves_the_old_file(tmp_path):
    """Nothing half-written."""
    (tmp_path / "x.csv").write_text("old")
    journal = fill(tmp_path / "x.partial")
    journal.add(Answer("b.png", ".", ACCEPTED, {"monocyte": "no number"}), {})
    with pytest.raises(ValueError, match="format"):
        writing.write_csv(tmp_path / "x.csv", journal, ["monocyte"], ABOUT)
    journal.close()
    assert (tmp_path / "x.csv").read_text() == "old"
    assert not (tmp_path / "x.csv.tmp").exists()


@pytest.mark.parametrize("content", [b"mine", b"mine\nmore\n", b'"smearflow is mine\n'])
def test_a_file_of_a_persons_is_no_journal(tmp_path, content):
    """A browser calls half of a download so; it stays as it is."""
    path = tmp_path / "x.partial"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="no file of smearflow"):
        Journal(path, "s")
    assert path.read_bytes() == content


def test_two_runs_do_not_write_one_journal(tmp_path):
    """The second is told; after the first it may."""
    path = tmp_path / "x.partial"
    script = (
        f"from pathlib import Path; from tests.answering.test_writing import fill;"
        f"fill(Path({str(path)!r})).close()"
    )
    second = partial(subprocess.run, [sys.executable, "-c", script], cwd=ROOT,
                     capture_output=True, text=True)  # fmt: skip
    first = fill(path)
    assert "another run writes" in second(check=False).stderr
    assert [one for one, _ in first.read()] == ANSWERS
    first.remove()
    first.close()
    assert second(check=False).returncode == 0
    assert path.exists()


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_whatever_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path, sign):
    """In a name and in a problem, which may quote one; an answer is on disk at once."""
    one = Answer(f"{sign}1.png", ".", NOT_READ, {}, (), f"{sign}2")
    journal = fill(tmp_path / "x.partial", answers=[one])
    assert (tmp_path / "x.partial").read_bytes().count(b"\n") == 2
    writing.write_csv(tmp_path / "x.csv", journal, [], ABOUT)
    journal.close()
    with (tmp_path / "x.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["picture"], row["problem"]) == (f"'{sign}1.png", f"'{sign}2")
