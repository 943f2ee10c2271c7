"""Frames that tell whether pictures keep to limits that a person sets in params.yaml.

Each row says in words what was found and which limit it breaks: it is what a message shows. Each
frame has a suite in data/expectations.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import TableError
from stages.core.params import ExpectationsParams

REFERENCE = Path("data/reference.json")
COMMAND = "uv run python -m stages.tools.reference"
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the quantiles that are kept
LEAST_WIDTH = 1e-3  # of a measure that is the same at all pictures
MEASURES = (
    "mean_r", "mean_g", "mean_b", "sd_r", "sd_g", "sd_b", "saturation", "white_r", "white_g",
    "white_b", "sharpness", "cell_radius", "nucleus_radius", "nucleus_share", "nucleus_od",
)  # fmt: skip
NO_REFERENCE = f"{REFERENCE} names none of the hospitals; '{COMMAND}' writes it"

Reference = Mapping[str, Mapping[str, list[float]]]


def hold(
    frames: Mapping[str, pd.DataFrame], rule: ExpectationsParams, reference: Reference
) -> dict[str, pd.DataFrame]:
    """Build the frames that tell whether the limits are kept.

    Parameters
    ----------
    frames : mapping of str to pandas.DataFrame
        Needs ``quality`` and ``split``.
    rule : ExpectationsParams
    reference : mapping
        Of `read_reference`.
    """
    return {
        "hospital_flags": count_flagged(frames["quality"], rule.max_flagged),
        "training_classes": count_classes(frames["split"], rule.min_per_class),
        "hospital_drift": measure_drift(frames["quality"], reference, rule.max_drift),
    }


def count_flagged(quality: pd.DataFrame, most: float) -> pd.DataFrame:
    """Tell of each hospital whether at most such a share of its pictures is flagged.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and ``flags``.
    most : float
        0..1.

    Returns
    -------
    pandas.DataFrame, shape (n_hospitals, 2)
        ``found``, in words, and ``is_kept``.
    """
    rows = []
    for hospital, flags in quality.groupby("hospital", sort=True)["flags"]:
        share = float((flags.map(len) > 0).mean())
        counts = flags.explode().value_counts()
        often = f", most often {min(counts.index[counts == counts.max()])}" if len(counts) else ""
        said = (
            f"{hospital}: {share:.1%} of {len(flags)} pictures are flagged{often}, where "
            f"expectations.max_flagged in params.yaml allows {most:.1%}"
        )
        rows.append((said, share <= most))
    return pd.DataFrame(rows, columns=["found", "is_kept"])


def count_classes(split: pd.DataFrame, least: int) -> pd.DataFrame:
    """Tell of each class at the training hospitals whether so many pictures of it train.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of ``tables.SPLIT``. Classes of unseen hospitals alone are not asked: no model
        learns them.
    least : int

    Returns
    -------
    pandas.DataFrame, shape (n_classes, 2)
        ``found``, in words, and ``is_kept``.
    """
    home = split[~split["part"].isin(["unseen", "left_out"])]
    counts = (home["part"] == "train").groupby(home["label"], sort=True).sum()
    said = [
        f"{label}: {n} training pictures, where expectations.min_per_class in params.yaml asks "
        f"for {least} (a coarser taxonomy joins small classes)"
        for label, n in counts.items()
    ]
    return pd.DataFrame({"found": said, "is_kept": (counts >= least).to_numpy(bool)})


def measure_drift(quality: pd.DataFrame, reference: Reference, most: float) -> pd.DataFrame:
    """Tell of each hospital and measure of the reference whether it is distributed as before.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and `MEASURES`.
    reference : mapping
        Of `read_reference`. Hospitals that it lacks are not asked.
    most : float
        How far the quantiles may have moved on average, as a share of the width that held four
        in five pictures before.

    Returns
    -------
    pandas.DataFrame, shape (n_measures, 2)
        ``found``, in words, and ``is_kept``.
    """
    rows = []
    for hospital, own in quality.groupby("hospital", sort=True):
        now = describe(own)
        for name, before in sorted(reference.get(str(hospital), {}).items()):
            moved = _compare(before, now.get(name))
            median = f"{now[name][2]:.4g} now" if name in now else "at no picture now"
            said = (
                f"{hospital}, {name}: median {before[2]:.4g} in {REFERENCE}, {median}, moved by "
                f"{moved:.2f}, where expectations.max_drift in params.yaml allows {most:g} (where "
                f"the new pictures are right: '{COMMAND} {hospital}')"
            )
            rows.append((said, moved <= most))
    return pd.DataFrame(rows, columns=["found", "is_kept"])


def describe(quality: pd.DataFrame) -> dict[str, list[float]]:
    """Return the quantiles of each measure of one hospital that is there at any picture."""
    known = quality[list(MEASURES)].astype(np.float64)
    return {
        name: [float(value) for value in values.quantile(LEVELS)]
        for name, values in known.items()
        if values.notna().any()
    }


def read_reference() -> dict[str, Any]:
    """Read how the measures of hospitals were distributed when a person looked at them.

    Returns
    -------
    dict
        By hospital and measure the quantiles at `LEVELS`.

    Raises
    ------
    TableError
        data/reference.json is missing, or is not what `stages.tools.reference` writes.
    """
    way_out = f"Take it from git again, or delete it and write it anew with '{COMMAND}'."
    try:
        content = json.loads(REFERENCE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(f"{REFERENCE} is missing. {way_out}") from None
    except ValueError as error:
        raise TableError(f"{REFERENCE} is not JSON: {error}. {way_out}") from None
    if not isinstance(content, dict):
        raise TableError(f"{REFERENCE} must hold hospitals by name. {way_out}")
    for hospital, measures in content.items():
        if not isinstance(measures, dict):
            raise TableError(f"{REFERENCE}, {hospital}: must hold measures by name. {way_out}")
        for name, values in measures.items():
            if name not in MEASURES or not _are_quantiles(values):
                raise TableError(
                    f"{REFERENCE}, {hospital}, {name}: must be a measure of data/quality with "
                    f"{len(LEVELS)} rising numbers. {way_out}"
                )
    return content


def _compare(before: list[float], now: list[float] | None) -> float:
    """Return how far quantiles moved, in widths of what they were; infinite where none is left."""
    if now is None:
        return math.inf
    width = max(before[-1] - before[0], LEAST_WIDTH)
    return float(np.abs(np.subtract(now, before)).mean() / width)


def _are_quantiles(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) == len(LEVELS)
        and all(isinstance(one, int | float) and np.isfinite(one) for one in values)
        and values == sorted(values)
    )
