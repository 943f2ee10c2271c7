"""Reductions: scikit-learn's PCA as the oracle, new places in a UMAP, and bad input.

What runs umap-learn is marked slow: it compiles for half a minute first.
"""

import sys
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from stages.core.errors import ModelError
from stages.models import reduction
from stages.models.recipes import ClassifierSettings


def setting(reduce, components, **more):
    return ClassifierSettings(classifier="knn", reduce=reduce, components=components, **more)


def clouds(n=90, d=8, seed=0, apart=8.0):
    """Three clouds; their classes in turn."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    middles = rng.normal(0, apart, (3, d))
    return (middles[codes] + rng.normal(0, 1, (n, d))).astype(np.float32), codes


# -- Principal components


@pytest.mark.parametrize("shape", [(60, 7), (7, 60), (20, 20)])
@pytest.mark.parametrize("wanted", [3, 0.7, 0.95])
def test_pca_is_that_of_sklearn(shape, wanted):
    """Wide, tall and square tables: the same components but for signs, the same number of them."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * np.linspace(1, 4, shape[1]) + 5).astype(np.float32)
    oracle = PCA(wanted, svd_solver="full").fit(x.astype(np.float64))
    arrays, reduced = reduction.fit(setting("pca", wanted), x, np.zeros(len(x), int), 0)
    components = arrays["pca_components"]
    assert components.shape == oracle.components_.shape
    signs = np.sign((components * oracle.components_).sum(axis=1))[:, None]
    np.testing.assert_allclose(components * signs, oracle.components_, atol=1e-5)
    np.testing.assert_allclose(reduced * signs.T, oracle.transform(x.astype(float)), atol=1e-4)
    new = rng.normal(size=(5, shape[1])).astype(np.float32)
    ours = reduction.transform("pca", arrays, new)
    np.testing.assert_allclose(ours * signs.T, oracle.transform(new.astype(float)), atol=1e-4)
    assert ours.dtype == np.float32


def test_signs_are_fixed():
    """The largest entry of each component is positive, for the mirrored table too."""
    x = clouds()[0]
    for table in (x, -x):
        components = reduction.fit_pca(table, 5)["pca_components"]
        largest = np.abs(components).argmax(axis=1)
        assert (components[np.arange(5), largest] > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 30), st.integers(1, 30))
def test_all_components_keep_all_distances(seed, n, d):
    """A rotation: distances between rows, new ones too where the table is tall, stay."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    arrays = reduction.fit_pca(x, None)
    reduced = reduction.transform("pca", arrays, x)
    assert reduced.shape[1] == min(n - 1, d)
    np.testing.assert_allclose(
        reduction.squared_distances(reduced, reduced), reduction.squared_distances(x, x), atol=1e-3
    )


def test_blocks_change_nothing(monkeypatch):
    x = clouds(n=40, d=60)[0]
    whole = reduction.fit_pca(x, 4)["pca_components"]
    monkeypatch.setattr(reduction, "BLOCK", 100)
    np.testing.assert_allclose(reduction.fit_pca(x, 4)["pca_components"], whole, atol=1e-6)
    monkeypatch.setattr(reduction, "BLOCK", 1)
    np.testing.assert_allclose(
        reduction.fit_pca(x[:, :9], 4)["pca_mean"], x[:, :9].mean(axis=0), rtol=1e-5
    )


def test_blocks_cover_everything_once():
    assert [(part.start, part.stop) for part in reduction.blocks(10, reduction.BLOCK // 4)] == [
        (0, 4), (4, 8), (8, 10)
    ]  # fmt: skip
    assert list(reduction.blocks(0, 5)) == []


def test_more_components_than_directions():
    """Copies of two rows have one direction, whatever the shape of the table."""
    x = np.tile(np.eye(2, 9, dtype=np.float32), (10, 1))
    with pytest.raises(ModelError, match="2 are wanted; the training rows have 1 independent"):
        reduction.fit(setting("pca", 2), x, np.zeros(20, int), 0)
    assert reduction.fit_pca(x, 0.9)["pca_components"].shape == (1, 9)
    wide = np.random.default_rng(0).normal(size=(5, 50)).astype(np.float32)
    with pytest.raises(ModelError, match="have 4 independent"):
        reduction.fit(setting("pca", 5), wide, np.zeros(5, int), 0)
    with pytest.raises(ModelError, match="all training rows are equal"):
        reduction.fit(setting("pca", 0.9), np.ones((5, 3), np.float32), np.zeros(5, int), 0)


def test_none_changes_nothing():
    x, codes = clouds()
    arrays, reduced = reduction.fit(setting("none", 2), x, codes, 0)
    assert arrays == {}
    assert reduced is x
    assert reduction.transform("none", {}, x) is x


# -- UMAP


@lru_cache
def mapped(reduce, seed=3):
    x, codes = clouds()
    chosen = setting(reduce, 2, umap_neighbours=10)
    return reduction.fit(chosen, x, codes, seed)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", ["umap", "umap_supervised"])
def test_umap_keeps_clouds_apart(reduce):
    """New rows of a cloud land among its training rows; the seed alone decides the places."""
    arrays, places = mapped(reduce)
    assert set(arrays) == set(reduction.LAYOUTS[reduce])
    assert (arrays["umap_places"] == places).all()
    new, codes = clouds(n=120)
    landed = reduction.transform(reduce, arrays, new[90:], 10)
    middles = np.stack([places[clouds()[1] == code].mean(axis=0) for code in range(3)])
    nearest = reduction.squared_distances(landed, middles).argmin(axis=1)
    assert (nearest == codes[90:]).all()
    mapped.cache_clear()
    assert (mapped(reduce)[1] == places).all()
    assert (mapped(reduce, seed=4)[1] != places).any()


@pytest.mark.slow
def test_only_the_supervised_map_sees_labels():
    """One cloud with two made-up classes: the supervised map parts them, the other does not."""
    x = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    codes = np.arange(80) % 2
    apart = {}
    for reduce in ("umap", "umap_supervised"):
        places = reduction.fit(setting(reduce, 2, umap_neighbours=10), x, codes, 0)[1]
        middles = np.stack([places[codes == code].mean(axis=0) for code in (0, 1)])
        apart[reduce] = np.linalg.norm(middles[0] - middles[1]) / places.std()
    assert apart["umap_supervised"] > 1.2
    assert apart["umap"] < 0.6


def test_a_new_place_is_a_weighted_mean():
    """Between two training rows a new one lands between their places; on one of them, near it."""
    arrays = {
        "pca_mean": np.zeros(1), "pca_components": np.ones((1, 1), np.float32),
        "umap_vectors": np.array([[0.0], [1.0], [50.0]], np.float32),
        "umap_places": np.array([[0.0, 10.0], [4.0, 10.0], [90.0, 90.0]], np.float32),
    }  # fmt: skip
    new = np.array([[0.5], [0.1], [0.9]], np.float32)
    landed = reduction.transform("umap", arrays, new, 2)
    assert landed[0].tolist() == pytest.approx([2, 10])
    assert (landed[:, 1] == 10).all()  # the far row has no part in it
    assert landed[1, 0] < 2 < landed[2, 0]
    assert (landed[:, 0] >= 0).all()
    assert (landed[:, 0] <= 4).all()


DISTANCES = np.sort(np.random.default_rng(0).gamma(3.0, size=(30, 12)), axis=1)


def test_memberships_sum_to_a_logarithm():
    """log2(k), the nearest with 1, the others less the farther they are."""
    weights = reduction._memberships(DISTANCES)
    np.testing.assert_allclose(weights.sum(axis=1), np.log2(12), rtol=1e-6)
    assert (weights[:, 0] == 1).all()
    assert (np.diff(weights, axis=1) < 0).all()


@pytest.mark.slow
def test_memberships_are_those_of_umap():
    """Widths as umap-learn finds them."""
    from umap.umap_ import smooth_knn_dist

    distances, weights = DISTANCES, reduction._memberships(DISTANCES)
    # umap-learn leaves the row itself, at distance 0, out of its sum.
    own = np.hstack([np.zeros((30, 1)), distances - distances[:, :1]]).astype(np.float32)
    sigmas, _ = smooth_knn_dist(own, 12.0, local_connectivity=0.0)
    ours = (distances[:, -1] - distances[:, 0]) / -np.log(weights[:, -1])
    np.testing.assert_allclose(ours, sigmas, rtol=1e-3)


def test_equal_rows_have_equal_weights():
    """Copies of the nearest row share the weight; nothing is divided by nothing."""
    assert reduction._memberships(np.zeros((2, 8))).tolist() == [[1.0] * 8] * 2
    weights = reduction._memberships(np.array([[0.0] * 6 + [1.0, 1.0]]))
    assert weights[0, :6].tolist() == [1.0] * 6
    assert weights[0, 6:].max() < 1e-6


def test_umap_needs_enough_rows():
    x, codes = clouds(n=12)
    with pytest.raises(ModelError, match=r"components is 0\.9; UMAP takes a whole number"):
        reduction.fit(setting("umap", 0.9), x, codes, 0)
    with pytest.raises(ModelError, match="umap_neighbours is 12; there are 12 training rows"):
        reduction.fit(setting("umap", 2, umap_neighbours=12), x, codes, 0)
    with pytest.raises(ModelError, match=r"components is 11; of 12 training rows.*at most 10"):
        reduction.fit(setting("umap", 11, umap_neighbours=5), x, codes, 0)


def test_umap_that_is_not_installed(monkeypatch):
    """One line says which command installs it."""
    monkeypatch.setitem(sys.modules, "umap", None)
    x, codes = clouds()
    with pytest.raises(ModelError, match="uv sync --extra umap"):
        reduction.fit(setting("umap", 2), x, codes, 0)
