"""Whether calls survive that pictures are changed: images drawn, calls compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import TableError, name_some
from stages.core.settings import seed_for
from stages.evaluation.bootstrap import describe_share
from stages.evaluation.screening import HEALTHY

MIN_CALLS = 10  # below, no hospital is flagged or cleared
N_DRAWS = 2000
MOST = 0.5  # of the calls: a hospital where more of them go the bad way is flagged


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
    """
    drawn: list[str] = []
    for _, own in predictions.groupby("hospital"):
        drawn += _shuffle(own["image_id"], seed)[:max_images]
    chosen = predictions[predictions["image_id"].isin(drawn)]
    return chosen.sort_values("image_id", ignore_index=True)


def add_groups(predictions: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Put beside each image the ``group`` that the split has it in, for the intervals.

    Raises
    ------
    TableError
        There is no image, or one is not in the split.
    """
    if predictions.empty:
        raise TableError(
            "data/predictions holds no image of the hospitals in params.yaml. "
            "Run 'uv run dvc repro', which scores them."
        )
    grouped = predictions.merge(split[["image_id", "group"]], on="image_id", how="left")
    missing = sorted(grouped.loc[grouped["group"].isna(), "image_id"])
    if missing:
        raise TableError(
            f"data/split has no row of {len(missing)} images ({name_some(missing)}). Run "
            "'uv run dvc repro', which brings predictions and split into step."
        )
    return grouped


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


def find_confident(calls: pd.DataFrame, hospitals: Sequence[str], share: float) -> pd.DataFrame:
    """Find the most confident calls of each hospital.

    Parameters
    ----------
    calls : pandas.DataFrame, shape (n_images, 2)
        As `name_calls` returns them.
    hospitals : sequence of str, length n_images
        Where each image comes from.
    share : float
        How many of a hospital's calls are taken, 0..1; at least one.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        On the same index: ``least``, the probability of the least confident call that is taken at
        the hospital, and ``sure``, whether a call is taken: all that reach ``least``.

    Notes
    -----
    A fixed probability would ask how a model was trained and not how sure it is: under label
    smoothing of .1 over eleven classes no call is meant to exceed .909.
    """
    frame = calls.assign(hospital=list(hospitals))
    least = frame.groupby("hospital")["p"].transform(
        lambda p: p.nlargest(math.ceil(round(share * len(p), 9))).iloc[-1]
    )
    return pd.DataFrame({"least": least, "sure": frame["p"] >= least}, index=calls.index)


def report(
    before: pd.DataFrame,
    after: pd.DataFrame | str,
    images: pd.DataFrame,
    classes: Sequence[str],
    bad: str,
    share: float,
    seed: int,
) -> dict[str, Any]:
    """Compare the calls of the same images before and after they were changed.

    Parameters
    ----------
    before, after : pandas.DataFrame, shape (n_images, 2)
        As `name_calls` returns them, for the same images in the same order. `after` is the reason
        where nothing can be compared.
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and ``group`` of each, in the same order.
    classes : sequence of str
        All classes of the model.
    bad : {"kept", "lost"}
        Which hospitals are flagged: those where more than half of at least ten confident calls
        survive, or those where less than half of at least ten calls do.
    share : float
        Of each hospital's calls, the most confident ones; `find_confident`.
    seed : int
        For the intervals.

    Returns
    -------
    dict
        ``by_hospital`` and ``all``, each with ``n_images``, ``n_confident``, ``least_p`` (by
        hospital: the probability of the least confident of those), ``keeps_call`` (the share of
        the images that are called the same), ``keeps_verdict`` (the share called healthy or not as
        before, where there is such a class), ``keeps_confident_call`` (the share of the confident
        calls that are the same, with ``least_p`` at least), ``still_confident`` (the share of all
        images that are then called anything with that probability), ``calls`` (images by the
        class called), ``by_call`` (by the class called before: images, and how many of them are
        called the same); ``flagged``; and ``not_judged``, the hospitals that are neither flagged
        nor cleared, with the reason. What cannot be told is None, beside ``<name>_reason``.
        Intervals are by redrawing groups, `bootstrap.describe_share`.

    Notes
    -----
    An early study covered the sick cell of an image, saw the model call it sick as before, and
    was content. It is the strongest sign that the background, the stain or the camera decides: a
    call that was made for the cell has to go with it.
    """
    names = images["hospital"].tolist()
    frame = before.join(find_confident(before, names, share))
    frame[["hospital", "group"]] = images[["hospital", "group"]].to_numpy()
    reason = after if isinstance(after, str) else None
    if not isinstance(after, str):
        frame["changed_call"] = after["call"]
        frame["still"] = after["p"] >= frame["least"]
        frame["same"] = frame["call"] == after["call"]
        frame["same_verdict"] = (frame["call"] == HEALTHY) == (after["call"] == HEALTHY)
    by_hospital = {
        str(name): _describe(rows, classes, reason, seed_for(seed, "bias", str(name)))
        | {"least_p": float(rows["least"].iloc[0])}
        for name, rows in frame.groupby("hospital")
    }
    return {
        "by_hospital": by_hospital,
        "all": _describe(frame, classes, reason, seed_for(seed, "bias")),
        **_flag(by_hospital, bad, reason),
    }


def choose_examples(before: pd.DataFrame, n_examples: int, seed: int) -> list[str]:
    """Pick images to look at, by name: one of each class called, then the next.

    Parameters
    ----------
    before : pandas.DataFrame, shape (n_images, n_columns)
        ``call``, by image_id.
    n_examples : int
        At most so many.
    seed : int

    Returns
    -------
    list of str
        Their ``image_id``.
    """
    shuffled = before.loc[_shuffle(before.index, seed)]
    turn = shuffled.groupby("call").cumcount()
    order = shuffled.assign(turn=turn).sort_values(["turn", "call"], kind="stable")
    return [str(image_id) for image_id in order.index[:n_examples]]


def choose_by_call(calls: pd.DataFrame, n_images: int, seed: int) -> list[str]:
    """Pick at most so many images of each hospital and class called, by name.

    Parameters
    ----------
    calls : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and ``call``, by image_id.
    n_images, seed : int

    Returns
    -------
    list of str
        Their ``image_id``.
    """
    shuffled = calls.loc[_shuffle(calls.index, seed)]
    turn = shuffled.groupby(["hospital", "call"]).cumcount()
    return [str(image_id) for image_id in shuffled.index[turn < n_images]]


def _shuffle(image_ids: Sequence[str] | pd.Series | pd.Index, seed: int) -> list[str]:
    """Order images by a hash of their names."""
    return sorted(image_ids, key=lambda image_id: (seed_for(seed, "bias", image_id), image_id))


def _describe(
    rows: pd.DataFrame, classes: Sequence[str], reason: str | None, seed: int
) -> dict[str, Any]:
    sure = rows[rows["sure"]]
    counts = {"n_images": len(rows), "n_confident": len(sure)}
    if reason is not None:
        names = ("keeps_call", "keeps_confident_call", "still_confident", "calls", "by_call")
        return counts | dict.fromkeys(names) | {f"{name}_reason": reason for name in names}
    shares = {
        "keeps_call": (rows["same"], rows["group"]),
        "keeps_confident_call": (sure["same"] & sure["still"], sure["group"]),
        "still_confident": (rows["still"], rows["group"]),
    }
    if HEALTHY in classes:
        shares["keeps_verdict"] = (rows["same_verdict"], rows["group"])
    return {
        **counts,
        **{name: describe_share(*one, N_DRAWS, seed) for name, one in shares.items()},
        "calls": {name: int((rows["changed_call"] == name).sum()) for name in classes},
        "by_call": {
            str(name): {"n": len(own), "kept": int(own.sum())}
            for name, own in rows.groupby("call")["same"]
        },
    }


def _flag(
    by_hospital: Mapping[str, Mapping[str, Any]], bad: str, reason: str | None
) -> dict[str, Any]:
    flagged, not_judged = [], {}
    name, what = ("keeps_confident_call", "confident ") if bad == "kept" else ("keeps_call", "")
    for hospital, block in by_hospital.items():
        share = block[name]
        if share is None:
            not_judged[hospital] = str(reason)
        elif share["n"] < MIN_CALLS:
            not_judged[hospital] = f"{share['n']} {what}calls; {MIN_CALLS} are needed"
        elif (share["value"] > MOST) if bad == "kept" else (share["value"] < MOST):
            flagged.append(hospital)
    if len(not_judged) < len(by_hospital):
        return {"flagged": flagged, "not_judged": not_judged}
    return {"flagged": None, "flagged_reason": "no hospital is judged", "not_judged": not_judged}
