"""EfficientNet-Lite0: its graph, its package's weights, and clear errors."""

import numpy as np
import pytest

from stages.core.errors import ModelError
from stages.models import efficientnet_lite0


@pytest.fixture(scope="module")
def network():
    """The network without its published weights, small."""
    return efficientnet_lite0.build(32)


def test_the_network_is_whole(network):
    """All weights but those of the 1000-class layer are there."""
    assert network.count_params() == 4_694_024 - 1_281_000
    assert network.output_shape == (None, 1280)


def test_blocks_are_counted_over_all_stages(network):
    """Sixteen blocks; each has the channels of its stage."""
    channels = [
        network.get_layer(f"block{number}_project_norm").output.shape[-1] for number in range(1, 17)
    ]
    assert channels == [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    assert (*(f"block{n}" for n in range(1, 17)), "head") == efficientnet_lite0.LAYERS


def test_weights_of_the_package_replace_drawn_ones(network):
    """Every variable gets another value, and the stem the file's own."""
    before = [np.asarray(one).copy() for one in network.weights]
    efficientnet_lite0.load_weights(network)
    after = [np.asarray(one) for one in network.weights]
    assert all(not np.array_equal(*pair) for pair in zip(before, after, strict=True))
    tensors = efficientnet_lite0.torch_weights.read(
        efficientnet_lite0._find_weights(), efficientnet_lite0.WEIGHTS_SHA256
    )
    stem = network.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_array_equal(stem[1, 2, 0], tensors["_conv_stem.weight"][:, 0, 1, 2])


def test_a_missing_package_names_the_way_out(network, monkeypatch):
    """Without the weights' package there is one line, not a traceback."""
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "efficientnet_lite0_of_nobody")
    with pytest.raises(ModelError, match=r"efficientnet-lite0-of-nobody.*not installed.*uv sync"):
        efficientnet_lite0.load_weights(network)


def test_damaged_weights_are_refused(network, monkeypatch, tmp_path):
    """The checksum of the published file is held, whatever is installed."""
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"\x00" * 100)
    monkeypatch.setattr(efficientnet_lite0, "_find_weights", lambda: damaged)
    with pytest.raises(ModelError, match=r"weights.pth: sha256 is .*damaged or of another"):
        efficientnet_lite0.load_weights(network)


def test_weights_of_another_network_are_refused(network, monkeypatch):
    """A tensor that is missing is named."""
    monkeypatch.setattr(
        efficientnet_lite0.torch_weights, "read", lambda *_: {"_fc.weight": np.zeros(1)}
    )
    with pytest.raises(ModelError, match=r"does not fit the network.*_conv_stem.weight"):
        efficientnet_lite0.load_weights(network)
