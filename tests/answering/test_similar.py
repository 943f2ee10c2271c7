"""Similar training pictures are those of this model, and learnt once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.answering import pictures, similar
from stages.answering.model import AnsweringModel
from stages.answering.pictures import Rule
from stages.core.tables import TRAINING
from stages.models import novelty_scores
from tests.answering.test_model import ensemble, flipping_lenet, trees
from tests.made.answering import encode, write_export
from tests.made.own_project import cell_of, write_training


def write_place(folder, made):
    """A model in its project; return what answers."""
    write_export(folder / "data/export", made)
    shutil.copytree(folder / "data/export/model", folder / "data/model")
    write_training()
    return AnsweringModel(folder / "data/export")


def ready(model, number):
    rule = Rule(model.card.inputs, model.about.filter, model.recipes)
    Path("asked.png").write_bytes(encode(cell_of(number)))
    with pictures.find(["asked.png"]) as asked:
        return pictures.make_ready(asked[0], rule)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    return tmp_path


@pytest.mark.parametrize("make", [flipping_lenet, ensemble])
def test_the_most_similar_one_is_the_picture_itself(place, make):
    """Where it is among the training pictures; with its label, and validation is not searched."""
    model = write_place(place, make())
    assert similar.say_lacking(model) is None
    assert similar.recall(model) is None
    told = []
    known = similar.learn(model, told.append)
    assert told[-1] == 1.0
    assert len(known.labels) == 6
    for number in range(3):
        first, *_ = found = similar.find(known, model, ready(model, number))
        assert first.image_id == f"west/{number}.png"
        assert first.label == ("basophil", "monocyte")[number % 2]
        assert first.cosine == pytest.approx(1, abs=1e-5)
        assert len(found) == similar.N_SHOWN
    shown = similar.show(found, model, 40)
    assert {one.image_id for one in found} == set(shown)
    assert {one.shape for one in shown.values()} == {(40, 40, 3)}


def test_what_was_learnt_is_kept_and_a_damaged_file_is_learnt_again(place):
    """By the model's own checksum: another model's features are never compared."""
    model = write_place(place, flipping_lenet())
    known = similar.learn(model, lambda _: None)
    kept = similar.recall(model)
    assert kept.labels.to_dict() == known.labels.to_dict()
    np.testing.assert_array_equal(kept.features, known.features)
    [file] = (place / ".dvc/tmp/smearflow").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-50], b"x" * 100):
        file.write_bytes(damaged)
        assert similar.recall(model) is None
    write_export(place / "another")
    assert similar.recall(AnsweringModel(place / "another")) is None


def test_features_are_those_of_the_novelty_stage(place):
    """The mean over the views of a picture."""
    made = flipping_lenet()
    model = write_place(place, made)
    x = ready(model, 0).pixels[32]
    expected = novelty_scores.extract(made, x).mean(axis=0)
    np.testing.assert_allclose(model.describe(x)[0], expected, rtol=1e-5)


def test_why_none_are_shown(place):
    """No table, a model of another training, a model without a network."""
    model = write_place(place, flipping_lenet())
    (place / "data/model/more.txt").write_text("x")
    assert "another model" in similar.say_lacking(model)
    TRAINING.at().unlink()
    assert "no training pictures" in similar.say_lacking(model)
    only_trees = AnsweringModel(write_export(place / "trees", trees()))
    assert only_trees.looker is None
    assert "no network" in similar.say_lacking(only_trees)
