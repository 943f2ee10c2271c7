"""The bias stage on real models whose calls follow the background alone, or the cell alone."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import bias, quality
from stages.core import backend
from stages.core.errors import ModelError, TableError
from stages.core.params import InputsParams
from stages.core.tables import IMAGES, PREDICTIONS, QUALITY, SPLIT
from stages.evaluation import doubt
from stages.images import contact_sheets
from stages.inputs import preparation, reading
from stages.models import networks, predicting, rows, trained
from stages.models.recipes import EnsembleRecipe
from stages.shortcuts import perturbations, survival
from tests.made.lenets import CLASSES, CORNER, LENET, MIDDLE, made_lenet
from tests.stages.cohort import ROOT, write_project
from tests.stages.test_quality import image_row

HOSPITALS = ("north", "east")
N_IMAGES = 12
BLUE_GROUND, YELLOW_GROUND, GREY_GROUND = (205, 220, 245), (245, 230, 205), (232, 232, 232)
BLUE_CELL, RED_CELL = (80, 110, 190), (190, 110, 80)
FILES = ("metrics/bias.json", "metrics/bias/examples.png")


def draw_smear(number, ground, cell, corner=None):
    """A cell of some size somewhere near the middle, and maybe a coloured corner."""
    rng = np.random.default_rng(number)
    rgb = np.full((120, 120, 3), ground, np.uint8)
    place = tuple(map(int, rng.integers(54, 66, 2)))
    cv2.circle(rgb, place, int(rng.integers(24, 30)), cell, -1)
    if corner:
        rgb[:24, :24] = corner
    return rgb


def write_hospital(hospital, grounds, corners=(None,)):
    """Images whose ground and cell are coloured independently, with their measures."""
    rows = []
    for number in range(N_IMAGES):
        ground = grounds[number % len(grounds)]
        cell = (BLUE_CELL, RED_CELL)[number // 2 % 2]
        image_id = f"{hospital}/{number:03d}.png"
        rgb = draw_smear(number, ground, cell, corners[number % len(corners)])
        row = image_row(number, rgb)
        names = {"image_id": image_id, "hospital": hospital, "twin_group": image_id}
        rows.append(row | names)
    IMAGES.write(pd.DataFrame(rows), hospital)
    quality.main(hospital)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two hospitals: north's ground is blue or yellow, east's is always grey."""
    return make_hospitals(tmp_path_factory.mktemp("made"), (BLUE_GROUND, YELLOW_GROUND))


def make_hospitals(folder, grounds, corners=(None,), tests=("hide",)):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SMEARFLOW_WORKERS", "1")
        rule = {"max_images": 200, "most_confident": 1.0, "tests": list(tests)}
        write_params(folder, bias=rule)
        write_hospital("north", grounds, corners)
        write_hospital("east", (GREY_GROUND,))
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of them, without a model."""
    return go_to_copy(made, tmp_path, monkeypatch)


def go_to_copy(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    return tmp_path


def write_params(folder, **changes):
    groups = {"bias": {"max_images": 200, "most_confident": 1.0, "tests": ["hide"]}}
    write_project(folder, HOSPITALS, **(groups | changes))


def rule(**changes):
    """As published: with another balance the colour of the ground would be gone."""
    settings = {
        "crop": "cell", "scale": "hospital", "half_side": 1.5, "white_balance": ["none"],
        "hide": "nothing",
    }  # fmt: skip
    return InputsParams(**(settings | changes))


def write_lenet(looks_at, unsure=0.0, **changes):
    """Keep a made LeNet, and what it calls every image, as train and predict would."""
    network = made_lenet(looks_at, CORNER if looks_at == "ground" else MIDDLE, unsure)
    model = trained.SingleModel(CLASSES, LENET, rule(**changes), (32, 32, 3), network)
    keep(model)


def keep(model):
    """Save a model, and the tables that predict would write."""
    trained.save(model, bias.MODEL)
    for hospital in HOSPITALS:
        write_predictions(hospital, trained.predict_images(model, read_rows(model, hospital)))


def read_rows(model, hospital, hide="nothing"):
    """The rows of all images of a hospital that a model takes, read here once more."""
    inputs = model.inputs.model_copy(update={"hide": hide})
    stream = partial(reading.stream_pictures, hospital, inputs)
    return rows.read(model.recipe, stream, inputs, plain_only=True)


def write_predictions(hospital, probabilities):
    chosen = pd.DataFrame({"image_id": probabilities.index, "hospital": hospital})
    chosen["part"] = {"north": "test", "east": "unseen"}[hospital]
    table = predicting.tabulate(chosen, probabilities, CLASSES)
    PREDICTIONS.write(table, hospital)
    # Two images a patient. The truth is of no account, and a class that the model never learnt.
    groups = [f"{hospital}/p{i // 2}" for i in range(len(table))]
    split = table[["image_id", "hospital", "part"]].assign(
        label="secret", group=groups, twin_group=table["image_id"], left_out_reason=None
    )
    SPLIT.write(split[SPLIT.schema.names], hospital)


def run_bias():
    """Return what is said of hidden cells."""
    return run_all()["hide"]


def run_all():
    bias.main()
    return json.loads(Path("metrics/bias.json").read_text())["tests"]


def read_sheet():
    content = np.frombuffer(Path("metrics/bias/examples.png").read_bytes(), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]


def test_calls_that_follow_the_ground_survive(project):
    """All calls stay at north, which is flagged; at east's grey ground unsure ones."""
    write_lenet("ground")
    content = run_bias()
    north, east = content["by_hospital"]["north"], content["by_hospital"]["east"]
    assert (north["n_images"], north["n_confident"]) == (N_IMAGES, N_IMAGES)
    assert north["keeps_confident_call"]["value"] == 1.0
    assert north["keeps_confident_call"]["n"] == N_IMAGES
    assert north["still_confident"]["value"] == 1.0
    assert north["calls"] == {"basophil": 6, "eosinophil": 0, "monocyte": 6}
    assert north["keeps_confident_call"]["n_groups"] == N_IMAGES // 2
    assert north["keeps_confident_call"]["low"] < 1.0
    assert east["least_p"] < 0.5 < north["least_p"]
    assert content["all"]["n_images"] == 2 * N_IMAGES
    assert content["all"]["keeps_confident_call"]["n_groups"] == N_IMAGES
    assert "north" in content["flagged"]
    assert content["not_judged"] == {}


def test_calls_that_follow_the_cell_are_lost(project):
    """Every image was called by its cell; with the cell hidden nothing is sure any more."""
    write_lenet("cell")
    content = run_bias()
    for block in (*content["by_hospital"].values(), content["all"]):
        assert block["n_confident"] == block["n_images"] > 0
        assert block["keeps_confident_call"]["value"] == 0.0
        assert block["still_confident"]["value"] == 0.0
    assert content["flagged"] == []


BESIDE_THE_CELL = ("isolate", "isolate_on_colour", "background", "neighbours")


@pytest.fixture(scope="module")
def cornered(tmp_path_factory):
    """Two grey hospitals; north's pictures have a coloured corner, which tells their class."""
    folder = tmp_path_factory.mktemp("cornered")
    return make_hospitals(folder, (GREY_GROUND,), (BLUE_CELL, RED_CELL), perturbations.TESTS)


@pytest.fixture
def cornered_project(cornered, tmp_path, monkeypatch):
    return go_to_copy(cornered, tmp_path, monkeypatch)


def test_a_planted_corner_is_told(cornered_project):
    """Calls stay while the cell is hidden, and go with the corner: each test flags north."""
    write_lenet("ground", 0.5, crop="whole")
    content = run_all()
    for name in ("hide", *BESIDE_THE_CELL):
        assert "north" in content[name]["flagged"], name
    assert content["hide"]["by_hospital"]["north"]["keeps_confident_call"]["value"] == 1
    assert content["isolate"]["by_hospital"]["north"]["keeps_call"]["value"] == 0


def test_without_a_cue_nothing_is_told(cornered_project):
    """A model of the cell: its calls go with the cell alone, whatever lies beside it."""
    write_lenet("cell", 0.5, crop="whole")
    content = run_all()
    assert content["hide"]["all"]["keeps_confident_call"]["value"] == 0
    for name in (*BESIDE_THE_CELL, "shapes", "blur", "isolate_sharpened"):
        assert content[name]["all"]["keeps_call"]["value"] == 1, name
    assert content["grey"]["all"]["keeps_call"]["value"] == 0.5  # both colours are one
    assert not any(block["flagged"] for block in content.values())
    assert read_sheet().shape == (8 * 208, 11 * 160, 3)


@pytest.mark.parametrize(("looks_at", "accepted"), [("ground", 0), ("cell", 1)])
def test_abstention_tells_a_planted_corner(cornered_project, looks_at, accepted):
    """What the confidence at home promises is given for no image where the corner is not there."""
    write_lenet(looks_at, 0.5, crop="whole")
    home, away = (
        PREDICTIONS.read(name).assign(
            label=lambda own: own["predicted"], group=lambda own: own.index
        )
        for name in HOSPITALS
    )
    learnt = doubt.fit(home, CLASSES, 0.1)
    for images, expected in ((home, 1), (away, accepted)):
        sure = doubt.measure(images, CLASSES, learnt.temperature)["confidence"]
        assert (sure >= learnt.threshold).mean() == expected


def test_a_hospital_alone_has_no_other_to_borrow_from(cornered_project):
    """Two tests say why they are not made; the others are made all the same."""
    params_file = cornered_project / "params.yaml"
    params_file.write_text(params_file.read_text().replace("- east\n", ""))
    write_lenet("cell", 0.5, crop="whole")
    content = run_all()
    lacking = {name for name, block in content.items() if block["all"]["keeps_call"] is None}
    assert lacking == {"background", "stain"}
    assert content["stain"]["not_judged"] == {"north": bias.ALONE}
    assert content["blur"]["all"]["keeps_call"]["value"] == 1


def spy_on_calls(monkeypatch):
    """Remember what the images were called before and after."""
    seen = {}
    report = survival.report

    def listen(before, after, *others):
        seen.update(before=before, after=after)
        return report(before, after, *others)

    monkeypatch.setattr(survival, "report", listen)
    return seen


def test_but_for_the_hidden_cell_the_images_are_prepared_as_before(project, monkeypatch):
    """Where hiding is switched off, the stage finds the very calls that were stored."""
    settings = {"white_balance": ["white_point", "none"], "crop": "centre", "half_side": 1.2}
    write_lenet("cell", **settings)
    # The recipe's inputs are in the model's card; params.yaml may have moved on.
    write_params(project, inputs=rule(white_balance=["grey_world"]).model_dump())
    calls = spy_on_calls(monkeypatch)
    bias.main()
    assert np.abs(calls["after"]["p"] - calls["before"]["p"]).max() > 0.05
    monkeypatch.setattr(preparation, "cover", lambda rgb, *_: rgb)
    bias.main()
    assert calls["after"]["call"].tolist() == calls["before"]["call"].tolist()
    np.testing.assert_allclose(calls["after"]["p"], calls["before"]["p"], atol=1e-5)


def test_a_model_of_several_gets_what_each_of_them_takes(project, monkeypatch):
    """Two networks of two sizes look at hidden cells, whose crop does not tell the cell's size."""
    inputs = rule(scale="image")
    lenet = trained.SingleModel(CLASSES, LENET, inputs, (32, 32, 3), made_lenet("cell", MIDDLE))
    wider = LENET.model_copy(update={"size": 40})
    backend.load_keras().utils.set_random_seed(0)
    network = networks.build(wider, (40, 40, 3), len(CLASSES))
    other = trained.SingleModel(CLASSES, wider, inputs, (40, 40, 3), network)
    recipe = EnsembleRecipe(kind="ensemble", members={"made": LENET, "wider": wider})
    both = trained.CompositeModel(CLASSES, recipe, inputs, {"made": lenet, "wider": other})
    keep(both)
    calls = spy_on_calls(monkeypatch)
    bias.main()
    expected = pd.concat(
        trained.predict_images(both, read_rows(both, hospital, hide="cell"))
        for hospital in sorted(HOSPITALS)
    )
    np.testing.assert_allclose(calls["after"]["p"], expected.max(axis=1), atol=1e-6)
    assert np.abs(calls["after"]["p"] - calls["before"]["p"]).max() > 0.05
    seen = read_rows(both, "north")
    assert {name: one.x.shape[1] for name, one in seen.items()} == {"made": 32, "wider": 40}


def test_the_crop_of_a_hidden_cell_does_not_tell_its_size(project):
    """Cells differ in size, and other tests follow each; the hidden one has the usual crop."""
    ids = [f"north/{number:03d}.png" for number in range(N_IMAGES)]
    images = pd.DataFrame({"image_id": ids, "hospital": "north"})
    changed = bias._change(images, images, ["hide", "blur"], rule(scale="image"), 1)
    radii = {}
    for name, _, place in changed:
        radii.setdefault(name.split()[0], set()).add(place.radius)
    assert len(radii["hide"]) == 1 < len(radii["blur"])


def test_at_most_so_many_images_are_drawn(project):
    """Five of each hospital, none that validates, and whoever else takes part."""
    write_params(project, bias={"max_images": 5, "most_confident": 0.6, "tests": ["hide"]})
    write_lenet("ground")
    content = run_bias()
    assert [content["by_hospital"][name]["n_images"] for name in ("east", "north")] == [5, 5]
    assert content["all"]["n_images"] == 10
    assert content["by_hospital"]["north"]["n_confident"] >= 3
    assert content["flagged"] is None
    assert list(content["not_judged"]) == ["east", "north"]
    first = [Path(name).read_bytes() for name in FILES]
    for hospital in HOSPITALS:
        table = PREDICTIONS.read(hospital)
        validates = table.assign(image_id=table["image_id"] + " validates", part="valid")
        pd.concat([validates, table])[::-1].to_parquet(PREDICTIONS.at(hospital))
    bias.main()
    assert [Path(name).read_bytes() for name in FILES] == first
    params_file = project / "params.yaml"
    params_file.write_text(params_file.read_text().replace("- east\n", ""))
    assert run_bias()["by_hospital"] == {"north": content["by_hospital"]["north"]}


def test_the_command_gives_the_same_bytes_with_two_workers(project):
    """Processes are forked before TensorFlow runs, and do not change a byte."""
    write_lenet("cell")
    bias.main()
    alone = [Path(name).read_bytes() for name in FILES]
    environment = os.environ | {"SMEARFLOW_WORKERS": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.bias"],
        capture_output=True, text=True, check=False, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [Path(name).read_bytes() for name in FILES] == alone


def test_pixels_are_prepared_before_the_networks_are_loaded(project, monkeypatch):
    """A process that is forked while TensorFlow runs may wait for ever."""
    write_lenet("cell")
    order = []
    for module, name in ((reading, "read_pixels"), (trained, "load")):
        monkeypatch.setattr(module, name, remember(order, name, getattr(module, name)))
    bias.main()
    assert order == ["read_pixels", "load"]


def remember(order, name, function):
    def call(*arguments):
        order.append(name)
        return function(*arguments)

    return call


def prepare_both(hospital, number, ground):
    """Return an image in white point as the sheet shows it, and with its cell hidden."""
    place = preparation.geometries(QUALITY.read(hospital), rule())[f"{hospital}/{number:03d}.png"]
    rgb = draw_smear(number, ground, (BLUE_CELL, RED_CELL)[number // 2 % 2])
    return [
        preparation.prepare(rgb, place, rule(hide=hide), bias.SHOWN, "white_point").tobytes()
        for hide in ("nothing", "cell")
    ]


def test_pairs_are_drawn_as_the_model_sees_them(project, monkeypatch):
    """Eight pairs, each the image in the first balance, then the same with its cell hidden."""
    write_lenet("cell", white_balance=["white_point", "none"])
    tiles = []

    def caption(rgb, lines):
        tiles.append((np.array(rgb).tobytes(), lines))
        return np.full((160, 160, 3), len(tiles), np.uint8)

    monkeypatch.setattr(contact_sheets, "caption", caption)
    calls = spy_on_calls(monkeypatch)
    bias.main()
    assert len(tiles) == 16
    sheet = read_sheet()
    assert sheet.shape == (8 * 160, 2 * 160, 3)
    assert sheet[0, ::160, 0].tolist() == [1, 2]
    known = {}
    for number in range(N_IMAGES):
        grounds = {"north": (BLUE_GROUND, YELLOW_GROUND)[number % 2], "east": GREY_GROUND}
        for hospital, ground in grounds.items():
            seen, hidden = prepare_both(hospital, number, ground)
            known[seen] = (f"{hospital}/{number:03d}.png", hidden)
    shown = []
    for (seen, before), (hidden, after) in zip(tiles[::2], tiles[1::2], strict=True):
        image_id, expected = known[seen]
        shown.append(image_id)
        assert hidden == expected
        named = ((bias.SEEN, before, "before"), ("hide", after, "after"))
        for name, lines, when in named:
            call, p = calls[when].loc[image_id, ["call", "p"]]
            assert lines == [name, call, f"p {p:.2f}"]
    assert len(set(shown)) == 8


def test_a_model_of_hidden_cells_is_not_asked(project, monkeypatch):
    """It never saw a cell: nulls with the reason, an empty sheet, and no network is loaded."""
    write_lenet("ground", hide="cell")
    for module, name in ((trained, "load"), (reading, "read_pixels")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("the model was asked"))
    content = run_bias()
    assert content["by_hospital"]["north"]["n_confident"] == N_IMAGES
    assert content["all"]["keeps_confident_call"] is None
    assert "inputs.hide: cell" in content["all"]["keeps_confident_call_reason"]
    assert content["flagged"] is None
    assert (read_sheet() == 255).all()


@pytest.mark.parametrize(
    ("gone", "error", "told"),
    [
        ("data/model/card.json", ModelError, r"card.json is missing.*dvc repro"),
        ("data/model/weights.npz", ModelError, r"weights.npz is missing.*dvc repro"),
        ("data/predictions/east.parquet", TableError, r"ions/east.parquet is missing.*dvc repro"),
        ("data/quality/east.parquet", TableError, r"quality/east.parquet is missing.*dvc repro"),
    ],
)
def test_what_is_missing_is_named(project, gone, error, told):
    write_lenet("ground")
    Path(gone).unlink()
    with pytest.raises(error, match=told):
        bias.main()
    assert not any(Path(name).exists() for name in FILES)


def test_an_image_that_is_gone_is_named(project):
    """A prediction without its image is no silent gap."""
    write_lenet("ground")
    IMAGES.write(IMAGES.read("north").iloc[1:], "north")
    with pytest.raises(TableError, match=r"no row of 1 pictures.*north/000.png.*dvc repro"):
        bias.main()
    assert not any(Path(name).exists() for name in FILES)


@pytest.mark.parametrize("stale", [HOSPITALS, ("east",)])
def test_predictions_of_another_model_are_named(project, stale):
    """Of all hospitals, or of one that was not asked again."""
    write_lenet("ground")
    for hospital in stale:
        PREDICTIONS.write(PREDICTIONS.read(hospital).drop(columns="p_eosinophil"), hospital)
    with pytest.raises(TableError, match=r"no column p_eosinophil.*dvc repro"):
        bias.main()
    assert not any(Path(name).exists() for name in FILES)


def test_a_hospital_without_test_images_takes_no_part(project):
    """Its table is empty; the others are as they were."""
    write_lenet("ground")
    content = run_bias()
    PREDICTIONS.write(PREDICTIONS.read("east").iloc[:0], "east")
    assert run_bias()["by_hospital"] == {"north": content["by_hospital"]["north"]}
