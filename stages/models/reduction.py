"""Fewer columns: principal components and UMAP, learnt from the training rows alone."""

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import backend
from stages.core.errors import ModelError
from stages.models.recipes import ClassifierSettings

Array = NDArray[Any]
Arrays = dict[str, Array]
Floats = NDArray[np.float64]
Layout = dict[str, tuple[str, tuple[str, ...]]]  # kind of number, and the name of each axis

BLOCK = 1 << 22  # numbers held at once, 32 MB
LEAST_VARIANCE = 1e-10  # of the largest: below it a direction is rounding
UMAP_COLUMNS = 500  # UMAP looks for neighbours in so many principal components
BISECTIONS = 64

PCA_LAYOUT: Layout = {
    "pca_mean": ("f", ("inputs",)),
    "pca_components": ("f", ("components", "inputs")),
}
UMAP_LAYOUT: Layout = PCA_LAYOUT | {
    "umap_vectors": ("f", ("rows", "components")),
    "umap_places": ("f", ("rows", "places")),
}
LAYOUTS: dict[str, Layout] = {
    "none": {}, "pca": PCA_LAYOUT, "umap": UMAP_LAYOUT, "umap_supervised": UMAP_LAYOUT,
}  # fmt: skip


def fit(
    settings: ClassifierSettings, x: NDArray[np.float32], codes: NDArray[np.int64], seed: int
) -> tuple[Arrays, NDArray[np.float32]]:
    """Learn a reduction.

    Parameters
    ----------
    settings : ClassifierSettings
        ``reduce``, ``components`` and ``umap_neighbours`` are read.
    x : numpy.ndarray of float32, shape (n_rows, n_columns)
        Training rows, finite.
    codes : numpy.ndarray of int64, shape (n_rows,)
        Their classes; only ``umap_supervised`` looks at them.
    seed : int

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
    if settings.reduce == "pca":
        arrays = fit_pca(x, settings.components)
        return arrays, transform("pca", arrays, x)
    _require_umap_fits(settings, len(x))
    # A rotation keeps all distances; it makes the stored rows small.
    arrays = fit_pca(x, None)
    vectors = transform("pca", arrays, x)
    y = codes if settings.reduce == "umap_supervised" else None
    places = _load_umap()(
        n_components=settings.components,
        n_neighbors=settings.umap_neighbours,
        random_state=seed,
        n_jobs=1,  # UMAP follows its seed on one core only
    ).fit_transform(vectors, y)
    places = np.asarray(places, dtype=np.float32)
    return arrays | {"umap_vectors": vectors, "umap_places": places}, places


def transform(
    reduce: str, arrays: Arrays, x: NDArray[np.float32], neighbours: int = 15
) -> NDArray[np.float32]:
    """Reduce new rows.

    Parameters
    ----------
    reduce : str
        ``"none"``, ``"pca"``, ``"umap"`` or ``"umap_supervised"``.
    arrays : dict of str to numpy.ndarray
        Of `fit`.
    x : numpy.ndarray of float32, shape (n_rows, n_columns)
    neighbours : int
        ``umap_neighbours`` of the settings.

    Returns
    -------
    numpy.ndarray of float32, shape (n_rows, n_components)

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
    if reduce == "none":
        return x
    mean, components = arrays["pca_mean"], arrays["pca_components"].T.astype(np.float64)
    rotated = np.empty((len(x), components.shape[1]), dtype=np.float32)
    for rows in blocks(len(x), x.shape[1]):
        rotated[rows] = (x[rows] - mean) @ components
    if reduce == "pca":
        return rotated
    return _place(rotated, arrays["umap_vectors"], arrays["umap_places"], neighbours)


def fit_pca(x: NDArray[np.float32], wanted: float | None) -> Arrays:
    """Find the principal components.

    Parameters
    ----------
    x : numpy.ndarray of float32, shape (n_rows, n_columns)
    wanted : int, float or None
        Number of components; or the share of variance, below 1, that they hold together; None:
        at most 500, as many as there are.

    Returns
    -------
    dict of str to numpy.ndarray
        ``pca_mean``, float64, and ``pca_components``, float32, rows of length 1 in falling order
        of variance. The largest entry of each is positive: the sign is free otherwise.

    Raises
    ------
    ModelError
        The rows have fewer independent directions than asked for, or none.

    Notes
    -----
    By the eigenvectors of the smaller of the two products, rows x rows or columns x columns,
    summed over blocks: pictures have more columns than there are pictures.
    """
    n, d = x.shape
    mean: Floats = np.asarray(np.mean(x, axis=0, dtype=np.float64))
    by_rows = n <= d
    product = np.zeros((min(n, d),) * 2)
    for part in blocks(d if by_rows else n, n if by_rows else d):
        if by_rows:
            block = x[:, part] - mean[part]
            product += block @ block.T
        else:
            block = x[part] - mean
            product += block.T @ block
    variances, vectors = np.linalg.eigh(product)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    n_known = int((variances > LEAST_VARIANCE * max(float(variances[0]), 0.0)).sum())
    if n_known == 0 or variances[0] <= 0:
        raise ModelError("reduce: all training rows are equal; there is nothing to reduce.")
    k = _count_components(variances[:n_known], wanted)
    chosen = vectors[:, :k]
    if by_rows:
        components = np.empty((k, d))
        for part in blocks(d, n):
            components[:, part] = chosen.T @ (x[:, part] - mean[part])
        components /= np.sqrt(variances[:k, None])
    else:
        components = chosen.T
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = components * np.sign(largest)
    return {"pca_mean": mean, "pca_components": components.astype(np.float32)}


def blocks(n: int, width: int) -> Iterator[slice]:
    """Yield slices of 0..n so that each holds about 32 MB of rows of `width` numbers."""
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def squared_distances(x: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return squared Euclidean distances, shape (n_rows, n_others), never below 0."""
    wide, theirs = x.astype(np.float64), others.astype(np.float64)
    squares = (wide**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1) - 2 * wide @ theirs.T
    positive: Floats = np.maximum(squares, 0)
    return positive


def _count_components(variances: Floats, wanted: float | None) -> int:
    n_known = len(variances)
    if wanted is None:
        return min(UMAP_COLUMNS, n_known)
    if isinstance(wanted, int):
        if wanted > n_known:
            raise ModelError(
                f"components: {wanted} are wanted; the training rows have {n_known} independent "
                "directions. Lower components, or give it as a share of variance."
            )
        return wanted
    shares = np.cumsum(variances) / variances.sum()
    return min(n_known, int(np.searchsorted(shares, wanted, side="right")) + 1)


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


def _load_umap() -> Any:
    if importlib.util.find_spec("umap") is None:
        raise ModelError(
            "reduce: UMAP needs umap-learn, which is not installed. Run 'uv sync --extra umap', "
            "or choose reduce: pca."
        )
    # umap imports TensorFlow for a part that is not used here; ours loads it without noise.
    backend.load_tensorflow()
    from umap import UMAP

    return UMAP


def _place(
    x: NDArray[np.float32], vectors: Array, places: Array, neighbours: int
) -> NDArray[np.float32]:
    k = min(neighbours, len(vectors))
    found = np.empty((len(x), places.shape[1]), dtype=np.float32)
    for rows in blocks(len(x), len(vectors)):
        squares = squared_distances(x[rows], vectors)
        nearest = np.argsort(squares, axis=1, kind="stable")[:, :k]
        weights = _memberships(np.sqrt(np.take_along_axis(squares, nearest, axis=1)))
        shares = weights / weights.sum(axis=1, keepdims=True)
        found[rows] = np.einsum("nk,nkp->np", shares, places[nearest].astype(np.float64))
    return found


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
