"""The novelty stage on real models: cells of an unknown type are told, if the model looks at them.

Known cells are blue or red, unknown ones pale.
"""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import novelty, quality
from stages.core.errors import TableError
from stages.core.params import InputsParams
from stages.core.tables import IMAGES, LABELS, QUALITY, SPLIT, TRAINING
from stages.inputs import preparation
from stages.models import trained
from stages.models.recipes import ClassifierRecipe, EnsembleRecipe
from tests.made.lenets import CLASSES, CORNER, LENET, MIDDLE, made_lenet
from tests.stages.cohort import write_project
from tests.stages.test_quality import image_row

COLOURS = {"basophil": (80, 110, 190), "monocyte": (190, 110, 80), "blast": (205, 200, 207)}
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["none"], hide="nothing"
)
N_UNKNOWN = 12
FILES = ("metrics/novelty.json", "metrics/novelty/examples.png")


def draw_cell(number, cell_type):
    rng = np.random.default_rng(number)
    rgb = np.full((120, 120, 3), (232, 232, 232), np.uint8)
    place = tuple(map(int, rng.integers(56, 64, 2)))
    colour = tuple(int(level) for level in rng.normal(COLOURS[cell_type], 4))
    cv2.circle(rgb, place, int(rng.integers(24, 30)), colour, -1)
    return rgb


def write_hospital(hospital, parts, start):
    """So many known cells in each part, and twelve of the unknown type."""
    known = [part for part, n_images in parts.items() for _ in range(n_images)]
    types = [list(COLOURS)[number % 2] for number in range(len(known))] + ["blast"] * N_UNKNOWN
    rows = []
    for number, cell_type in enumerate(types):
        image_id = f"{hospital}/{number:03d}.png"
        names = {"image_id": image_id, "hospital": hospital, "twin_group": image_id}
        rows.append(image_row(number, draw_cell(start + number, cell_type)) | names)
    IMAGES.write(pd.DataFrame(rows), hospital)
    quality.main(hospital)
    labels = pd.DataFrame({"image_id": [row["image_id"] for row in rows], "cell_type": types})
    labels["hospital"], labels["unit"], labels["part"] = hospital, "image", None
    labels["group"] = labels["twin_group"] = labels["image_id"]
    labels["keep"] = labels["cell_type"] != "blast"
    labels["label"] = labels["cell_type"].where(labels["keep"])
    labels["bytes"] = [row["bytes"] for row in rows]
    labels.loc[labels["keep"], "part"] = known
    kept = labels[labels["keep"]].assign(left_out_reason=None)
    SPLIT.write(kept[SPLIT.schema.names], hospital)
    return labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the stages before leave: north trains, east is unseen."""
    folder = tmp_path_factory.mktemp("novelty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SMEARFLOW_WORKERS", "1")
        rule = {"max_images": 100, "known": 0.9}
        write_project(folder, ("north", "east"), novelty=rule)
        north = write_hospital("north", {"train": 26, "valid": 14, "test": 12}, 0)
        east = write_hospital("east", {"unseen": 16}, 100)
        tables = pd.concat([north, east], ignore_index=True)
        LABELS.write(tables.reindex(columns=LABELS.schema.names))
        taught = north[north["part"].isin(["train", "valid"])]
        places = preparation.geometries(QUALITY.read("north"), INPUTS)
        geometry = [preparation.to_row(places[image_id]) for image_id in taught["image_id"]]
        rows = pd.concat([taught.reset_index(drop=True), pd.DataFrame(geometry)], axis=1)
        TRAINING.write(rows[TRAINING.schema.names])
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    return tmp_path


def lenet(looks_at="cell"):
    network = made_lenet(looks_at, CORNER if looks_at == "ground" else MIDDLE)
    return trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), network)


class Nearest:
    """Answers by the mean grey value, and keeps nothing."""

    def predict(self, x):
        dark = 1 - x.mean(axis=1, dtype=np.float64)
        return np.stack([dark, (1 - dark) / 2, (1 - dark) / 2], axis=1)

    def save(self, folder):
        """Nothing to keep."""


def run(model, monkeypatch):
    """Return what is said of a model that was read from disk, or is put in its place."""
    trained.save(model, novelty.MODEL)
    monkeypatch.setattr(trained, "load", lambda _: model)
    novelty.main()
    return json.loads(Path(FILES[0]).read_text())


def test_each_score_tells_a_type_that_the_network_does_not_know(project):
    """At home and elsewhere, and blank fields too; known cells look like validation images."""
    trained.save(lenet(), novelty.MODEL)
    novelty.main()
    content = json.loads(Path(FILES[0]).read_text())
    assert content["n_images"] == {"valid": 14, "known": 28, "unknown": 24, "blank": 28}
    assert set(content["scores"]) == {"softmax", "energy", "mahalanobis", "neighbours"}
    for name, block in content["scores"].items():
        for hospital, part in (("north", "test"), ("east", "unseen")):
            own = block["by_hospital"][hospital]
            assert own["part"] == part
            assert own["auc"]["value"] > 0.99, name
            assert own["auc_of_blank"]["value"] > 0.99, name
            assert own["flagged"]["unknown"]["value"] == 1, name
            assert own["flagged"]["known"]["value"] < 0.5, name
            assert own["flagged_by_type"]["blast"]["n"] == N_UNKNOWN
        assert block["mean_auc"]["unseen"]["n_hospitals"] == 1
    sheet = cv2.imread(FILES[1])
    assert sheet.shape[1] == 8 * 160
    assert sheet.shape[0] % 4 == 0
    before = [Path(name).read_bytes() for name in FILES]
    novelty.main()
    assert [Path(name).read_bytes() for name in FILES] == before


def test_a_network_that_does_not_look_at_the_cell_tells_nothing(project, monkeypatch):
    """The ground is the same for all, so that every image is as strange as any other."""
    content = run(lenet("ground"), monkeypatch)
    for name, block in content["scores"].items():
        area = block["by_hospital"]["east"]["auc"]
        assert area["value"] < 0.8, (name, area)
        assert area["low"] is None or area["low"] < 0.6, (name, area)


def test_a_model_without_a_network_has_one_score(project, monkeypatch):
    recipe = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn", size=32)
    grey = trained.SingleModel(CLASSES, recipe, INPUTS, (32, 32, 3), None, Nearest())
    content = run(grey, monkeypatch)
    assert content["scores"]["softmax"]["by_hospital"]["east"]["auc"]["value"] is not None
    for name in ("energy", "mahalanobis", "neighbours"):
        assert content["scores"][name]["reason"] == novelty.novelty_scores.NO_NETWORK
    assert cv2.imread(FILES[1]).shape[1] == 8 * 160


def test_of_several_models_those_with_a_network_have_features(project, monkeypatch):
    """The network's own scores, in deviations of the validation images; softmax is of both."""
    alone = run(lenet(), monkeypatch)["scores"]
    recipe = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn", size=32)
    grey = trained.SingleModel(CLASSES, recipe, INPUTS, (32, 32, 3), None, Nearest())
    both = EnsembleRecipe(kind="ensemble", members={"made": LENET, "grey": recipe})
    model = trained.CompositeModel(CLASSES, both, INPUTS, {"made": lenet(), "grey": grey})
    content = run(model, monkeypatch)["scores"]
    assert content["energy"] == alone["energy"]
    assert content["softmax"]["threshold"] != alone["softmax"]["threshold"]


def test_networks_of_other_scales_have_the_same_say(project, monkeypatch):
    """A network that speaks twice as loud: in deviations it says what the other one says."""
    loud = lenet()
    kernel, bias = loud.network.layers[-1].get_weights()
    loud.network.layers[-1].set_weights([2 * kernel, bias])
    members = {"made": lenet(), "loud": loud}
    recipe = EnsembleRecipe(kind="ensemble", members=dict.fromkeys(members, LENET))
    both = trained.CompositeModel(CLASSES, recipe, INPUTS, members)
    alone = run(lenet(), monkeypatch)["scores"]["energy"]["threshold"]
    found = run(both, monkeypatch)["scores"]["energy"]["threshold"]
    assert found == pytest.approx(alone, rel=0.02)


def test_a_blank_field_has_the_colour_of_the_background():
    place = preparation.Geometry(None, None, (230.0, 200.0, 240.0))
    blank = novelty._empty(np.zeros((40, 50, 3), np.uint8), place, "h/1.png")
    assert blank.shape == (40, 50, 3)
    np.testing.assert_allclose(blank.mean(axis=(0, 1)), place.white, atol=0.5)
    assert 1 < blank[..., 0].std() < 3


def test_the_sheet_shows_what_is_told_worst(project, monkeypatch):
    """Of each score the least strange unknown images, and the strangest known ones."""
    seen = []
    draw, stream = novelty._draw, novelty._stream
    monkeypatch.setattr(novelty, "_draw", lambda *given: (seen.append(given[0]), draw(*given))[1])
    monkeypatch.setattr(
        novelty, "_stream", lambda images, card: (seen.append(images), stream(images, card))[1]
    )
    run(lenet(), monkeypatch)
    _, scored, shown = seen
    for name in ("energy", "mahalanobis"):
        known = scored[scored["kind"] == "known"].nlargest(4, name)
        assert set(known.index) <= set(shown.index)
        assert set(shown["kind"]) == {"known", "unknown"}


def test_without_unknown_types_blank_fields_are_judged_all_the_same(project, monkeypatch):
    labels = LABELS.read()
    LABELS.write(labels[labels["keep"]])
    content = run(lenet(), monkeypatch)
    assert content["n_images"]["unknown"] == 0
    for block in content["scores"].values():
        assert block["by_hospital"]["east"]["auc"]["value"] is None
        assert block["by_hospital"]["east"]["auc_of_blank"]["value"] > 0.99
        assert block["mean_auc"]["unseen"] == {"value": None, "n_hospitals": 0}


@pytest.mark.parametrize("table", [LABELS, TRAINING])
def test_a_missing_table_is_one_line(project, table):
    trained.save(lenet(), novelty.MODEL)
    table.at().unlink()
    with pytest.raises(TableError, match=f"{table.at()} is missing. Run 'uv run dvc repro'"):
        novelty.main()
    assert not Path(FILES[0]).exists()
