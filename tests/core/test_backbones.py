"""EfficientNet-Lite0: the numbers of the reference network, and clear errors."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from stages.core import backbones
from stages.core.errors import ModelError

REFERENCE = json.loads(Path(__file__).with_name("lite0_reference.json").read_text())


def draw_picture():
    """The picture of the reference file, by its formula."""
    y, x, c = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), indexing="ij")
    return (((c + 2) * x * x + (5 - c) * y * y + 7 * x * y) // 97 % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    """The extractor of both layers that recipes use, at the size of the reference."""
    return backbones.load_lite0(224, ["block10", "head"])


def test_features_are_those_of_the_reference_network(network):
    """Both averages agree with PyTorch's on a picture made by a formula."""
    picture = draw_picture()
    assert hashlib.sha256(picture.tobytes()).hexdigest() == REFERENCE["picture_sha256"]
    features = network.predict_on_batch(picture[None])[0]
    expected = np.array(REFERENCE["block10"] + REFERENCE["head"])
    assert len(REFERENCE["block10"]) == 112
    assert features.dtype == np.float32
    assert np.abs(features - expected).max() < 1e-3
    assert np.abs(expected).max() > 5


def test_the_network_is_whole_and_frozen(network):
    """All weights but those of the 1000-class layer are there, and none would be trained."""
    assert network.count_params() == 4_694_024 - 1_281_000
    assert network.trainable_weights == []


def test_an_early_layer_comes_without_the_rest_and_takes_both_kinds_of_pixels():
    """A small network of its own; uint8 and float32 of the same 0..255 give the same."""
    extractor = backbones.load_lite0(32, ["block3"])
    assert extractor.output_shape == (None, 24)
    assert extractor.count_params() < 20_000
    picture = draw_picture()[None, :32, :32]
    whole = extractor.predict_on_batch(picture)
    np.testing.assert_array_equal(extractor.predict_on_batch(picture.astype(np.float32)), whole)
    assert np.ptp(whole) > 1


def test_an_unknown_layer_is_named_with_the_nearest():
    """A typing error in params.yaml costs one look."""
    with pytest.raises(ModelError, match=r"no layer 'blok10'.*Did you mean 'block10'.*features"):
        backbones.load_lite0(112, ["blok10", "head"])


@pytest.mark.parametrize("layers", [[], ["head", "head"]])
def test_no_layer_or_a_layer_twice_is_refused(layers):
    """The columns of a feature vector are each there once."""
    with pytest.raises(ModelError, match=r"layers is .*name one or more.*features.layers"):
        backbones.load_lite0(112, layers)


def test_a_size_below_the_last_stride_is_refused():
    """Below 32 px the last layer sees less than one pixel."""
    with pytest.raises(ModelError, match="size is 31 px; it takes 32 or more"):
        backbones.load_lite0(31, ["head"])


def test_a_missing_package_names_the_way_out(monkeypatch):
    """Without the weights' package there is one line, not a traceback."""
    monkeypatch.setattr(backbones, "PACKAGE", "efficientnet_lite0_of_nobody")
    with pytest.raises(ModelError, match=r"efficientnet-lite0-of-nobody.*not installed.*uv sync"):
        backbones.load_lite0(112, ["head"])


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    """The checksum of the published file is held, whatever is installed."""
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"\x00" * 100)
    monkeypatch.setattr(backbones, "_find_weights", lambda: damaged)
    with pytest.raises(ModelError, match=r"weights.pth: sha256 is .*damaged or of another"):
        backbones.load_lite0(112, ["head"])


def test_weights_of_another_network_are_refused(monkeypatch):
    """A tensor that is missing is named."""
    monkeypatch.setattr(backbones.torch_weights, "read", lambda *_: {"_fc.weight": np.zeros(1)})
    with pytest.raises(ModelError, match=r"does not fit the network.*_conv_stem.weight"):
        backbones.load_lite0(32, ["block1"])
