"""train_outlines: what the network is shown, and that its whole numbers say what it learnt."""

import numpy as np
import pytest

from stages.images import outline_network
from stages.images.outline_network import CLEAR, EVEN, MOST, ODDS_UNIT, SIDE
from stages.tools import train_outlines


@pytest.fixture(scope="module")
def drawn():
    return train_outlines.draw(0)


def test_truth_lies_where_the_density_is(drawn):
    """Cell and nucleus cover what absorbs most; the nucleus lies within the cell."""
    levels, truth = drawn
    assert levels.shape == (train_outlines.N_PICTURES, SIDE, SIDE, 3)
    assert truth.shape == (train_outlines.N_PICTURES, SIDE // 2, SIDE // 2, 2)
    assert (truth[..., 1] <= truth[..., 0]).all()
    seen = levels[:, ::2, ::2].mean(axis=-1)
    assert seen[truth[..., 1] > 200].mean() > seen[truth[..., 0] < 50].mean() + 10


def test_a_varied_picture_is_another_with_levels_as_the_network_takes(drawn):
    levels = drawn[0]
    once, again = (train_outlines.vary(levels, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(once, again)
    assert once.min() >= 0
    assert once.max() <= MOST
    assert np.array_equal(once, np.rint(once))
    assert np.abs(once - levels).mean() > 3
    clear = np.full((4, SIDE, SIDE, 3), CLEAR, np.uint8)
    assert abs(train_outlines.vary(clear, np.random.default_rng(1)).mean() - CLEAR) < 4


def test_whole_numbers_answer_as_the_floats_they_came_from(drawn):
    """A network of drawn weights and norms, layer by layer folded and rounded."""
    network = train_outlines.build()
    rng = np.random.default_rng(0)
    for layer in network.layers:
        values = [rng.normal(0, 0.5, one.shape) for one in layer.get_weights()]
        if type(layer).__name__ == "BatchNormalization":
            values[0], values[3] = np.abs(values[0]) + 0.5, np.abs(values[3]) + 0.5
        if type(layer).__name__ == "Conv2D":
            values[0] /= np.sqrt(np.prod(values[0].shape[:3]) / 4)
        layer.set_weights(values)
    levels = drawn[0][:6]
    layers = train_outlines.quantise(
        train_outlines.fold(network), train_outlines.find_peaks(network, levels)
    )
    answers = np.stack([outline_network.ask(one, layers) for one in levels])
    shares = network.predict(levels.astype(np.float32), verbose=0).astype(np.float64)
    odds = np.log(shares / (1 - shares))
    wanted = np.clip(ODDS_UNIT * odds + EVEN, 0, 255)
    assert np.corrcoef(wanted.ravel(), answers.ravel())[0, 1] > 0.995
    assert np.abs(wanted - answers).mean() < 3


def test_dice_known_values():
    a = np.zeros((1, 2, 2, 2), bool)
    b = a.copy()
    a[0, 0, :, 0], b[0, :, 0, 0] = True, True
    assert train_outlines.dice(a, b)[0, 0] == 0.5
    assert train_outlines.dice(a, a)[0, 0] == 1
