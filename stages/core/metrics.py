"""Scores from confusion counts: one implementation for the value and for its interval.

Every metric is a function of confusion counts of shape (..., n_classes, n_classes), rows the
truth, columns the prediction. A single matrix gives the score; a stack of thousands of redrawn
matrices gives its interval with the same code, in milliseconds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import ModelError, TableError, name_some
from stages.core.intervals import METHOD, GroupedCounts, bounds, count_by_group, redraw
from stages.core.params import seed_for

Array: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = Sequence[str] | pd.Series

MIN_GROUPS = 2
RANKED_BY = "macro_f1"  # the worst hospital is the one where the rarest class counts as any other
NO_UNSEEN = (
    "every hospital of the experiment trains; add one to hospitals that is not in "
    "split.train_hospitals"
)


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


METRICS: dict[str, Callable[..., Array]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""Name to function: counts (..., n_classes, n_classes) to scores (...), 0..1, NaN: no picture.

For redrawn counts the observed ones come second; they fill in classes that a draw lacks.
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
    counts = np.bincount(_cells(truth, predicted, classes), minlength=size * size)
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


@dataclass(frozen=True)
class Scores:
    """The scores of one hospital's test pictures.

    Attributes
    ----------
    hospital, part, unit : str
        ``part`` is test or unseen; ``unit`` is what a group is: patient, slide, twins or image.
    grouped : GroupedCounts
        Predicted by the model.
    constant : str
        The class that a constant answer gives here.
    baseline : dict of str to float
        Scores of that constant answer.
    draws : dict of str to numpy.ndarray, shape (n_draws,), or None
        Redrawn scores by metric; None where there are too few groups.
    """

    hospital: str
    part: str
    unit: str
    grouped: GroupedCounts
    constant: str
    baseline: dict[str, float]
    draws: dict[str, Array] | None

    @property
    def counts(self) -> Array:
        """Confusion counts, shape (n_classes, n_classes)."""
        total = self.grouped.total
        size = math.isqrt(len(total))
        return total.reshape(size, size)

    @property
    def points(self) -> dict[str, float]:
        """Score by metric."""
        return {name: float(metric(self.counts)) for name, metric in METRICS.items()}


def score_hospitals(
    pictures: pd.DataFrame,
    classes: Sequence[str],
    constant: Mapping[str, str],
    n_draws: int,
    seed: int,
) -> list[Scores]:
    """Score each hospital apart.

    Parameters
    ----------
    pictures : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``part``, ``label`` (the truth), ``predicted``, ``group``, ``unit``.
    classes : sequence of str
        All classes of the model.
    constant : mapping of str to str
        For each hospital the class that a constant answer gives; `predictions.name_constants`.
    n_draws, seed : int
        For the intervals; each hospital draws with a seed of its own name.

    Returns
    -------
    list of Scores
        By name of hospital.

    Raises
    ------
    ModelError
        A label is none of the classes.
    TableError
        A hospital has pictures of both the test and the unseen part.
    """
    scores = []
    for hospital, rows in pictures.groupby("hospital", sort=True):
        parts = sorted(rows["part"].unique())
        if len(parts) > 1:
            raise TableError(
                f"data/split.parquet: hospital {hospital} stands in the parts {', '.join(parts)}; "
                "a hospital either trains or is unseen. Run 'uv run dvc repro -f split'."
            )
        cells = _cells(rows["label"], rows["predicted"], classes)
        grouped = count_by_group(cells, rows["group"], len(classes) ** 2)
        draws = None
        if grouped.n_groups >= MIN_GROUPS:
            drawn = redraw(grouped, n_draws, seed_for(seed, "evaluate", str(hospital)))
            drawn = drawn.reshape(n_draws, len(classes), len(classes))
            observed = grouped.total.reshape(len(classes), len(classes))
            draws = {name: metric(drawn, observed) for name, metric in METRICS.items()}
        answer = constant[str(hospital)]
        baseline = score(rows["label"], [answer] * len(rows), classes)
        unit = " + ".join(sorted(rows["unit"].unique()))
        scores.append(Scores(str(hospital), parts[0], unit, grouped, answer, baseline, draws))
    return scores


def report(scores: Sequence[Scores], classes: Sequence[str]) -> dict[str, Any]:
    """Lay the scores of all hospitals out as metrics/evaluate.json holds them.

    Returns
    -------
    dict
        ``by_hospital``, ``mean_in_domain``, ``mean_unseen``, ``worst_unseen`` and ``drop`` (mean
        in domain minus mean unseen). Without an unseen hospital the last three are None, and
        ``unseen_reason`` tells why.
    """
    in_domain = [entry for entry in scores if entry.part == "test"]
    unseen = [entry for entry in scores if entry.part == "unseen"]
    worst = min(unseen, key=lambda entry: entry.points[RANKED_BY], default=None)
    content: dict[str, Any] = {
        "by_hospital": {entry.hospital: _describe(entry, classes) for entry in scores},
        "interval": METHOD,
        "n_draws": max((len(next(iter(e.draws.values()))) for e in scores if e.draws), default=0),
        "mean_in_domain": _describe_mean(in_domain) if in_domain else None,
        "mean_unseen": _describe_mean(unseen) if unseen else None,
        "worst_unseen": {"hospital": worst.hospital, **_describe_briefly(worst)} if worst else None,
        "drop": _describe_drop(in_domain, unseen) if in_domain and unseen else None,
    }
    if not unseen:
        content["unseen_reason"] = NO_UNSEEN
    return content


def list_class_scores(content: dict[str, Any]) -> pd.DataFrame:
    """List the scores by hospital and class of what `report` returned, as a plot takes them.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``class``, ``precision``, ``recall``, ``f1`` (0..1, empty where they
        cannot be computed), ``n``; sorted by hospital and class.
    """
    rows = [
        {"hospital": hospital, "part": block["part"], "class": name, **row}
        for hospital, block in sorted(content["by_hospital"].items())
        for name, row in sorted(block["per_class"].items())
    ]
    columns = ["hospital", "part", "class", "precision", "recall", "f1", "n"]
    return pd.DataFrame(rows, columns=columns)


def _describe(entry: Scores, classes: Sequence[str]) -> dict[str, Any]:
    per_class = score_classes(entry.counts, classes)
    return {
        **_describe_briefly(entry),
        "part": entry.part,
        "per_class": per_class,
        "n_by_class": {name: row["n"] for name, row in per_class.items()},
    }


def _describe_briefly(entry: Scores) -> dict[str, Any]:
    return {
        "unit": entry.unit,
        "baseline": entry.baseline,
        "baseline_class": entry.constant,
        **_describe_sizes([entry]),
        **_with_intervals(entry.points, entry.draws, [entry]),
    }


def _describe_mean(entries: Sequence[Scores]) -> dict[str, Any]:
    """Average over hospitals, each weighing the same; draws are taken within each hospital.

    The interval tells how sure the mean of these hospitals is, not of hospitals to come.
    """
    return {
        "hospitals": [entry.hospital for entry in entries],
        "unit": " + ".join(sorted({unit for entry in entries for unit in entry.unit.split(" + ")})),
        "baseline": {
            name: float(np.mean([entry.baseline[name] for entry in entries])) for name in METRICS
        },
        **_describe_sizes(entries),
        **_with_intervals(_mean_values(entries), _mean_draws(entries), entries),
    }


def _describe_drop(in_domain: Sequence[Scores], unseen: Sequence[Scores]) -> dict[str, Any]:
    ours, theirs = _mean_values(in_domain), _mean_values(unseen)
    draws, others = _mean_draws(in_domain), _mean_draws(unseen)
    return _with_intervals(
        {name: ours[name] - theirs[name] for name in METRICS},
        {name: draws[name] - others[name] for name in METRICS} if draws and others else None,
        [*in_domain, *unseen],
    )


def _describe_sizes(entries: Sequence[Scores]) -> dict[str, Any]:
    return {
        "n_images": int(sum(entry.counts.sum() for entry in entries)),
        "n_groups": sum(entry.grouped.n_groups for entry in entries),
    }


def _mean_values(entries: Sequence[Scores]) -> dict[str, float]:
    return {name: float(np.mean([entry.points[name] for entry in entries])) for name in METRICS}


def _mean_draws(entries: Sequence[Scores]) -> dict[str, Array] | None:
    known = [entry.draws for entry in entries if entry.draws is not None]
    if len(known) < len(entries):
        return None
    return {name: np.mean([draws[name] for draws in known], axis=0) for name in METRICS}


def _with_intervals(
    values: dict[str, float], draws: dict[str, Array] | None, entries: Sequence[Scores]
) -> dict[str, Any]:
    block: dict[str, Any] = {"metrics": {}}
    for name, value in values.items():
        low, high = bounds(draws[name]) if draws else (None, None)
        block["metrics"][name] = {"value": value, "low": low, "high": high}
    if not draws:
        few = [entry.hospital for entry in entries if entry.draws is None]
        block["interval_reason"] = f"fewer than {MIN_GROUPS} groups at {name_some(few)}"
    return block


def _cells(truth: Labels, predicted: Labels, classes: Sequence[str]) -> npt.NDArray[np.int64]:
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
