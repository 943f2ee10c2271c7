"""params.yaml: what is wrong is named in one line, with the nearest valid name."""

import json
from pathlib import Path

import pytest
import yaml

from stages.core.errors import ParamsError
from stages.core.params import load, parse, seed_for
from stages.core.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    HeadRecipe,
    NetworkRecipe,
)

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STEP = {"train": "all", "epochs": 2}
NETWORK = {"kind": "network", "network": "lenet", "size": 64, "steps": [STEP], "augment": {}}
BACKBONE = NETWORK | {"network": "vgg16", "weights": "imagenet", "hidden": [8]}
HEAD = {
    "kind": "head", "hidden": [], "dropout": 0.2, "l2": 0.0, "learning_rate": 0.1, "epochs": 2,
    "batch": 8, "patience": 2, "class_weights": "none",
}  # fmt: skip
CLASSIFIER = {"kind": "classifier", "vectors": "grey", "classifier": "knn"}
CASCADE = {
    "kind": "cascade", "first": NETWORK, "second": CLASSIFIER, "groups": {"g": ["a", "b"]},
}  # fmt: skip
ENSEMBLE = {"kind": "ensemble", "members": {"one": NETWORK, "two": CLASSIFIER}}
RECIPES = {
    "network": NETWORK, "backbone": BACKBONE, "head": HEAD, "classifier": CLASSIFIER,
    "cascade": CASCADE, "ensemble": ENSEMBLE,
}  # fmt: skip


def changed(path, value):
    """The shipped file with plain recipes, and one value set at a path (KeyError: left out)."""
    # Not a deep copy, which keeps one object for a recipe that stands in two places.
    content = json.loads(json.dumps(SHIPPED | {"model": "network", "models": RECIPES}))
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return content


def test_the_shipped_file_is_right():
    shipped = parse(SHIPPED)
    assert shipped.recipe == shipped.models[shipped.model]


def test_each_kind_of_recipe_is_read_as_its_own():
    """What stands under kind decides which keys there are; members too."""
    models = parse(changed("seed", 1)).models
    kinds = {
        "network": NetworkRecipe, "backbone": NetworkRecipe, "head": HeadRecipe,
        "classifier": ClassifierRecipe, "cascade": CascadeRecipe, "ensemble": EnsembleRecipe,
    }  # fmt: skip
    assert {name: type(recipe) for name, recipe in models.items()} == kinds
    assert type(models["cascade"].first) is NetworkRecipe
    assert type(models["cascade"].second) is ClassifierRecipe
    assert list(models["ensemble"].members) == ["one", "two"]


def test_what_is_not_named_is_not_done():
    """A recipe without augmentation changes nothing; one change makes it augmented."""
    assert parse(changed("seed", 1)).models["network"].augment.is_empty
    same = parse(changed("models.network.augment", {"rotation": 0, "flips": False}))
    assert same.models["network"].augment.is_empty
    turned = parse(changed("models.network.augment", {"rotation": 0.5}))
    assert not turned.models["network"].augment.is_empty


def test_a_head_trains_in_one_step():
    """Its settings become one stretch, whose patience to stop is twice the one to slow down."""
    (step,) = parse(changed("seed", 1)).models["head"].steps
    assert (step.train, step.learning_rate, step.epochs) == ("all", 0.1, 2)
    assert (step.patience, step.stop_patience) == (2, 4)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("sede", 1, r"params.yaml, sede: unknown key. Did you mean 'seed'\?"),
        ("split.vald", 0.1, r"split.vald: unknown key. Did you mean 'valid'\?"),
        ("models.head.learning_rat", 0.1, r"models.head.learning_rat: .*'learning_rate'\?"),
        ("seed", "42", r"seed: got '42'; it should be a valid integer"),
        ("split.test", "much", r"split.test: got 'much'; it should be a valid number"),
        ("split.test", 1.5, r"split.test: got 1.5; it should be less than 1"),
        ("split.test", 0.9, r"split: valid \+ test must be below 1"),
        ("inputs.hide", "no", r"inputs.hide: got 'no'; it should be 'nothing', 'background' or"),
        ("inputs.crop", "cel", r"inputs.crop: got 'cel'; it should be 'cell', 'centre' or 'whole'"),
        ("inputs.white_balance", ["none", "none"], r"inputs: white_balance names a .* twice"),
        ("features.backbone", "vgg", r"features.backbone: got 'vgg'; it should be 'efficientnet"),
        ("models.network.kind", "pixels", r"network.kind: 'pixels' is unknown. Known: head"),
        ("models.network.kind", KeyError, r"models.network.*kind"),
        ("models.network.network", "vgg", r"models.network.network.*'vgg'"),
        ("models.network.siz", 64, r"models.network.siz: unknown key. Did you mean 'size'\?"),
        ("models.network.size", KeyError, r"models.network.size: is missing"),
        ("models.network.learning_rate", 1, r"models.network.learning_rate: unknown key"),
        ("models.head.steps", [STEP], r"models.head.steps: unknown key"),
        ("features.layers", [10], r"params.yaml, features.layers.0: got 10; it should be a"),
        ("evaluate", KeyError, r"evaluate: is missing. Add it"),
        ("model", "netwrk", r"model: 'netwrk' is unknown. Did you mean 'network'\?"),
        ("split.train_hospitals", ["demo_noth"], r"train_hospitals: 'demo_noth' .*'demo_north'\?"),
        ("hospitals", ["demo_north", "demo_north"], r"hospitals: a name stands twice"),
        ("hospitals", [], r"hospitals: got \[\]"),
        ("filter.min_side", 2000, r"filter: min_side must be smaller than max_side"),
    ],
)
def test_a_fault_is_named(path, value, match):
    with pytest.raises(ParamsError, match=match) as fault:
        parse(changed(path, value))
    assert "\n" not in str(fault.value)


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
        ("ensemble.members", {"one": NETWORK}, "at least 2"),
        ("network.weights", "imagenet", "lenet has no ImageNet weights; set weights to none"),
    ],
)
def test_the_bounds_of_a_recipe(path, value, match):
    """Each bound refuses what lies just beyond it, in one line that names the key."""
    with pytest.raises(ParamsError, match=match) as fault:
        parse(changed(f"models.{path}", value))
    assert "\n" not in str(fault.value)
    # Two values that do not go together are named with their recipe.
    assert f"models.{path.split('.')[0]}" in str(fault.value)


def test_a_classifier_behind_a_network_needs_a_layer_to_look_at():
    """then takes the first hidden layer: a backbone without one is refused, LeNet has its own."""
    behind = {"classifier": "svm"}
    content = changed("models.backbone.then", behind)
    parse(content)
    content["models"]["backbone"]["hidden"] = []
    with pytest.raises(ParamsError, match=r"models.backbone: then takes .* hidden is empty"):
        parse(content)
    parse(changed("models.network.then", behind))


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
        parse(changed("models.network.augment", {name: value}))
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
    assert not parse(changed("models.network.augment", augment)).models["network"].augment.is_empty


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ("network", "size"), ("head", "patience"), ("classifier", "neighbours"),
        ("network.augment", "rotation"), ("network.steps.0", "epochs"), ("backbone.then", "trees"),
        ("cascade", "second"), ("cascade.first", "size"), ("cascade.second", "neighbours"),
        ("cascade.first.augment", "rotation"), ("cascade.first.steps.0", "epochs"),
        ("ensemble", "members"), ("ensemble.members.one", "size"),
        ("ensemble.members.two", "neighbours"), ("ensemble.members.one.augment", "rotation"),
        ("ensemble.members.one.steps.0", "epochs"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_at_every_depth(place, known):
    """Its path as a person wrote it, without the kinds that pydantic puts in, and the near name."""
    content = changed("models.backbone.then", {"classifier": "svm"})
    inside = content["models"]
    for name in place.split("."):
        inside = inside[int(name)] if isinstance(inside, list) else inside[name]
    inside[known + "s"] = 1
    with pytest.raises(ParamsError) as fault:
        parse(content)
    text = f"params.yaml, models.{place}.{known}s: unknown key. Did you mean '{known}'? Known here"
    assert str(fault.value).startswith(text)


def test_only_the_named_groups_can_be_read(monkeypatch):
    """A stage cannot read a parameter that it did not name, and so did not declare."""
    monkeypatch.chdir(ROOT)
    rule = load("split", "seed")
    assert rule.seed == SHIPPED["seed"]
    with pytest.raises(AttributeError):
        _ = rule.taxonomy


def test_a_missing_file_says_where_to_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params.yaml is not here. Run from the project's top"):
        load("seed")


def test_broken_yaml_names_the_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 1\nsplit: [\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params.yaml is not YAML: .*line 3.*Mend that line"):
        load("seed")


def test_seeds_follow_names_not_order():
    assert seed_for(1, "split", "a") == seed_for(1, "split", "a")
    assert len({seed_for(1, "a"), seed_for(2, "a"), seed_for(1, "b"), seed_for(1, "a", "b")}) == 4


@pytest.mark.parametrize("text", ["1e-5", "1e-05", "1E-5", "0.00001", "1.0e-5"])
def test_a_small_number_is_read_as_people_and_dvc_write_it(tmp_path, monkeypatch, text):
    """DVC writes 1e-05 into params.yaml, which YAML 1.1 takes for a word."""
    monkeypatch.chdir(tmp_path)
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    changed_text = shipped.replace("learning_rate: 0.001,", f"learning_rate: {text},")
    assert changed_text != shipped
    Path("params.yaml").write_text(changed_text, encoding="utf-8")
    assert load("models").models["lite0_head"].learning_rate == 1e-5


def test_a_file_of_another_encoding_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes("# größe\n".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params.yaml is not UTF-8 text.*Save it as UTF-8"):
        load("seed")
