"""The recipes of params.yaml: what is wrong is named in one line, members are named entries."""

import inspect
import json
import re

import pytest

from stages.core import params, settings
from stages.core.errors import ModelError, ParamsError
from stages.core.params import FeaturesParams
from stages.inputs.augmentation import Augmentation
from stages.models import recipes
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    NetworkRecipe,
    Step,
)
from tests.projects import ROOT

STEP = {"train": "all", "epochs": 2}
NETWORK = {"kind": "network", "network": "lenet", "size": 64, "steps": [STEP], "augment": {}}
BACKBONE = NETWORK | {"network": "vgg16", "weights": "imagenet", "hidden": [8]}
CLASSIFIER = {"kind": "classifier", "vectors": "grey", "classifier": "knn"}
EMBEDDED = CLASSIFIER | {"vectors": "features"}
CASCADE = {
    "kind": "cascade", "first": "network", "second": "classifier", "groups": {"g": ["a", "b"]},
}  # fmt: skip
ENSEMBLE = {"kind": "ensemble", "members": ["network", "classifier"]}
RECIPES = {
    "network": NETWORK, "backbone": BACKBONE, "classifier": CLASSIFIER, "embedded": EMBEDDED,
    "cascade": CASCADE, "ensemble": ENSEMBLE,
}  # fmt: skip
FEATURES = FeaturesParams(backbone="vgg19", size=64, layers=["top"])
SHIPPED = params.parse(settings.read_yaml(ROOT / "params.yaml"))


def read_all(models):
    return recipes.read_all(models, FEATURES)


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
        "network": NetworkRecipe, "backbone": NetworkRecipe,
        "classifier": ClassifierRecipe, "embedded": ClassifierRecipe, "cascade": CascadeRecipe,
        "ensemble": EnsembleRecipe,
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


def test_steps_may_be_named_by_what_learns():
    """As -S reaches them; the same as a list, in the order in which they stand."""
    named = {"head": {"epochs": 3}, "block5": {"learning_rate": 1e-5}}
    recipe = read_all(changed("backbone.steps", named))["backbone"]
    assert recipe.steps == [Step(train="head", epochs=3), Step(train="block5", learning_rate=1e-5)]


def test_features_are_those_of_params_unless_the_entry_says_otherwise():
    """The frozen network of a classifier stands in the recipe, in full."""
    assert read_all(RECIPES)["embedded"].features == FEATURES
    assert read_all(RECIPES)["classifier"].features is None
    own = {"backbone": "efficientnet_lite0", "size": 112, "layers": ["block3", "head"]}
    found = read_all(changed("embedded.features", own))["embedded"]
    assert found.features == FeaturesParams(**own)


def test_what_others_have_to_know_of_a_recipe():
    """Side, surroundings, hidden rows, published weights and classifier, whatever the kind."""
    content = changed("network.augment", {"flips": True})
    content["hiding"] = content["network"] | {"augment": {"hide": 0.1}}
    content["behind"] = BACKBONE | {"then": {"classifier": "svm"}}
    found = {
        name: (
            one.side, one.learns_wide, one.learns_hidden, one.has_network, one.published,
            one.classical and one.classical.classifier,
        )
        for name, one in read_all(content).items() if name not in ("cascade", "ensemble")
    }  # fmt: skip
    assert found == {
        "network": (64, True, False, True, [], None),
        "backbone": (64, False, False, True, ["vgg16"], None),
        "classifier": (160, False, False, False, [], "knn"),
        "embedded": (64, False, False, True, ["vgg19"], "knn"),
        "hiding": (64, True, True, True, [], None),
        "behind": (64, False, False, True, ["vgg16"], "svm"),
    }


def test_singles_are_the_models_that_are_trained():
    """Of a composite its members by name, of all others itself."""
    models = read_all(RECIPES)
    assert models["network"].singles == {"": models["network"]}
    assert models["cascade"].singles == {
        "first": models["network"], "second": models["classifier"],
    }  # fmt: skip
    assert list(models["ensemble"].singles) == ["network", "classifier"]


@pytest.mark.parametrize("name", SHIPPED.models)
def test_every_shipped_recipe_comes_back_from_its_file(tmp_path, name):
    """Members, defaults and features stand in recipe.json, which needs no params.yaml any more."""
    path = tmp_path / "data/recipe.json"
    recipe = recipes.choose(name, SHIPPED.models, SHIPPED.features)
    recipes.write(recipe, path)
    first = path.read_bytes()
    assert recipes.read(path) == recipe
    recipes.write(recipes.read(path), path)
    assert path.read_bytes() == first
    assert json.loads(first)["kind"] == SHIPPED.models[name]["kind"]


def test_a_recipe_that_is_not_ours_names_the_way_out(tmp_path):
    """Missing, of another version, or no text at all."""
    path = tmp_path / "recipe.json"
    for content in (None, b"", b"{}", b"\xff\xfe", b'{"kind": "head", "hidden": []}'):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=r"recipe.json is missing, or of another.*dvc repro"):
            recipes.read(path)


@pytest.mark.parametrize(
    "group",
    [NetworkRecipe, Step, ClassifierSettings, ClassifierRecipe, CascadeRecipe, EnsembleRecipe,
     Augmentation],
)  # fmt: skip
def test_every_key_is_explained_where_it_is_defined(group):
    """Under Attributes, with its default; nothing is explained that is not there."""
    own = {name for name in group.__annotations__ if name in group.model_fields}
    text = inspect.cleandoc(group.__doc__).partition("Attributes\n----------\n")[2]
    entries = dict(re.findall(r"^(\w+) : (.*)$", text, re.MULTILINE))
    assert set(entries) == own
    for name, said in entries.items():
        field = group.model_fields[name]
        default = "Augmentation()" if name == "augment" else repr(field.default)
        if field.is_required():
            assert "default" not in said
        else:
            assert said.endswith(f", default {default}")


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
        ("network.sampling", "even", "'balanced' or 'balanced_by_hospital'"),
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
        ("network.steps.0.train", "Block 5", "Call it .block_5"),
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
        ("ensemble.members", ["netwrk", "backbone"], r"'netwrk' .* Did you mean 'network'\?"),
        ("ensemble.members", ["network", "cascade"], "'cascade' is no recipe of a single model"),
        ("ensemble.members", KeyError, "is missing"),
        ("cascade.first", "classifer", r"first: 'classifer' .* Did you mean 'classifier'\?"),
        ("cascade.second", NETWORK, "second: .* is no recipe of a single model"),
        ("cascade.second", KeyError, "second: is missing"),
        ("network.kind", "netwrk", r"network.kind: 'netwrk' is unknown. Did you mean 'network'\?"),
        ("network.kind", KeyError, "network.kind: is missing. Known: network"),
        ("network.network", "vgg", r"network.network: 'vgg' is unknown. Did you mean 'vgg1"),
        ("network.kind", "head", r"network.kind: 'head' is unknown"),
        ("network.steps", {"head": 5}, r"network.steps: head takes settings in braces"),
        ("embedded.features", {"backbone": "vgg19"}, r"embedded.features.size: is missing"),
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
          for name in ("gamma", "haze", "clip", "colour", "grey", "blur", "noise", "jpeg", "hide")),
        *((name, -0.1, rf"augment.{name}: .*greater than or equal to 0")
          for name in (
              "shift", "stain", "gamma", "haze", "clip", "colour", "grey", "blur", "noise", "jpeg",
              "hide",
          )),
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
        ("network", "size"), ("embedded", "features"), ("classifier", "neighbours"),
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
    assert recipes.choose("ensemble", content, FEATURES).members["network"].size == 96
    assert recipes.choose("cascade", content, FEATURES).first.size == 96


def test_the_place_of_the_entries_does_not_count():
    """A composite may stand before its members, and all keep their order."""
    turned = dict(reversed(RECIPES.items()))
    assert list(read_all(turned)) == list(turned)
    assert read_all(turned) == read_all(RECIPES)
