"""Plain views through a frozen network: each vector is of its own picture and colours."""

import numpy as np
import pytest

from stages.core import tables
from stages.images import decoding
from stages.inputs import preparation, views
from tests.inputs.test_reading import RULE, project, write_pictures  # noqa: F401

NAMES = [f"{number:02d}.png" for number in range(30)]


class Means:
    """Stands in for a backbone: the mean of each channel; remembers how much it was given."""

    def __init__(self):
        self.sizes = []

    def predict_on_batch(self, pixels):
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (32, 32, 3)
        self.sizes.append(len(pixels))
        return pixels.mean(axis=(1, 2))


def embed(network, rule=RULE):
    return list(views.embed_pictures(network, "munich", rule, 32))


@pytest.mark.parametrize("workers", ["1", "3"])
def test_each_vector_is_that_of_its_view(monkeypatch, workers):
    """Pictures as in the table, views sorted; whatever the threads, and in batches of one size."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", workers)
    write_pictures("munich", NAMES)
    network = Means()
    found = embed(network)
    assert [(name, view) for name, view, _ in found] == [
        (f"munich/{name}", view) for name in NAMES for view in ("none", "white_point")
    ]
    contents = {row["image_id"]: row["bytes"] for row in tables.IMAGES.stream("munich")}
    geometries = preparation.geometries(tables.QUALITY.read("munich"), RULE)
    for image_id, view, vector in found:
        rgb = decoding.decode(contents[image_id]).rgb
        pixels = preparation.prepare(rgb, geometries[image_id], RULE, 32, view)
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, pixels.mean(axis=(0, 1)), rtol=1e-6)
    assert sorted(network.sizes) == [12, 24, 24]


def test_a_hospital_may_be_left_early(monkeypatch):
    """Who stops reading leaves no thread behind that goes on for long."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    write_pictures("munich", NAMES)
    monkeypatch.setattr(views, "BATCH", 2)
    network = Means()
    reader = views.embed_pictures(network, "munich", RULE, 32)
    next(reader)
    reader.close()
    assert len(network.sizes) < len(NAMES)


def test_views_are_averaged_by_image():
    """In any order and number; images come sorted, in double precision."""
    ids = ["b", "a", "b", "c", "b"]
    x = np.array([[1, 0], [5, 5], [2, 0], [7, 8], [6, 3]], np.float32)
    found = views.average(ids, x)
    assert found.index.tolist() == ["a", "b", "c"]
    assert found.index.name == "image_id"
    assert found.to_numpy().tolist() == [[5, 5], [3, 1], [7, 8]]
    turned = views.average(ids[::-1], x[::-1])
    assert turned.equals(found)
    large = np.full((3, 1), 2**24, np.float32) + np.array([[0], [2], [4]], np.float32)
    assert views.average(["a"] * 3, large).iloc[0, 0] == 2**24 + 2
