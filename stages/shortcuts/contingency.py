"""How closely class and hospital go together, before any image is looked at."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.evaluation.metrics import METRICS

TELLING = 0.3  # Cramer's V from which the hospital is warned of: a medium effect in Cohen's terms


def cramers_v(counts: npt.ArrayLike) -> tuple[float | None, float | None]:
    """Measure how closely rows and columns of a table of counts go together.

    Parameters
    ----------
    counts : array_like, shape (n_rows, n_columns)
        Counts of images. Empty rows and columns do not matter.

    Returns
    -------
    plain, corrected : float, optional
        Cramer's V, 0 (independent) to 1 (one follows from the other), and with the correction of
        its bias for few images [1]_. None where less than two rows or columns are left.

    References
    ----------
    .. [1] W. Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", Journal of the Korean
       Statistical Society 42 (2013), 323-328.
    """
    table = np.asarray(counts, np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (rows, columns) = table.sum(), table.shape
    if min(rows, columns) < 2:
        return None, None
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum() / n)
    less = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    fewer = min(side - (side - 1) ** 2 / (n - 1) for side in (rows, columns)) - 1
    plain = float(np.sqrt(phi2 / (min(rows, columns) - 1)))
    return plain, float(np.sqrt(less / fewer)) if fewer > 0 else None


def count_classes(training: pd.DataFrame) -> pd.DataFrame:
    """Count the images by class and hospital.

    Parameters
    ----------
    training : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and ``label`` of all images to learn from.

    Returns
    -------
    pandas.DataFrame of int, shape (n_classes, n_hospitals)
    """
    counts: pd.DataFrame = pd.crosstab(training["label"], training["hospital"])
    return counts.sort_index().sort_index(axis=1)


def describe_contingency(counts: pd.DataFrame) -> dict[str, Any]:
    """Describe how far the hospital alone tells the class.

    Parameters
    ----------
    counts : pandas.DataFrame
        What `count_classes` returned.

    Returns
    -------
    dict
        ``class_by_hospital``, ``cramers_v``, ``classes_of_one_hospital`` (class to hospital) and
        ``hospital_alone``: accuracy and balanced accuracy of answering each hospital's commonest
        class, beside those of one answer for all. All but the first are None with a reason for a
        single hospital.
    """
    content: dict[str, Any] = {"class_by_hospital": counts.to_dict("index")}
    judged = ("cramers_v", "classes_of_one_hospital", "hospital_alone")
    if counts.shape[1] < 2:
        reason = "one hospital trains"
        return content | dict.fromkeys(judged) | {f"{name}_reason": reason for name in judged}
    plain, corrected = cramers_v(counts)
    single = counts[(counts > 0).sum(axis=1) == 1]
    content["cramers_v"] = {"plain": plain, "corrected": corrected}
    if plain is None:
        content["cramers_v_reason"] = "one class is learnt"
    content["classes_of_one_hospital"] = single.idxmax(axis=1).to_dict()
    table = counts.to_numpy()
    commonest = int(table.sum(axis=1).argmax())
    content["hospital_alone"] = {
        **_score_constants(table, table.argmax(axis=0)),
        "baseline": _score_constants(table, np.full(table.shape[1], commonest)),
        "answers": counts.idxmax().to_dict(),
        "n_images": int(table.sum()),
    }
    return content


def list_counts(counts: pd.DataFrame) -> pd.DataFrame:
    """List what `count_classes` returned as ``hospital``, ``class`` and ``n``, zeros included."""
    return pd.DataFrame(
        [
            {"hospital": hospital, "class": name, "n": int(counts.loc[name, hospital])}
            for hospital in counts.columns
            for name in counts.index
        ],
        columns=["hospital", "class", "n"],
    )


def say_contingency(contingency: Mapping[str, Any]) -> list[str]:
    """Say which classes come from one hospital, and how well the hospital alone answers."""
    by_hospital: dict[str, list[str]] = {}
    for name, hospital in (contingency["classes_of_one_hospital"] or {}).items():
        by_hospital.setdefault(hospital, []).append(name)
    lines = [
        f"Only {hospital} has {', '.join(names)}, although other hospitals train too: a model can "
        "answer this by telling the hospital."
        for hospital, names in sorted(by_hospital.items())
    ]
    alone, together = contingency["hospital_alone"], contingency["cramers_v"]
    if alone and (together["corrected"] or 0.0) >= TELLING:
        lines.append(
            "The hospital alone tells the class: answering each hospital's commonest class is "
            f"right for {alone['accuracy']:.0%} of the training images, one answer for all for "
            f"{alone['baseline']['accuracy']:.0%} (balanced accuracy "
            f"{alone['balanced_accuracy']:.2f} and {alone['baseline']['balanced_accuracy']:.2f})."
        )
    return lines


def _score_constants(table: npt.NDArray[np.int64], answers: npt.NDArray[Any]) -> dict[str, float]:
    """Score the answer of each hospital; rows of `table` are classes, columns hospitals."""
    confusion = np.zeros((len(table), len(table)))
    for column, answered in enumerate(answers):
        confusion[:, answered] += table[:, column]
    return {name: float(METRICS[name](confusion)) for name in ("accuracy", "balanced_accuracy")}
