"""Sick against healthy: how many sick are missed, and how many healthy are called sick."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from stages.core.shares import describe_share

HEALTHY = "healthy"


def report(images: pd.DataFrame, people: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Count the misses over all hospitals of each part, by image and by patient.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``part``, ``label`` (the truth) and ``predicted``.
    people : pandas.DataFrame, shape (n_patients, n_columns)
        As `predictions.average_patients` gives them within ``hospital`` and ``part``.
    classes : sequence of str
        All classes of the model; each but ``healthy`` is a disease.

    Returns
    -------
    dict
        ``screening``: by part (test, unseen) of which there are images ``n`` images, ``correct``
        ones (the very class), ``n_sick``, ``n_healthy``, ``sick_called_healthy``,
        ``healthy_called_sick``, ``sensitivity`` and ``specificity`` (with Wilson's interval),
        ``by_disease`` (``n`` and ``missed``, called healthy) and ``per_patient``, the same with
        patients in the place of images. What cannot be computed is None, and a key
        ``<name>_reason`` tells why. None where the classes tell no sick from healthy.

    Notes
    -----
    One disease taken for another is wrong, but no miss. Wilson's interval takes each image for
    itself; images of one patient are alike, so that the one over patients is the honest one.
    """
    if HEALTHY not in classes or len(classes) < 2:
        reason = f"the classes tell no sick from {HEALTHY}: {', '.join(classes)}"
        return {"screening": None, "screening_reason": reason}
    blocks = {}
    for part, rows in images.groupby("part", sort=True):
        own = people[people["part"] == part]
        blocks[str(part)] = {**_count(rows, classes), **_describe_patients(own, classes)}
    return {"screening": blocks}


def _count(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    is_sick = rows["label"] != HEALTHY
    called_healthy = rows["predicted"] == HEALTHY
    n_sick, n_healthy = int(is_sick.sum()), int((~is_sick).sum())
    missed, alarms = int((is_sick & called_healthy).sum()), int((~is_sick & ~called_healthy).sum())
    block: dict[str, Any] = {
        "n": len(rows),
        "correct": int((rows["label"] == rows["predicted"]).sum()),
        "n_sick": n_sick,
        "n_healthy": n_healthy,
        "sick_called_healthy": missed,
        "healthy_called_sick": alarms,
        "sensitivity": describe_share(n_sick - missed, n_sick),
        "specificity": describe_share(n_healthy - alarms, n_healthy),
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
    block = _count(people, classes)
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
