"""The explain stage on made models: what is told, what is drawn, and what cannot be made."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages import explain
from stages.core.errors import ModelError, TableError
from stages.core.tables import IMAGES, PREDICTIONS
from stages.images import cell_masks, decoding
from stages.models import trained
from stages.models.recipes import EnsembleRecipe
from tests.made.lenets import CLASSES, CORNER, LENET, MIDDLE, made_lenet
from tests.stages import test_bias
from tests.stages.test_bias import HOSPITALS, cornered, rule, write_lenet, write_params

__all__ = ["cornered"]
FILES = ("metrics/explain.json", "metrics/explain/examples.png")
METHODS = ["grad_cam", "grad_cam_pp", "occlusion", "lime"]
project = test_bias.cornered_project


def ask_for(folder, methods, images=2):
    write_params(folder, explain={"images": images, "methods": methods})


def run():
    explain.main()
    return json.loads(Path(FILES[0]).read_text())


def share_in_cell(content, hospital="north"):
    return {
        name: block["by_hospital"][hospital]["in_cell"]["value"]
        for name, block in content["methods"].items()
    }


def test_a_planted_corner_is_told_from_a_cell(project):
    """Of a model of the corner hardly any evidence lies in the cell, of one of the cell most."""
    ask_for(project, ["occlusion", "lime"])
    write_lenet("ground", 0.5, crop="whole")
    corner = run()
    write_lenet("cell", 0.5, crop="whole")
    cell = run()
    for method in ("occlusion", "lime"):
        assert share_in_cell(corner)[method] < 0.3 < 0.4 < share_in_cell(cell)[method]
    block = cell["methods"]["occlusion"]["all"]
    assert block["points_at_cell"]["value"] > 0.8
    assert block["in_nucleus"]["value"] <= block["in_cell"]["value"]
    assert block["deletion"]["value"] > 0


def test_a_published_mask_is_the_cell_that_is_meant(project):
    """Masks of everything but the cell: what lay in the cell does so no more. Else as before."""
    ask_for(project, ["occlusion"])
    write_lenet("cell", 0.5, crop="whole")
    ours = run()
    images = IMAGES.read("north")
    for place, mask in ((0, np.zeros((9, 9), np.uint8)), (1, None)):
        assert images.loc[place, "mask"] is None
        images.loc[place, "mask"] = None if mask is None else encode(mask)
    IMAGES.write(images, "north")
    assert run() == ours  # of another size
    outside = [np.uint8(255) - 255 * (segment(row.bytes) > 0) for row in images.itertuples()]
    IMAGES.write(images.assign(mask=[encode(one.astype(np.uint8)) for one in outside]), "north")
    theirs = run()
    assert share_in_cell(theirs)["occlusion"] < 0.5 < share_in_cell(ours)["occlusion"] + 0.2
    both = [one["methods"]["occlusion"]["by_hospital"]["north"]["cell_area"]["value"]
            for one in (ours, theirs)]  # fmt: skip
    assert sum(both) == pytest.approx(1, abs=0.05)
    assert share_in_cell(theirs, "east") == share_in_cell(ours, "east")


def segment(content):
    return cell_masks.segment(decoding.decode(content).rgb).cell


def encode(mask):
    return cv2.imencode(".png", mask)[1].tobytes()


def test_every_second_image_is_asked_for_more(project):
    """Mirrored, and of a network that forgot: they take the longest, and few tell enough."""
    ask_for(project, ["occlusion"], images=9)
    write_lenet("cell", 0.5, crop="whole")
    block = run()["methods"]["occlusion"]["all"]
    assert 0.2 < block["mirrored"]["n"] / block["cell_area"]["n"] < 0.8


def test_each_class_called_is_explained_at_each_hospital(project):
    """Two images of each call where there are two; a row of tiles for each image shown."""
    ask_for(project, METHODS)
    write_lenet("cell", 0.5, crop="whole")
    content = run()
    assert content["n_images"] == 8  # two calls at two hospitals
    assert list(content["methods"]) == sorted(METHODS)
    assert (content["not_made"], content["left_out"]) == ({}, [])
    assert len(content["agreement"]) == 6
    assert content["methods"]["lime"]["all"]["in_cell"]["n"] <= 8
    sheet = cv2.imdecode(np.fromfile(FILES[1], np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (8 * (160 + 3 * 16), 13 * 160, 3)
    first = [Path(name).read_bytes() for name in FILES]
    run()
    assert [Path(name).read_bytes() for name in FILES] == first


def test_what_cannot_be_made_is_said_and_the_rest_is_done(project, caplog):
    """A network has no attention to roll out."""
    ask_for(project, ["rollout", "occlusion"], images=1)
    write_lenet("cell", 0.5, crop="whole")
    with caplog.at_level("INFO"):
        content = run()
    assert list(content["methods"]) == ["occlusion"]
    reason = "rollout reads a transformer's attention; this network has none"
    assert content["not_made"] == {"rollout": reason}
    assert f"explain: {reason}" in caplog.messages


def test_without_a_method_nothing_is_made_and_that_is_said(project):
    ask_for(project, ["rollout"], images=1)
    write_lenet("cell", 0.5, crop="whole")
    content = run()
    assert content["methods"] == content["agreement"] == {}
    assert list(content["not_made"]) == ["rollout"]


def test_of_an_ensemble_every_network_is_explained(project):
    """Two networks: twice as many maps are scored, and one that looks elsewhere pulls them."""
    ask_for(project, ["occlusion"], images=1)
    inputs = rule(crop="whole")
    looks = {"cell": MIDDLE, "ground": CORNER}
    members = {
        name: trained.SingleModel(CLASSES, LENET, inputs, (32, 32, 3), made_lenet(name, place, 0.5))
        for name, place in looks.items()
    }
    recipe = EnsembleRecipe(kind="ensemble", members=dict.fromkeys(looks, LENET))
    test_bias.keep(trained.CompositeModel(CLASSES, recipe, inputs, members))
    both = run()
    assert both["methods"]["occlusion"]["all"]["cell_area"]["n"] > both["n_images"]
    write_lenet("cell", 0.5, crop="whole")
    assert share_in_cell(both)["occlusion"] < share_in_cell(run())["occlusion"]


def test_a_part_that_does_not_know_the_call_is_not_scored(project):
    """Of a cascade's members each knows other classes; those of the call alone are scored."""
    ask_for(project, ["occlusion"], images=1)
    inputs = rule(crop="whole")
    named = {"all": CLASSES, "coarse": ["basophil", "eosinophil", "rest"]}
    members = {
        name: trained.SingleModel(
            classes, LENET, inputs, (32, 32, 3), made_lenet("cell", MIDDLE, 0.5)
        )
        for name, classes in named.items()
    }
    recipe = EnsembleRecipe(kind="ensemble", members=dict.fromkeys(named, LENET))
    write_lenet("cell", 0.5, crop="whole")
    trained.save(trained.CompositeModel(CLASSES, recipe, inputs, members), explain.MODEL)
    content = run()
    n_maps = content["methods"]["occlusion"]["all"]["cell_area"]["n"]
    assert (content["n_images"], n_maps) == (4, 4 + 2)


def test_predictions_without_an_image_are_named(project):
    ask_for(project, ["occlusion"])
    write_lenet("cell", 0.5, crop="whole")
    for hospital in HOSPITALS:
        PREDICTIONS.write(PREDICTIONS.read(hospital).iloc[:0], hospital)
    with pytest.raises(TableError, match=r"data/predictions holds no image.*dvc repro"):
        explain.main()


@pytest.mark.parametrize(
    ("gone", "error", "told"),
    [
        ("data/model/card.json", ModelError, r"card.json is missing.*dvc repro"),
        ("data/predictions/east.parquet", TableError, r"ions/east.parquet is missing.*dvc repro"),
    ],
)
def test_what_is_missing_is_named(project, gone, error, told):
    ask_for(project, ["occlusion"])
    write_lenet("cell", 0.5, crop="whole")
    Path(gone).unlink()
    with pytest.raises(error, match=told):
        explain.main()
    assert not any(Path(name).exists() for name in FILES)


def test_an_image_that_is_gone_is_named(project):
    ask_for(project, ["occlusion"], images=99)
    write_lenet("cell", 0.5, crop="whole")
    IMAGES.write(IMAGES.read("north").iloc[1:], HOSPITALS[0])
    with pytest.raises(TableError, match=r"no row of 1 pictures.*north/000.png.*dvc repro"):
        explain.main()
    assert not any(Path(name).exists() for name in FILES)


def test_a_killed_run_goes_on_and_says_the_same(project, monkeypatch):
    """Only what was not reached is explained, and what the sheet shows; all of another model."""
    ask_for(project, ["occlusion"], images=5)
    monkeypatch.setattr(explain, "N_EXAMPLES", 1)
    write_lenet("cell", 0.5, crop="whole")
    explained = []
    really = explain._explain

    def explain_some(*others):
        if len(explained) == limit:
            raise KeyboardInterrupt
        explained.append(1)
        return really(*others)

    monkeypatch.setattr(explain, "_explain", explain_some)
    limit = None
    run()
    whole, n_images = [Path(name).read_bytes() for name in FILES], len(explained)
    explained.clear()
    limit = n_images // 2
    with pytest.raises(KeyboardInterrupt):
        explain.main()
    with explain.PARTIAL.open("ab") as file:
        file.write(b'["half a li')
    explained.clear()
    limit = None
    run()
    assert n_images - n_images // 2 <= len(explained) <= n_images - n_images // 2 + 1
    assert [Path(name).read_bytes() for name in FILES] == whole
    assert not explain.PARTIAL.exists()
    explained.clear()
    limit = n_images // 2
    with pytest.raises(KeyboardInterrupt):
        explain.main()
    other = made_lenet("ground", CORNER, 0.5)
    trained.save(  # predictions, and so the images that are drawn, are as before
        trained.SingleModel(CLASSES, LENET, rule(crop="whole"), (32, 32, 3), other), explain.MODEL
    )
    explained.clear()
    limit = None
    run()
    assert len(explained) == n_images
