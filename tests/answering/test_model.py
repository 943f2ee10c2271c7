"""Answers are the model's own probabilities, corrected, with a verdict that follows its rules."""

import dataclasses
import subprocess

import numpy as np
import pytest
from scipy.special import softmax

from stages.answering import model, pictures
from stages.answering.model import AnsweringModel
from stages.answering.pictures import Rule
from stages.inputs.reading import Examples
from stages.models import classifiers, novelty_scores, trained
from stages.models.recipes import ClassifierRecipe, EnsembleRecipe
from tests.made.answering import INPUTS, draw_cell, encode, lenet, write_export
from tests.made.lenets import CLASSES

TWO_VIEWS = INPUTS.model_copy(update={"white_balance": ["none", "white_point"]})


def ready(answering, cells, folder, radius=None):
    rule = Rule(answering.card.inputs, answering.about.filter, answering.recipes, radius)
    for number, rgb in enumerate(cells):
        (folder / f"{number:02d}.png").write_bytes(encode(rgb))
    with pictures.find([str(folder / f"{n:02d}.png") for n in range(len(cells))]) as asked:
        return [pictures.make_ready(one, rule) for one in asked]


def cells(n=5):
    return [draw_cell(("basophil", "monocyte")[number % 2], number) for number in range(n)]


def flipping_lenet():
    """With four ways of lying, two views, and weights that are not symmetric."""
    made = lenet()
    rng = np.random.default_rng(7)
    made.network.set_weights([rng.normal(0, 0.2, one.shape) for one in made.network.get_weights()])
    recipe = made.recipe.model_copy(update={"flips_at_test": True})
    return dataclasses.replace(made, recipe=recipe, inputs=TWO_VIEWS)


def trees():
    recipe = ClassifierRecipe(
        kind="classifier", vectors="measures", classifier="extra_trees", size=64, trees=20
    )
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (30, 64, 64, 3)).astype(np.uint8)
    pixels[:, 16:48, 16:48] //= 2
    x = classifiers.vectorise(recipe, pixels)
    labels = [CLASSES[number % 3] for number in range(30)]
    fitted = classifiers.fit(recipe.classical, x, labels, CLASSES, 0)
    return trained.SingleModel(CLASSES, recipe, TWO_VIEWS, (64, 64, 3), None, fitted)


def ensemble():
    network = flipping_lenet()
    members = {"network": network, "trees": trees()}
    recipe = EnsembleRecipe(
        kind="ensemble", members={name: one.recipe for name, one in members.items()}
    )
    return trained.CompositeModel(CLASSES, recipe, TWO_VIEWS, members)


@pytest.mark.parametrize("make", [lenet, flipping_lenet, trees, ensemble])
def test_probabilities_are_those_of_the_stage_predict(tmp_path, make):
    """Of every kind of model, over views and ways of lying, and one by one as all at once."""
    made = make()
    answering = AnsweringModel(write_export(tmp_path / "export", made))
    asked = ready(answering, cells(), tmp_path)
    names = [one.name for one in asked]

    def rows(side):
        pixels = np.concatenate([one.pixels[side] for one in asked])
        n_views = len(answering.card.inputs.white_balance)
        return Examples([name for name in names for _ in range(n_views)], pixels)

    sides = {name: rows(recipe.side) for name, recipe in answering.recipes.items()}
    single = isinstance(made, trained.SingleModel)
    expected = trained.predict_images(made, sides["model"] if single else sides)
    answers = answering.answer(asked)
    found = np.array([[one.chances[name] for name in CLASSES] for one in answers])
    np.testing.assert_allclose(found, expected.loc[names, CLASSES], atol=1e-6)
    alone = [answering.answer([one])[0] for one in asked]
    assert alone == answers


def test_temperature_corrects_and_keeps_the_call(tmp_path):
    """A known answer: the softmax of the logarithms over the temperature."""
    plain = AnsweringModel(write_export(tmp_path / "plain", flipping_lenet()))
    warm = AnsweringModel(write_export(tmp_path / "warm", flipping_lenet(), temperature=2.0))
    asked = ready(plain, cells(), tmp_path)
    for before, after in zip(plain.answer(asked), warm.answer(asked), strict=True):
        p = np.array([before.chances[name] for name in CLASSES])
        q = np.array([after.chances[name] for name in CLASSES])
        np.testing.assert_allclose(q, softmax(np.log(p) / 2), atol=1e-6)
        assert after.call == before.call == CLASSES[int(p.argmax())]
        assert list(after.chances.values()) == sorted(after.chances.values(), reverse=True)


def test_energy_is_that_of_the_novelty_stage(tmp_path):
    """In deviations of what the stage told; just below the threshold known, just above strange."""
    made = flipping_lenet()
    answering = AnsweringModel(write_export(tmp_path / "0", made, strange=0.0))
    asked = ready(answering, cells(1), tmp_path)
    features = novelty_scores.extract(made, asked[0].pixels[32]).mean(axis=0, keepdims=True)
    kernel, bias = (one.numpy() for one in made.network.layers[-1].weights)
    views = novelty_scores.extract(made, asked[0].pixels[32]) @ kernel + bias
    energy = float(np.mean(-np.log(np.exp(views).sum(axis=1))))
    spread = {"model": (energy - 6.0, 2.0)}
    for limit, is_strange in ((3.01, False), (2.99, True)):
        folder = write_export(tmp_path / f"at {limit}", made, strange=limit, spread=spread)
        [answer] = AnsweringModel(folder).answer(asked)
        assert (model.STRANGE in answer.flags) == is_strange
        assert (answer.verdict == model.UNKNOWN) == is_strange
    assert features.shape == (1, 128)


def test_each_verdict_has_its_rule(tmp_path):
    """Sure and without a flag: accepted; not sure, flagged, or no promise: look again."""
    sure = AnsweringModel(write_export(tmp_path / "sure", threshold=0.6))
    unsure = AnsweringModel(write_export(tmp_path / "unsure", threshold=0.9999999))
    silent = AnsweringModel(write_export(tmp_path / "silent", threshold=None))
    [one] = ready(sure, cells(1), tmp_path)
    one = dataclasses.replace(one, flags=())
    flagged = dataclasses.replace(one, flags=(pictures.BROKEN,))
    blank = dataclasses.replace(one, flags=(pictures.NO_CELL,))
    bad = pictures.Ready("x", ".", problem="empty: the file has no bytes")
    verdicts = [answer.verdict for answer in sure.answer([one, flagged, blank, bad])]
    assert verdicts == [model.ACCEPTED, model.LOOK_AGAIN, model.UNKNOWN, model.NOT_READ]
    assert unsure.answer([one])[0].verdict == model.LOOK_AGAIN
    assert silent.answer([one])[0].verdict == model.LOOK_AGAIN
    assert sure.answer([bad])[0].call is None


def test_maps_point_at_the_cell_that_the_network_looks_at(tmp_path):
    """One for each class asked, of the side that the network sees; trees have none."""
    answering = AnsweringModel(write_export(tmp_path / "export"))
    [one] = ready(answering, cells(1), tmp_path)
    found = answering.explain(one, ["basophil", "monocyte"])
    assert [values.shape for values in found] == [(32, 32)] * 2
    assert found[0][8:24, 8:24].sum() > 0.3  # of 1; a quarter of the picture
    only_trees = AnsweringModel(write_export(tmp_path / "trees", trees()))
    [one] = ready(only_trees, cells(1), tmp_path)
    assert only_trees.explain(one, ["monocyte"]) == [None]


def test_a_repository_without_a_commit_has_none(tmp_path):
    """Git then prints the word HEAD; a commit that was handed out with the model comes first."""
    answering = AnsweringModel(write_export(tmp_path / "export"))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert answering.trace["commit"] is None
    answering.about = answering.about.model_copy(update={"commit": "abc"})
    assert answering.trace["commit"] == "abc"


def test_a_threshold_belongs_to_those_above_it_for_probability_and_not_for_energy(tmp_path):
    """Exactly at both: accepted, as `doubt` counts it, and not strange."""
    answering = AnsweringModel(write_export(tmp_path / "export", threshold=0.75, strange=2.0))
    one = pictures.Ready("x", ".")
    at = answering._judge(one, np.array([0.75, 0.25, 0.0]), 2.0)
    level = answering.about.confidence.model_copy(update={"threshold": at.chances[at.call]})
    answering.about = answering.about.model_copy(update={"confidence": level})
    at = answering._judge(one, np.array([0.75, 0.25, 0.0]), 2.0)
    assert (at.verdict, at.flags) == (model.ACCEPTED, ())
    assert answering._judge(one, np.array([0.75, 0.25, 0.0]), 2.001).flags == (model.STRANGE,)


def test_energy_of_an_ensemble_is_the_mean_over_its_networks(tmp_path, monkeypatch):
    """Each in its own deviations; what answers without a network has none."""
    members = {"one": flipping_lenet(), "trees": trees(), "two": flipping_lenet()}
    recipe = EnsembleRecipe(
        kind="ensemble", members={name: one.recipe for name, one in members.items()}
    )
    made = trained.CompositeModel(CLASSES, recipe, TWO_VIEWS, members)
    spread = {"one": (1.0, 1.0), "two": (0.0, 2.0)}
    answering = AnsweringModel(write_export(tmp_path / "export", made, spread=spread))
    levels = {"one": np.array([2.0, 4.0]), "trees": None, "two": np.array([8.0, 8.0])}
    even = np.full((2, 3), 1 / 3)
    monkeypatch.setattr(answering, "_ask_part", lambda name, *_: (even, levels[name]))
    chances, energy = answering._ask([pictures.Ready("x", ".")])
    np.testing.assert_allclose(energy, [(2.0 + 4.0) / 2])
    np.testing.assert_allclose(chances, even[:1])
