"""Which pictures of a hospital are unlike its others, and the hospital's figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.images.cell_masks import UNSURE
from stages.images.robust import robust_z

JUDGED = ("brightness", "saturation", "sharpness", "cell_radius")
SUMMARISED = (
    "mean_r", "mean_g", "mean_b", "saturation", "value", "lab_l", "lab_a", "lab_b",
    "clipped", "white_r", "white_g", "white_b", "unevenness", "haze", "jpeg_quality",
    "sharpness", "laplacian_variance", "tenengrad_cell", "entropy",
    "cell_radius", "nucleus_radius", "nucleus_share", "nucleus_od", "red_cell_diameter",
)  # fmt: skip
OF_PICTURE = ("at_border", UNSURE, "broken")  # what the pictures themselves tell
FLAGS = ("no_cell", *OF_PICTURE, *(f"{name}_outlier" for name in JUDGED))
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
SHARPNESS_STEP, SHARPNESS_END = 0.5, 20.0  # grey levels / px; the last bin is open


def flag(measures: pd.DataFrame, limit: float) -> list[list[str]]:
    """Return the flags of each picture.

    Parameters
    ----------
    measures : pandas.DataFrame, shape (n_images, n_columns)
        Pictures of one hospital: the columns of ``tables.QUALITY`` and those of `OF_PICTURE`.
    limit : float
        Robust z above which a measure is flagged, in both directions.

    Returns
    -------
    list of list of str
        In the order of `FLAGS`.
    """
    judged = measures[["saturation", "sharpness", "cell_radius"]].astype("float64")
    judged["brightness"] = measures[["mean_r", "mean_g", "mean_b"]].mean(axis=1)
    marks = {"no_cell": ~measures["has_cell"], **measures[list(OF_PICTURE)]}
    for name in JUDGED:
        marks[f"{name}_outlier"] = robust_z(judged[name]).abs() > limit
    table = np.stack([marks[name].to_numpy(dtype=bool) for name in FLAGS], axis=1)
    return [[name for name, marked in zip(FLAGS, row, strict=True) if marked] for row in table]


def summarise(quality: pd.DataFrame) -> dict[str, Any]:
    """Return a hospital's figures for ``metrics/quality``.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        Rows of ``tables.QUALITY`` of one hospital.

    Returns
    -------
    dict
        Counts, quantiles of the measures (None where no picture has the measure), counts by flag,
        and the mean overlap with the published masks, with how many there are.
    """
    flags = pd.Series([name for names in quality["flags"] for name in names], dtype="str")
    published = quality["mask_iou"].dropna().astype("float64")
    return {
        "n_images": len(quality),
        "n_with_cell": int(quality["has_cell"].sum()),
        "n_with_red_cells": int(quality["red_cell_diameter"].notna().sum()),
        "n_flagged": int(quality["flags"].map(len).gt(0).sum()),
        "n_by_flag": {name: int((flags == name).sum()) for name in FLAGS},
        "quantiles": {name: _quantiles(quality[name]) for name in SUMMARISED},
        "mask_iou": {
            "mean": float(published.mean()) if len(published) else None,
            "n": len(published),
        },
    }


def colour_shares(hospital: str, counts: NDArray[np.int64]) -> pd.DataFrame:
    """Return the hospital's colour histogram as plot data.

    Parameters
    ----------
    hospital : str
    counts : numpy.ndarray of int64, shape (3, n_bins)
        Pixels of all pictures in equal bins of red, green and blue.

    Returns
    -------
    pandas.DataFrame, columns hospital, channel, level, share
        `level` is the middle of the bin, 0..255; shares of a channel sum to 1.
    """
    n_bins = counts.shape[1]
    middles = (np.arange(n_bins) + 0.5) * (256 / n_bins)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "hospital": hospital,
            "channel": np.repeat(["red", "green", "blue"], n_bins),
            "level": np.tile(middles, 3),
            "share": shares.ravel(),
        }
    )


def sharpness_shares(hospital: str, values: Sequence[float] | pd.Series) -> pd.DataFrame:
    """Return how the hospital's sharpness is distributed, as plot data.

    Returns
    -------
    pandas.DataFrame, columns hospital, sharpness, share
        `sharpness` is the lower end of a bin of 0.5 grey levels / px; the same bins for every
        hospital, so that two can be laid over each other. Shares sum to 1.
    """
    edges = np.arange(0.0, SHARPNESS_END, SHARPNESS_STEP)
    bins = np.clip((np.asarray(values) / SHARPNESS_STEP).astype(int), 0, len(edges) - 1)
    counts = np.bincount(bins, minlength=len(edges))
    return pd.DataFrame(
        {"hospital": hospital, "sharpness": edges, "share": counts / max(len(bins), 1)}
    )


def evenly_spaced(n: int, wanted: int) -> list[int]:
    """Return up to `wanted` positions out of `n`, first and last included, evenly spaced."""
    if n <= wanted:
        return list(range(n))
    return [place * (n - 1) // (wanted - 1) for place in range(wanted)]


def _quantiles(values: pd.Series) -> dict[str, float | None]:
    known = values.dropna().astype("float64")
    return {
        name: float(known.quantile(share)) if len(known) else None
        for name, share in QUANTILES.items()
    }
