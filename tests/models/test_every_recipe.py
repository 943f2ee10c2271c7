"""Every recipe of params.yaml, at a small size: builds, learns, is kept and answers the same.

There is no list of recipes here: one that is added to params.yaml is tested. Of three families of
backbones, one of each origin (ours, Keras', a transformer), one entry is trained whole, kept and
loaded, with the smallest network that it names, the transformer with all its blocks but narrower
tokens; the others have the small backbone in its place.
What only the whole one can tell (how many weights there are and learn) is in
tests/tools/test_replays.py and tests/models/test_backbones.py. That every kind of model comes back
from its folder is in tests/models/test_trained.py. UMAP is itself in
tests/models/test_reduction.py; here the leading principal components stand in for it.
"""

import itertools
import re
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.core import backend, params, settings
from stages.core.params import InputsParams
from stages.inputs import reading
from stages.inputs.reading import Examples
from stages.models import backbones, networks, recipes, trained, vit
from stages.models.recipes import (
    FROM_SCRATCH,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    NetworkRecipe,
)
from stages.models.trained import SingleModel
from stages.training import fitting
from tests.made import small_backbone
from tests.projects import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning")
SHIPPED = params.parse(settings.read_yaml(ROOT / "params.yaml"))
RECIPES = recipes.read_all(SHIPPED.models, SHIPPED.features)
CLASSES = ["basophil", "eosinophil", "monocyte"]
PER_CLASS = 4
SEED = 3
INPUTS = InputsParams(
    crop="whole", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)


def family_of(network):
    """vgg of vgg16 and vgg19: what differs within it is the number of layers alone."""
    return re.sub(r"\d+$", "", re.sub(r"_b\d+$", "", network))


ORIGINS = ("efficientnet_lite", "mobilenetv", "vit")


def choose_whole():
    """By family of ORIGINS the entry with the smallest of its networks, which is trained whole."""
    own = [
        (one.network, place, name)
        for place, (name, one) in enumerate(RECIPES.items())
        if isinstance(one, NetworkRecipe) and one.network not in FROM_SCRATCH
    ]
    found = {family_of(network): name for network, _, name in sorted(own, reverse=True)}
    return {family: found[family] for family in ORIGINS}


WHOLE = choose_whole()


def shrink(recipe, n_rows, whole=False):
    """The same recipe on tiny images: an epoch a step, a batch each.

    With the cosine schedule, whose first update has a rate of 0, two.
    """
    if isinstance(recipe, CascadeRecipe):
        first, second = (shrink(member, n_rows) for member in (recipe.first, recipe.second))
        return recipe.model_copy(update={"first": first, "second": second})
    if isinstance(recipe, EnsembleRecipe):
        members = {name: shrink(member, n_rows) for name, member in recipe.members.items()}
        return recipe.model_copy(update={"members": members})
    if isinstance(recipe, ClassifierRecipe):
        return shrink_classifier(recipe).model_copy(update={"size": 32})
    n_batches = 1 + any(step.schedule == "cosine" for step in recipe.steps)
    known = backbones.APPLICATIONS.get(recipe.network) if whole else None
    smaller = {
        "size": max(32, known.min_size if known else 0),
        "weights": "none" if whole else recipe.weights,
        "batch": n_rows // n_batches,
        "views": min(recipe.views, 2),
        "steps": [shrink_step(step, whole) for step in recipe.steps],
        "then": recipe.then and shrink_classifier(recipe.then),
    }
    return recipe.model_copy(update=smaller)


def shrink_step(step, whole):
    block = step.train if whole or step.train in ("all", "head") else "block2"
    return step.model_copy(update={"epochs": 1, "train": block})


def shrink_classifier(settings):
    components = min(settings.components, 2)
    smaller = {"c": [1.0], "folds": 2, "trees": 5, "components": components, "umap_neighbours": 3}
    return settings.model_copy(update=smaller)


def draw(classes, size, per_class, seed):
    """Discs on a pale ground, of one size and colour for each class, with noise."""
    rng = np.random.default_rng(seed)
    names = sorted(classes * per_class)
    x = rng.integers(200, 255, (len(names), size, size, 3), dtype=np.uint8)
    for row, name in zip(x, names, strict=True):
        code = classes.index(name)
        colour = [60 + 25 * code, 40, 180 - 20 * code]
        cv2.circle(row, (size // 2, size // 2), size // 6 + code, colour, -1)
    ids = [f"munich/{seed}_{place:03d}.jpg" for place in range(len(names))]
    return ids, x, pd.Series(names, index=ids)


def make_rows(recipe, classes, per_class, seed, plain):
    """Rows as `rows.read` gives them for a recipe, by member for a composite."""
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        return {
            name: make_rows(member, classes, per_class, seed, plain)
            for name, member in recipe.members.items()
        }
    is_wide = recipe.learns_wide and not plain
    margin = round(reading.MARGIN * recipe.side) if is_wide else 0
    ids, x, _ = draw(classes, recipe.side + 2 * margin, per_class, seed)
    return Examples(ids, x, margin, x if is_wide and recipe.learns_hidden else None)


def build_and_note(build, starts, *arguments, **options):
    """Build a network, and keep the weights that it starts from."""
    network = build(*arguments, **options)
    starts.append({layer.name: layer.get_weights() for layer in network.layers})
    return network


class Trained:
    """A recipe that was shrunk and trained, and what it was trained with."""

    def __init__(self, name):
        self.name, original = name, RECIPES[name]
        self.classes = list(CLASSES)
        if isinstance(original, CascadeRecipe):
            inside = [label for group in original.groups.values() for label in group]
            self.classes = sorted([*inside, *CLASSES[:1]])
        self.recipe = shrink(original, PER_CLASS * len(self.classes), name in WHOLE.values())
        train = make_rows(self.recipe, self.classes, PER_CLASS, 0, plain=False)
        valid = make_rows(self.recipe, self.classes, 1, 1, plain=True)
        labels = pd.concat([draw(self.classes, 2, n, s)[2] for n, s in ((PER_CLASS, 0), (1, 1))])
        self.asked = make_rows(self.recipe, self.classes, 2, 2, plain=True)
        self.starts = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(networks, "build", partial(build_and_note, networks.build, self.starts))
            self.training = fitting.fit(
                self.recipe, train, valid, labels, fitting.Task(self.classes, INPUTS, SEED)
            )
        self.answers = trained.predict_images(self.training.model, self.asked)


class LeadingComponents:
    """In place of UMAP, whose rows are principal components already."""

    def __init__(self, n_components, **_):
        self.n_components = n_components

    def fit_transform(self, rows, _):
        return rows[:, : self.n_components]


@pytest.fixture(scope="module", autouse=True)
def in_a_hurry():
    """Run each operation at once: to trace and compile thirty networks takes minutes."""
    tf = backend.load_tensorflow()[1]
    tf.config.run_functions_eagerly(True)
    umap = ModuleType("umap")
    umap.UMAP, umap.__spec__ = LeadingComponents, ModuleSpec("umap", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "PREDICT_BATCH", 8)
        patch.setattr(vit, "WIDTH", 96)
        patch.setitem(sys.modules, "umap", umap)
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module", params=list(RECIPES))
def learnt(request, in_a_hurry):
    """One recipe after the other; its networks are forgotten before the next."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param not in WHOLE.values():
            small_backbone.put_in_place(patch.setattr)
        yield Trained(request.param)
    backend.load_keras().utils.clear_session()


def test_families_are_told_apart():
    """None of them stands for another kind; those trained whole are of different builders."""
    assert len(set(WHOLE.values())) == len(ORIGINS)
    assert {family_of(name) for name in backbones.NAMES} == {
        "convnexttiny", "densenet", "efficientnet_lite", "efficientnetb", "inceptionv",
        "mobilenetv", "nasnetlarge", "nasnetmobile", "resnet", "vgg", "vit", "xception",
    }  # fmt: skip


def singles(learnt):
    """Name, recipe and model of each part."""
    model = learnt.training.model
    members = {"model": model} if isinstance(model, SingleModel) else model.members
    return [(name, member.recipe, member) for name, member in members.items()]


def test_it_learns_in_every_step(learnt):
    """An epoch for each step of each network, with losses that are numbers."""
    history = learnt.training.history
    expected = [
        (name, number)
        for name, recipe, _ in singles(learnt)
        for number in range(1, 1 + len(getattr(recipe, "steps", "x")))
    ]
    assert list(zip(history["member"], history["step"], strict=True)) == expected
    assert np.isfinite(history[["loss", "val_loss"]]).all(axis=None)


def test_a_frozen_step_learns_the_head_alone(learnt):
    """Counted by hand: dense layers, normalisations around them, and nothing of the backbone."""
    steps = iter(learnt.training.steps)
    for _, recipe, model in singles(learnt):
        if isinstance(recipe, ClassifierRecipe):
            assert next(steps)["n_learning"] == model.n_weights == 0
            continue
        for step in recipe.steps:
            learning = next(steps)["n_learning"]
            if step.train == "head":
                assert learning == count_head(model.network, recipe, len(model.classes))
            assert 0 < learning <= model.n_weights
    assert next(steps, None) is None


def count_head(network, recipe, n_classes):
    first = next(one for one in network.layers if one.name.startswith(networks.CLASSIFIER))
    n_channels = int(first.input.shape[-1])
    widths = [n_channels, *recipe.hidden, n_classes]
    dense = sum((before + 1) * after for before, after in itertools.pairwise(widths))
    normalised = n_channels * ("input" in recipe.norms)
    normalised += sum(recipe.hidden) * ("hidden" in recipe.norms)
    return dense + 2 * normalised


def test_what_is_frozen_stays_as_it_was_built(learnt):
    """The backbone of a recipe that trains its head alone; the head does change."""
    found = [(recipe, model.network) for _, recipe, model in singles(learnt) if model.network]
    for start, (recipe, network) in zip(learnt.starts, found, strict=True):
        changed = {
            layer.name
            for layer in network.layers
            for before, after in zip(start[layer.name], layer.get_weights(), strict=True)
            if not np.array_equal(before, after)
        }
        assert changed
        if {step.train for step in recipe.steps} == {"head"}:
            assert all(name.startswith(networks.CLASSIFIER) for name in changed)


def test_probabilities_are_of_all_classes(learnt):
    answers = learnt.answers
    assert list(answers.columns) == learnt.classes
    assert len(answers) == 2 * len(learnt.classes)
    assert (answers.to_numpy() >= 0).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-6)


def test_kept_and_loaded_it_gives_the_same_bytes(learnt, tmp_path):
    """Where one is trained whole; all other kinds are in test_trained."""
    if learnt.name not in WHOLE.values():
        return
    trained.save(learnt.training.model, tmp_path)
    again = trained.predict_images(trained.load(tmp_path), learnt.asked)
    assert list(again.columns) == learnt.classes
    assert again.to_numpy().tobytes() == learnt.answers.to_numpy().tobytes()


def test_every_step_names_a_layer_of_its_whole_network(learnt):
    """Where one is trained whole: the steps of all entries of the family, whose blocks are alike.

    All others have block 2 of the small backbone in place of their own.
    """
    if learnt.name not in WHOLE.values():
        return
    network = learnt.training.model.network
    family = family_of(learnt.recipe.network)
    found = [
        step.train
        for recipe in RECIPES.values() for one in recipe.singles.values()
        if isinstance(one, NetworkRecipe) and family_of(one.network) == family
        for step in one.steps if networks.freeze(network, one, step.train) is None
    ]  # fmt: skip
    assert found
