"""Which pictures a page shows: examples, errors, doubtful calls, near twins and look-alikes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.settings import seed_for


def name_calls(scored: pd.DataFrame, chances: pd.DataFrame) -> pd.DataFrame:
    """Put beside each picture what it is called, how surely, and whether that is right.

    Parameters
    ----------
    scored : pandas.DataFrame, shape (n_images, n_columns)
        ``label`` and any others, by image_id.
    chances : pandas.DataFrame, shape (n_images, n_classes)
        Probability of each class, 0..1, on the same index.

    Returns
    -------
    pandas.DataFrame
        As `scored`, with ``call`` (the first of equally probable classes), ``p`` (its
        probability), ``gap`` (what lies between it and the second class) and ``is_right``.
    """
    values = chances.to_numpy(np.float64)
    highest = np.sort(values, axis=1)[:, -2:]
    call = np.asarray(chances.columns, object)[values.argmax(axis=1)]
    return scored.assign(
        call=call, p=highest[:, -1], gap=highest[:, -1] - highest[:, 0],
        is_right=call == scored["label"],
    )  # fmt: skip


def draw_examples(calls: pd.DataFrame, n_right: int, n_wrong: int, seed: int) -> list[str]:
    """Draw right and wrong calls of each hospital and true class, by name alone.

    Parameters
    ----------
    calls : pandas.DataFrame, shape (n_images, n_columns)
        As `name_calls`, with ``hospital``.
    n_right, n_wrong : int
        At most so many of each hospital and class.
    seed : int

    Returns
    -------
    list of str
        Their image_id, right ones first.
    """
    shuffled = calls.loc[_shuffle(calls.index, seed)]
    turn = shuffled.groupby(["hospital", "label", "is_right"]).cumcount()
    most = shuffled["is_right"].map({True: n_right, False: n_wrong})
    drawn = shuffled[turn < most]
    return [*drawn.index[drawn["is_right"]], *drawn.index[~drawn["is_right"].astype(bool)]]


def rank_errors(calls: pd.DataFrame, n_images: int) -> list[str]:
    """Return the image_id of the wrong calls, the most confident ones first."""
    wrong = calls[~calls["is_right"]].sort_index().sort_values("p", ascending=False, kind="stable")
    return list(wrong.index[:n_images])


def rank_doubts(calls: pd.DataFrame, n_images: int) -> list[str]:
    """Return the image_id of the calls whose second class is nearest to the first."""
    return list(calls.sort_index().sort_values("gap", kind="stable").index[:n_images])


def draw_training(labels: pd.Series, n_images: int, seed: int) -> list[str]:
    """Draw training pictures by name: one of each class, then the next, so that none is lost.

    Parameters
    ----------
    labels : pandas.Series of str, shape (n_images,)
        By image_id.
    n_images : int
        At most so many.
    seed : int

    Returns
    -------
    list of str
        Their image_id.
    """
    shuffled = labels.loc[_shuffle(labels.index, seed)]
    turn = shuffled.groupby(shuffled).cumcount()
    return list(turn.sort_values(kind="stable").index[:n_images])


def find_nearest(vector: np.ndarray, known: pd.DataFrame, n_images: int) -> list[tuple[str, float]]:
    """Find the pictures whose vectors point the most nearly the same way.

    Parameters
    ----------
    vector : numpy.ndarray, shape (n_columns,)
    known : pandas.DataFrame, shape (n_known, n_columns)
        By image_id.
    n_images : int

    Returns
    -------
    list of tuple of (str, float)
        image_id and cosine, the most similar one first, then by name. A vector of zeros points
        nowhere: its cosine to any other is 0.
    """
    values = known.to_numpy(np.float64)
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(vector)
    dots = values @ vector.astype(np.float64)
    cosines = np.divide(dots, lengths, out=np.zeros(len(known)), where=lengths > 0)
    ranked = sorted(zip(-cosines, known.index, strict=True))[:n_images]
    return [(str(image_id), float(-cosine)) for cosine, image_id in ranked]


def group_twins(split: pd.DataFrame, calls: pd.DataFrame) -> list[pd.DataFrame]:
    """Find near twins of which one at least is scored.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Rows of ``tables.SPLIT``.
    calls : pandas.DataFrame, shape (n_scored, n_columns)
        ``call``, by image_id.

    Returns
    -------
    list of pandas.DataFrame
        The pictures of a group: the split's columns by image_id, and ``call``, which is missing
        for those that are not scored. First the groups that stand on both sides of training, then
        those with two labels, then with two calls, then by name; in a group scored ones first.
    """
    rows = split.set_index("image_id").join(calls["call"])
    rows = rows.assign(is_scored=rows.index.isin(calls.index)).sort_index()
    rows = rows.sort_values("is_scored", ascending=False, kind="stable")
    by_group = [
        own for _, own in rows.groupby("twin_group") if len(own) > 1 and own["is_scored"].any()
    ]
    return sorted(by_group, key=_rank_group)


def _rank_group(own: pd.DataFrame) -> tuple[bool, Sequence[int], str]:
    taught = bool((own["part"] == "train").any())
    return not taught, [-own["label"].nunique(), -own["call"].nunique()], own["twin_group"].iloc[0]


def _shuffle(image_ids: pd.Index, seed: int) -> list[str]:
    """Order pictures by a hash of their names."""
    return sorted(image_ids, key=lambda name: (seed_for(seed, "gallery", name), name))
