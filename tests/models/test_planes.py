"""Maps on planes: who teaches them, who is only placed, and where."""

import numpy as np
import pytest

from stages.models import planes
from stages.models.planes import METHODS, learn

N, COLUMNS = 40, 12


def clouds(n=N, seed=0, shift=6.0):
    """Three clouds of so many rows, and the name of each row's."""
    rng = np.random.default_rng(seed)
    middles = np.eye(3, COLUMNS) * shift
    x = np.repeat(middles, n, axis=0) + rng.normal(0, 1, (3 * n, COLUMNS))
    return x.astype(np.float32), np.repeat(["a", "b", "c"], n).tolist()


@pytest.fixture(scope="module")
def learnt():
    x, labels = clouds()
    others, _ = clouds(10, 1)
    return learn(x, labels, others, 7)


def nearest_cloud(places, own):
    """Which of the three clouds' middles on the map is nearest to each place."""
    middles = np.stack([places[start : start + N].mean(axis=0) for start in range(0, 3 * N, N)])
    return np.linalg.norm(own[:, None] - middles[None], axis=2).argmin(axis=1)


def test_new_rows_lie_with_the_cloud_they_come_from(learnt):
    """On each of the four maps, taught and placed rows alike."""
    places, left_out = learnt
    assert set(places) == set(METHODS)
    assert left_out == {}
    for own in places.values():
        assert own.shape == (3 * N + 30, 2)
        assert (nearest_cloud(own, own[3 * N :]) == np.repeat([0, 1, 2], 10)).mean() > 0.9


def test_other_rows_do_not_teach(learnt):
    """Whatever is placed, the taught rows stay where they are, and so does each placed one."""
    x, labels = clouds()
    others, _ = clouds(10, 1)
    fewer, _ = learn(x, labels, others[:4], 7)
    for name, own in learnt[0].items():
        np.testing.assert_allclose(fewer[name], own[: 3 * N + 4], rtol=0, atol=1e-4)


def test_labels_teach_lda_alone(learnt):
    x, labels = clouds()
    turned, _ = learn(x, labels[20:] + labels[:20], x[:1], 7)
    same = {
        name: np.array_equal(turned[name][: 3 * N], learnt[0][name][: 3 * N]) for name in METHODS
    }
    assert same == {"pca": True, "lda": False, "tsne": True, "umap": True}


def test_what_cannot_be_had_is_left_out_with_its_reason(monkeypatch):
    """One class has no LDA; without umap-learn there is no UMAP; both are told."""
    monkeypatch.setattr(planes.importlib.util, "find_spec", lambda name: None)
    x, _ = clouds(10)
    places, left_out = learn(x, ["a"] * len(x), x[:2], 7)
    assert set(places) == {"pca", "tsne"}
    assert left_out == {"lda": planes.ONE_CLASS, "umap": planes.NO_UMAP}


def test_two_classes_and_one_direction_still_make_a_plane(monkeypatch):
    """LDA of two classes has one axis, rows along one line one component."""
    monkeypatch.setattr(planes.importlib.util, "find_spec", lambda name: None)
    x, labels = clouds(10)
    places, _ = learn(x, ["a" if one == "a" else "b" for one in labels], x[:1], 7)
    assert places["lda"].shape == (31, 2)
    assert np.ptp(places["lda"], axis=0).min() > 0
    line = np.arange(30, dtype=np.float32)[:, None] * np.ones((1, COLUMNS), np.float32)
    places, _ = learn(line, labels, line[:1], 7)
    assert np.ptp(places["pca"], axis=0).tolist() == pytest.approx([29 * COLUMNS**0.5, 0], rel=1e-4)


def test_too_few_rows_teach_no_map():
    x, labels = clouds(3)
    assert learn(x, labels, x, 7) == ({}, dict.fromkeys(METHODS, planes.TOO_FEW))
