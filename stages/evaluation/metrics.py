"""Scores from confusion counts: one implementation for the value and for its interval.

Every metric is a function of confusion counts of shape (..., n_classes, n_classes), rows the
truth, columns the prediction. A single matrix gives the score; a stack of thousands of redrawn
matrices gives its interval with the same code, in milliseconds.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import ModelError, name_some

Array: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = Sequence[str] | pd.Series


def accuracy(counts: npt.ArrayLike, observed: Array | None = None) -> Array:  # noqa: ARG001
    """Share of pictures whose class is right; see `METRICS` for shapes."""
    matrix = np.asarray(counts, np.float64)
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def balanced_accuracy(counts: npt.ArrayLike, observed: Array | None = None) -> Array:
    """Mean recall over the classes that the truth holds; see `METRICS` for shapes."""
    return _mean_of_present(_recall, counts, observed)


def macro_f1(counts: npt.ArrayLike, observed: Array | None = None) -> Array:
    """Mean F1 over the classes that the truth holds; see `METRICS` for shapes.

    Notes
    -----
    A hospital that has no platelets has no F1 for platelets: counting it as 0 would judge the
    hospital, not the model. A picture called platelet there still costs its own class a recall.
    Equals ``sklearn.metrics.f1_score(average="macro", labels=<classes present in the truth>)``.
    """
    return _mean_of_present(_f1, counts, observed)


def kappa(counts: npt.ArrayLike, observed: Array | None = None) -> Array:
    """Cohen's kappa [1]_: agreement beyond chance; see `METRICS` for shapes.

    Notes
    -----
    With one class throughout, in the truth and in the prediction, chance agrees as well as
    anything: kappa is not defined. A draw like that counts with the observed kappa.

    The counts are multiplied before the one division, so that the undefined case is an exact
    zero and not a rounding error.

    References
    ----------
    .. [1] J. Cohen, "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20
       (1960), 37-46.
    """
    matrix = np.asarray(counts, np.float64)
    n_images = matrix.sum(axis=(-2, -1))
    by_chance = (matrix.sum(axis=-1) * matrix.sum(axis=-2)).sum(axis=-1)
    agreed = np.trace(matrix, axis1=-2, axis2=-1) * n_images
    value = _ratio(agreed - by_chance, n_images**2 - by_chance)
    return value if observed is None else np.where(np.isnan(value), kappa(observed), value)


METRICS: dict[str, Callable[..., Array]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "kappa": kappa,
}
"""Name to function: counts (..., n_classes, n_classes) to scores (...), NaN: not defined.

Scores are 0..1; kappa is below 0 where chance would do better. For redrawn counts the observed
ones come second; they fill in what a draw lacks.
"""


def confusion(truth: Labels, predicted: Labels, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count the pictures by true and predicted class.

    Parameters
    ----------
    truth, predicted : sequence of str, shape (n_images,)
        Names of classes.
    classes : sequence of str, shape (n_classes,)
        All classes that the model knows, in the order of its outputs.

    Returns
    -------
    numpy.ndarray of int64, shape (n_classes, n_classes)
        Rows are the truth, columns the prediction.

    Raises
    ------
    ModelError
        A label is none of the classes.
    """
    size = len(classes)
    counts = np.bincount(find_cells(truth, predicted, classes), minlength=size * size)
    return counts.reshape(size, size).astype(np.int64)


def require_known(where: str, labels: Labels, classes: Sequence[str]) -> None:
    """Raise a ModelError that begins with `where` if a label is none of the model's classes."""
    unknown = sorted(set(map(str, labels)) - set(classes))
    if unknown:
        raise ModelError(
            f"{where} holds {name_some(unknown)}, which the model in data/model never learnt; it "
            f"knows {', '.join(classes)}. Run 'uv run dvc repro', so that the model is trained on "
            "the present taxonomy."
        )


def score(truth: Labels, predicted: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Compute every metric of `METRICS` for labels as `confusion` takes them."""
    counts = confusion(truth, predicted, classes)
    return {name: float(metric(counts)) for name, metric in METRICS.items()}


def score_classes(counts: npt.ArrayLike, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Compute precision, recall, F1 and the count of each class.

    Returns
    -------
    dict
        By class: ``precision``, ``recall``, ``f1`` (0..1), ``n`` pictures that are of it, and
        ``n_predicted`` pictures that are called it. A score that cannot be computed is None, and
        ``reason`` tells why.
    """
    matrix = np.asarray(counts, np.float64)
    hits = np.diagonal(matrix)
    called = matrix.sum(axis=0)
    held = matrix.sum(axis=1)
    rows: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(classes):
        reasons = []
        if not held[place]:
            reasons.append("no picture is of this class")
        if not called[place]:
            reasons.append("no picture is called this class")
        rows[name] = {
            "precision": float(hits[place] / called[place]) if called[place] else None,
            "recall": float(hits[place] / held[place]) if held[place] else None,
            "f1": float(_f1(matrix)[place]) if held[place] else None,
            "n": int(held[place]),
            "n_predicted": int(called[place]),
        }
        if reasons:
            rows[name]["reason"] = "; ".join(reasons)
    return rows


def find_cells(truth: Labels, predicted: Labels, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the place of each picture in the flattened confusion matrix."""
    require_known("the truth", truth, classes)
    require_known("the prediction", predicted, classes)
    index = pd.Index(list(classes), dtype=object)
    rows = index.get_indexer(pd.Index(np.asarray(truth, dtype=object)))
    columns = index.get_indexer(pd.Index(np.asarray(predicted, dtype=object)))
    return np.asarray(rows * len(classes) + columns, np.int64)


def _recall(matrix: Array) -> Array:
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def _f1(matrix: Array) -> Array:
    """Return F1 by class, NaN where the truth does not hold the class."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    held = matrix.sum(axis=-1)
    f1 = _ratio(2 * hits, held + matrix.sum(axis=-2))
    return np.where(held > 0, f1, np.nan)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN where there is nothing to divide by."""
    ratio: Array = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=ratio, where=denominator > 0)


def _mean_of_present(
    score: Callable[[Array], Array], counts: npt.ArrayLike, observed: Array | None
) -> Array:
    """Average a score over the classes that the truth holds; NaN where it holds none.

    A draw may lack a class that the hospital holds. Scored over the other classes it would be a
    draw of another measure, and a better one where the class is rare and hard; so the class
    counts with the score that it has in `observed`.
    """
    by_class = score(np.asarray(counts, np.float64))
    if observed is not None:
        by_class = np.where(np.isnan(by_class), score(observed), by_class)
    is_present = ~np.isnan(by_class)
    return _ratio(np.where(is_present, by_class, 0.0).sum(axis=-1), is_present.sum(axis=-1))
