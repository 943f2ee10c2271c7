"""Maps: each method points at what a made network looks at, and agrees with its definition."""

import numpy as np
import pytest

from stages.core import backend
from stages.core.params import InputsParams
from stages.explanation import maps
from stages.models import networks, trained
from stages.models.recipes import ClassifierRecipe, EnsembleRecipe, NetworkRecipe, Step
from tests.made.lenets import CLASSES, CORNER, LENET, made_lenet

INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["none"], hide="nothing"
)
LITE = NetworkRecipe(
    kind="network", network="efficientnet_lite0", weights="imagenet", size=64, steps=[Step()]
)
ANY_NETWORK = ["grad_cam", "grad_cam_pp", "occlusion", "lime"]
BLUE = (80, 110, 190)


@pytest.fixture(scope="module")
def lenet():
    """A model that calls by the colour of the corner alone."""
    network = made_lenet("ground", CORNER)
    return trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), network)


@pytest.fixture(scope="module")
def lite():
    """A small picture's Lite0 with a drawn head."""
    network = networks.build(LITE, (64, 64, 3), 3, pretrained=True)
    rng = np.random.default_rng(1)
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([rng.normal(0, 0.05, kernel.shape), bias])
    return trained.SingleModel(CLASSES, LITE, INPUTS, (64, 64, 3), network)


def cornered():
    """White, with a blue corner, which the model calls basophil."""
    x = np.full((32, 32, 3), 255, np.uint8)
    x[:6, :6] = BLUE
    return x


def noise(size):
    return np.random.default_rng(1).integers(0, 256, (size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("method", ANY_NETWORK)
def test_each_method_points_at_a_planted_corner(lenet, method):
    """What speaks for the call lies there, and nothing speaks for the class of the other colour."""
    called, other = (CLASSES.index(name) for name in ("basophil", "monocyte"))
    found = maps.explain(method, lenet, cornered(), [called, other], seed=0)
    assert found.shape == (2, 32, 32)
    assert found.min() >= 0
    assert found[0].sum() == pytest.approx(1)
    assert found[0, :10, :10].sum() > 0.75
    assert max(np.unravel_index(found[0].argmax(), (32, 32))) < 8
    assert found[1, :6, :6].sum() < 0.1
    assert (maps.explain(method, lenet, cornered(), [called, other], seed=0) == found).all()


def test_grad_cam_of_an_averaging_network_is_its_class_activation_map(lite):
    """The identity of the method's authors: the head's weights times the last maps."""
    x = noise(64)
    keras = backend.load_keras()
    end = lite.network.get_layer("head_relu").output
    last = np.asarray(keras.Model(lite.network.inputs, end).predict_on_batch(x[None])[0])
    kernel = np.asarray(lite.network.layers[-1].kernel)
    expected = np.maximum((last[..., None] * kernel / 4).sum(axis=2), 0)
    found = maps.grad_cam(lite, x, [2, 0, 1], np.random.default_rng(0))
    assert found.max() > 0.01
    np.testing.assert_allclose(found, expected[..., [2, 0, 1]].transpose(2, 0, 1), atol=1e-5)


def test_grad_cam_weighs_by_the_mean_where_places_differ():
    """A drawn LeNet has another gradient at each place."""
    backend.load_keras().utils.set_random_seed(0)  # some draws have an empty map each
    network = networks.build(LENET, (32, 32, 3), 3)
    part = trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), network)
    last, gradients = maps._differentiate(part, noise(32), [0, 1, 2])
    assert np.ptp(gradients[0, ..., 0]) > 0
    expected = np.maximum(np.einsum("ck,yxk->cyx", gradients.mean(axis=(1, 2)), last), 0)
    found = maps.grad_cam(part, noise(32), [0, 1, 2], np.random.default_rng(0))
    assert found.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_grad_cam_pp_is_its_formula(lite):
    """Equation 19 of the paper, place by place and map by map."""
    x = noise(64)
    found = maps.grad_cam_pp(lite, x, [1], np.random.default_rng(0))[0]
    last, gradients = maps._differentiate(lite, x, [1])
    expected = np.zeros(last.shape[:2])
    for k in range(last.shape[2]):
        weight = 0.0
        for g in gradients[0, ..., k].ravel():
            below = 2 * g**2 + last[..., k].sum() * g**3
            weight += g**2 / below * max(g, 0) if abs(below) > 1e-12 else 0
        expected += weight * last[..., k]
    assert found.max() > 0.01
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-6)


def test_attention_is_rolled_out_from_the_last_layer_back():
    """Half of the class token stays; half takes patch 1, which took patch 2 before."""
    first = np.eye(3)
    first[1] = [0, 0, 1]
    last = np.eye(3)
    last[0] = [0, 1, 0]
    np.testing.assert_allclose(maps.roll([first[None], last[None]]), [0.25, 0.25])
    np.testing.assert_allclose(maps.roll([last[None], first[None]]), [0.5, 0])
    heads = np.stack([last, np.eye(3)])
    np.testing.assert_allclose(maps.roll([heads]), [0.25, 0])


def test_a_transformer_is_explained_by_its_attention():
    """The same for all classes; methods that need a convolution's maps say that there are none."""
    recipe = LITE.model_copy(update={"network": "vit_b32", "weights": "none"})
    network = networks.build(recipe, (64, 64, 3), 3)
    part = trained.SingleModel(CLASSES, recipe, INPUTS, (64, 64, 3), network)
    explainer = maps.Explainer({"model": part}, {"model": None}, lack(part), [])
    assert explainer.methods == ["occlusion", "lime", "rollout"]
    assert "grad_cam reads the maps of a last convolution" in explainer.not_made["grad_cam"]
    found = maps.explain("rollout", part, noise(64), [0, 1], seed=0)
    assert (found[0] == found[1]).all()
    assert found[0].sum() == pytest.approx(1)
    assert np.ptp(found[0]) > 0


def lack(part):
    return {
        name: {"model": why} if (why := maps.say_lacking(name, part)) else {}
        for name in maps.METHODS
    }


def test_grad_cam_cuts_a_network_that_is_a_stack():
    backend.load_keras().utils.set_random_seed(0)
    recipe = LITE.model_copy(update={"network": "plain_cnn", "weights": "none"})
    network = networks.build(recipe, (64, 64, 3), 3)
    part = trained.SingleModel(CLASSES, recipe, INPUTS, (64, 64, 3), network)
    assert maps.explain("grad_cam", part, noise(64), [0, 1, 2], seed=0).sum() > 0


def test_only_a_transformer_has_attention(lenet):
    explainer = maps.Explainer.of(lenet, list(maps.METHODS), seed=0)
    assert explainer.methods == ANY_NETWORK
    assert explainer.not_made == {
        "rollout": "rollout reads a transformer's attention; this network has none"
    }
    assert explainer.side == 32


class Grey:
    """A classifier of grey values: the darker, the more a basophil."""

    def predict(self, x):
        dark = 1 - x.mean(axis=1, dtype=np.float64)
        return np.stack([dark, (1 - dark) / 2, (1 - dark) / 2], axis=1)


@pytest.fixture
def pixels():
    recipe = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn", size=32)
    return trained.SingleModel(CLASSES, recipe, INPUTS, (32, 32, 3), None, Grey())


def test_a_classifier_is_explained_by_what_it_answers(pixels):
    """No gradient, and no weights to forget; hiding what is dark still tells."""
    explainer = maps.Explainer.of(pixels, ["grad_cam", "occlusion", "lime"], seed=0)
    assert explainer.methods == ["occlusion", "lime"]
    assert "answers by a classifier" in explainer.not_made["grad_cam"]
    assert explainer.forgotten == {"model": None}
    x = np.full((32, 32, 3), 200, np.uint8)
    x[20:28, 8:16] = 30
    for method in explainer.methods:
        found = maps.explain(method, pixels, x, [0], seed=0)[0]
        assert found[16:32, 4:20].sum() > 0.6, method


def test_of_several_models_those_with_a_network_are_explained(lenet, pixels):
    recipe = EnsembleRecipe(
        kind="ensemble", members={"network": lenet.recipe, "pixels": pixels.recipe}
    )
    both = trained.CompositeModel(CLASSES, recipe, INPUTS, {"network": lenet, "pixels": pixels})
    explainer = maps.Explainer.of(both, ["grad_cam"], seed=0)
    assert list(explainer.parts) == list(explainer.parts_for("grad_cam")) == ["network"]
    assert explainer.left_out == ["pixels"]
    assert explainer.forgotten["network"] is not None


def test_what_is_forgotten_is_every_layer(lite):
    """The same numbers in another order, another answer, and the model itself is untouched."""
    before = lite.network.get_weights()
    forgot = maps.forget(lite, seed=1)
    for old, new in zip(before, forgot.network.get_weights(), strict=True):
        assert (np.sort(old.ravel()) == np.sort(new.ravel())).all()
        assert old.size < 40 or np.ptp(old) == 0 or (old != new).any()
    assert all((a == b).all() for a, b in zip(before, lite.network.get_weights(), strict=True))
    x = noise(64)
    assert np.abs(maps.ask(forgot, x[None]) - maps.ask(lite, x[None])).max() > 1e-3


@pytest.mark.parametrize("n_rows", [1, 32, 33])
def test_answers_do_not_hang_on_the_batch(lite, n_rows):
    x = np.stack([noise(64)] * n_rows)
    found = maps.ask(lite, x)
    assert found.shape == (n_rows, 3)
    np.testing.assert_allclose(found, np.repeat(lite.ask(x[:1]), n_rows, axis=0), atol=1e-5)
