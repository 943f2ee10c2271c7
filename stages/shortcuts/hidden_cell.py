"""Whether a confident call survives that the cell is hidden: images drawn, calls compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import TableError, name_some
from stages.core.settings import seed_for
from stages.core.shares import describe_share

MIN_CONFIDENT = 10  # calls: below, no hospital is flagged or cleared
MOST = 0.5  # of the confident calls: a hospital where more of them survive is flagged
BLIND = "the model was trained with inputs.hide: cell and never saw a cell that it could miss"


def choose_images(predictions: pd.DataFrame, max_images: int, seed: int) -> pd.DataFrame:
    """Draw images of each hospital, by name alone.

    Parameters
    ----------
    predictions : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id``, ``hospital`` and any others.
    max_images : int
        At most so many of each hospital; all, where it has no more.
    seed : int
        Another seed draws others.

    Returns
    -------
    pandas.DataFrame, shape (n_drawn, n_columns)
        Sorted by ``image_id``. Whether an image is drawn does not depend on the order of the rows,
        on the other hospitals, or on what an image was called.

    Raises
    ------
    TableError
        There is no image to draw.
    """
    if predictions.empty:
        raise TableError(
            "data/predictions holds no image of the hospitals in params.yaml. "
            "Run 'uv run dvc repro', which scores them."
        )
    drawn: list[str] = []
    for _, own in predictions.groupby("hospital"):
        drawn += _shuffle(own["image_id"], seed)[:max_images]
    chosen = predictions[predictions["image_id"].isin(drawn)]
    return chosen.sort_values("image_id", ignore_index=True)


def stored_calls(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Read out of the table of predictions what each image was called; see `name_calls`.

    Parameters
    ----------
    predictions : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id`` and ``p_<class>`` of every class.
    classes : sequence of str
        Those of the model.

    Raises
    ------
    TableError
        A class has no column, or not for every image.
    """
    columns = probability_columns(classes)
    missing = [
        name for name in columns if name not in predictions or predictions[name].isna().any()
    ]
    if missing:
        raise TableError(
            f"data/predictions has no column {name_some(missing)}: another model than that "
            "of data/model made it, or a part of it. Run 'uv run dvc repro', which brings both "
            "into step."
        )
    values = predictions.set_index("image_id")[columns]
    return name_calls(values.set_axis(list(classes), axis=1))


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of the table of predictions that hold the probabilities."""
    return [f"p_{name}" for name in classes]


def name_calls(probabilities: pd.DataFrame) -> pd.DataFrame:
    """Name the class that each image is called, and how sure the model is.

    Parameters
    ----------
    probabilities : pandas.DataFrame, shape (n_images, n_classes)
        Index image_id; columns are the classes.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        On the same index: ``call``, the first of equally probable classes, and ``p``, 0..1.
    """
    values = probabilities.to_numpy(np.float64)
    calls = np.asarray(probabilities.columns, object)[values.argmax(axis=1)]
    return pd.DataFrame({"call": calls, "p": values.max(axis=1)}, index=probabilities.index)


def report(
    before: pd.DataFrame,
    after: pd.DataFrame | None,
    hospitals: Sequence[str],
    classes: Sequence[str],
    confident: float,
) -> dict[str, Any]:
    """Compare the calls of the same images before and after their cells were hidden.

    Parameters
    ----------
    before, after : pandas.DataFrame, shape (n_images, 2)
        As `name_calls` returns them, for the same images in the same order. `after` is None where
        the model was trained on hidden cells: then nothing can be compared.
    hospitals : sequence of str, length n_images
        Where each image comes from.
    classes : sequence of str
        All classes of the model.
    confident : float
        The probability from which a call counts as confident, 0..1.

    Returns
    -------
    dict
        ``by_hospital`` and ``all``, each with ``n_images``, ``n_confident`` (calls that were
        confident before), ``keeps_confident_call`` (the share of those that are called the same
        with confidence when the cell is hidden), ``still_confident`` (the share of all images
        that are then called anything with confidence), ``calls`` (images by the class called);
        ``confident``; and ``flagged``, the hospitals where more than half of at least ten
        confident calls survive. What cannot be told is None, beside ``<name>_reason``.

    Notes
    -----
    An early study covered the sick cell of an image, saw the model call it sick as before, and
    was content. It is the strongest sign that the background, the stain or the camera decides: a
    call that was made for the cell has to go with it.

    Intervals are Wilson's, for images that vary independently; those of one patient do not, so
    that the true intervals are wider.
    """
    frame = before.assign(sure=before["p"] >= confident, hospital=list(hospitals))
    if after is not None:
        frame["hidden_call"] = after["call"]
        frame["still"] = after["p"] >= confident
        frame["kept"] = frame["sure"] & frame["still"] & (frame["call"] == frame["hidden_call"])
    by_hospital = {
        str(name): _describe(rows, classes, confident) for name, rows in frame.groupby("hospital")
    }
    return {
        "by_hospital": by_hospital,
        "all": _describe(frame, classes, confident),
        "confident": confident,
        **_flag(by_hospital),
    }


def choose_examples(
    before: pd.DataFrame, after: pd.DataFrame, confident: float, n_examples: int, seed: int
) -> list[str]:
    """Pick images to look at among the confidently called ones, by name.

    Parameters
    ----------
    before, after : pandas.DataFrame, shape (n_images, 2)
        As for `report`.
    confident : float
        As for `report`.
    n_examples : int
        At most so many.
    seed : int

    Returns
    -------
    list of str
        The ``image_id`` of those that keep their call when the cell is hidden, then of those that
        lose it; half of each, and more of the one where the other has too few.
    """
    sure = before["p"] >= confident
    kept = sure & (after["p"] >= confident) & (before["call"] == after["call"])
    keep, lose = (_shuffle(before.index[mask], seed) for mask in (kept, sure & ~kept))
    n_keep = max(n_examples // 2, n_examples - len(lose))
    return [*keep[:n_keep], *lose[: n_examples - min(n_keep, len(keep))]]


def _shuffle(image_ids: Sequence[str] | pd.Series | pd.Index, seed: int) -> list[str]:
    """Order images by a hash of their names."""
    return sorted(image_ids, key=lambda image_id: (seed_for(seed, "cover", image_id), image_id))


def _describe(rows: pd.DataFrame, classes: Sequence[str], confident: float) -> dict[str, Any]:
    n_sure = int(rows["sure"].sum())
    counts = {"n_images": len(rows), "n_confident": n_sure}
    if "kept" not in rows:
        names = ("keeps_confident_call", "still_confident", "calls")
        return counts | dict.fromkeys(names) | {f"{name}_reason": BLIND for name in names}
    content = {
        **counts,
        "keeps_confident_call": describe_share(int(rows["kept"].sum()), n_sure),
        "still_confident": describe_share(int(rows["still"].sum()), len(rows)),
        "calls": {name: int((rows["hidden_call"] == name).sum()) for name in classes},
    }
    if not n_sure:
        content["keeps_confident_call"] = None
        content["keeps_confident_call_reason"] = f"no call reaches {confident:g} with the cell seen"
    return content


def _flag(by_hospital: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shares = {name: block["keeps_confident_call"] for name, block in by_hospital.items()}
    judged = {
        name: share for name, share in shares.items() if share and share["n"] >= MIN_CONFIDENT
    }
    if not judged:
        blind = any("calls_reason" in block for block in by_hospital.values())
        few = f"no hospital has {MIN_CONFIDENT} confident calls"
        return {"flagged": None, "flagged_reason": BLIND if blind else few}
    return {"flagged": [name for name, share in judged.items() if share["value"] > MOST]}
