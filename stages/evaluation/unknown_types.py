"""Whether images of types that a model does not know are told from those that it knows."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.core.settings import seed_for
from stages.evaluation.bootstrap import describe_share
from stages.evaluation.roc import describe_auc
from stages.labels.taxonomy import COARSE

N_DRAWS = 1000
MIN_IMAGES = 10  # of unknown types, before a hospital counts in the mean
VALID, KNOWN, UNKNOWN, BLANK = "valid", "known", "unknown", "blank"
NO_ENERGY = "no network of the model answers by logits"
NO_VALID = "no validation image to take the threshold from"


def find_unknown(labels: pd.DataFrame) -> pd.DataFrame:
    """Find the images of cell types that no class stands for.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        ``cell_type`` and ``keep``, beside any others.

    Returns
    -------
    pandas.DataFrame
        The rows whose cell type has no image that is kept. Coarse types that could be a known one,
        and types that a known coarse one could be, are none of them: a neutrophil may be a band.
    """
    known = set(labels.loc[labels["keep"], "cell_type"].dropna())
    perhaps = {coarse for coarse, finer in COARSE.items() if known & set(finer)}
    perhaps |= {one for coarse, finer in COARSE.items() if coarse in known for one in finer}
    types = labels["cell_type"]
    return labels[types.notna() & ~types.isin(known | perhaps)]


def report(images: pd.DataFrame, score: str, share: float, seed: int) -> dict[str, Any]:
    """Tell at each hospital what a score is worth.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``group``, ``part``, ``kind`` (valid, known, unknown, blank), ``cell_type``
        (of unknown ones) and a column of the score's name, higher for stranger images.
    score : str
    share : float
        Of the validation images that count as known, 0..1; their quantile is the threshold.
    seed : int
        Each hospital draws with a seed of its own name.

    Returns
    -------
    dict
        ``threshold``, ``mean_auc`` over the hospitals with ten images of unknown types at least,
        in ``in_domain`` and ``unseen`` ones apart, and ``by_hospital``: ``part``, ``auc`` and
        ``auc_of_blank`` (see `roc.describe_auc`), ``flagged`` (of known, unknown and blank images
        the share above the threshold) and ``flagged_by_type``.

    Notes
    -----
    Images are compared within their hospital: that another hospital looks different is no merit.
    """
    valid = images.loc[images["kind"] == VALID, score]
    threshold = float(valid.quantile(share)) if len(valid) else None
    content: dict[str, Any] = {"threshold": threshold}
    if threshold is None:
        content["threshold_reason"] = NO_VALID
    blocks = {}
    for name, own in images[images["kind"] != VALID].groupby("hospital", sort=True):
        known = own[own["kind"] == KNOWN]
        if known.empty:
            continue
        draw = (N_DRAWS, seed_for(seed, "novelty", str(name)))
        kinds = {kind: own[own["kind"] == kind] for kind in (KNOWN, UNKNOWN, BLANK)}
        block: dict[str, Any] = {"part": str(known["part"].iloc[0])}
        for key, kind in (("auc", UNKNOWN), ("auc_of_blank", BLANK)):
            both = pd.concat([known, kinds[kind]])
            is_strange = (both["kind"] == kind).to_numpy()
            block[key] = describe_auc(both[score].to_numpy(), is_strange, both["group"], *draw)
        if threshold is not None:
            block["flagged"] = {
                kind: describe_share(one[score] > threshold, one["group"], *draw)
                for kind, one in kinds.items()
            }
            block["flagged_by_type"] = {
                str(kind): describe_share(one[score] > threshold, one["group"], *draw)
                for kind, one in kinds[UNKNOWN].groupby("cell_type", sort=True)
            }
        blocks[str(name)] = block
    content["mean_auc"] = {
        where: _average(
            [one["auc"] for one in blocks.values() if (one["part"] == "test") == is_home]
        )
        for where, is_home in (("in_domain", True), ("unseen", False))
    }
    return content | {"by_hospital": blocks}


def describe_stranger(
    images: pd.DataFrame, spread: Mapping[str, tuple[float, float]], share: float
) -> dict[str, Any]:
    """Tell from which energy on a picture of a place outside of the experiment is strange.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        As `report` takes them, with ``energy`` where a network has one.
    spread : mapping of str to tuple of float
        By network: mean and standard deviation of the validation images' energy.
    share : float
        Of the known images that shall count as known, 0..1.

    Returns
    -------
    dict
        ``spread``, ``threshold``, ``learnt_from`` ("unseen", "valid" or "nothing"), ``n_images``,
        and where there is no threshold ``reason``.

    Notes
    -----
    The known images of unseen hospitals tell how strange a stranger's known cells look; without
    such a hospital the validation images do, and flag too many.
    """
    kinds = {
        "unseen": (images["kind"] == KNOWN) & (images["part"] == "unseen"),
        "valid": images["kind"] == VALID,
    }
    block: dict[str, Any] = {"spread": spread, "threshold": None, "n_images": 0}
    if not spread:
        return block | {"learnt_from": "nothing", "reason": NO_ENERGY}
    for source, chosen in kinds.items():
        if chosen.any():
            threshold = float(images.loc[chosen, "energy"].quantile(share))
            found = {"threshold": threshold, "learnt_from": source, "n_images": int(chosen.sum())}
            return block | found
    return block | {"learnt_from": "nothing", "reason": NO_VALID}


def _average(areas: list[dict[str, Any]]) -> dict[str, Any]:
    told = [one["value"] for one in areas if one["n_positive"] >= MIN_IMAGES]
    return {"value": sum(told) / len(told) if told else None, "n_hospitals": len(told)}
