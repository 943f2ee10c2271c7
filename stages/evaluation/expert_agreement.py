"""How far two experts agree on the classes: the ceiling that a model's score is read against."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.shares import Z95, describe_share
from stages.evaluation.metrics import METRICS, confusion
from stages.labels.taxonomy import Taxonomy, count_unmapped, look_up, to_label

EXPERTS = ["expert_1", "expert_2"]
METHOD = "95 %, large-sample standard error; images as independent"
ROUNDING = 1e-12
Counts = npt.NDArray[np.int64]


def compare_experts(
    images: pd.DataFrame, label_map: pd.DataFrame, taxonomy: Taxonomy
) -> dict[str, Any]:
    """Compare the labels of a hospital's two experts in the classes of a taxonomy.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``expert_1`` and ``expert_2``, published labels as the experts gave them; empty
        where one gave none.
    label_map : pandas.DataFrame
        Of the hospital, as `taxonomy.read_label_map` gives it.
    taxonomy : Taxonomy
        By cell type; one by diagnosis has no class for what an expert says of a cell.

    Returns
    -------
    dict
        ``experts``: what `agree` returns, and ``n_by_unknown_label``, the labels of either expert
        that have no line in the map, which are in no class. None, and ``experts_reason``, where
        there is nothing to compare.
    """
    labels = images[EXPERTS].dropna()
    if labels.empty:
        return _refuse("no image bears the labels of two experts")
    if taxonomy.by == "diagnosis":
        return _refuse(f"{taxonomy.name} is by diagnosis, and the experts name cells")
    first, second = (
        to_label(look_up(labels[name], label_map).to_frame(), taxonomy) for name in EXPERTS
    )
    given = pd.concat([images[name] for name in EXPERTS], ignore_index=True)
    return {
        "experts": {
            **agree(first, second, taxonomy.classes),
            "n_by_unknown_label": count_unmapped(given, label_map),
        }
    }


def agree(first: pd.Series, second: pd.Series, classes: Sequence[str]) -> dict[str, Any]:
    """Measure how far two raters agree.

    Parameters
    ----------
    first, second : pandas.Series of str, shape (n_images,)
        The class that each rater gave, on one index; missing where the label is in no class.
    classes : sequence of str
        All classes; any other name is in no class too.

    Returns
    -------
    dict
        ``n_both_labelled`` images, of which ``n_left_out`` have one in no class and ``n_images``
        are compared; ``agreement``, the share of equal classes with Wilson's interval; ``kappa``
        (-1..1, ``low`` and ``high``), and ``by_class`` for each class that a rater gave: kappa of
        this class against all others, and the images that the ``first``, the ``second`` and
        ``both`` called it. What cannot be computed is None with a reason.

    Notes
    -----
    Two raters who guess agree the more, the more frequent one class is; Cohen's kappa [1]_ takes
    that off. Its interval is that of Fleiss, Cohen and Everitt [2]_, cut at -1 and 1. Where the
    two never differ that standard error is 0 however few the images are: no interval is given
    then, and that of ``agreement`` tells how sure it is.

    References
    ----------
    .. [1] J. Cohen, "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20
       (1960), 37-46.
    .. [2] J. L. Fleiss, J. Cohen and B. S. Everitt, "Large sample standard errors of kappa and
       weighted kappa", Psychol. Bull. 72 (1969), 323-327.
    """
    compared = first.isin(classes) & second.isin(classes)
    given = sorted({*first[compared], *second[compared]})
    counts = confusion(first[compared], second[compared], given)
    n = int(compared.sum())
    return {
        "n_both_labelled": len(first),
        "n_left_out": len(first) - n,
        "n_images": n,
        "agreement": describe_share(int(np.trace(counts)), n),
        "kappa": _describe_kappa(counts),
        "interval": METHOD,
        "by_class": {name: _describe_class(counts, place) for place, name in enumerate(given)},
    }


def standard_error(counts: npt.ArrayLike) -> float:
    """Return the large-sample standard error of kappa, by Fleiss, Cohen and Everitt (1969).

    Parameters
    ----------
    counts : array_like, shape (n_classes, n_classes)
        Images by the class of the first rater (rows) and of the second; kappa must be defined.

    Returns
    -------
    float
        On the scale of kappa; 0 where the two never differ.
    """
    matrix = np.asarray(counts, np.float64)
    n = matrix.sum()
    shares = matrix / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    by_chance = float(rows @ columns)
    kappa = float(METRICS["kappa"](matrix))
    # Of a cell (i, j): how often the second calls anything i, and the first anything j.
    sums = columns[:, None] + rows[None, :]
    hits = np.diagonal(shares) @ (1 - np.diagonal(sums) * (1 - kappa)) ** 2
    misses = (1 - kappa) ** 2 * ((shares - np.diag(np.diagonal(shares))) * sums**2).sum()
    variance = hits + misses - (kappa - by_chance * (1 - kappa)) ** 2
    # Rounding leaves 1e-17 of either sign where the variance is 0.
    return math.sqrt(variance / n) / (1 - by_chance) if variance > ROUNDING else 0.0


def _describe_kappa(counts: Counts) -> dict[str, Any]:
    value = float(METRICS["kappa"](counts))
    if math.isnan(value):
        why = "both gave one and the same class throughout" if counts.sum() else "no image"
        return {"value": None, "low": None, "high": None, "value_reason": why}
    error = standard_error(counts)
    if not error:
        why = "its standard error is 0: always the same, or never"
        return {"value": value, "low": None, "high": None, "interval_reason": why}
    low, high = value - Z95 * error, value + Z95 * error
    return {"value": value, "low": max(low, -1.0), "high": min(high, 1.0)}


def _describe_class(counts: Counts, place: int) -> dict[str, Any]:
    both = int(counts[place, place])
    first, second = int(counts[place].sum()), int(counts[:, place].sum())
    neither = int(counts.sum()) - first - second + both
    against_others = np.array([[both, first - both], [second - both, neither]])
    return {
        "kappa": _describe_kappa(against_others),
        "n_first": first,
        "n_second": second,
        "n_both": both,
    }


def _refuse(reason: str) -> dict[str, Any]:
    return {"experts": None, "experts_reason": reason}
