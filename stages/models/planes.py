"""Maps of rows on a plane: PCA, LDA, t-SNE and UMAP, learnt from the training rows alone."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from stages.models import reduction
from stages.models.recipes import ClassifierSettings

Places = NDArray[np.float64]
Rows = NDArray[np.float32]

METHODS = {"pca": "PCA", "lda": "LDA", "tsne": "t-SNE", "umap": "UMAP"}
LEAST_ROWS = 10  # below, no method has neighbours to learn from
VARIANCE = 0.99  # share of it that LDA, t-SNE and UMAP see, as principal components
NEIGHBOURS = 15  # of UMAP, and of every row that is placed by its neighbours
PERPLEXITY = 30.0
TOO_FEW = f"maps are learnt from {LEAST_ROWS} training pictures at least"
ONE_CLASS = "the training pictures are of one class, and LDA needs two"
NO_UMAP = "umap-learn is not installed; run 'uv sync --extra umap', then 'uv run dvc repro -f maps'"


def learn(
    fitted: Rows, labels: Sequence[str], others: Rows, seed: int
) -> tuple[dict[str, Places], dict[str, str]]:
    """Learn all maps from some rows, and place these and others on them.

    Parameters
    ----------
    fitted : numpy.ndarray of float32, shape (n_fitted, n_columns)
        The rows that the maps are learnt from.
    labels : sequence of str, length n_fitted
        Their classes, which LDA alone looks at.
    others : numpy.ndarray of float32, shape (n_others, n_columns)
        Rows that are placed on the finished maps; one at least.
    seed : int
        Of t-SNE and UMAP.

    Returns
    -------
    places : dict of str to numpy.ndarray, shape (n_fitted + n_others, 2)
        By method, of `METHODS`: x and y of the fitted rows, then of the others.
    left_out : dict of str to str
        The methods that cannot be had, each with the reason.

    Raises
    ------
    ModelError
        All fitted rows are equal.

    Notes
    -----
    PCA and LDA are rotations, and place any row. t-SNE has no rule for a new row: it is put where
    UMAP starts one, at the weighted mean of the places of its nearest fitted rows
    (`reduction.transform`), and so are the new rows of UMAP. On these two maps a row that is
    unlike all fitted ones lies among them all the same.

    On one thread and from a fixed seed: the same places each time on one kind of machine.
    """
    if len(fitted) < LEAST_ROWS:
        return {}, dict.fromkeys(METHODS, TOO_FEW)
    codes = np.unique(np.asarray(labels, object), return_inverse=True)[1].astype(np.int64)
    with threadpool_limits(1):
        arrays, x = reduction.fit(_settings("pca", VARIANCE), fitted, codes, seed)
        z = reduction.transform(_settings("pca", VARIANCE), arrays, others)
        rows = np.concatenate([x, z])
        places = {"pca": _widen(rows, rows)}
        left_out = {}
        if codes.any():
            places["lda"] = _widen(_fit_lda(x, codes).transform(rows), rows)
        else:
            left_out["lda"] = ONE_CLASS
        own = _fit_tsne(x, seed)
        found = arrays | {"umap_vectors": x, "umap_places": own}
        places["tsne"] = np.concatenate([own, _place(found, others)])
        if importlib.util.find_spec("umap") is None:
            left_out["umap"] = NO_UMAP
        else:
            found, own = reduction.fit(_settings("umap", 2, len(x)), x, codes, seed)
            places["umap"] = np.concatenate([own, _place(found, z)])
    return {name: own.astype(np.float64) for name, own in places.items()}, left_out


def _settings(method: Any, components: float, n_rows: int | None = None) -> ClassifierSettings:
    """Return what `reduction` asks for; its classifier is never fitted."""
    k = NEIGHBOURS if n_rows is None else min(NEIGHBOURS, n_rows - 1)
    return ClassifierSettings(
        classifier="knn", reduce=method, components=components, umap_neighbours=k
    )


def _fit_lda(x: Rows, codes: NDArray[np.int64]) -> LinearDiscriminantAnalysis:
    """Fit LDA with the shrinkage of Ledoit and Wolf: there may be more columns than rows."""
    n_axes = min(2, int(codes.max()), x.shape[1])
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=n_axes)
    return lda.fit(x.astype(np.float64), codes)


def _fit_tsne(x: Rows, seed: int) -> Rows:
    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca" if x.shape[1] > 1 else "random",
                random_state=seed, n_jobs=1)  # fmt: skip
    return np.asarray(tsne.fit_transform(x), np.float32)


def _place(arrays: reduction.Arrays, rows: Rows) -> Rows:
    """Place new rows by their nearest fitted ones, on a map of UMAP or of t-SNE."""
    return reduction.transform(_settings("umap", 2), arrays, rows)


def _widen(places: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Return two columns; where a method has one axis, the other is a principal component's."""
    if places.shape[1] == 1:
        places = np.column_stack([places, rows[:, 0] if places is not rows else 0 * rows[:, 0]])
    return places[:, :2]
