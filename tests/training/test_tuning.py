"""A network that goes on learning: from where it stood, on old and new images, by seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import ModelError
from stages.core.params import OnSiteParams
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples
from stages.models import networks, trained
from stages.models.recipes import CascadeRecipe, ClassifierSettings, EnsembleRecipe, Step
from stages.training import tuning
from tests.made.made_training import (
    CLASSES,
    GREY,
    INPUTS,
    SIDE,
    labels_of,
    make_network,
    make_pixels,
)

pytestmark = [
    pytest.mark.usefixtures("at_once"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning"),
]
RULE = OnSiteParams(labels=[], views=36, learning_rate=0.1)


@pytest.fixture
def model(small_base):
    """A network of three classes, with a head that calls something."""
    recipe, shape = make_network(), (SIDE, SIDE, 3)
    network = networks.build(recipe, shape, len(CLASSES), None, pretrained=True)
    head = network.layers[-1]
    head.set_weights([np.eye(*head.kernel.shape), np.zeros(3)])
    return trained.SingleModel(CLASSES, recipe, INPUTS, shape, network)


def tune(model, rule=RULE, seed=3, classes=CLASSES):
    old, new = make_pixels(24), make_pixels(12, 9, hospital="away")
    ids = [*old[0].image_ids, *new[0].image_ids]
    rows = Examples(ids, np.concatenate([old[0].x, new[0].x]))
    return tuning._tune(model, rows, labels_of(old, new, classes=classes), rule, seed)


def test_a_network_goes_on_from_where_it_stood_the_same_way_each_time(model):
    """With next to no learning rate it answers as before; what was given stays as it is."""
    before = trained.collect(model.network)
    asked = make_pixels(10, 4)[0].x
    still = tune(model, OnSiteParams(labels=[], views=36, learning_rate=1e-12))
    np.testing.assert_allclose(still.predict(asked), model.predict(asked), atol=1e-5)
    moved, again = (trained.collect(tune(model).network) for _ in range(2))
    after = trained.collect(model.network)
    for name, weights in before.items():
        assert np.array_equal(weights, after[name])
        assert np.array_equal(moved[name], again[name])
        assert np.array_equal(weights, moved[name]) == ("norm" in name)


def test_the_recipe_keeps_its_input_and_its_views():
    """Size, augmentation and flips are the trained one's; sampling and steps are ours."""
    recipe = make_network(
        augment=Augmentation(rotation=180, flips=True), flips_at_test=True, views=4, size=48,
        class_weights="binary", optimiser="sgd", label_smoothing=0.1,
    )  # fmt: skip
    changed = tuning.adjust(recipe, OnSiteParams(labels=[], views=1600, learning_rate=3e-4), 850)
    assert (changed.size, changed.augment, changed.flips_at_test, changed.label_smoothing) == (
        recipe.size, recipe.augment, True, 0.1,
    )  # fmt: skip
    assert (changed.sampling, changed.views, changed.class_weights) == (
        "balanced_by_hospital", 0, "none",
    )  # fmt: skip
    assert changed.steps == [Step(learning_rate=3e-4, epochs=2, schedule="cosine")]


@pytest.mark.parametrize(("n_rows", "epochs"), [(5000, 1), (1600, 1), (800, 2), (10, 160)])
def test_views_are_counted_in_whole_passes(n_rows, epochs):
    """At least one, however few views are asked for."""
    rule = OnSiteParams(labels=[], views=1600, learning_rate=3e-4)
    assert tuning.adjust(make_network(), rule, n_rows).steps[0].epochs == epochs


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=80),
    n_views=st.integers(1, 100),
    seed=st.integers(0, 9),
)
def test_replay_holds_every_class_and_at_most_half_of_the_views(rows, n_views, seed):
    """Of every class at least one, or the network could not be asked about it any more."""
    training = pd.DataFrame(
        [(f"h{hospital}/{n:02d}", label) for n, (label, hospital) in enumerate(rows)],
        columns=["image_id", "label"],
    )
    chosen = tuning.choose_replay(training, n_views, seed)
    own = training[training["image_id"].isin(chosen)]
    assert len(own) == len(chosen) == len(set(chosen))
    assert set(own["label"]) == set(training["label"])
    assert len(chosen) <= max(1, n_views // 2) + 3


def test_replay_takes_a_small_hospital_as_often_as_a_large_one():
    ids = [f"large/{n:03d}" for n in range(300)] + [f"small/{n:03d}" for n in range(60)]
    training = pd.DataFrame({"image_id": ids, "label": [n % 2 for n in range(360)]})
    chosen = tuning.choose_replay(training, 160, 1)
    assert sum(name.startswith("small") for name in chosen) == pytest.approx(40, abs=2)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (GREY, "of kind classifier"),
        (EnsembleRecipe(kind="ensemble", members={"a": GREY, "b": GREY}), "without one"),
        (EnsembleRecipe(kind="ensemble", members={"a": GREY, "b": make_network()}), None),
        (CascadeRecipe(kind="cascade", groups={"c": ["a", "b"]}, first=GREY, second=GREY),
         "of kind cascade"),
        (make_network(hidden=[4], then=ClassifierSettings(classifier="svm")), "on top of one"),
        (make_network(), None),
    ],
)  # fmt: skip
def test_a_model_that_is_no_network_is_refused_with_a_reason(recipe, says):
    reason = tuning.refuse(recipe)
    assert (reason is None) if says is None else (says in reason)


def test_a_loss_that_is_no_number_names_the_group(model):
    """The line names on_site, not the recipe alone."""
    head = model.network.layers[-1]
    head.set_weights([head.kernel.numpy(), np.full(3, np.nan)])
    with pytest.raises(ModelError, match=r"^on_site of params.yaml, tuning: the loss is no longer"):
        tune(model)


def test_a_label_that_the_model_never_learnt_is_named(model):
    with pytest.raises(ModelError, match="labels that are no class: platelet"):
        tune(model, classes=["basophil", "eosinophil", "platelet"])
