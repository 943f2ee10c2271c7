"""Models that travel: each format answers as the model, and a wrong file is noticed."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from stages.core import backend
from stages.core.errors import ModelError
from stages.core.params import FeaturesParams
from stages.images import morphology
from stages.inputs.reading import Examples
from stages.models import classifiers, portable, trained
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
)
from stages.models.trained import CompositeModel, SingleModel
from tests.made import small_backbone
from tests.made.made_training import CLASSES, INPUTS, make_network

SIDE = 32
TWO_VIEWS = INPUTS.model_copy(update={"white_balance": ["white_point", "grey_world"]})
GROUPS = {"granulocyte": CLASSES[:2]}
KINDS = ("network", "then", "features", "grey", "measures", "cascade", "ensemble")
FORMATS = tuple(portable.FILES)


def measure_by_sums(crops):
    """Stand for the measures: noise has no cell, and its true measures are all 0."""
    seeds = crops.sum(axis=(1, 2, 3), dtype=np.int64)
    return np.stack([
        np.random.default_rng(seed).normal(size=len(morphology.NAMES)) for seed in seeds
    ]).astype(np.float32)  # fmt: skip


def make_rows(n_images, seed=0):
    """Noise; two views of each image follow one another. The names are not in order."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (2 * n_images, SIDE, SIDE, 3), dtype=np.uint8)
    x //= rng.integers(1, 4, (2 * n_images, 1, 1, 3), dtype=np.uint8)
    return Examples([f"h/{n_images - row // 2:03d}" for row in range(2 * n_images)], x)


def rows_for(model, rows):
    return rows if isinstance(model, SingleModel) else dict.fromkeys(model.members, rows)


def drawn(network, seed=1):
    """Fill a network with numbers that tell pictures, and their mirrorings, apart."""
    rng = np.random.default_rng(seed)
    network.set_weights([
        rng.uniform(0.1, 1, weight.shape) if weight.ndim == 1
        else rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)
        for weight in network.get_weights()
    ])  # fmt: skip
    return network


def make_single(recipe, classes=CLASSES, seed=1):
    """A model of drawn weights; a classifier is fitted to the vectors of noise."""
    shape, network, classifier = (SIDE, SIDE, 3), None, None
    if recipe.has_network:
        network = drawn(trained.build(recipe, shape, len(classes)), seed)
    if recipe.classical:
        rows = make_rows(30, seed)
        x = trained.vectors(recipe, network, rows.x)
        labels = [classes[row % len(classes)] for row in range(len(x))]
        classifier = classifiers.fit(recipe.classical, x, labels, classes, seed)
    return SingleModel(list(classes), recipe, TWO_VIEWS, shape, network, classifier)


def make_model(kind):
    lenet = make_network(
        network="lenet", weights="none", size=SIDE, flips_at_test=True, activation="gelu"
    )
    then = ClassifierSettings(classifier="svm", folds=2)
    features = FeaturesParams(backbone="vgg16", size=SIDE, layers=["block1", "block2"])
    recipes = {
        "network": lenet,
        "then": make_network(hidden=[6], norms=["input"], flips_at_test=True, then=then),
        "features": ClassifierRecipe(
            kind="classifier", vectors="features", features=features, classifier="knn"
        ),
        "grey": ClassifierRecipe(
            kind="classifier", vectors="grey", size=SIDE, classifier="forest", trees=8, depth=4,
            reduce="pca", components=5,
        ),
        "measures": ClassifierRecipe(
            kind="classifier", vectors="measures", size=SIDE, classifier="extra_trees", trees=20
        ),
    }  # fmt: skip
    if kind in recipes:
        return make_single(recipes[kind])
    if kind == "cascade":
        first = make_single(lenet, ["granulocyte", "monocyte"])
        second = make_single(recipes["measures"], [*CLASSES[:2], "others"])
        recipe = CascadeRecipe(
            kind="cascade", groups=GROUPS, first=first.recipe, second=second.recipe
        )
        return CompositeModel(CLASSES, recipe, TWO_VIEWS, {"first": first, "second": second})
    names = ("network", "then", "measures")
    members = {name: make_single(recipes[name]) for name in names}
    recipe = EnsembleRecipe(
        kind="ensemble", members={name: one.recipe for name, one in members.items()}
    )
    return CompositeModel(CLASSES, recipe, TWO_VIEWS, members)


@pytest.fixture(scope="module", autouse=True)
def made():
    """The small backbone, made measures, and a model of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.put_in_place(patch.setattr)
        patch.setattr(morphology, "measure_all", measure_by_sums)
        yield {kind: make_model(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def write_once(made, tmp_path_factory):
    """Return the folder in which a made model lies in one format, written at the first call."""

    @cache
    def write(name, kind):
        folder = tmp_path_factory.mktemp(name)
        portable.write(made[name], kind, folder)
        return folder

    return write


def difference(model, kind, folder, n_images=70):
    return portable.compare(model, kind, folder, rows_for(model, make_rows(n_images)))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", KINDS)
def test_every_format_answers_as_the_model(made, write_once, name, kind):
    """One image and seventy, to a ten-thousandth; the images are told apart."""
    model, folder = made[name], write_once(name, kind)
    assert difference(model, kind, folder, 1) < 1e-4
    assert difference(model, kind, folder, 70) < 1e-4
    answers = trained.predict_images(model, rows_for(model, make_rows(70)))
    assert np.ptp(answers.to_numpy(), axis=0).min() > 0.01


def reorder(model):
    """The same model whose columns have other names."""
    return dataclasses.replace(model, classes=model.classes[::-1], members={
        name: dataclasses.replace(one, classes=one.classes[1:] + one.classes[:1])
        for name, one in model.members.items()
    })  # fmt: skip


def forget_flips(model):
    """The network is asked as pictures lie, and no other way."""
    recipe = model.recipe.model_copy(update={"flips_at_test": False})
    return dataclasses.replace(model, recipe=recipe)


def shift_children(model):
    """In the trees each way leads one node too far."""
    stored = model.classifier.arrays
    own = np.arange(len(stored["children"]))[:, None]
    last = len(own) - 1
    children = np.where(stored["children"] == own, own, np.minimum(stored["children"] + 1, last))
    broken = dataclasses.replace(model.classifier, arrays=stored | {"children": children})
    return dataclasses.replace(model, classifier=broken)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("ensemble", reorder), ("network", forget_flips), ("measures", shift_children),
    ],
)  # fmt: skip
def test_the_comparison_sees_a_wrong_file(made, tmp_path, name, spoil):
    """Swapped classes, lost mirrorings, trees that lead astray: far above a ten-thousandth."""
    portable.write(spoil(made[name]), "savedmodel", tmp_path)
    assert difference(made[name], "savedmodel", tmp_path) > 0.003


def test_the_comparison_pairs_pictures_by_name(made, write_once):
    """The answers of a file, in the order fed, are held against the table sorted by name."""
    model, rows = made["measures"], make_rows(5)
    folder = write_once("measures", "savedmodel")
    ids, arrays = portable.feed(model, rows)
    assert ids == [f"h/{place:03d}" for place in (5, 4, 3, 2, 1)]
    answers = portable.load("savedmodel", folder)(arrays)
    expected = trained.predict_images(model, rows)
    np.testing.assert_allclose(answers, expected.loc[ids], atol=1e-6)
    assert np.abs(answers - expected.to_numpy()).max() > 0.01


@pytest.mark.parametrize("kind", FORMATS)
def test_the_lines_of_the_contract_ask_the_file(made, write_once, monkeypatch, kind):
    """A stranger who copies them beside the file gets the model's probabilities."""
    model, rows = made["ensemble"], rows_for(made["ensemble"], make_rows(3))
    monkeypatch.chdir(write_once("ensemble", kind))
    ids, inputs = portable.feed(model, rows)
    scope = {"inputs": inputs}
    exec(json.loads(Path("contract.json").read_text())["run"][kind], scope)
    expected = trained.predict_images(model, rows).loc[ids]
    np.testing.assert_allclose(scope["answers"], expected, atol=1e-4)


def test_members_of_one_size_share_an_input(made):
    """The pixels are fed once, and the measures beside them; both with all views."""
    _, arrays = portable.feed(made["ensemble"], rows_for(made["ensemble"], make_rows(3)))
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "pixels_32": ((3, 2, SIDE, SIDE, 3), "uint8"),
        "measures_32": ((3, 2, len(morphology.NAMES)), "float32"),
    }


def test_the_files_have_the_names_and_shapes_of_the_contract(write_once):
    """What contract.json says of inputs and output is what ONNX and LiteRT say of themselves."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    onnx, litert = (write_once("ensemble", kind) for kind in ("onnx", "litert"))
    texts = {(folder / "contract.json").read_text() for folder in (onnx, litert)}
    assert len(texts) == 1
    told = json.loads(texts.pop())
    session = onnxruntime.InferenceSession(onnx / "model.onnx")
    dtypes = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    given = {one.name: (dtypes[one.type], one.shape[1:]) for one in session.get_inputs()}
    wanted = {one["name"]: (one["dtype"], one["shape"][1:]) for one in told["inputs"]}
    assert given == wanted
    assert [(one.name, one.shape[1:]) for one in session.get_outputs()] == [
        (told["output"]["name"], told["output"]["shape"][1:])
    ]
    runner = Interpreter(str(litert / "model.tflite")).get_signature_runner()
    found = {
        name: (one["dtype"].__name__, one["shape_signature"][1:].tolist())
        for name, one in runner.get_input_details().items()
    }
    assert found == wanted
    assert list(runner.get_output_details()) == [told["output"]["name"]]


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_the_same_model_gives_the_same_bytes(made, write_once, tmp_path, kind):
    """Written again, over an older file; nothing but the contract lies beside it."""
    (tmp_path / portable.FILES[kind]).write_bytes(b"older")
    portable.write(made["ensemble"], kind, tmp_path)
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (write_once("ensemble", kind), tmp_path)
    )
    assert sorted(after) == sorted(["contract.json", portable.FILES[kind]])
    assert after == before


@pytest.mark.parametrize(
    ("kind", "act", "missing"),
    [
        ("onnx", portable.write, "tf2onnx"),
        ("onnx", portable.load, "onnxruntime"),
        ("litert", portable.load, "ai_edge_litert"),
    ],
)
def test_a_missing_package_is_named(made, tmp_path, monkeypatch, kind, act, missing):
    """One line with the way out, and nothing is written."""
    real = portable.importlib.util.find_spec
    monkeypatch.setattr(
        portable.importlib.util, "find_spec",
        lambda name: None if name == missing else real(name),
    )  # fmt: skip
    arguments = (kind, tmp_path) if act is portable.load else (made["network"], kind, tmp_path)
    with pytest.raises(ModelError, match=rf"{missing}.*'uv sync --extra export'"):
        act(*arguments)
    assert not list(tmp_path.iterdir())


def make_layers(*layers):
    """A model of a network of these layers, in front of a dense one."""
    keras = backend.load_keras()
    shape = (SIDE, SIDE, 3)
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")]
    network = keras.Sequential([keras.Input(shape), *layers, *ends])
    recipe = make_network(network="lenet", weights="none", size=SIDE)
    return SingleModel(CLASSES, recipe, TWO_VIEWS, shape, network)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_a_layer_that_works_with_copies_of_its_weights_travels(tmp_path, kind):
    """The normalisation in front of EfficientNet: its numbers are in the file, no input of it."""
    layer = backend.load_keras().layers.Normalization
    model = make_layers(layer(mean=[90, 60, 80], variance=[900, 1600, 400]))
    portable.write(model, kind, tmp_path)
    assert difference(model, kind, tmp_path, 3) < 1e-4


@pytest.mark.parametrize(
    ("kind", "reason"), [("onnx", r"ONNX \(No Op"), ("litert", r"LiteRT \('tf.Igamma' op")]
)
def test_a_layer_that_a_format_does_not_know_is_refused(tmp_path, kind, reason):
    """ConvNeXt's convolutions in groups, a gamma function: one line, and no file of no use."""
    keras, tf = backend.load_tensorflow()
    odd = keras.layers.Activation(lambda x: tf.math.igamma(x + 1, x))
    model = make_layers(keras.layers.Conv2D(6, 3, groups=3) if kind == "onnx" else odd)
    with pytest.raises(ModelError, match=rf"cannot be said in {reason}.*another format"):
        portable.write(model, kind, tmp_path)
    assert not list(tmp_path.iterdir())


def test_more_numbers_than_a_file_holds_are_refused(made, tmp_path, monkeypatch):
    """Two gigabytes end an ONNX file; before that one line says how large the model is."""
    monkeypatch.setattr("stages.models.graphs.LARGEST", 1000)
    with pytest.raises(ModelError, match=r"GB of numbers.*reduce: pca"):
        portable.write(made["grey"], "onnx", tmp_path)
    assert not list(tmp_path.iterdir())
