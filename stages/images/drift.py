"""How far the measures of one hospital lie from those of another, class by class."""

from itertools import combinations

import numpy as np
import pandas as pd

MEASURES = (
    "luminance", "saturation", "sharpness", "nucleus_share", "nucleus_blue", "nucleus_eosin",
    "cytoplasm_blue", "cytoplasm_eosin", "stained_around",
)  # fmt: skip
MIN_IMAGES = 10  # of a class at both hospitals
PLACES = (np.arange(200) + 0.5) / 200  # of the quantiles that stand for a distribution


def compare(measured: pd.DataFrame) -> pd.DataFrame:
    """Measure the distance of each pair of hospitals, measure by measure.

    Parameters
    ----------
    measured : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``label`` and `MEASURES`, NaN where a picture has none.

    Returns
    -------
    pandas.DataFrame, columns hospital, other, measure, distance, n_classes
        A row for each pair, in the order of names, and each measure. `distance` is the mean over
        the classes that both have (10 pictures of each at least with the measure) of the
        Wasserstein distance in pooled standard deviations of both; NaN where there is no such
        class, or no spread.

    Notes
    -----
    Class by class, or hospitals with other shares of the classes would seem to stain otherwise.
    The distance is the mean distance of 200 quantiles: two distributions of one shape lie as far
    apart as their medians.
    """
    described = {
        (hospital, measure, label): _describe(own[measure].dropna().to_numpy(np.float64))
        for (hospital, label), own in measured.groupby(["hospital", "label"])
        for measure in MEASURES
    }
    labels = sorted(measured["label"].unique())
    rows = []
    for one, other in combinations(sorted(measured["hospital"].unique()), 2):
        for measure in MEASURES:
            pairs = [
                (described.get((one, measure, label)), described.get((other, measure, label)))
                for label in labels
            ]
            found = [_distance(*a, *b) for a, b in pairs if a is not None and b is not None]
            known = [value for value in found if value is not None]
            mean = float(np.mean(known)) if known else np.nan
            rows.append((one, other, measure, mean, len(known)))
    return pd.DataFrame(rows, columns=["hospital", "other", "measure", "distance", "n_classes"])


def _describe(values: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Return quantiles and variance; None of too few values."""
    if len(values) < MIN_IMAGES:
        return None
    return np.quantile(values, PLACES), float(values.var())


def _distance(
    ours: np.ndarray, our_variance: float, theirs: np.ndarray, their_variance: float
) -> float | None:
    spread = float(np.sqrt((our_variance + their_variance) / 2))
    return float(np.abs(ours - theirs).mean()) / spread if spread > 0 else None
