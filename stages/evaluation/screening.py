"""Sick against healthy: how many sick are missed, and how many healthy are called sick."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import pandas as pd

from stages.core.settings import seed_for
from stages.core.shares import describe_share
from stages.evaluation import bootstrap

HEALTHY = "healthy"
Describe: TypeAlias = Callable[[pd.DataFrame], dict[str, Any]]


def report(
    images: pd.DataFrame, people: pd.DataFrame, classes: Sequence[str], n_draws: int, seed: int
) -> dict[str, Any]:
    """Count the misses over all hospitals of each part, by image and by patient.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``part``, ``label`` (the truth), ``predicted``, ``group`` and ``unit``.
    people : pandas.DataFrame, shape (n_patients, n_columns)
        As `predictions.average_patients` gives them within ``hospital`` and ``part``.
    classes : sequence of str
        All classes of the model; each but ``healthy`` is a disease.
    n_draws, seed : int
        For the intervals over images; each part draws with a seed of its own name.

    Returns
    -------
    dict
        ``screening``: by part (test, unseen) of which there are images ``n`` images, ``correct``
        ones (the very class), ``n_sick``, ``n_healthy``, ``sick_called_healthy``,
        ``healthy_called_sick``, ``sensitivity`` and ``specificity`` (with intervals by redrawing
        groups; `bootstrap.describe_share`), ``by_disease`` (``n`` and ``missed``, called healthy)
        and ``per_patient``, the same with patients in the place of images and Wilson's interval,
        since patients do vary independently. What cannot be computed is None, and a key
        ``<name>_reason`` tells why. None where the classes tell no sick from healthy.

    Notes
    -----
    One disease taken for another is wrong, but no miss.
    """
    if HEALTHY not in classes or len(classes) < 2:
        reason = f"the classes tell no sick from {HEALTHY}: {', '.join(classes)}"
        return {"screening": None, "screening_reason": reason}
    blocks = {}
    for part, rows in images.groupby("part", sort=True):
        own = people[people["part"] == part]
        own_seed = seed_for(seed, "screening", str(part))
        describe = partial(_describe_images, n_draws=n_draws, seed=own_seed)
        blocks[str(part)] = {**_count(rows, classes, describe), **_describe_patients(own, classes)}
    return {"screening": blocks}


def _describe_images(rows: pd.DataFrame, n_draws: int, seed: int) -> dict[str, Any]:
    share = bootstrap.describe_share(rows["is_found"], rows["group"], n_draws, seed)
    return share if share["low"] is None else share | bootstrap.note_units(rows["unit"].unique())


def _describe_people(rows: pd.DataFrame) -> dict[str, Any]:
    return describe_share(int(rows["is_found"].sum()), len(rows))


def _count(rows: pd.DataFrame, classes: Sequence[str], describe: Describe) -> dict[str, Any]:
    is_sick = rows["label"] != HEALTHY
    called_healthy = rows["predicted"] == HEALTHY
    n_sick, n_healthy = int(is_sick.sum()), int((~is_sick).sum())
    missed, alarms = int((is_sick & called_healthy).sum()), int((~is_sick & ~called_healthy).sum())
    judged = rows.assign(is_found=is_sick != called_healthy)
    block: dict[str, Any] = {
        "n": len(rows),
        "correct": int((rows["label"] == rows["predicted"]).sum()),
        "n_sick": n_sick,
        "n_healthy": n_healthy,
        "sick_called_healthy": missed,
        "healthy_called_sick": alarms,
        "sensitivity": describe(judged[is_sick]),
        "specificity": describe(judged[~is_sick]),
        "by_disease": {
            name: {
                "n": int((rows["label"] == name).sum()),
                "missed": int((called_healthy & (rows["label"] == name)).sum()),
            }
            for name in classes
            if name != HEALTHY
        },
    }
    if not n_sick:
        block["sensitivity_reason"] = "nobody is sick"
    if not n_healthy:
        block["specificity_reason"] = "nobody is healthy"
    return block


def _describe_patients(people: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    n_patients = int(people["is_patient"].sum())
    n_mixed = int((people["n_labels"] > 1).sum())
    if not n_patients:
        return {"per_patient": None, "per_patient_reason": "no patient is published"}
    if n_mixed:
        reason = f"the images of {n_mixed} of {n_patients} patients are of several classes"
        return {"per_patient": None, "per_patient_reason": reason}
    block = _count(people, classes, _describe_people)
    block["n_patients"] = n_patients
    n_alone = len(people) - n_patients
    if n_alone:
        alone = people[~people["is_patient"]]
        n_healthy = int((alone["label"] == HEALTHY).sum())
        block["n_reason"] = (
            f"{n_alone} images without a published patient ({n_healthy} of them {HEALTHY}) count "
            "one by one, as if each were a patient"
        )
    return {"per_patient": block}
