"""Reductions: scikit-learn's PCA as the oracle, new places in a UMAP, and bad input.

What runs umap-learn is marked slow: it compiles for half a minute first.
"""

import sys
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

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
    """Wide, tall and square tables: as many components, the same ones, with the same signs."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * np.linspace(1, 4, shape[1]) + 5).astype(np.float32)
    chosen, new = setting("pca", wanted), rng.normal(size=(5, shape[1])).astype(np.float32)
    oracle = PCA(wanted, svd_solver="full").fit(x.astype(np.float64))
    arrays, reduced = reduction.fit(chosen, x, np.zeros(len(x), int), 0)
    np.testing.assert_allclose(arrays["pca_components"], oracle.components_, atol=1e-5)
    np.testing.assert_allclose(reduced, oracle.transform(x.astype(float)), atol=5e-4)
    ours = reduction.transform(chosen, arrays, new)
    np.testing.assert_allclose(ours, oracle.transform(new.astype(float)), atol=5e-4)
    assert ours.dtype == np.float32
    largest = np.abs(oracle.components_).argmax(axis=1)
    assert (arrays["pca_components"][np.arange(len(largest)), largest] > 0).all()


def test_pca_of_many_directions(monkeypatch):
    """The leading ones are found without the others, and the others where a share needs them."""
    monkeypatch.setattr(reduction, "MOST_COMPONENTS", 20)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(90, 120)) * np.geomspace(20, 0.5, 120)).astype(np.float32)
    for wanted, n in ((0.6, range(5, 20)), (0.9, range(21, 90))):
        oracle = PCA(wanted, svd_solver="full").fit(x.astype(np.float64)).components_
        components = reduction._fit_pca(x, wanted)["pca_components"]
        assert components.shape == oracle.shape
        assert len(components) in n
        np.testing.assert_allclose(components, oracle, atol=2e-3)
    assert reduction._fit_pca(x, None)["pca_components"].shape == (20, 120)


@pytest.mark.parametrize("threads", [1, 2])
def test_of_equally_near_rows_the_first_are_found(threads):
    """Every row six times: the places are those of a stable sort, whatever the threads."""
    rng = np.random.default_rng(0)
    others = rng.integers(0, 9, size=(400, 5)).astype(np.float32)  # distances without rounding
    others = np.concatenate([others] * 6)[rng.permutation(2400)]
    with threadpool_limits(threads):
        distances, places = reduction.find_nearest(others[:1100], others, 4)
    every = cdist(others[:1100], others)
    assert (places == np.argsort(every, axis=1, kind="stable")[:, :4]).all()
    np.testing.assert_allclose(distances, np.take_along_axis(every, places, 1), rtol=1e-6)


def test_more_components_than_directions():
    """Copies of two rows have one direction, whatever the shape of the table."""
    x = np.tile(np.eye(2, 9, dtype=np.float32), (10, 1))
    with pytest.raises(ModelError, match="2 are wanted; the training rows have 1 independent"):
        reduction.fit(setting("pca", 2), x, np.zeros(20, int), 0)
    assert reduction._fit_pca(x, 0.9)["pca_components"].shape == (1, 9)
    wide = np.random.default_rng(0).normal(size=(5, 50)).astype(np.float32)
    with pytest.raises(ModelError, match="have 4 independent"):
        reduction.fit(setting("pca", 5), wide, np.zeros(5, int), 0)
    with pytest.raises(ModelError, match="all training rows are equal"):
        reduction.fit(setting("pca", 0.9), np.ones((5, 3), np.float32), np.zeros(5, int), 0)


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
    landed = reduction.transform(setting(reduce, 2, umap_neighbours=10), arrays, new[90:])
    middles = np.stack([places[clouds()[1] == code].mean(axis=0) for code in range(3)])
    nearest = cdist(landed, middles).argmin(axis=1)
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
    landed = reduction.transform(setting("umap", 2, umap_neighbours=2), arrays, new)
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
