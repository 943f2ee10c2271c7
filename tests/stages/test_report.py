"""The report on the demo's metrics and a handful of made tables: one page, two experiments."""

import base64
import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from stages import report
from stages.core import params
from stages.core.errors import ParamsError, PipelineError
from stages.core.tables import LABELS, PREDICTIONS, REJECTED, SPLIT
from stages.datasets import contents
from stages.datasets.hospitals import Hospital
from tests.made.shipped import demo_params
from tests.projects import ROOT

HOSPITALS = ("demo_east", "demo_north", "demo_west")
PARTS = {"demo_east": "test", "demo_north": "test", "demo_west": "unseen"}
EVIL = "<script>alert(1)</script>"
N = 20


def write_png(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = cv2.imencode(".png", np.full((64, 64, 3), colour, np.uint8))[1].tobytes()
    path.write_bytes(content)
    return content


def write_tables(n_wrong=0):
    """Labels, split and predictions: a class, each picture a group, the first `n_wrong` wrong."""
    every = []
    for hospital in HOSPITALS:
        ids = [f"{hospital}/{place:02d}.png" for place in range(N)]
        images = pd.DataFrame({"image_id": ids, "hospital": hospital})
        scored = images.assign(part=PARTS[hospital])
        split = scored.assign(label="monocyte", group=ids, twin_group=ids, left_out_reason=None)
        SPLIT.write(split, hospital)
        called = ["basophil"] * n_wrong + ["monocyte"] * (N - n_wrong)
        PREDICTIONS.write(scored.assign(predicted=called, p_monocyte=0.5), hospital)
        every.append(
            images.assign(
                published_label=EVIL, cell_type="monocyte", label="monocyte", patient=None,
                slide=None, group=ids, unit="image", official_part=None, official_side=None,
                keep=True, drop_reason=None,
            )
        )  # fmt: skip
    LABELS.write(pd.concat(every))


def write_raw(hospital):
    """An archive with a rejected picture and a broken file, and the table that names both."""
    folder = Path("data/raw") / hospital
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "made.zip", "w") as archive:
        archive.writestr("blank.png", write_png(Path("blank.png"), (40, 90, 200)))
        archive.writestr("broken.png", b"no picture")
    block = {"title": EVIL, "licence": "none", "citation": "none", "page": None}
    hospital_block = Hospital.model_validate(
        {**block, "folder": "nowhere", "layout": {"image": r"(?P<label>\w+)\.png"}}
    )
    contents.write(hospital_block, folder)
    rows = [
        {
            "image_id": f"{hospital}/{name}.png", "hospital": hospital, "path": f"{name}.png",
            "published_label": None, "patient": None, "slide": None, "pixel_sha256": None,
            "reason": reason, "detail": "as it is",
        }
        for name, reason in (("blank", "blank"), ("broken", "unreadable"))
    ]  # fmt: skip
    REJECTED.write(pd.DataFrame(rows), hospital)
    about = Path("data/about")
    about.mkdir(exist_ok=True)
    (about / f"{hospital}.json").write_text(json.dumps(block), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The demo's metrics, tables of a few rows, and archives of two files."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(
        ROOT / "metrics", "metrics", ignore=shutil.ignore_patterns("report", "timing", "*.png")
    )
    content = demo_params() | {"attributes": {"tables": [str(tmp_path / "secret/wbc.csv")]}}
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for hospital in HOSPITALS:
        write_raw(hospital)
    write_tables()
    confusion = pd.DataFrame({"hospital": "demo_east", "part": "test", "actual": ["a", "a"],
                              "predicted": ["a", "b"]})  # fmt: skip
    confusion.to_csv("metrics/evaluate/confusion.csv", index=False)
    for name in ("bias/examples", "gallery/errors"):
        write_png(Path(f"metrics/{name}.png"), (200, 30, 60))
    Path("data/model").mkdir()
    Path("data/model/card.json").write_text("{}", encoding="utf-8")
    shutil.copy(ROOT / "data/recipe.json", "data/recipe.json")
    return tmp_path


def read_page(path=report.PAGE):
    return path.read_text(encoding="utf-8")


def section(page, name):
    """The text of a section."""
    start = page.index(f'<section aria-labelledby="{name}"')
    return page[start : page.index("</section>", start)]


def edit(name, change):
    path = Path(name)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_one_page_that_needs_no_network_and_tells_no_path(project):
    """The same bytes twice; no script, no address but data, no folder of ours or of an expert."""
    report.main(None)
    page = read_page()
    report.main(None)
    assert read_page() == page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page
    linked = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(one.startswith(("#", "data:image/jpeg;base64,")) for one in linked)
    names = set(re.findall(r'<h2 id="(\w+)"', page))
    assert {one[1:] for one in linked if one.startswith("#")} == names - {"contents"}
    assert str(project) not in page
    assert "- wbc.csv" in page
    assert [path.name for path in Path("metrics/report").iterdir()] == ["index.html"]


@pytest.mark.usefixtures("project")
def test_a_rejected_picture_is_shown_where_it_can_be_decoded():
    """In its own colours; what nothing opens stands in the counts alone."""
    report.main(None)
    own = section(read_page(), "pictures")
    [head, *shown] = own.split("<h3>Rejected: ")
    assert "called a picture" not in "".join(shown)
    assert len(shown) == 1
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', shown[0])
    assert len(sources) == len(HOSPITALS)
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(sources[0]), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(pixels.mean((0, 1)) - (40, 90, 200)).max() < 4
    assert "demo_east/blank.png" in shown[0]
    assert "Files by hospital" in head


@pytest.mark.usefixtures("project")
def test_a_stage_that_has_not_run_leaves_a_line_and_the_rest_stands():
    shutil.rmtree("metrics/quality")
    for name in ("novelty", "suspects", "validate"):
        Path(f"metrics/{name}.json").unlink()
    Path("data/labels.parquet").unlink()
    report.main(None)
    page = read_page()
    for name in ("colours", "novelty", "labels"):
        assert "Not told: " in section(page, name)
        assert "dvc repro" in section(page, name)
    assert "Stage validate has not run" in section(page, "pictures")
    assert "Not told" not in section(page, "scores")
    assert section(page, "evidence").count("<img") == 0  # no sheet of maps is there
    assert section(page, "bias").count("<img") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("probe", "{}"), ("evaluate", "[]"), ("train", "<html>"), ("split", '{"leaks": 3}')],
)
@pytest.mark.usefixtures("project")
def test_metrics_that_no_stage_wrote_are_refused_in_a_line(name, content):
    """And the page of before is left as it was."""
    report.PAGE.parent.mkdir()
    report.PAGE.write_text("before", encoding="utf-8")
    Path(f"metrics/{name}.json").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"not as the stages write them.*dvc repro"):
        report.main(None)
    assert read_page() == "before"
    assert [path.name for path in report.PAGE.parent.iterdir()] == ["index.html"]


@pytest.mark.usefixtures("project")
def test_a_wrong_parameter_is_told_as_ever():
    params.PARAMS_FILE.write_text("seed: x", encoding="utf-8")
    with pytest.raises(ParamsError):
        report.main(None)


@pytest.mark.usefixtures("project")
def test_checksums_are_those_of_the_files():
    import hashlib

    report.main(None)
    own = section(read_page(), "inputs")
    for path in ("data/labels.parquet", "data/model/card.json", "data/raw/demo_east/made.zip"):
        assert path in own
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() in own


@pytest.fixture
def versioned(project, monkeypatch):
    """The project in Git and DVC, then three more errors in the working tree."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*words):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
        subprocess.run(command, capture_output=True, check=True)

    git("init", "-q", "-b", "main")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DVC's own, of its library
        Repo.init().add(["data/split", "data/predictions"])
    git("add", "-f", "params.yaml", "metrics", "data/recipe.json", "data/split.dvc",
        "data/predictions.dvc", ".dvc/config")  # fmt: skip
    git("commit", "-q", "-m", "before")
    git("branch", "issue/before")
    for table in (SPLIT, PREDICTIONS):
        shutil.rmtree(table.at("demo_east").parent)
    write_tables(n_wrong=8)
    edit("metrics/summary.json",
         lambda content: content["unseen_mean"]["macro_f1"].update(value=0.123))  # fmt: skip
    asked = yaml.safe_load(params.PARAMS_FILE.read_text(encoding="utf-8"))
    asked["split"]["test"] = 0.3
    params.PARAMS_FILE.write_text(yaml.safe_dump(asked), encoding="utf-8")
    return project


@pytest.mark.usefixtures("versioned")
def test_another_revision_is_put_beside_this_one():
    """Its parameters, numbers and answers, out of Git and of DVC's cache; a branch with a slash."""
    report.main("issue/before")
    page = read_page(report.AGAINST)
    assert "beside issue/before" in page
    assert re.search(r"split\.test</th><td[^>]*>0\.3</td><td[^>]*>0\.2<", page)
    assert "0.123 (" in section(page, "numbers")
    told = section(page, "chance")
    assert "more than chance at 3 of 3 hospitals" in told
    assert "issue/before is better at 3" in told
    assert not report.PAGE.exists()


@pytest.mark.usefixtures("versioned")
def test_what_cannot_be_compared_leaves_a_line_and_the_rest_stands():
    split = SPLIT.read("demo_west")
    SPLIT.write(split.assign(label="basophil"), "demo_west")
    report.main("main")
    page = read_page(report.AGAINST)
    told = section(page, "chance")
    assert "Not told: this experiment and main give 20 images different labels" in told
    assert "0.123 (" in section(page, "numbers")


@pytest.mark.usefixtures("versioned")
def test_an_unknown_revision_is_refused_and_nothing_is_written():
    with pytest.raises(PipelineError, match=r"'mian' is no commit.* Did you mean 'main'\?"):
        report.main("mian")
    assert not report.AGAINST.exists()


def test_the_command_takes_a_revision(tmp_path):
    """As a user types it; outside of a project the one line says what is missing."""
    command = [sys.executable, "-m", "stages.report", "--against", "main"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("report: params.yaml is missing.")
    assert len(done.stderr.splitlines()) == 1
