"""The recipes of params.yaml: what is wrong is named in one line, members are named entries."""

import json

import pytest

from stages.core.errors import ParamsError
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    HeadRecipe,
    NetworkRecipe,
    choose,
    read_all,
)

STEP = {"train": "all", "epochs": 2}
NETWORK = {"kind": "network", "network": "lenet", "size": 64, "steps": [STEP], "augment": {}}
BACKBONE = NETWORK | {"network": "vgg16", "weights": "imagenet", "hidden": [8]}
HEAD = {
    "kind": "head", "hidden": [], "dropout": 0.2, "l2": 0.0, "learning_rate": 0.1, "epochs": 2,
    "batch": 8, "patience": 2, "class_weights": "none",
}  # fmt: skip
CLASSIFIER = {"kind": "classifier", "vectors": "grey", "classifier": "knn"}
CASCADE = {
    "kind": "cascade", "first": "network", "second": "classifier", "groups": {"g": ["a", "b"]},
}  # fmt: skip
ENSEMBLE = {"kind": "ensemble", "members": ["network", "classifier"]}
RECIPES = {
    "network": NETWORK, "backbone": BACKBONE, "head": HEAD, "classifier": CLASSIFIER,
    "cascade": CASCADE, "ensemble": ENSEMBLE,
}  # fmt: skip


def changed(path, value):
    """Plain recipes with one value set at a path (KeyError: left out)."""
    # Not a deep copy, which keeps one object for a recipe that stands in two places.
    content = json.loads(json.dumps(RECIPES))
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return content


def test_each_kind_of_recipe_is_read_as_its_own():
    """What stands under kind decides which keys there are; members too."""
    models = read_all(RECIPES)
    kinds = {
        "network": NetworkRecipe, "backbone": NetworkRecipe, "head": HeadRecipe,
        "classifier": ClassifierRecipe, "cascade": CascadeRecipe, "ensemble": EnsembleRecipe,
    }  # fmt: skip
    assert {name: type(recipe) for name, recipe in models.items()} == kinds
    assert type(models["cascade"].first) is NetworkRecipe
    assert type(models["cascade"].second) is ClassifierRecipe
    assert list(models["ensemble"].members) == ["network", "classifier"]
    assert models["ensemble"].members["network"] == models["cascade"].first == models["network"]


def test_what_is_not_named_is_not_done():
    """A recipe without augmentation changes nothing; one change makes it augmented."""
    assert read_all(RECIPES)["network"].augment.is_empty
    same = read_all(changed("network.augment", {"rotation": 0, "flips": False}))
    assert same["network"].augment.is_empty
    turned = read_all(changed("network.augment", {"rotation": 0.5}))
    assert not turned["network"].augment.is_empty


def test_a_head_trains_in_one_step():
    """Its settings become one stretch, whose patience to stop is twice the one to slow down."""
    (step,) = read_all(RECIPES)["head"].steps
    assert (step.train, step.learning_rate, step.epochs) == ("all", 0.1, 2)
    assert (step.patience, step.stop_patience) == (2, 4)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("network.size", 31, "greater than or equal to 32"),
        ("network.size", 1025, "less than or equal to 1024"),
        ("network.batch", 0, "greater than or equal to 1"),
        ("network.hidden", [0], "greater than or equal to 1"),
        ("network.dropout", 1.0, "less than 1"),
        ("network.label_smoothing", 1.0, "less than 1"),
        ("network.average", 1.0, "less than 1"),
        ("network.weight_decay", -0.1, "greater than or equal to 0"),
        ("network.views", -1, "greater than or equal to 0"),
        ("network.views", 51, "less than or equal to 50"),
        ("network.steps", [], "at least 1"),
        ("network.optimiser", "adamm", "'adam'"),
        ("network.activation", "sine", "'relu'"),
        ("network.sampling", "even", "'shuffled' or 'balanced'"),
        ("network.class_weights", "log", "'none', 'balanced', 'binary' or 'sqrt'"),
        ("network.norms", ["output"], "'input' or 'hidden'"),
        ("network.precision", "float16", "'float32' or 'mixed'"),
        ("network.steps.0.learning_rate", 0, "greater than 0"),
        ("network.steps.0.learning_rate", 1.5, "less than or equal to 1"),
        ("network.steps.0.epochs", 0, "greater than or equal to 1"),
        ("network.steps.0.factor", 0, "greater than 0"),
        ("network.steps.0.factor", 1, "less than 1"),
        ("network.steps.0.patience", 0, "greater than or equal to 1"),
        ("network.steps.0.stop_patience", 0, "greater than or equal to 1"),
        ("network.steps.0.schedule", "linear", "'constant', 'plateau' or 'cosine'"),
        ("network.steps.0.monitor", "loss", "'val_loss' or 'val_accuracy'"),
        ("network.steps.0.train", "Block 5", "pattern"),
        ("head.l2", -1, "greater than or equal to 0"),
        ("head.epochs", 0, "greater than or equal to 1"),
        ("head.patience", 0, "greater than or equal to 1"),
        ("classifier.size", 15, "greater than or equal to 16"),
        ("classifier.size", 513, "less than or equal to 512"),
        ("classifier.vectors", "pixels", "'features', 'grey' or 'measures'"),
        ("classifier.classifier", "tree", "'svm', 'knn', 'logistic', 'forest' or 'extra_trees'"),
        ("classifier.reduce", "tsne", "'none', 'pca', 'umap' or 'umap_supervised'"),
        ("classifier.components", 0, "neither a whole number of components nor"),
        ("classifier.components", 1.5, "neither a whole number of components nor"),
        ("classifier.c", [0], "greater than 0"),
        ("classifier.umap_neighbours", 1, "greater than or equal to 2"),
        ("classifier.neighbours", 0, "greater than or equal to 1"),
        ("classifier.trees", 0, "greater than or equal to 1"),
        ("classifier.depth", 0, "greater than or equal to 1"),
        ("classifier.c", [], "at least 1"),
        ("classifier.folds", 1, "greater than or equal to 2"),
        ("classifier.penalty", "l0", "'l1' or 'l2'"),
        ("cascade.groups", {}, "at least 1"),
        ("cascade.groups", {"g": ["a"]}, "at least 2"),
        ("cascade.groups", {"g": ["a", "b"], "h": ["b", "c"]}, "stands in two groups"),
        ("ensemble.members", ["network"], r"got \['network'\]; it takes two or more names"),
        ("ensemble.members", ["network", "network"], "two or more names, each once"),
        ("ensemble.members", "network", "two or more names, each once"),
        ("ensemble.members", ["netwrk", "head"], r"'netwrk' .* Did you mean 'network'\?"),
        ("ensemble.members", ["network", "cascade"], "'cascade' is no recipe of a single model"),
        ("ensemble.members", KeyError, "is missing"),
        ("cascade.first", "classifer", r"first: 'classifer' .* Did you mean 'classifier'\?"),
        ("cascade.second", NETWORK, "second: .* is no recipe of a single model"),
        ("cascade.second", KeyError, "second: is missing"),
        ("network.kind", "netwrk", r"network.kind: 'netwrk' is unknown. Did you mean 'network'\?"),
        ("network.kind", KeyError, "network.kind: is missing. Known: head"),
        ("network.network", "vgg", r"network.network: 'vgg' is unknown. Did you mean 'vgg1"),
        ("network.siz", 64, r"network.siz: unknown key. Did you mean 'size'\?"),
        ("network.size", KeyError, "network.size: is missing"),
        ("network.weights", "imagenet", "lenet has no ImageNet weights; set weights to none"),
    ],
)
def test_the_bounds_of_a_recipe(path, value, match):
    """Each bound refuses what lies just beyond it, in one line that names the key."""
    with pytest.raises(ParamsError, match=match) as fault:
        read_all(changed(path, value))
    assert "\n" not in str(fault.value)
    # Two values that do not go together are named with their recipe.
    assert f"models.{path.split('.')[0]}" in str(fault.value)


def test_a_classifier_behind_a_network_needs_a_layer_to_look_at():
    """then takes the first hidden layer: a backbone without one is refused, LeNet has its own."""
    behind = {"classifier": "svm"}
    content = changed("backbone.then", behind)
    read_all(content)
    content["backbone"]["hidden"] = []
    with pytest.raises(ParamsError, match=r"models.backbone: then takes .* hidden is empty"):
        read_all(content)
    read_all(changed("network.then", behind))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("zoom", 1.1, r"zoom is 1.1; .* 0 to 0.7 .*Keras reads 1.1 as factors from -0.1 to 2.1"),
        ("zoom", 0.71, r"zoom is 0.71; it is the largest change of the logarithm"),
        ("zoom", -0.1, r"augment.zoom: got -0.1; .* greater than or equal to 0"),
        ("shear", 0.1, r"shear is 0.1; it is in degrees, 1 to 45"),
        ("shear", 46, r"augment.shear: got 46; .* less than or equal to 45"),
        ("shear", -1, r"augment.shear: got -1; .* greater than or equal to 0"),
        ("brightness", [0, 2], r"brightness is .*0.1 to 3: one near 0 gives black images"),
        ("brightness", [0.2, 3.1], r"brightness is .*0.1 to 3"),
        ("brightness", [1.2, 0.8], r"brightness is .* two factors in order"),
        ("brightness", [1.0], r"augment.brightness: .*at least 2"),
        ("brightness", 0.5, r"augment.brightness: .*list"),
        ("rotation", 181, r"augment.rotation: .*less than or equal to 180"),
        ("rotation", -1, r"augment.rotation: .*greater than or equal to 0"),
        ("shift", 0.31, r"augment.shift: .*less than or equal to 0.3"),
        ("stain", 2.1, r"augment.stain: .*less than or equal to 2"),
        ("flips", 1, r"augment.flips: .*boolean"),
        *((name, 1.1, rf"augment.{name}: .*less than or equal to 1")
          for name in ("colour", "grey", "blur", "noise", "jpeg", "hide")),
        *((name, -0.1, rf"augment.{name}: .*greater than or equal to 0")
          for name in ("shift", "stain", "colour", "grey", "blur", "noise", "jpeg", "hide")),
    ],
)  # fmt: skip
def test_the_bounds_of_augmentation(name, value, match):
    """Among them what the two projects fell into: zoom 1.1, shear 0.1, brightness from 0."""
    with pytest.raises(ParamsError, match=match) as fault:
        read_all(changed("network.augment", {name: value}))
    assert "\n" not in str(fault.value)
    assert "models.network.augment" in str(fault.value)


@pytest.mark.parametrize(
    "augment",
    [
        {"zoom": 0.7}, {"shear": 1}, {"shear": 45}, {"brightness": [0.1, 3]}, {"rotation": 180},
        {"shift": 0.3}, {"stain": 2}, {"hide": 1}, {"brightness": [1, 1]},
    ],
)  # fmt: skip
def test_the_ends_of_the_bounds_are_allowed(augment):
    assert not read_all(changed("network.augment", augment))["network"].augment.is_empty


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ("network", "size"), ("head", "patience"), ("classifier", "neighbours"),
        ("network.augment", "rotation"), ("network.steps.0", "epochs"), ("backbone.then", "trees"),
        ("cascade", "second"), ("ensemble", "members"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_at_every_depth(place, known):
    """Its path as a person wrote it, without the kinds that pydantic puts in, and the near name."""
    content = changed("backbone.then", {"classifier": "svm"})
    inside = content
    for name in place.split("."):
        inside = inside[int(name)] if isinstance(inside, list) else inside[name]
    inside[known + "s"] = 1
    with pytest.raises(ParamsError) as fault:
        read_all(content)
    text = f"params.yaml, models.{place}.{known}s: unknown key. Did you mean '{known}'? Known here"
    assert str(fault.value).startswith(text)


def test_a_change_reaches_those_who_name_it():
    """A member is the very entry: there is no copy that could be forgotten."""
    content = changed("network.size", 96)
    assert choose("ensemble", content).members["network"].size == 96
    assert choose("cascade", content).first.size == 96


def test_the_place_of_the_entries_does_not_count():
    """A composite may stand before its members, and all keep their order."""
    turned = dict(reversed(RECIPES.items()))
    assert list(read_all(turned)) == list(turned)
    assert read_all(turned) == read_all(RECIPES)
