"""The features stage: one row per view in order, vectors that belong to their view."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages import features
from stages.core import params
from stages.core.errors import TableError
from stages.core.tables import FEATURES, QUALITY
from stages.images import decoding
from stages.inputs import preparation, reading, views
from stages.models import backbones
from tests.stages.test_quality import write_cells

N_IMAGES = 7
VIEWS = ["grey_world", "white_point"]


class FakeNetwork:
    """Stands in for the backbone: the mean of each channel; remembers what it was given."""

    def __init__(self):
        self.batches = []

    def predict_on_batch(self, pixels):
        assert pixels.dtype == np.uint8
        self.batches.append(pixels)
        return pixels.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A hospital of seven cells, and a network that is seen."""
    write_cells(tmp_path, monkeypatch, N_IMAGES)
    fake = FakeNetwork()
    monkeypatch.setattr(backbones, "load_extractor", lambda *wanted: fake)
    return fake


def test_one_row_per_view(network):
    """Each picture in both colour corrections, and never otherwise."""
    features.main("here")
    table = FEATURES.read("here")
    assert table.groupby("image_id")["view"].agg(list).tolist() == [VIEWS] * N_IMAGES
    assert table["vector"].map(len).eq(3).all()
    assert json.loads(Path("metrics/features/here.json").read_text()) == {
        "backbone": "efficientnet_lite0",
        "n_features": 3,
        "n_images": N_IMAGES,
        "n_views": N_IMAGES * 2,
    }


def test_vectors_belong_to_their_view(network):
    """Grey-world views have a mean near 180; each vector is that of its own prepared picture."""
    features.main("here")
    table = FEATURES.read("here").set_index(["image_id", "view"])["vector"]
    rule = params.load("inputs").inputs
    for image_id, content, geometry in reading.stream_pictures("here", rule):
        rgb = decoding.decode(content).rgb
        for name in VIEWS:
            pixels = preparation.prepare(rgb, geometry, rule, 40, name)
            assert table[image_id, name] == pytest.approx(pixels.mean(axis=(0, 1)), rel=1e-5)
    plain = np.stack(table.xs("grey_world", level="view").to_list())
    assert np.abs(plain - 180).max() < 2


def test_threads_do_not_change_anything(network, monkeypatch):
    """One preparing thread and four give the same bytes."""
    features.main("here")
    alone = FEATURES.at("here").read_bytes()
    monkeypatch.setenv("SMEARFLOW_WORKERS", "4")
    features.main("here")
    assert FEATURES.at("here").read_bytes() == alone


def test_batches_are_of_fixed_size(network, monkeypatch):
    """The network sees the same batches for any number of cores, and never more than asked."""
    monkeypatch.setattr(views, "BATCH", 4)
    for n_workers in "13":
        network.batches.clear()
        monkeypatch.setenv("SMEARFLOW_WORKERS", n_workers)
        features.main("here")
        assert sorted(len(batch) for batch in network.batches) == [2, 4, 4, 4]


def test_failure_leaves_no_table(network):
    """A picture that quality does not know stops the stage, and no half table stays behind."""
    QUALITY.write(QUALITY.read("here").iloc[:-1], "here")
    with pytest.raises(TableError, match=r"no row of 1 pictures \(here/006.*dvc repro"):
        features.main("here")
    assert not FEATURES.at("here").exists()
