"""What adapting the model to an unseen hospital gains there, on images that taught it nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import TableError, name_some
from stages.core.settings import seed_for
from stages.evaluation import bootstrap, scoring
from stages.evaluation.bootstrap import MIN_GROUPS, Draws
from stages.evaluation.metrics import METRICS, find_cells

GAINED = ("accuracy", "macro_f1")


def score(
    scored: pd.DataFrame,
    adapted: pd.DataFrame,
    told: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    constants: Mapping[str, str],
    n_draws: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Score each method at each hospital beside the plain model, on the very same images.

    Parameters
    ----------
    scored : pandas.DataFrame, shape (n_images, n_columns)
        The plain model: ``image_id``, ``hospital``, ``part``, ``label`` (the truth),
        ``predicted``, ``group``, ``unit``.
    adapted : pandas.DataFrame, shape (n_rows, n_columns)
        As `tables.ADAPTED`, of all hospitals.
    told : mapping of str to mapping
        By hospital the content of metrics/adapt.
    classes, constants, n_draws, seed
        As for `scoring.score_hospitals`.

    Returns
    -------
    dict
        For each hospital of `scored` a dict with ``on_site``: by method what `scoring.report` says
        of a hospital, of the images that the method is tested on, further ``n_labelled`` (by
        class), ``note``, ``plain`` (accuracy and macro F1 of the plain model there) and ``gain``
        over them. A method without an answer has ``metrics`` None and a ``reason``. ``on_site`` is
        None where nothing was adapted, with ``on_site_reason``.

    Raises
    ------
    TableError
        An adapted image is not scored, or a method has no image: the tables are out of step.

    Notes
    -----
    The gain's interval redraws groups, and in each draw the two models meet the same images. The
    imagined pictures of the two are independent, which makes it a little wide.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for name, own in scored.groupby("hospital", sort=True):
        hospital = str(name)
        content = told[hospital]
        if "reason" in content:
            blocks[hospital] = {"on_site": None, "on_site_reason": content["reason"]}
            continue
        here = adapted[adapted["hospital"] == hospital]
        found = {}
        for method, block in content["methods"].items():
            found[method] = {"metrics": None, **block}
            if "reason" not in block:
                rows = _pair(own, here[here["method"] == method], method)
                own_seed = seed_for(seed, "evaluate", hospital, method)
                called = rows.assign(predicted=rows["adapted"])
                found[method] |= scoring.describe_images(
                    called, classes, constants[hospital], n_draws, own_seed
                )
                found[method] |= _compare(rows, classes, n_draws, own_seed)
        blocks[hospital] = {"on_site": found}
    return blocks


def _pair(own: pd.DataFrame, here: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the images of a method with what both models call them."""
    answers = here[["image_id", "predicted"]].rename(columns={"predicted": "adapted"})
    rows = own.merge(answers, on="image_id")
    strange = sorted(set(answers["image_id"]) - set(rows["image_id"]))
    if strange or rows.empty:
        what = f"images that are not scored ({name_some(strange)})" if strange else "no image"
        raise TableError(
            f"data/adapted has {what} for the method {method} at {own['hospital'].iloc[0]}. Run "
            "'uv run dvc repro', which brings the tables into step."
        )
    return rows


def _compare(
    rows: pd.DataFrame, classes: Sequence[str], n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Describe the plain model's scores, and how far those of the other are from them."""
    n_classes = len(classes)
    plain, other = (
        find_cells(rows["label"], rows[name], classes) for name in ("predicted", "adapted")
    )
    grouped = bootstrap.count_by_group(
        np.concatenate([plain, n_classes**2 + other]),
        pd.concat([rows["group"], rows["group"]]),
        2 * n_classes**2,
    )
    counts = grouped.total.reshape(2, n_classes, n_classes)
    before, after = ({name: float(METRICS[name](one)) for name in GAINED} for one in counts)
    gains = {name: after[name] - before[name] for name in GAINED}
    ends: dict[str, tuple[float | None, float | None]] = dict.fromkeys(GAINED, (None, None))
    if grouped.n_groups >= MIN_GROUPS:
        imagined = np.concatenate([scoring.imagine(one).ravel() for one in counts])
        drawn = bootstrap.redraw(grouped, n_draws, seed, imagined)
        pairs = drawn.reshape(n_draws, 2, n_classes, n_classes)
        for name in GAINED:
            metric = METRICS[name]
            spread = metric(pairs[:, 1], counts[1]) - metric(pairs[:, 0], counts[0])
            ends[name] = bootstrap.expand([Draws(spread, grouped.n_effective)], gains[name])
    gain = {
        name: {"value": gains[name], "low": ends[name][0], "high": ends[name][1]} for name in GAINED
    }
    return {"plain": before, "gain": gain}
