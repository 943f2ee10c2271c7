"""Models in a folder: the same answers and bytes for every kind, and nothing is ever unpickled."""

import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from stages.core import backend
from stages.core.errors import ModelError
from stages.core.params import FeaturesParams
from stages.inputs.reading import Examples
from stages.models import backbones, efficientnet_lite0, networks, trained
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    Step,
)
from stages.models.trained import SingleModel
from stages.training import fitting
from tests.made.made_training import (
    CLASSES,
    INPUTS,
    SIDE,
    by_member,
    fit,
    labels_of,
    make_network,
    make_pixels,
    saved,
    spy,
    task,
)

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning")
SHAPE = (SIDE, SIDE, 3)
ONCE = Step(train="head", epochs=1, schedule="constant", learning_rate=0.05)
EMBEDDED = ClassifierRecipe(
    kind="classifier", vectors="features", classifier="knn",
    features=FeaturesParams(backbone="efficientnet_lite0", size=32, layers=["block1", "block3"]),
)  # fmt: skip
SMALL = EMBEDDED.model_copy(
    update={"features": FeaturesParams(backbone="densenet121", size=32, layers=["block1", "top"])}
)
GREY = ClassifierRecipe(
    kind="classifier", vectors="grey", size=SIDE, classifier="logistic", reduce="pca",
    components=3,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def at_once():
    """Run each operation at once: to trace and compile tiny networks takes most of the time."""
    tf = backend.load_tensorflow()[1]
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def drawn(recipe, shape=SHAPE, n_classes=3, seed=1):
    """A model of drawn weights: to save and load it needs no training."""
    keras = backend.load_keras()
    keras.utils.set_random_seed(seed)
    network = networks.build(recipe, shape, n_classes)
    rng = np.random.default_rng(seed)
    network.set_weights([
        weight + rng.uniform(0.1, 0.2, weight.shape).astype(weight.dtype)
        for weight in network.get_weights()
    ])  # fmt: skip
    return SingleModel(CLASSES[:n_classes], recipe, INPUTS, shape, network)


LENET = make_network(network="lenet", weights="none")
PLAIN = make_network(network="plain_cnn", weights="none", hidden=[6, 4])


@pytest.mark.parametrize(
    "recipe",
    [
        LENET,
        PLAIN,
        make_network(hidden=[4, 3], norms=["input", "hidden"]),
        make_network(flips_at_test=True),
    ],
)
def test_a_network_comes_back(small_base, tmp_path, recipe):
    """Folder and back: classes, recipe, inputs, every bit of every answer, every byte."""
    model = drawn(recipe)
    files = saved(model, tmp_path / "one")
    assert sorted(files) == ["card.json", "weights.npz"]
    loaded = trained.load(tmp_path / "one")
    assert (loaded.classes, loaded.recipe, loaded.inputs) == (CLASSES, recipe, INPUTS)
    assert loaded.input_shape == SHAPE
    x = make_pixels(70)[0].x
    answers = model.predict(x)
    assert np.ptp(answers) > 1e-3
    np.testing.assert_array_equal(loaded.predict(x), answers)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-12)
    assert answers.dtype == np.float64
    assert saved(loaded, tmp_path / "two") == files
    assert loaded.n_weights == model.network.count_params()


@pytest.mark.parametrize("kind", ["then", "features", "grey", "cascade", "ensemble"])
def test_what_has_a_classifier_comes_back(small_base, tmp_path, kind):
    """The same for trained classifiers, and for models of several."""
    then = make_network(ONCE, hidden=[4], then=ClassifierSettings(classifier="svm", folds=2))
    recipes = {
        "then": then, "features": SMALL, "grey": GREY,
        "cascade": CascadeRecipe(
            kind="cascade", groups={"granulocyte": CLASSES[:2]}, first=GREY, second=then
        ),
        "ensemble": EnsembleRecipe(
            kind="ensemble", members={"a": GREY, "b": then, "c": make_network(ONCE)}
        ),
    }  # fmt: skip
    recipe = recipes[kind]
    train, valid, (test, _) = make_pixels(36), make_pixels(12, 1), make_pixels(20, 2)
    labels = labels_of(train, valid)
    if kind in ("cascade", "ensemble"):
        names = recipe.members
        train, valid = ((by_member(rows, names), codes) for rows, codes in (train, valid))
        test = by_member(test, names)
    model = fit(recipe, train, valid, labels).model
    files = saved(model, tmp_path / "one")
    loaded = trained.load(tmp_path / "one")
    assert saved(loaded, tmp_path / "two") == files
    pd.testing.assert_frame_equal(
        trained.predict_images(loaded, test), trained.predict_images(model, test), check_exact=True
    )
    assert loaded.n_weights == model.n_weights
    if kind == "cascade":
        assert {name.split("/")[0] for name in files} == {"card.json", "first", "second"}


def test_a_classifier_of_features_needs_no_published_weights_any_more(tmp_path, monkeypatch):
    """A real backbone, cut at two blocks: its weights lie in the folder, byte for byte."""
    asked = []
    spy(monkeypatch, efficientnet_lite0, "load_weights", lambda *_: asked.append("weights"))
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    train = Examples([f"h/{n:02d}" for n in range(12)], pixels), np.arange(12) % 3
    model = fit(EMBEDDED, train, (Examples([], pixels[:0]), [])).model
    answers = model.predict(pixels[::-1])
    features = trained.vectors(EMBEDDED, model.network, pixels)
    assert features.shape == (12, 16 + 24)
    assert np.ptp(features) > 1
    files = saved(model, tmp_path / "one")
    assert sorted(files) == ["card.json", "classifier.npz", "weights.npz"]
    assert asked == ["weights"]
    monkeypatch.setattr(efficientnet_lite0, "load_weights", lambda _: pytest.fail("looked for"))
    loaded = trained.load(tmp_path / "one")
    assert loaded.recipe == EMBEDDED
    assert trained.vectors(EMBEDDED, loaded.network, pixels).tobytes() == features.tobytes()
    assert loaded.predict(pixels[::-1]).tobytes() == answers.tobytes()
    assert saved(loaded, tmp_path / "two") == files


@pytest.mark.parametrize("pretrained", [True, False])
def test_the_network_of_a_recipe_is_built_with_its_weights_where_they_are_wanted(
    small_base, monkeypatch, pretrained
):
    """To learn from the published ones, to load a model without: for both kinds of recipes."""
    asked = []
    spy(monkeypatch, backbones, "_load", lambda given, _: asked.append(given[1:]))
    for recipe in (make_network(), SMALL):
        built = trained.build(recipe, SHAPE, 3, "folder", pretrained)
        assert built.input_shape == (None, *SHAPE)
    assert asked == [("vgg19", "folder"), ("densenet121", "folder")] * pretrained


def test_efficientnets_own_normalisation_comes_back(tmp_path):
    """Its layer works with copies of its weights, which must follow what is loaded."""
    recipe = make_network(network="efficientnetb0")
    model = drawn(recipe, (32, 32, 3))
    normalisation = model.network.get_layer("normalization")
    for weight in normalisation.weights[:2]:
        weight.assign(np.linspace(0.1, 0.4, 3).reshape(weight.shape))
    normalisation.finalize_state()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    seen = backend.load_keras().Model(model.network.input, normalisation.output)
    trained.save(model, tmp_path / "model")
    loaded = trained.load(tmp_path / "model")
    layer = loaded.network.get_layer("normalization")
    seen_again = backend.load_keras().Model(loaded.network.input, layer.output)
    np.testing.assert_array_equal(
        seen_again.predict_on_batch(pixels), seen.predict_on_batch(pixels)
    )


def test_the_bytes_of_a_folder_do_not_depend_on_the_moment(tmp_path, monkeypatch):
    model = drawn(LENET)
    first = saved(model, tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 1.7e9)
    assert saved(model, tmp_path / "two") == first


# -- answers ---------------------------------------------------------------------------------------


def test_a_lone_image_gets_the_answer_it_gets_among_others():
    """What an image is does not depend on its neighbours in a batch: every batch is full."""
    n_rows = trained.PREDICT_BATCH + 7
    model, x = drawn(LENET), make_pixels(n_rows)[0].x
    together = model.predict(x)
    for row in (0, 5, n_rows - 1):
        np.testing.assert_array_equal(model.predict(x[row : row + 1])[0], together[row])
    sizes = []
    real = model.network.predict_on_batch
    model.network.predict_on_batch = lambda rows: sizes.append(len(rows)) or real(rows)
    model.predict(x)
    assert sizes == [trained.PREDICT_BATCH] * 2


def test_no_rows_get_no_answer():
    """Whatever their shape; and by a card alone, without a network or TensorFlow."""
    model = drawn(LENET)
    assert model.predict(np.zeros((0, *SHAPE), np.uint8)).shape == (0, 3)
    assert model.predict(np.zeros((0, 0), np.uint8)).shape == (0, 3)
    none = Examples([], np.zeros((0, *SHAPE), np.uint8))
    found = trained.predict_images(model, none)
    card = trained.Card(classes=CLASSES, input_shape=list(SHAPE), inputs=INPUTS, recipe=LENET)
    empty = trained.no_answers(card)
    pd.testing.assert_frame_equal(found, empty, check_index_type=False)
    assert empty.index.name == "image_id"
    assert list(empty.columns) == CLASSES


@pytest.mark.parametrize("then", [False, True])
def test_flips_at_test_are_the_mean_over_four_mirrorings(small_base, then):
    settings = {"hidden": [4], "activation": "tanh"}
    if then:
        settings["then"] = ClassifierSettings(classifier="logistic")
    recipe = make_network(ONCE, flips_at_test=True, **settings)
    model = fit(recipe, make_pixels(24), make_pixels(12, 1)).model
    plain = SingleModel(
        CLASSES, make_network(ONCE, **settings), INPUTS, SHAPE, model.network, model.classifier
    )
    x = np.random.default_rng(3).integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    ways = [x, x[:, ::-1], x[:, :, ::-1], x.transpose(0, 2, 1, 3)]
    expected = np.mean([plain.predict(way) for way in ways], axis=0)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-7)
    assert np.abs(expected - plain.predict(x)).max() > 1e-5


def test_an_image_is_the_mean_of_its_views():
    """Views are averaged by image, and images come sorted."""
    model = drawn(LENET)
    pixels, codes = make_pixels(30, 5)
    rows = Examples([pixels.image_ids[row // 3] for row in range(30)], pixels.x)
    answers = trained.predict_images(model, rows)
    expected = model.predict(rows.x).reshape(10, 3, 3).mean(axis=1)
    assert answers.index.tolist() == sorted(set(rows.image_ids))
    assert answers.columns.tolist() == CLASSES
    np.testing.assert_allclose(answers, expected, rtol=1e-12)
    turned = Examples(rows.image_ids[::-1], rows.x[::-1])
    pd.testing.assert_frame_equal(trained.predict_images(model, turned), answers)
    truth = pd.Series({name: CLASSES[codes[n]] for n, name in enumerate(answers.index)})
    share = trained.accuracy(model, rows, truth)
    assert share == np.mean(np.array(CLASSES)[expected.argmax(axis=1)] == truth.to_numpy())
    assert trained.accuracy(model, Examples([], rows.x[:0]), truth) is None


def test_rows_of_another_shape_are_refused_with_the_way_out():
    with pytest.raises(ModelError, match=r"\(16, 16, 3\), but these are \(20, 20, 3\).*dvc repro"):
        drawn(LENET).predict(np.zeros((2, 20, 20, 3), np.uint8))


# -- what must not be loaded -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    trained.save(drawn(PLAIN), tmp_path / "model")
    return tmp_path / "model"


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def change_card(folder, **changes):
    card = json.loads((folder / trained.CARD).read_text())
    (folder / trained.CARD).write_text(json.dumps(card | changes))


def change_weights(folder, **changes):
    with np.load(folder / trained.WEIGHTS) as arrays:
        content = dict(arrays) | changes
    np.savez(folder / trained.WEIGHTS, allow_pickle=True, **content)


def set_trap(folder):
    change_weights(folder, **{"hidden_1/kernel": np.array([Trap()], dtype=object)})


def set_bare_trap(folder):
    (folder / trained.WEIGHTS).write_bytes(pickle.dumps(Trap()))


def drop_one(folder):
    with np.load(folder / trained.WEIGHTS) as arrays:
        content = dict(arrays)
    del content["hidden_1/bias"]
    np.savez(folder / trained.WEIGHTS, **content)


def cut_short(folder):
    path = folder / trained.WEIGHTS
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    "spoil",
    [
        set_trap,
        set_bare_trap,
        drop_one,
        cut_short,
        lambda folder: (folder / trained.WEIGHTS).write_bytes(b""),
        lambda folder: change_weights(folder, **{"hidden_1/kernel": np.zeros((5, 3))}),
        lambda folder: change_card(folder, input_shape=[24, 24, 3]),
        lambda folder: change_card(folder, input_shape=[]),
        lambda folder: change_card(folder, classes=CLASSES[:2]),
        lambda folder: change_card(folder, recipe={"kind": "head", "hidden": []}),
        lambda folder: change_card(folder, learns_from="features"),
        lambda folder: (folder / trained.CARD).write_text("{"),
        lambda folder: (folder / trained.CARD).write_bytes(b"\xff\xfe"),
    ],
)
def test_what_this_version_did_not_write_is_refused(folder, monkeypatch, spoil):
    """One line with the folder and the way out; nothing in it is ever run."""
    monkeypatch.chdir(folder.parent)
    spoil(folder)
    with pytest.raises(ModelError, match=r"is not a model that this version wrote") as caught:
        trained.load(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    assert "Run 'uv run dvc repro'" in text
    assert not (folder.parent / "sprung").exists()


def test_the_trap_works(folder, monkeypatch):
    """Whoever allows pickles springs it: the tests above can fail."""
    monkeypatch.chdir(folder.parent)
    set_trap(folder)
    with np.load(folder / trained.WEIGHTS, allow_pickle=True) as arrays:
        _ = arrays["hidden_1/kernel"]
    assert (folder.parent / "sprung").exists()


@pytest.mark.parametrize("name", [trained.CARD, trained.WEIGHTS])
def test_a_missing_file_names_the_way_out(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing.*dvc repro"):
        trained.load(folder)
    with pytest.raises(ModelError, match=r"card.json is missing.*dvc repro"):
        trained.load(folder / "nowhere")


def test_a_missing_member_or_classifier_is_named(small_base, tmp_path):
    """A composite's folders are checked as any other."""
    near = GREY.model_copy(update={"classifier": "knn"})
    recipe = EnsembleRecipe(kind="ensemble", members={"a": near, "b": GREY})
    rows, codes = make_pixels(30)
    parts = by_member(rows, recipe.members), by_member(rows, recipe.members)
    model = fitting.fit(recipe, *parts, labels_of((rows, codes)), task()).model
    trained.save(model, tmp_path / "model")
    (tmp_path / "model/a/classifier.npz").unlink()
    with pytest.raises(ModelError, match=r"classifier.npz.*dvc repro"):
        trained.load(tmp_path / "model")
    (tmp_path / "model/a/card.json").unlink()
    with pytest.raises(ModelError, match=r"a/card.json is missing.*dvc repro"):
        trained.load(tmp_path / "model")


def test_the_card_is_read_without_tensorflow(folder, monkeypatch):
    """Stages decide by it before they fork."""
    monkeypatch.setattr(backend, "load_tensorflow", lambda: pytest.fail("it was loaded"))
    card = trained.read_card(folder)
    assert (card.classes, card.input_shape, card.recipe.kind) == (CLASSES, list(SHAPE), "network")


def test_weights_of_a_saved_backbone_are_not_looked_for(small_base, tmp_path, monkeypatch):
    """The folder is enough: published weights need not be there any more."""
    trained.save(drawn(make_network()), tmp_path / "model")
    monkeypatch.setattr(backbones, "_load", lambda *_: pytest.fail("they were looked for"))
    trained.load(tmp_path / "model")
    with pytest.raises(pytest.fail.Exception):
        fit(make_network(ONCE))
