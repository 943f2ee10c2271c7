"""Scores of several runs of one setting: over seeds, and over folds that leave hospitals out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from stages.evaluation.scoring import list_class_scores

Block = Mapping[str, Any]

LEAST_IMAGES = 5  # tested images of a class; below, one image moves its F1 by a fifth and more
LEAST_PLACES = 3  # below, no interval is told
# What is told of each unseen hospital, and by which title.
SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_f1_known": f"F1 of {LEAST_IMAGES}+",
}
RANKED_BY = "macro_f1"


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes
    ----------
    name : str
        As a person named it.
    seed : int
    fold : int, optional
        None: no cross-validation.
    evaluation, summary : mapping
        Content of its metrics/evaluate.json and summary.json.
    """

    name: str
    seed: int
    fold: int | None
    evaluation: Block
    summary: Block


def list_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """List what each run scores at each unseen hospital.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``hospital``, ``n_images`` and a column for each of `SCORES` (0..1);
        ``macro_f1_known`` is the mean F1 over the classes of which the hospital has
        `LEAST_IMAGES` tested images, missing where it has no such class.
    """
    rows = [
        {
            "seed": run.seed,
            "hospital": hospital,
            "n_images": block["n_images"],
            "accuracy": block["metrics"]["accuracy"]["value"],
            "macro_f1": block["metrics"]["macro_f1"]["value"],
            "macro_f1_known": _average_known(block["per_class"]),
        }
        for run in runs
        for hospital, block in run.evaluation["by_hospital"].items()
        if block["part"] == "unseen"
    ]
    return pd.DataFrame(rows, columns=["seed", "hospital", "n_images", *SCORES])


def _average_known(per_class: Block) -> float:
    scores = [row["f1"] for row in per_class.values() if row["n"] >= LEAST_IMAGES]
    return float(np.mean(scores)) if scores else float("nan")


def list_classes(runs: Sequence[Run]) -> pd.DataFrame:
    """List what each run scores in each class that an unseen hospital holds.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``hospital``, ``class``, ``n`` (tested images), ``recall`` and ``f1`` (0..1).
    """
    frames = [list_class_scores(dict(run.evaluation)).assign(seed=run.seed) for run in runs]
    rows = pd.concat(frames, ignore_index=True)
    held = rows[(rows["part"] == "unseen") & (rows["n"] > 0)]
    names = ["seed", "hospital", "class", "n", "recall", "f1"]
    return held[names].astype({"recall": float, "f1": float})


def average_seeds(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average over seeds; what stands several times in one seed, by its folds, is averaged first.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `list_scores` or `list_classes`.
    by : sequence of str
        Columns whose values are kept apart.

    Returns
    -------
    pandas.DataFrame
        On `by`: ``n_seeds``, the mean of each other column, and ``<column>_sd``, its standard
        deviation (n - 1) from seed to seed, missing where there is one.
    """
    by_seed = rows.groupby([*by, "seed"]).mean()
    grouped = by_seed.groupby(level=list(by))
    spread = grouped.std().add_suffix("_sd")
    return pd.concat([grouped.size().rename("n_seeds"), grouped.mean(), spread], axis=1)


def average_places(
    by_hospital: pd.DataFrame, places: Mapping[str, str], columns: Sequence[str]
) -> pd.DataFrame:
    """Average scores over places, with an interval for the mean of hospitals to come.

    Parameters
    ----------
    by_hospital : pandas.DataFrame
        On ``hospital``; of `average_seeds`.
    places : mapping of str to str
        By hospital its place; hospitals of one place are averaged first and count once. A
        hospital that is not named is a place of its own.
    columns : sequence of str
        Scores, 0..1.

    Returns
    -------
    pandas.DataFrame
        On the columns: ``mean``, ``low``, ``high``, ``n_places``. The bounds are missing below
        `LEAST_PLACES`.

    Notes
    -----
    Student's t interval (95 %) of the places' means: it takes the places for a sample of
    hospitals, which an interval over images does not. No score is below 0 or above 1.
    """
    values = by_hospital.groupby(_name_places(by_hospital.index, places))[list(columns)].mean()
    mean, n_places = values.mean(), values.count()
    degrees = (n_places - 1).where(n_places >= LEAST_PLACES).astype(float)
    half = stdtrit(degrees, 0.975) * values.std() / np.sqrt(n_places)
    bounds = {"low": (mean - half).clip(lower=0), "high": (mean + half).clip(upper=1)}
    return pd.DataFrame({"mean": mean, **bounds, "n_places": n_places})


def average_classes(classes: pd.DataFrame, places: Mapping[str, str]) -> pd.DataFrame:
    """Average the scores of each class over the places that hold it.

    Parameters
    ----------
    classes : pandas.DataFrame
        On ``hospital`` and ``class``; of `average_seeds`.
    places : mapping of str to str
        As `average_places` takes it.

    Returns
    -------
    pandas.DataFrame
        On ``class``: ``n`` (images of all hospitals), ``recall``, ``f1``.
    """
    place = _name_places(classes.index.get_level_values("hospital"), places)
    name = classes.index.get_level_values("class")
    by_place = classes[["recall", "f1"]].groupby([place, name]).mean()
    scores = by_place.groupby(level="class").mean()
    return pd.concat([classes["n"].groupby(level="class").sum(), scores], axis=1)


def _name_places(hospitals: pd.Index, places: Mapping[str, str]) -> pd.Index:
    return pd.Index([places.get(name, name) for name in hospitals], name="place")


def list_missing(runs: Sequence[Run], folds: int) -> list[tuple[int, int]]:
    """List each seed and fold of which there is no run, where the runs are folds of `folds`."""
    seen = {(run.seed, run.fold) for run in runs}
    if any(fold is None for _, fold in seen):
        return []
    seeds = sorted({seed for seed, _ in seen})
    return [(seed, fold) for seed in seeds for fold in range(folds) if (seed, fold) not in seen]


# Of metrics/summary.json, and how the folds of one seed make one number.
SUMMARIES: dict[str, tuple[tuple[str, ...], str]] = {
    "in domain, accuracy": (("in_domain", "accuracy"), "mean"),
    "in domain, macro F1": (("in_domain", "macro_f1"), "mean"),
    "mean unseen, accuracy": (("unseen_mean", "accuracy"), "mean"),
    "mean unseen, macro F1": (("unseen_mean", "macro_f1"), "mean"),
    "worst unseen, macro F1": (("unseen_worst", "macro_f1"), "min"),
    "drop in macro F1": (("drop",), "mean"),
    "calls without the cell": (("covered",), "mean"),
}


def spread_seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """Tell how far the scores of metrics/summary.json differ from seed to seed.

    Parameters
    ----------
    runs : sequence of Run
        Of seeds that have all folds; others would differ by what was tested.

    Returns
    -------
    pandas.DataFrame
        On the titles of `SUMMARIES`: ``n_seeds``, ``mean``, ``sd``, ``least``, ``most`` and
        ``interval``, the middle width of the runs' own intervals (missing where they have none,
        or are folds). A score that no run has is left out; ``sd`` of one seed is missing.
    """
    rows = {}
    for title, (keys, over_folds) in SUMMARIES.items():
        scores = [(run, find(run.summary, keys)) for run in runs]
        told = [(run, score) for run, score in scores if score is not None]
        by_seed = pd.Series([score["value"] for _, score in told], dtype=float).groupby(
            [run.seed for run, _ in told]
        )
        values = by_seed.agg(over_folds)
        if values.empty:
            continue
        widths = [
            score["high"] - score["low"]
            for run, score in told
            if run.fold is None and score["low"] is not None
        ]
        rows[title] = {
            "n_seeds": len(values),
            "mean": values.mean(),
            "sd": values.std(),
            "least": values.min(),
            "most": values.max(),
            "interval": float(np.median(widths)) if widths else float("nan"),
        }
    names = ["n_seeds", "mean", "sd", "least", "most", "interval"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def find(summary: Block, keys: Sequence[str]) -> Block | None:
    """Return the score under some keys of a summary; None where it could not be computed."""
    block: Any = summary
    for key in keys:
        block = None if block is None else block[key]
    return None if block is None or block["value"] is None else block
