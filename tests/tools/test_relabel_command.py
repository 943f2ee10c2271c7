"""labels diff: which images change class, in the real command and by git revisions."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.core.errors import HospitalError, PipelineError
from stages.core.tables import PREDICTIONS
from stages.tools import relabel
from tests.projects import Project
from tests.stages.cohort import (
    CODES,
    picture_rows,
    write_label_map,
    write_pictures,
    write_project,
    write_reviews,
)

DRAWN = {"title": "t", "licence": "l", "citation": "c", "simulated": {"seed": 1}}
NEWER = CODES | {"MO": "lymphocyte"}


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """Three made hospitals, whose label maps are committed; a is simulated."""
    monkeypatch.chdir(tmp_path)
    write_cohort(tmp_path)
    git("init", "-q", "-b", "main")
    git("add", "data/labels")
    git("commit", "-q", "-m", "start")
    return tmp_path


def git(*words):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *words], check=True)


def write_cohort(folder):
    write_project(folder)
    blocks = {name: DRAWN | {"simulated": None, "folder": "x"} for name in "bc"} | {"a": DRAWN}
    (folder / "data/hospitals.yaml").write_text(yaml.safe_dump(blocks), encoding="utf-8")
    write_pictures(pd.concat([picture_rows(name) for name in "abc"]))


def write_predictions(rows):
    """Store the answers of a model: (image_id, predicted); of the other hospitals none."""
    frame = pd.DataFrame(rows, columns=["image_id", "predicted"])
    frame = frame.assign(hospital=frame["image_id"].str[0], part="test")
    for hospital in "abc":
        PREDICTIONS.write(frame[frame["hospital"] == hospital], hospital)


def answer(hospital, **wrong):
    """Every image of a hospital called what it is, but for the images of the named labels."""
    rows = picture_rows(hospital)
    truth = rows["published_label"].map(CODES)
    return list(zip(rows["image_id"], truth.replace(wrong), strict=True))


def changed():
    return pd.read_csv("metrics/labels/diff.csv", keep_default_na=False)


def test_two_taxonomies(at_work, capsys):
    """24 segmented neutrophils at each of three hospitals come under another name."""
    relabel.diff("cells11", "cells8_lenet")
    told = capsys.readouterr().out
    assert "72 of 216 images change class; 0 of them lose theirs, 0 had none" in told
    rows = [line.split() for line in told.splitlines() if line.startswith(("a ", "b ", "c "))]
    assert rows == [[h, "SNE", "segmented_neutrophil", "neutrophil", "24"] for h in "abc"]
    assert max(map(len, told.splitlines())) <= 100
    frame = changed()
    assert list(frame) == ["image_id", "hospital", "published_label", "before", "after"]
    assert len(frame) == frame["image_id"].nunique() == 72
    assert set(frame["after"]) == {"neutrophil"}
    assert "Stored predictions" not in told


def test_a_class_that_is_lost(at_work, capsys):
    """The cascade's second model has no monocytes of their own; bloodmnist8 has."""
    relabel.diff("bloodmnist8", "six_cascade")
    frame = changed()
    assert dict(frame.groupby(["before", "after"]).size()) == {
        ("lymphocyte", "other"): 72,
        ("monocyte", "other"): 72,
        ("neutrophil", "segmented_neutrophil"): 72,
    }
    relabel.diff("cells11", "leukaemia3")
    assert "216 of 216 images change class; 216 of them lose theirs" in capsys.readouterr().out
    assert set(changed()["after"]) == {""}


def test_nothing_changes_between_a_scheme_and_itself(at_work, capsys):
    relabel.diff("cells11", "cells11")
    assert "0 of 216 images" in capsys.readouterr().out
    assert changed().empty


@pytest.mark.parametrize("names", [("main:data/labels/b.csv", "data/labels/b.csv")])
def test_two_versions_of_a_label_map(at_work, capsys, names):
    """The committed one against that of the working tree; other hospitals are not looked at."""
    write_label_map(at_work, "b", NEWER)
    write_label_map(at_work, "c", NEWER)
    relabel.diff(*names)
    told = capsys.readouterr().out
    assert "24 of 72 images change class" in told
    assert set(changed()["hospital"]) == {"b"}
    assert set(changed()["published_label"]) == {"MO"}
    assert set(changed()["after"]) == {"lymphocyte"}


def test_an_experiment_s_label_map(at_work, capsys):
    """By the name that DVC gave it."""
    write_label_map(at_work, "b", NEWER)
    git("commit", "-q", "-a", "-m", "experiment")
    head = subprocess.check_output(["git", "rev-parse", "HEAD~1"], text=True).strip()
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/tarry-loon", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    relabel.diff("data/labels/b.csv", "tarry-loon:data/labels/b.csv")
    assert "24 of 72 images change class" in capsys.readouterr().out


def test_a_label_that_one_version_lacks_is_in_no_class(at_work, capsys):
    """Adding a line brings its images in."""
    write_label_map(at_work, "b", {name: CODES[name] for name in ("SNE", "LY")})
    git("commit", "-q", "-a", "-m", "before MO was known")
    write_label_map(at_work, "b", CODES)
    relabel.diff("HEAD:data/labels/b.csv", "data/labels/b.csv")
    assert "24 of 72 images change class; 0 of them lose theirs, 24 had none" in (
        capsys.readouterr().out
    )


def test_stored_predictions_are_scored_by_both_schemes(at_work, capsys):
    """Segmented neutrophils called band are wrong in eleven classes and right in eight."""
    write_predictions(answer("a", segmented_neutrophil="band_neutrophil") + answer("b"))
    relabel.diff("cells11", "cells8_lenet")
    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines() if line.startswith("kept")]
    assert [row[-6:] for row in rows[:2]] == [
        ["0.8333", "0.7640", "to", "0.8854", "144", "0"],
        ["1.0000", "0.9740", "to", "1.0000", "144", "0"],
    ]
    assert "Simulated, no evidence of accuracy on real cells: a." in told


def test_another_map_moves_the_truth_and_not_the_answers(at_work, capsys):
    """The monocytes that are now lymphocytes were called monocytes; hospital a is not scored."""
    write_predictions(answer("a", monocyte="lymphocyte") + answer("b"))
    write_label_map(at_work, "b", NEWER)
    relabel.diff("main:data/labels/b.csv", "data/labels/b.csv")
    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines() if line.startswith("kept")]
    assert [(row[-6], row[-2], row[-1]) for row in rows[:2]] == [
        ("1.0000", "72", "0"),
        ("0.6667", "72", "0"),
    ]
    assert "Simulated" not in told


def test_validation_images_are_not_scored(at_work, capsys):
    """Half of the answers are of validation images, all wrong."""
    write_predictions(answer("b"))
    stored = PREDICTIONS.read("b")
    validates = stored.index % 2 == 0
    wrong = stored["predicted"].map({"monocyte": "lymphocyte"}).fillna("monocyte")
    called = stored["predicted"].mask(validates, wrong)
    part = stored["part"].mask(validates, "valid")
    PREDICTIONS.write(stored.assign(predicted=called, part=part), "b")
    relabel.diff("cells11", "cells11")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    kept = [row for row in rows if row[:1] == ["kept"]]
    assert [(row[-6], row[-2]) for row in kept] == [("1.0000", "36")] * len(kept)
    assert kept


def test_predictions_of_another_taxonomy_are_told_and_not_scored(at_work, capsys):
    write_predictions([("a/p00/0.jpg", "neutrophil")])
    relabel.diff("cells11", "cells8_lenet")
    told = capsys.readouterr().out
    assert "No scores: data/predictions is of another taxonomy than cells11" in told
    assert "72 of 216 images" in told


def test_the_list_of_a_second_run_has_the_same_bytes(at_work):
    relabel.diff("cells11", "shared5")
    first = Path("metrics/labels/diff.csv").read_bytes()
    relabel.diff("cells11", "shared5")
    assert Path("metrics/labels/diff.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cells_11", "shared5"), r"diff: 'cells_11' is not in .* Did you mean 'cells11'\?"),
        (("cells11", "shared_5"), r"Did you mean 'shared5'\?"),
        (("cells11", "data/labels/a.csv"), "is a label map and 'cells11' is none"),
        (("main:data/labels/a.csv", "data/labels/b.csv"), "of two hospitals, 'a' and 'b'"),
        (("mian:data/labels/a.csv", "data/labels/a.csv"), r"'mian' is no .*Did you mean 'main'"),
        (("main:data/label/a.csv", "data/labels/a.csv"), "main holds no file 'data/label/a.csv'"),
        (("main:data/labels/a.csv", "data/label/a.csv"), "data/label/a.csv is not here"),
        (("main:data/labels/d.csv", "data/labels/d.csv"), "'d', which is not in hospitals"),
    ],
)
def test_what_cannot_be_compared_is_named_and_writes_nothing(at_work, names, message):
    with pytest.raises(PipelineError, match=message):
        relabel.diff(*names)
    assert not Path("metrics").exists()


def test_a_wrong_line_is_named_with_its_revision(at_work):
    write_label_map(at_work, "b", {"SNE": "segmented_neutrofil"})
    git("commit", "-q", "-a", "-m", "misspelt")
    write_label_map(at_work, "b", CODES)
    with pytest.raises(HospitalError, match=r"HEAD:data/labels/b.csv, line 2: .*Did you mean"):
        relabel.diff("HEAD:data/labels/b.csv", "data/labels/b.csv")


def test_a_label_outside_today_s_map_stops_as_in_harmonise(at_work):
    write_label_map(at_work, "c", {"SNE": "segmented_neutrophil", "LY": "lymphocyte"})
    with pytest.raises(HospitalError, match=r"data/labels/c.csv has no line for 1 .*'MO'"):
        relabel.diff("cells11", "shared5")


def test_the_command_ends_as_commands_do(tmp_path, monkeypatch):
    """0 with a table; 1 in one line for what is not there; 2 for wrong usage."""
    project = Project(tmp_path / "smearflow")
    monkeypatch.chdir(project.folder)
    write_cohort(project.folder)
    project.commit("start")
    done = project.stage("tools.relabel", "diff", "main:data/labels/a.csv", "data/labels/a.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 of 72 images change class" in done.stdout
    done = project.stage("tools.relabel", "diff", "cells11", "cells12")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("relabel: diff: 'cells12' is not in data/taxonomies.csv.")
    assert len(done.stderr.splitlines()) == 1
    for words in ((), ("show", "a", "b")):
        done = project.stage("tools.relabel", *words)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: python -m stages.tools.relabel")
        assert "Traceback" not in done.stderr


def test_reviewed_images_are_what_people_saw(at_work, capsys):
    """Of the 24 segmented neutrophils of a, one is a monocyte and one no cell: 22 change class."""
    write_reviews(at_work, "a/p00/0.jpg,monocyte,,Berg,", "a/p00/3.jpg,,,Berg,")
    write_predictions(answer("a"))
    relabel.diff("cells11", "cells8_lenet")
    told = capsys.readouterr().out
    assert "70 of 215 images change class" in told
    assert not {"a/p00/0.jpg", "a/p00/3.jpg"} & set(changed()["image_id"])
    write_label_map(at_work, "a", NEWER)
    relabel.diff("HEAD:data/labels/a.csv", "data/labels/a.csv")
    assert "24 of 71 images change class" in capsys.readouterr().out  # not the reviewed monocyte
