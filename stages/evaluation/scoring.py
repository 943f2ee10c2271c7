"""The scores of each test hospital, its official parts and its patients, with their intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import TableError, name_some
from stages.core.settings import seed_for
from stages.core.shares import describe_share
from stages.evaluation.bootstrap import (
    EXPANDED,
    HALF,
    MIN_GROUPS,
    Array,
    Draws,
    GroupedCounts,
    count_by_group,
    expand,
    note_units,
    redraw,
)
from stages.evaluation.metrics import METRICS, confusion, find_cells, macro_f1, score, score_classes

RANKED_BY = "macro_f1"  # the worst hospital is the one where the rarest class counts as any other
NO_UNSEEN = (
    "every hospital of the experiment trains; add one to hospitals that is not in "
    "split.train_hospitals"
)
NO_IN_DOMAIN = (
    "no training hospital has test images; split.method leave_hospitals_out holds none back, "
    "nor does a split.test of 0"
)
NO_SHARED = "no class is held by every hospital that is compared"
ALIKE = "no draw differs from another"
NO_PART = "none published"  # stands for the official part of an image that has none


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
    n_draws, seed : int
        Of its draws.
    """

    hospital: str
    part: str
    unit: str
    grouped: GroupedCounts
    constant: str
    baseline: dict[str, float]
    n_draws: int
    seed: int

    @property
    def counts(self) -> Array:
        """Confusion counts, shape (n_classes, n_classes)."""
        total = self.grouped.total
        size = math.isqrt(len(total))
        return total.reshape(size, size)

    @cached_property
    def points(self) -> dict[str, float]:
        """Score by metric."""
        return {name: float(metric(self.counts)) for name, metric in METRICS.items()}

    @property
    def holds(self) -> npt.NDArray[np.bool_]:
        """Whether the truth holds each class, shape (n_classes,)."""
        return np.asarray(self.counts.sum(axis=1) > 0)

    @cached_property
    def draws(self) -> dict[str, Draws] | None:
        """Redrawn scores by metric; None where there are too few groups."""
        if self.grouped.n_groups < MIN_GROUPS:
            return None
        return redraw_scores(self.grouped, self.n_draws, self.seed)

    def over(self, classes: npt.NDArray[np.bool_]) -> "Scores":
        """Return the scores of the pictures of some classes, shape (n_classes,), alone."""
        if (classes >= self.holds).all():
            return self
        return replace(self, grouped=self.grouped.keep(np.repeat(classes, len(classes))))


def redraw_scores(grouped: GroupedCounts, n_draws: int, seed: int) -> dict[str, Draws]:
    """Redraw the scores of a confusion matrix, by metric; see `bootstrap.redraw`.

    Notes
    -----
    Imagined are half a picture of each class that the truth holds, called rightly, and half a
    picture in all, called wrongly. Half a miss for each class, as for a single share, would make
    a hospital of eleven classes and fifty pictures, all right, look like one of nine in ten.
    """
    n_classes = math.isqrt(len(grouped.total))
    observed = grouped.total.reshape(n_classes, n_classes)
    imagined = imagine(observed).ravel()
    drawn = redraw(grouped, n_draws, seed, imagined).reshape(n_draws, *observed.shape)
    return {
        name: Draws(metric(drawn, observed), grouped.n_effective)
        for name, metric in METRICS.items()
    }


def imagine(observed: Array) -> Array:
    """Return the pictures, shape (n_classes, n_classes), imagined beside those observed."""
    n_classes = len(observed)
    holds, right = observed.sum(axis=1) > 0, np.eye(n_classes)
    wrong = (1 - right) / (holds.sum() * max(n_classes - 1, 1))
    imagined: Array = HALF * holds[:, None] * (right + wrong)
    return imagined


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
                f"data/split: hospital {hospital} stands in the parts {', '.join(parts)}; "
                "a hospital either trains or is unseen. Run 'uv run dvc repro -f split'."
            )
        own_seed = seed_for(seed, "evaluate", str(hospital))
        scores.append(_score(rows, classes, constant[str(hospital)], n_draws, own_seed))
    return scores


def describe_images(
    rows: pd.DataFrame, classes: Sequence[str], constant: str, n_draws: int, seed: int
) -> dict[str, Any]:
    """Score some images of one hospital as `report` describes all of its images."""
    return _describe(_score(rows, classes, constant, n_draws, seed), classes)


def score_official_parts(
    pictures: pd.DataFrame,
    classes: Sequence[str],
    constant: Mapping[str, str],
    n_draws: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Score each of the publisher's own parts of a hospital apart, where it has several.

    Parameters
    ----------
    pictures : pandas.DataFrame, shape (n_images, n_columns)
        As `score_hospitals` takes them, and ``official_part``, empty where none is published.
    classes, constant, n_draws, seed
        As for `score_hospitals`.

    Returns
    -------
    dict
        For each hospital a dict with ``by_official_part``: by name of the part the scores as
        `report` gives them for a hospital, with ``n_by_class``; `NO_PART` names the images of no
        part. None, and ``by_official_part_reason``, where there are no two parts.

    Notes
    -----
    A publisher's second test set is often another camera or another year: the mean over both
    would hide the difference that it was published for.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for name, own in pictures.groupby("hospital", sort=True):
        hospital = str(name)
        parts = _name_parts(own)
        if parts.nunique() < 2:
            only = parts.iloc[0]
            reason = f"all scored images are of one official part: {only}"
            if only == NO_PART:
                reason = "no official part of the scored images is published"
            blocks[hospital] = {"by_official_part": None, "by_official_part_reason": reason}
            continue
        found: dict[str, Any] = {}
        for part, rows in own.groupby(parts, sort=True):
            own_seed = seed_for(seed, "evaluate", hospital, str(part))
            entry = _score(rows, classes, constant[hospital], n_draws, own_seed)
            counts = dict(zip(classes, map(int, entry.counts.sum(axis=1)), strict=True))
            found[str(part)] = {**_describe_briefly(entry), "n_by_class": counts}
        blocks[hospital] = {"by_official_part": found}
    return blocks


def score_patients(
    patients: pd.DataFrame, patients_by_part: pd.DataFrame, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Score each hospital's patients, one call for each, where the classes are of patients.

    Parameters
    ----------
    patients : pandas.DataFrame, shape (n_patients, n_columns)
        As `predictions.average_patients` gives them within each hospital.
    patients_by_part : pandas.DataFrame, shape (n_rows, n_columns)
        The same within each ``official_part`` of each hospital.
    classes : sequence of str
        All classes of the model.

    Returns
    -------
    dict
        For each hospital a dict with ``per_patient``: ``n_patients``, ``n_images`` behind them,
        ``n_images_without_patient``, ``accuracy`` (with Wilson's interval: patients do vary
        independently), ``macro_f1``, ``n_by_class`` and ``confusion`` (truth to prediction to
        count), and the same ``by_official_part`` where the patients are of several. None, and
        ``per_patient_reason``, where no patient is published or one has images of several classes.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for name, everyone in patients.groupby("hospital", sort=True):
        own = everyone[everyone["is_patient"]]
        n_mixed = int((own["n_labels"] > 1).sum())
        if own.empty or n_mixed:
            reason = "no patient of the scored images is published"
            if n_mixed:
                reason = f"the images of {n_mixed} of {len(own)} patients are of several classes"
            blocks[str(name)] = {"per_patient": None, "per_patient_reason": reason}
            continue
        block = _describe_patients(own, classes)
        block["n_images_without_patient"] = int((~everyone["is_patient"]).sum())
        here = (patients_by_part["hospital"] == name) & patients_by_part["is_patient"]
        parts = _name_parts(patients_by_part[here])
        if parts.nunique() > 1:
            block["by_official_part"] = {
                str(part): _describe_patients(rows, classes)
                for part, rows in patients_by_part[here].groupby(parts, sort=True)
            }
        blocks[str(name)] = {"per_patient": block}
    return blocks


def report(scores: Sequence[Scores], classes: Sequence[str]) -> dict[str, Any]:
    """Lay the scores of all hospitals out as metrics/evaluate.json holds them.

    Returns
    -------
    dict
        ``by_hospital``, ``mean_in_domain``, ``mean_unseen``, ``worst_unseen`` and ``drop`` (mean
        in domain minus mean unseen, both of the images of those ``classes`` that every hospital
        holds). Without an unseen hospital the last three are None, and ``unseen_reason`` tells
        why; ``in_domain_reason``, where no training hospital has test images; ``drop_reason``.

    Notes
    -----
    Macro F1 goes over the classes that a hospital holds. Between hospitals of other classes it
    would compare the classes, of which some are harder than others, and not the hospitals; so the
    drop is that of the classes which all of them hold.
    """
    in_domain = [entry for entry in scores if entry.part == "test"]
    unseen = [entry for entry in scores if entry.part == "unseen"]
    worst = min(unseen, key=lambda entry: entry.points[RANKED_BY], default=None)
    content: dict[str, Any] = {
        "by_hospital": {entry.hospital: _describe(entry, classes) for entry in scores},
        "interval": EXPANDED,
        "min_groups": MIN_GROUPS,
        "n_draws": max((entry.n_draws for entry in scores if entry.draws), default=0),
        "mean_in_domain": _describe_mean(in_domain) if in_domain else None,
        "mean_unseen": _describe_mean(unseen) if unseen else None,
        "worst_unseen": {"hospital": worst.hospital, **_describe_briefly(worst)} if worst else None,
        "drop": _describe_drop(in_domain, unseen, classes) if in_domain and unseen else None,
    }
    if not in_domain:
        content["in_domain_reason"] = NO_IN_DOMAIN
    if not unseen:
        content["unseen_reason"] = NO_UNSEEN
    if not content["drop"]:
        without = NO_SHARED if unseen else NO_UNSEEN
        content["drop_reason"] = without if in_domain else NO_IN_DOMAIN
    return content


def mark_leaky(
    content: dict[str, Any], measured: Mapping[str, Any], describe: Callable[[Any], str]
) -> None:
    """Put what the split leaks, in words, beside every score.

    Parameters
    ----------
    content : dict
        What `report` returned, and ``screening``. Gets ``leaky`` in each hospital's block, the
        means, the worst, the drop and the screening of each part.
    measured : mapping
        Blocks ``all``, ``by_part`` and ``by_hospital``; of `leaks.measure`.
    describe : callable
        A block to a sentence; `leaks.describe`.
    """
    worst, screening = content["worst_unseen"], content["screening"] or {}
    marked = [
        (content["mean_in_domain"], measured["by_part"].get("test")),
        (content["mean_unseen"], measured["by_part"].get("unseen")),
        (worst, worst and measured["by_hospital"][worst["hospital"]]),
        (content["drop"], measured["all"]),
        *((block, measured["by_part"][part]) for part, block in screening.items()),
        *((block, measured["by_hospital"][name]) for name, block in content["by_hospital"].items()),
    ]
    for block, leak in marked:
        if block:
            block["leaky"] = describe(leak)


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


def _score(
    rows: pd.DataFrame, classes: Sequence[str], constant: str, n_draws: int, seed: int
) -> Scores:
    """Score the images of one part of one hospital; the seed is that of its draws."""
    cells = find_cells(rows["label"], rows["predicted"], classes)
    return Scores(
        hospital=str(rows["hospital"].iloc[0]),
        part=str(rows["part"].iloc[0]),
        unit=" + ".join(sorted(rows["unit"].unique())),
        grouped=count_by_group(cells, rows["group"], len(classes) ** 2),
        constant=constant,
        baseline=score(rows["label"], [constant] * len(rows), classes),
        n_draws=n_draws,
        seed=seed,
    )


def _name_parts(rows: pd.DataFrame) -> pd.Series:
    return rows["official_part"].astype(object).where(rows["official_part"].notna(), NO_PART)


def _describe_patients(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    counts = confusion(rows["label"], rows["predicted"], classes)
    return {
        "n_patients": len(rows),
        "n_images": int(rows["n_images"].sum()),
        "accuracy": describe_share(int(np.trace(counts)), len(rows)),
        "macro_f1": float(macro_f1(counts)),
        "n_by_class": dict(zip(classes, map(int, counts.sum(axis=1)), strict=True)),
        "confusion": {
            name: dict(zip(classes, map(int, row), strict=True))
            for name, row in zip(classes, counts, strict=True)
        },
    }


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
        **_describe_baseline(entry.baseline),
        "baseline_class": entry.constant,
        **_describe_sizes([entry]),
        **_with_intervals([(entry, 1.0)]),
    }


def _describe_mean(entries: Sequence[Scores]) -> dict[str, Any]:
    """Average over hospitals, each weighing the same; draws are taken within each hospital.

    The interval tells how sure the mean of these hospitals is, not of hospitals to come.
    """
    return {
        "hospitals": [entry.hospital for entry in entries],
        "unit": " + ".join(_list_units(entries)),
        **_describe_baseline(
            {name: float(np.mean([entry.baseline[name] for entry in entries])) for name in METRICS}
        ),
        **_describe_sizes(entries),
        **_with_intervals(_weigh(entries)),
    }


def _describe_drop(
    in_domain: Sequence[Scores], unseen: Sequence[Scores], classes: Sequence[str]
) -> dict[str, Any] | None:
    shared = np.all([entry.holds for entry in (*in_domain, *unseen)], axis=0)
    if not shared.any():
        return None
    ours, theirs = ([entry.over(shared) for entry in part] for part in (in_domain, unseen))
    held = np.any([entry.holds for entry in (*in_domain, *unseen)], axis=0)
    return {
        "classes": [name for name, is_shared in zip(classes, shared, strict=True) if is_shared],
        "n_classes_held": int(held.sum()),
        **_with_intervals([*_weigh(ours), *_weigh(theirs, -1.0)]),
    }


def _weigh(entries: Sequence[Scores], sign: float = 1.0) -> list[tuple[Scores, float]]:
    return [(entry, sign / len(entries)) for entry in entries]


def _list_units(entries: Sequence[Scores]) -> list[str]:
    return sorted({unit for entry in entries for unit in entry.unit.split(" + ")})


def _describe_baseline(values: dict[str, float]) -> dict[str, Any]:
    undefined = [name for name, value in values.items() if math.isnan(value)]
    block: dict[str, Any] = {"baseline": {**values, **dict.fromkeys(undefined)}}
    if undefined:
        block["baseline_reason"] = f"{', '.join(undefined)}: the truth is the constant answer alone"
    return block


def _describe_sizes(entries: Sequence[Scores]) -> dict[str, Any]:
    return {
        "n_images": int(sum(entry.counts.sum() for entry in entries)),
        "n_groups": sum(entry.grouped.n_groups for entry in entries),
    }


def _with_intervals(weighted: Sequence[tuple[Scores, float]]) -> dict[str, Any]:
    """Describe the metrics of a weighted sum of hospitals, and what its intervals are worth."""
    entries = [entry for entry, _ in weighted]
    few = [entry.hospital for entry in entries if entry.draws is None]
    told = note_units(_list_units(entries))
    if few:
        told = {"interval_reason": f"fewer than {MIN_GROUPS} groups at {name_some(few)}"}
    return {"metrics": {name: _with_interval(name, weighted, bool(few)) for name in METRICS}} | told


def _with_interval(
    name: str, weighted: Sequence[tuple[Scores, float]], too_few: bool
) -> dict[str, Any]:
    value = sum(weight * entry.points[name] for entry, weight in weighted)
    if math.isnan(value):
        where = [entry.hospital for entry, _ in weighted if math.isnan(entry.points[name])]
        reason = f"every image is of one class and called so at {name_some(where)}"
        return {"value": None, "low": None, "high": None, "reason": reason}
    if too_few:
        return {"value": value, "low": None, "high": None}
    parts = [entry.draws[name].times(weight) for entry, weight in weighted if entry.draws]
    low, high = expand(parts, value)
    alike = {} if low is not None else {"interval_reason": ALIKE}
    return {"value": value, "low": low, "high": high, **alike}
