"""Fewer columns: principal components and UMAP, learnt from the training rows alone."""

import importlib.util
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from stages.core import backend
from stages.core.errors import ModelError
from stages.models.recipes import ClassifierSettings

Arrays = dict[str, NDArray[Any]]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
# By name, an array's axes; and of whole numbers, after an arrow, the axis that they point into,
# which stands before them.
Layout = dict[str, str]

BATCH = 2000  # rows at once: 520 MB of pictures of 180 x 180
LEAST_VARIANCE = 1e-10  # of the largest: below it a direction is rounding
MOST_COMPONENTS = 500  # that are looked for unasked, and in which UMAP looks for neighbours
BISECTIONS = 64
FAR = 1e18  # nothing lies farther: in float32 a square would be infinite

_UMAP: Layout = {
    "pca_mean": "inputs", "pca_components": "components inputs",
    "umap_vectors": "rows components", "umap_places": "rows columns",
}  # fmt: skip
LAYOUTS: dict[str, Layout] = {
    "none": {},
    "pca": {"pca_mean": "inputs", "pca_components": "columns inputs"},
    "umap": _UMAP,
    "umap_supervised": _UMAP,
}


def fit(
    settings: ClassifierSettings, x: NDArray[np.float32], codes: Codes, seed: int
) -> tuple[Arrays, NDArray[np.float32]]:
    """Learn a reduction of finite training rows; only ``umap_supervised`` looks at their codes.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        All that `transform` needs, as named in `LAYOUTS`.
    reduced : numpy.ndarray of float32, shape (n_rows, n_components)
        The training rows, as a classifier learns from them. Those of UMAP are its embedding,
        not what `transform` makes of the same rows.

    Raises
    ------
    ModelError
        More components than the rows can give, too few rows for the neighbours, or umap-learn is
        not installed.
    """
    if settings.reduce == "none":
        return {}, x
    is_pca = settings.reduce == "pca"
    if not is_pca:
        _require_umap_fits(settings, len(x))
    # A rotation keeps all distances; it makes the rows that UMAP stores small.
    arrays = _fit_pca(x, settings.components if is_pca else None)
    starts = range(0, len(x), BATCH)
    rotated = np.concatenate([_rotate(arrays, x[at : at + BATCH]) for at in starts])
    if is_pca:
        return arrays, rotated
    if importlib.util.find_spec("umap") is None:
        raise ModelError(
            "reduce: UMAP needs umap-learn, which is not installed. Run 'uv sync --extra umap', "
            "or choose reduce: pca."
        )
    # umap imports TensorFlow for a part that is not used here; ours loads it without noise.
    backend.load_tensorflow()
    from umap import UMAP

    umap = UMAP(
        n_components=settings.components,
        n_neighbors=settings.umap_neighbours,
        random_state=seed,
        n_jobs=1,  # UMAP follows its seed on one core only
    )
    y = codes if settings.reduce == "umap_supervised" else None
    places = np.asarray(umap.fit_transform(rotated, y), dtype=np.float32)
    return arrays | {"umap_vectors": rotated, "umap_places": places}, places


def transform(
    settings: ClassifierSettings, arrays: Arrays, x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Reduce new rows to shape (n_rows, n_components).

    Notes
    -----
    A new row's place in a UMAP is the mean of its nearest training rows' places, weighted with
    UMAP's memberships: exp(-(d - d_nearest) / s), s chosen so that they sum to log2(neighbours)
    [1]_. So UMAP starts a new row; it then moves it in random steps. Without them a place depends
    on nothing but the row itself, and what is stored are two tables.

    UMAP looks for neighbours in the first 500 principal components, all of them where the rows
    have fewer: the stored rows of pictures would else take gigabytes.

    References
    ----------
    .. [1] L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection
       for Dimension Reduction", arXiv 1802.03426 (2018), section 3.1.
    """
    if settings.reduce == "none":
        return x
    rotated = _rotate(arrays, x)
    if settings.reduce == "pca":
        return rotated
    vectors, places = arrays["umap_vectors"], arrays["umap_places"]
    k = min(settings.umap_neighbours, len(vectors))
    distances, nearest = find_nearest(rotated, vectors, k)
    weights = _memberships(distances)
    shares = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nk,nkp->np", shares, places[nearest]), dtype=np.float32)


def find_nearest(
    x: NDArray[np.float32], others: NDArray[np.float32], k: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Return distances and places of each row's `k` nearest others, of equally near the first."""
    # Several threads would each keep those that they meet first.
    with threadpool_limits(1, user_api="openmp"):
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(others)
        distances, places = search.kneighbors(x)
    order = np.lexsort((places, distances))
    ordered = np.take_along_axis(distances, order, axis=1).astype(np.float64)
    return ordered, np.take_along_axis(places, order, axis=1)


def _fit_pca(x: NDArray[np.float32], wanted: float | None) -> Arrays:
    """Return the mean and components, so many or of such a share of variance; None: up to 500.

    In falling order of variance; the largest entry of each is positive: the sign is free
    otherwise. Where there are more than 500, as many are found by random projections from a
    fixed seed: the whole decomposition of 13,000 pictures takes hours. The first hundred are then
    exact; all are where 500 do not hold the share.
    """
    if not np.ptp(x, axis=0).any():
        raise ModelError("reduce: all training rows are equal; there is nothing to reduce.")
    k = wanted if isinstance(wanted, int) else MOST_COMPONENTS
    whole = PCA(svd_solver="full", copy=False)
    most = max(k, MOST_COMPONENTS)
    pca = whole
    if most < min(x.shape):
        pca = PCA(most, svd_solver="randomized", random_state=0, copy=False)
    # In float32 the number of cores would move the components by a hundred-thousandth.
    pca.fit(x.astype(np.float64))
    if isinstance(wanted, float):
        if pca.explained_variance_ratio_.sum() <= wanted:
            pca = whole.fit(x.astype(np.float64))
        shares = pca.explained_variance_ratio_.cumsum()
        k = int(np.searchsorted(shares, wanted, side="right")) + 1
    variances = pca.explained_variance_
    n_known = int((variances > LEAST_VARIANCE * variances[0]).sum())
    if isinstance(wanted, int) and wanted > n_known:
        raise ModelError(
            f"components: {wanted} are wanted; the training rows have {n_known} independent "
            "directions. Lower components, or give it as a share of variance."
        )
    components = pca.components_[: min(k, n_known)].astype(np.float32)
    return {"pca_mean": pca.mean_, "pca_components": components}


def _rotate(arrays: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
    # In float64, so that neither the other rows nor the number of cores move a row's last bits.
    rotated = (x - arrays["pca_mean"]) @ arrays["pca_components"].T
    return np.asarray(rotated.clip(-FAR, FAR), dtype=np.float32)


def _require_umap_fits(settings: ClassifierSettings, n_rows: int) -> None:
    if not isinstance(settings.components, int):
        raise ModelError(
            f"components is {settings.components}; UMAP takes a whole number, for example 2."
        )
    if settings.umap_neighbours >= n_rows:
        raise ModelError(
            f"umap_neighbours is {settings.umap_neighbours}; there are {n_rows} training rows. "
            "Lower umap_neighbours, or train on more pictures."
        )
    if settings.components > n_rows - 2:
        raise ModelError(
            f"components is {settings.components}; of {n_rows} training rows UMAP can make at most "
            f"{n_rows - 2}. Lower components."
        )


def _memberships(distances: Floats) -> Floats:
    """Return exp(-d / s) with the s of each row at which they sum to log2(k)."""
    target = math.log2(max(distances.shape[1], 2))
    # Of the distances beyond the nearest; the shift changes no share, and no row underflows.
    beyond = distances - distances[:, :1]
    low = np.full(len(distances), 1e-12)
    high = np.maximum(beyond.max(axis=1) * 1e3, 1e-9)
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        too_wide = np.exp(-beyond / middle[:, None]).sum(axis=1) > target
        low, high = np.where(too_wide, low, middle), np.where(too_wide, middle, high)
    weights: Floats = np.exp(-beyond / np.sqrt(low * high)[:, None])
    return weights
