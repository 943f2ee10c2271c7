"""The outlining network: whole numbers, the sums of a plain convolution, in any order of adding."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.core.errors import PipelineError
from stages.images import outline_network
from stages.images.outline_network import MOST, SHIFT, SIDE, Layer


def layer(rng, n_taps, n_inputs, n_outputs):
    return Layer(
        rng.integers(-127, 128, (n_taps * n_inputs, n_outputs)).astype(np.int8),
        rng.integers(0, 2**12, n_outputs),
        rng.integers(-(2**28), 2**28, n_outputs),
    )


def convolve_slowly(x, one, stride):
    """Sum by sum in Python's whole numbers; Keras pads even sides below and right at stride 2."""
    height, width, n_maps = x.shape
    first = 0 if stride == 2 else -1
    kernel = one.weights.reshape(3, 3, n_maps, -1).astype(object)
    sums = np.zeros((height // stride, width // stride, kernel.shape[-1]), object)
    for row in range(height // stride):
        for column in range(width // stride):
            for down in range(3):
                for across in range(3):
                    y, z = row * stride + first + down, column * stride + first + across
                    if 0 <= y < height and 0 <= z < width:
                        sums[row, column] += (
                            x[y, z].astype(int).astype(object) @ kernel[down, across]
                        )
    return (sums * one.scales + one.biases + 2 ** (SHIFT - 1)) // 2**SHIFT


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_is_a_convolution_in_whole_numbers(stride):
    """Against plain loops over Python's integers, which neither round nor overflow."""
    rng = np.random.default_rng(stride)
    x = rng.integers(0, MOST + 1, (6, 8, 5))
    one = layer(rng, 9, 5, 4)
    found = outline_network._convolve(x.astype(np.float32), one, stride)
    assert (found == convolve_slowly(x, one, stride)).all()


@pytest.mark.parametrize("kept", [None, 0, 1000, 20_000])
def test_damaged_weights_are_one_line(tmp_path, kept):
    """Missing, empty, or cut at some byte: no traceback, and the way out."""
    path = tmp_path / "weights.npz"
    if kept is not None:
        path.write_bytes(outline_network.WEIGHTS.read_bytes()[:kept])
    with pytest.raises(PipelineError, match=r"weights\.npz is missing or damaged .*git restore"):
        outline_network.load(path)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 3000), st.integers(1, 255))
def test_a_changed_byte_in_the_directory_is_one_line_or_changes_nothing(tmp_path, place, change):
    """Whatever the byte says: a password, another method, another length."""
    content = bytearray(outline_network.WEIGHTS.read_bytes())
    content[-place] ^= change
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    try:
        found = outline_network.load.__wrapped__(path)  # past the cache: one path, many contents
    except PipelineError:
        return
    for one, known in zip(found, outline_network.load(), strict=True):
        assert (one.weights == known.weights).all()


def test_weights_that_are_changed_inside_are_one_line(tmp_path):
    content = bytearray(outline_network.WEIGHTS.read_bytes())
    for place in range(2000, len(content) - 2000, 500):
        content[place] ^= 0xFF
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="missing or damaged"):
        outline_network.load(path)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_adding_changes_no_bit(seed):
    """The widest layer at its extremes: floats hold the sums, however a processor adds them."""
    rng = np.random.default_rng(seed)
    layers = outline_network.load()
    widest = max(layers, key=lambda one: len(one.weights))
    assert len(widest.weights) * 127 * MOST < 2**24
    taken = rng.choice([0, MOST], (20, len(widest.weights))).astype(np.float32)
    order = rng.permutation(len(widest.weights))
    weights = widest.weights.astype(np.float32)
    sums = taken @ weights
    assert (sums == taken[:, order] @ weights[order]).all()
    assert (sums == taken.astype(np.int64) @ widest.weights.astype(np.int64)).all()


def test_a_mirrored_picture_gets_the_mirrored_answer():
    """Upside down, left to right, and both, bit for bit."""
    levels = np.random.default_rng(0).integers(0, MOST + 1, (SIDE, SIDE, 3)).astype(np.uint8)
    layers = outline_network.load()
    plain = outline_network.answer(levels, layers)
    assert (plain != plain[::-1]).any()
    for down in (1, -1):
        for across in (1, -1):
            mirrored = outline_network.answer(levels[::down, ::across], layers)
            assert np.array_equal(mirrored, plain[::down, ::across])


def test_layers_come_back_from_their_file(tmp_path):
    layers = [
        layer(np.random.default_rng(number), 9, 3, 2) for number in range(outline_network.N_LAYERS)
    ]
    outline_network.save(tmp_path / "some.npz", layers)
    again = outline_network.load(tmp_path / "some.npz")
    for old, new in zip(layers, again, strict=True):
        assert all(np.array_equal(getattr(old, name), value) for name, value in vars(new).items())
