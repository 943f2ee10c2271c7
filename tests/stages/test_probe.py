"""probe: planted and real shortcuts are cried, honest images are not, test labels stay unread."""

import json
import logging
import pickle
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from threadpoolctl import threadpool_limits

from stages import download, probe, quality
from stages import filter as filter_stage
from stages.core.errors import TableError
from stages.core.tables import IMAGES, LABELS, QUALITY, SPLIT
from stages.shortcuts import probing, shortcut_scores
from stages.simulation import cohorts
from tests.stages.cohort import write_split

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
GROUND = np.array([228, 218, 204])
TINT = np.array([0, -14, 14])
CLASSES = ("eosinophil", "lymphocyte", "monocyte")
N_PATIENTS, PER_PATIENT = 8, 6


@pytest.fixture(autouse=True, scope="module")
def in_a_hurry():
    """A third of the trees; several threads only wait for each other on so small matrices."""
    with threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "TREES", 10)
        yield


def set_params(**groups):
    """Write params.yaml: the shipped one, with these changes."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content |= {"hospitals": ["here", "there"], "partial": []}
    content["split"] |= {"method": "grouped", "train_hospitals": ["here"], "fold": None}
    content["inputs"] |= {"crop": "cell", "hide": "nothing", "white_balance": ["none"]}
    for name, changes in groups.items():
        content[name] = changes if not isinstance(changes, dict) else content[name] | changes
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def draw_cell(seed, tint):
    """A cell that says nothing of its class, on a ground that does where it is tinted."""
    rng = np.random.default_rng(seed)
    rgb = np.full((90, 90, 3), GROUND + tint, np.float64) + rng.normal(0, 3, 3)
    canvas = np.clip(rgb, 0, 255).astype(np.uint8)
    cv2.circle(canvas, (45, 45), 20, (186, 170, 200), -1)
    cv2.circle(canvas, (45, 45), 13, (84, 50, 130), -1)
    return np.clip(canvas + rng.normal(0, 2, canvas.shape), 0, 255).astype(np.uint8)


def encode(rgb):
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


CONTENT = encode(draw_cell(0, 0))


def image_row(image_id, content, width, height):
    hospital, path = image_id.split("/", 1)
    values = {
        "image_id": image_id, "hospital": hospital, "path": path, "simulated": False,
        "place": hospital, "sha256": "0" * 64, "pixel_sha256": "0" * 64, "width": width,
        "height": height, "format": "png", "mode": "RGB", "bytes": content, "phash": bytes(32),
        "twin_group": image_id, "warnings": [],
    }  # fmt: skip
    return {name: values.get(name) for name in IMAGES.schema.names}


def write_tables(rows, labels):
    """Write images, quality, labels and split; `labels` has image_id, label, group and part."""
    images = pd.DataFrame(rows)
    labels = labels.assign(hospital=labels["image_id"].str.split("/").str[0])
    for hospital, own in images.groupby("hospital"):
        IMAGES.write(own, hospital)
        quality.main(hospital)
    split = labels.assign(twin_group=labels["image_id"], left_out_reason=None)
    write_split(split)
    table = labels.assign(published_label=labels["label"], cell_type=labels["label"], patient=None,
                          slide=None, unit="patient", official_part=None,
                          official_side=None, keep=True, drop_reason=None)  # fmt: skip
    LABELS.write(table[LABELS.schema.names])


def write_cohort(tinted):
    """Hospital `here` trains, valid and test among it; `there` is unseen and has another ground."""
    rows, labels = [], []
    for hospital in ("here", "there"):
        for patient in range(N_PATIENTS):
            for number in range(PER_PATIENT):
                name = CLASSES[number % 3]
                image_id = f"{hospital}/p{patient}/{number}.png"
                tint = TINT * (tinted and hospital == "here" and name == "monocyte")
                rgb = draw_cell(len(rows), tint + 8 * (hospital == "there"))
                rows.append(image_row(image_id, encode(rgb), 90, 90))
                part = {6: "valid", 7: "test"}.get(patient, "train")
                part = "unseen" if hospital == "there" else part
                group = f"{hospital}/{patient}"
                labels.append({"image_id": image_id, "label": name, "group": group, "part": part})
    write_tables(rows, pd.DataFrame(labels))


def run():
    probe.main()
    return json.loads(Path("metrics/probe.json").read_text(encoding="utf-8"))


def results():
    paths = [Path("metrics/probe.json"), *sorted(Path("metrics/probe").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """Two projects after the stage has run: without and with a tinted class."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMEARFLOW_WORKERS", "1")
        for tinted in (False, True):
            folders[tinted] = tmp_path_factory.mktemp(f"tinted_{tinted}")
            patch.chdir(folders[tinted])
            set_params()
            write_cohort(tinted)
            probe.main()
    return folders


@pytest.fixture
def stand(projects, tmp_path, monkeypatch):
    """Go to a copy of one of the projects; return what the stage wrote there."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")

    def go(tinted):
        shutil.copytree(projects[tinted], tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return json.loads(Path("metrics/probe.json").read_text(encoding="utf-8"))

    return go


def test_a_tinted_class_is_cried_and_an_even_ground_is_not(stand):
    """The ground of monocytes tells them, at both levels; nothing else is cried."""
    content = stand(tinted=True)
    assert {(one["hospital"], one["class"]) for one in content["alarms"]} == {("here", "monocyte")}
    families = {(one["level"], one["family"]) for one in content["alarms"]}
    assert families == {
        (level, family)
        for level in ("published", "seen")
        for family in ("colour", "corners", "background", "all")
    }
    honest = stand(tinted=False)
    assert honest["alarms"] == []
    assert honest["shortcut_score"]["balanced_accuracy"]["low"] < 1 / 3
    assert content["shortcut_score"]["balanced_accuracy"]["low"] > 0.5


def test_three_processes_say_and_write_the_same(stand, monkeypatch, caplog):
    """One line for what is cried; neither a rerun nor processes change a byte."""
    stand(tinted=True)
    before = results()
    monkeypatch.setenv("SMEARFLOW_WORKERS", "3")
    caplog.set_level(logging.INFO)
    run()
    lines = [line for line in caplog.messages if "tells" in line]
    assert len(lines) == 1
    assert lines[0].startswith("probe: At here the ")
    assert "tells monocyte from the rest (AUC 1.00, 1.00 to 1.00, n 14)" in lines[0]
    assert results() == before


def test_what_is_written(stand):
    """Sizes, the hospital told by its ground, contingency, and the tables behind two plots."""
    content = stand(tinted=False)
    assert content["n_images"] == {"labelled": 42, "all": 96}
    assert content["n_images_by_hospital"] == {"here": 48, "there": 48}
    assert content["hospital_told"]["published"]["background"]["auc"]["value"] > 0.9
    assert content["held_out_by"] == "group"
    assert content["contingency"]["class_by_hospital"] == {name: {"here": 14} for name in CLASSES}
    assert content["contingency"]["cramers_v"] is None
    assert content["absent"].keys() == {"seen/size", "seen/position"}
    scores = pd.read_csv("metrics/probe/scores.csv")
    assert list(scores.columns) == [
        "level", "family", "target", "balanced_accuracy", "low", "high", "auc", "baseline",
    ]  # fmt: skip
    assert len(scores) == 2 * (8 + 4)
    counts = pd.read_csv("metrics/probe/class_by_hospital.csv")
    assert counts["n"].tolist() == [14, 14, 14]


class Enough(Exception):
    """The stage has got as far as a test looks."""


def measured(monkeypatch):
    """Return all that the report is made of, without making it: that takes seconds."""
    seen = []

    def report(*arguments):
        seen.extend(arguments)
        raise Enough

    with monkeypatch.context() as patch:
        patch.setattr(shortcut_scores, "report", report)
        with pytest.raises(Enough):
            probe.main()
    return seen


def relabel(parts, seed):
    """Shuffle the labels of some parts in both tables that hold labels, and rename some."""
    split, labels = SPLIT.read_all(["here", "there"]), LABELS.read()
    chosen = split["part"].isin(parts)
    ids = split.loc[chosen, "image_id"]
    fresh = np.random.default_rng(seed).choice([*CLASSES, "platelet"], len(ids))
    split.loc[chosen, "label"] = fresh
    new = dict(zip(ids, fresh, strict=True))
    for name in ("label", "published_label", "cell_type"):
        labels[name] = labels["image_id"].map(new).fillna(labels[name])
    write_split(split)
    LABELS.write(labels)


def test_no_label_of_a_test_or_unseen_image_is_read(stand, monkeypatch):
    """Other labels there change nothing that is scored; other labels to learn from do."""
    stand(tinted=True)
    before = pickle.dumps(measured(monkeypatch))
    relabel(("test", "unseen"), seed=1)
    assert pickle.dumps(measured(monkeypatch)) == before
    relabel(("valid",), seed=1)
    assert pickle.dumps(measured(monkeypatch)) != before


def test_no_more_images_than_asked_for(stand, monkeypatch):
    """max_images holds for all images together, and takes as many of each lot as it can."""
    stand(tinted=False)
    set_params(probe={"max_images": 100})
    more = [image_row(f"there/more/{n}.png", CONTENT, 90, 90) for n in range(60)]
    images = pd.DataFrame(more)
    IMAGES.write(pd.concat([IMAGES.read("there"), images]), "there")
    quality.main("there")
    split = images[["image_id", "hospital"]].assign(
        label="monocyte", group="there/more", twin_group=images["image_id"], part="unseen",
        left_out_reason=None,
    )  # fmt: skip
    SPLIT.write(pd.concat([SPLIT.read("there"), split]), "there")
    chosen, measures, *_ = measured(monkeypatch)
    # The lots: three classes of 14, 6 test images here, and 108 images there.
    assert chosen["label"].notna().sum() == 42
    assert chosen["hospital"].value_counts().to_dict() == {"here": 48, "there": 52}
    assert sorted(measures.index) == sorted(chosen["image_id"])


def test_left_out_images_take_no_part(stand, monkeypatch):
    """What the split leaves out is not measured."""
    stand(tinted=False)
    SPLIT.write(SPLIT.read("there").assign(part="left_out"), "there")
    chosen, measures, *_ = measured(monkeypatch)
    assert set(chosen["hospital"]) == {"here"}
    assert len(measures) == len(chosen) == 48


@pytest.mark.parametrize("method", ["random", "official", "cohort"])
def test_leaky_methods_hold_out_single_images(stand, monkeypatch, method):
    """Folds follow the method of the split."""
    stand(tinted=False)
    set_params(split={"method": method})
    *_, by_image, _alarm, _seed = measured(monkeypatch)
    assert by_image == (method != "cohort")


def test_a_copy_at_another_training_hospital_is_held_out_too(tmp_path, monkeypatch):
    """Each picture stands at two hospitals, in groups of their own; its label is drawn by lot.

    A model that learns from one copy and is asked about the other remembers it: .66, where
    chance is .33.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    set_params(split={"train_hospitals": ["here", "there"]})
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for number in range(30):
        name = str(rng.choice(CLASSES))
        content = encode(draw_cell(number, 0))
        for hospital in ("here", "there"):
            for copy in range(2):
                image_id = f"{hospital}/{number:02d}_{copy}.png"
                rows.append(image_row(image_id, content, 90, 90))
                group = f"{hospital}/{number:02d}_0.png"
                labels.append(
                    {"image_id": image_id, "label": name, "group": group, "part": "train"}
                )
    write_tables(rows, pd.DataFrame(labels))
    for hospital in ("here", "there"):
        split = SPLIT.read(hospital)
        SPLIT.write(split.assign(twin_group="here" + split["group"].str[-9:]), hospital)
    chosen, measures, *_ = measured(monkeypatch)
    rows = chosen.set_index("image_id")
    question = probing.ask(rows["label"], rows["group"], by_image=False, seed=1)
    told = shortcut_scores.score(question, probing.answer(question, measures, 1), 1)["seen"]["all"]
    assert told["n_groups"] == 30
    assert told["balanced_accuracy"]["value"] < 0.45


def test_nothing_is_left_to_see_without_background(stand):
    """Where the background is hidden, what the network sees has no score, for a reason."""
    stand(tinted=True)
    set_params(inputs={"hide": "background"})
    content = run()
    assert content["shortcut_score"] is None
    assert content["shortcut_score_reason"]
    assert content["absent"]["seen/background"].startswith("inputs.hide is background")
    assert {one["level"] for one in content["alarms"]} == {"published"}


@pytest.mark.parametrize("table", [IMAGES, QUALITY])
def test_a_missing_row_stops_the_stage(stand, table):
    """Tables that are out of step end with one line, and nothing is written."""
    stand(tinted=False)
    before = results()
    table.write(table.read("here").iloc[:-1], "here")
    with pytest.raises(TableError, match=r"no row of 1 pictures .*here/p7/5.png.*dvc repro"):
        probe.main()
    assert results() == before


# -- drawn smears --------------------------------------------------------------------------------


def write_smears(colour_shortcut):
    """The images of one simulated hospital, all of them to learn from."""
    cells = dict.fromkeys((*CLASSES, "basophil"), 1.0)
    spec = cohorts.SmearSpec(
        seed=5, n_images=100, n_patients=10, classes=cells, colour_shortcut=colour_shortcut,
        style={"width": 200, "height": 200, "px_per_um": 6.0},
    )  # fmt: skip
    cohorts.publish(spec, "here", Path("here.zip"))
    truth = cohorts.truth(spec, "here")
    with zipfile.ZipFile("here.zip") as archive:
        rows = [
            image_row(image_id, archive.read(path), 200, 200)
            for image_id, path in zip(truth["image_id"], truth["path"], strict=True)
        ]
    labels = truth.rename(columns={"published_label": "label", "patient": "group"})
    write_tables(rows, labels[["image_id", "label", "group"]].assign(part="train"))


@pytest.mark.parametrize(("colour_shortcut", "n_told"), [(0.0, 0), (1.0, 4)])
def test_the_colour_shortcut_of_drawn_smears(tmp_path, monkeypatch, colour_shortcut, n_told):
    """A tinted ground is cried for every class, until the white point hides it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    alone = {"hospitals": ["here"]}
    set_params(**alone)
    write_smears(colour_shortcut)
    content = run()
    for level in ("published", "seen"):
        told = {one["class"] for one in content["alarms"] if one["level"] == level}
        assert len(told) == n_told
    if colour_shortcut == 1:
        set_params(**alone, inputs={"white_balance": ["white_point"]})
        assert {one["level"] for one in run()["alarms"]} == {"published"}


# -- real images ---------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not at hand")
def test_the_campaign_of_the_basophils_of_raabin_is_found(tmp_path, monkeypatch):
    """The background tells that they were taken elsewhere, and tells no other class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_MIRROR", str(SHARED))
    Path("data").mkdir()
    shutil.copy(ROOT / "data/hospitals.yaml", "data/hospitals.yaml")
    set_params(hospitals=["raabin"], split={"train_hospitals": ["raabin"]},
               inputs={"white_balance": ["white_point", "grey_world"]})  # fmt: skip
    download.main("raabin")
    filter_stage.main("raabin")
    images = IMAGES.read("raabin").iloc[::2]
    IMAGES.write(images, "raabin")
    quality.main("raabin")
    split = images.rename(columns={"published_label": "label"}).assign(
        group=images["slide"].fillna(images["image_id"]), twin_group=images["image_id"],
        part="train", left_out_reason=None,
    )  # fmt: skip
    write_split(split)
    content = run()
    assert {one["class"] for one in content["alarms"]} == {"Basophil"}
    families = {one["family"] for one in content["alarms"] if one["level"] == "seen"}
    assert {"background", "colour"} <= families
    assert min(one["n_groups"] for one in content["alarms"]) >= 3
