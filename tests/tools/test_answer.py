"""smearflow predict, as a person types it: answers, exit codes, files, and on after a kill."""

import csv
import json
import os
import subprocess
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from stages.answering import answers, model
from stages.tools import answer
from tests.dependencies import ROOT
from tests.made.answering import draw_cell, encode, write_cells, write_export


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that answers; no test changes it."""
    return write_export(tmp_path_factory.mktemp("answer") / "export")


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/export").symlink_to(made)
    return tmp_path


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_are_answered_in_the_terminal(place, capsys):
    """A line for each with three classes, and a line of counts."""
    write_cells(place, "monocyte", 1)
    write_cells(place, "basophil", 1)
    assert answer.main(["monocyte_0.png", "basophil_0.png"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("monocyte_0.png: ")
    assert ": monocyte 100.0 %, " in first
    assert ": basophil 100.0 %, " in second
    assert last.startswith("2 pictures: ")


def test_bad_files_are_told_and_all_others_answered(place, capsys):
    """Exit code 1; a line of each with its reason, no traceback, every file counted."""
    write_cells(place / "mixed", "monocyte", 2)
    packed = place / "mixed/inner.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x/y.png", encode(draw_cell("basophil")))
    outer = place / "mixed/outer.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(packed, "inner.zip")
    (place / "mixed/empty.png").write_bytes(b"")
    (place / "mixed/text.png").write_text("no picture")
    (place / "mixed/zip.png").write_bytes(packed.read_bytes())
    small = encode(np.zeros((8, 8, 3), np.uint8))
    header = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + small[24:29]
    header = small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]
    (place / "mixed/huge.png").write_bytes(header)
    (place / "mixed/cut.jpg").write_bytes(
        cv2.imencode(".jpg", draw_cell("monocyte"))[1].tobytes()[:600]
    )
    assert answer.main(["mixed", "../outside.png", "gone.png"]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = dict(line.split(": ", 1) for line in lines[:-1])
    bad = {name for name, text in told.items() if text.startswith(model.NOT_READ)}
    assert bad == {"mixed/empty.png", "mixed/text.png", "mixed/zip.png", "mixed/huge.png",
                   "mixed/cut.jpg", "../outside.png", "gone.png"}  # fmt: skip
    good = {"mixed/monocyte_0.png", "mixed/monocyte_1.png", "mixed/inner.zip/x/y.png",
            "mixed/outer.zip/inner/x/y.png"}  # fmt: skip
    assert set(told) == bad | good
    assert "oversized" in told["mixed/huge.png"]


def test_the_files_hold_the_same_answers_as_python(place, capsys):
    """CSV, JSON and page beside the Python function, picture by picture."""
    write_cells(place / "smear", "monocyte", 3)
    write_cells(place / "smear", "basophil", 2)
    asked = ["smear", "--csv", "o/a.csv", "--json", "a.json", "--html", "a.html", "--explain"]
    assert answer.main(asked) == 0
    assert "wrote o/a.csv" in capsys.readouterr().out
    direct = list(answers.ask(["smear"]))
    rows = read_csv(place / "o/a.csv")
    pictures = json.loads((place / "a.json").read_text())["pictures"]
    assert [one.picture for one in direct] == [row["picture"] for row in rows]
    for one, row, listed in zip(direct, rows, pictures, strict=True):
        assert row["class_1"] == one.call == next(iter(listed["chances"]))
        for name, p in one.chances.items():
            assert float(row[f"p_{name}"]) == pytest.approx(p, abs=1e-6)
            assert listed["chances"][name] == pytest.approx(p, abs=1e-6)
    counted = json.loads((place / "a.json").read_text())["counts"]["by_folder"]["smear"]
    assert {one["label"]: one["n"] for one in counted["classes"]} == {
        "basophil": 2, "eosinophil": 0, "monocyte": 3
    }  # fmt: skip
    page = (place / "a.html").read_text()
    assert page.count("data:image/jpeg") == 5 * 4  # each with three maps
    assert not list(place.glob("**/*.partial"))


def test_a_stopped_run_goes_on_and_gives_the_same_file(place, monkeypatch, capsys):
    """What was answered is not asked again."""
    write_cells(place / "smear", "monocyte", 70)
    assert answer.main(["smear", "--csv", "whole.csv"]) == 0
    real, asked = model.AnsweringModel.answer, []

    def stop(self, pictures):
        asked.append(len(pictures))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(self, pictures)

    monkeypatch.setattr(model.AnsweringModel, "answer", stop)
    assert answer.main(["smear", "--csv", "again.csv"]) == 130
    assert not (place / "again.csv").exists()
    assert answer.main(["smear", "--csv", "again.csv"]) == 0
    assert asked == [64, 6, 6]
    told = capsys.readouterr().err
    assert "goes on after 64 of 70" in told
    assert "--hospital FOLDER" in told  # of one place, it seems
    assert (place / "again.csv").read_bytes() == (place / "whole.csv").read_bytes()


def test_the_scale_of_a_place_is_that_of_its_usual_cell(place, capsys):
    """As for a hospital that trains: the median radius; too few cells are a line."""
    write_cells(place / "smear", "monocyte", 20)
    (place / "large.png").write_bytes(encode(draw_cell("basophil", radius=40)))
    assert answer.main(["large.png", "--hospital", "smear", "--json", "a.json"]) == 0
    assert answer.main(["large.png", "--json", "b.json"]) == 0
    usual, own = (json.loads((place / name).read_text()) for name in ("a.json", "b.json"))
    assert usual["pictures"][0]["radius"] == pytest.approx(27, abs=1.5)
    assert own["pictures"][0]["radius"] == pytest.approx(40, abs=1.5)
    assert (usual["model"]["scale"], own["model"]["scale"]) == (
        "hospital", "each picture's own cell"
    )  # fmt: skip
    capsys.readouterr()
    assert answer.main(["large.png", "--hospital", "large.png"]) == 1
    assert "a usual cell takes 20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "PICTURE"),
        (["x.png", "--explain"], 2, "--html"),
        (["x.png", "--csv", "a", "--json", "./a"], 2, "same file"),
        (["x.png", "--model", "nowhere"], 1, "nowhere"),
        (["x.png", "--csv", "data"], 1, "data cannot be written"),
        (["x.png", "--hospital", "gone"], 1, "--hospital gone"),
    ],
)
def test_wrong_usage_is_one_line(place, capsys, arguments, code, words):
    """2 for usage, 1 for the rest; nothing is written."""
    write_cells(place, "monocyte", 1)
    before = sorted(place.rglob("*"))
    try:
        found = answer.main(arguments)
    except SystemExit as stopped:
        found = stopped.code
    assert found == code
    assert words in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_the_command_starts_without_tensorflow(place):
    """Help, wrong usage and the Python function's import load none; the stage still is one."""
    script = (
        "import sys; from stages.answering import answers; from stages.tools import answer;"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    write_cells(place, "monocyte", 1)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.predict", "monocyte_0.png", "./gone.png"],
        cwd=place, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "monocyte_0.png: " in done.stdout
    assert "no such file" in done.stdout
    assert "Traceback" not in done.stderr


def test_answers_may_lie_among_the_pictures(place, capsys):
    """Asked again, the files of the first run are no pictures that cannot be read."""
    write_cells(place / "smear", "monocyte", 1)
    asked = ["smear", "--csv", "smear/a.csv", "--html", "smear/a.html"]
    for _ in range(2):
        assert answer.main(asked) == 0
        assert "1 pictures: " in capsys.readouterr().out
        (place / "smear/a.csv.partial").write_bytes(b"")  # as after a kill
    assert [row["picture"] for row in read_csv(place / "smear/a.csv")] == ["smear/monocyte_0.png"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("smear/monocyte_0.png", "a picture or an archive"),
        ("note.csv", "you ask about it"),
        ("note.csv/a.csv", "is no folder"),
        ("/dev/null", "no file"),
    ],
)
def test_nothing_of_a_persons_is_overwritten(place, capsys, target, words):
    """A picture, what is asked about, a device: refused before a model is loaded."""
    write_cells(place / "smear", "monocyte", 1)
    (place / "note.csv").write_text("mine")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert answer.main(["smear", "note.csv", "--csv", target, "--model", "nowhere"]) == 1
    assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_wrong_number_of_processes_begins_no_file(place, monkeypatch, capsys):
    """One line, and the folder is as before."""
    write_cells(place / "smear", "monocyte", 1)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "x")
    assert answer.main(["smear", "--csv", "a.csv"]) == 1
    assert "SMEARFLOW_WORKERS is 'x'" in capsys.readouterr().err
    assert not list(place.glob("a.csv*"))


def test_only_files_are_said_to_go_on_after_an_interrupt(place, monkeypatch, capsys):
    """Lines in a terminal begin anew."""
    write_cells(place / "smear", "monocyte", 1)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.AnsweringModel, "answer", stop)
    assert answer.main(["smear"]) == 130
    assert "goes on" not in capsys.readouterr().err
    assert answer.main(["smear", "--csv", "a.csv"]) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["scale", "pictures", "model", "promise", "explain", "nothing"])
def test_answers_to_another_question_are_not_taken_over(place, made, monkeypatch, capsys, change):
    """After a stop: only the same model, scale, pictures and page go on."""
    write_cells(place / "smear", "monocyte", 20)
    [more] = write_cells(place / "more", "basophil", 1)
    asked = ["smear", "--html", "a.html"]
    with monkeypatch.context() as patch:
        patch.setattr(answer, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # all is answered, and nothing written
            answer.main(asked)
    assert (place / "a.html.partial").exists()
    other = {
        "scale": ["--hospital", "smear"], "explain": ["--explain"], "pictures": [str(more)],
        "promise": ["--model", str(write_export(place / "other", temperature=2.0))],
        "model": [], "nothing": [],
    }  # fmt: skip
    if change == "model":
        real = model.AnsweringModel.trace.fget
        trace = property(lambda self: real(self) | {"commit": "another"})
        monkeypatch.setattr(model.AnsweringModel, "trace", trace)
    capsys.readouterr()
    assert answer.main([*asked, *other[change]]) == 0
    told = capsys.readouterr().err
    assert ("goes on after" in told) == (change == "nothing")
    assert ("--hospital FOLDER" in told) == (change != "scale")


def test_the_scale_of_another_place_is_another_question(place, monkeypatch, capsys):
    """Both runs have a place's scale, and it differs."""
    write_cells(place / "smear", "monocyte", 20)
    (place / "large").mkdir()
    for number in range(20):
        cell = draw_cell("monocyte", number, radius=40)
        (place / f"large/{number}.png").write_bytes(encode(cell))
    with monkeypatch.context() as patch:
        patch.setattr(answer, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            answer.main(["smear", "--csv", "a.csv", "--hospital", "smear"])
    capsys.readouterr()
    assert answer.main(["smear", "--csv", "a.csv", "--hospital", "large"]) == 0
    assert "goes on after" not in capsys.readouterr().err
    radii = {float(row["cell_radius_px"]) for row in read_csv(place / "a.csv")}
    assert len(radii) == 1
    assert radii.pop() > 35


def test_a_file_with_a_picture_that_was_not_read_ends_in_one(place):
    """The exit code of a run that writes files, as of one that prints."""
    assert answer.main(["gone.png", "--csv", "a.csv"]) == 1
    assert [row["verdict"] for row in read_csv(place / "a.csv")] == [model.NOT_READ]
