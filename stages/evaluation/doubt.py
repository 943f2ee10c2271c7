"""How far a model's confidence is to be trusted, and which images it may answer alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from stages.core.settings import seed_for
from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import HALF, MIN_GROUPS, Draws, describe_share

TOP = 3
CLOSE = 2.0  # a call is close where the second class is more than half as probable as the first
N_BINS = 10
STEPS = 20  # of a risk-coverage curve
PERCENT = 100
SMALLEST = 1e-9  # probability: trees and neighbours give 0, which no temperature changes
COLDEST, HOTTEST = 0.05, 20.0
NO_VALID = "no image validates: raise split.valid"
FEW_CLASSES = f"a model of {TOP} classes or fewer always names the right one among {TOP}"


@dataclass(frozen=True)
class Doubt:
    """What the validation images say of a model's confidence.

    Attributes
    ----------
    temperature : float
        By which log-probabilities are divided; above 1 where the model is too sure.
    threshold : float, optional
        Calls of that confidence or more are accepted; None where no threshold is known.
    error : float
        Share of wrong calls among the accepted ones that was asked for.
    n_valid, n_accepted : int
        Validation images, and those of them that are accepted.
    reason : str, optional
        Why there is no threshold.
    """

    temperature: float
    threshold: float | None
    error: float
    n_valid: int
    n_accepted: int
    reason: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return what metrics/evaluate.json says of it."""
        told = {"threshold_reason": self.reason} if self.reason else {}
        return {
            "error": self.error,
            "temperature": self.temperature,
            "threshold": self.threshold,
            "n_valid": self.n_valid,
            "n_accepted": self.n_accepted,
        } | told


def fit(valid: pd.DataFrame, classes: Sequence[str], error: float) -> Doubt:
    """Fit temperature and threshold on the validation images.

    Parameters
    ----------
    valid : pandas.DataFrame, shape (n_images, n_columns)
        ``label`` (the truth), ``predicted`` and ``p_<class>``.
    classes : sequence of str
        All classes of the model.
    error : float
        Share of wrong calls wished among the accepted ones, 0..1.

    Returns
    -------
    Doubt
        Without a validation image the temperature is 1, and there is no threshold.

    Notes
    -----
    The temperature [1]_ has the highest likelihood, where the truth of n images counts as
    (n + 1) / (n + 2) certain [2]_: the best temperature of images that are all called rightly
    would otherwise be 0, and every call certain.

    The threshold accepts the most images among which half a wrong call beside those seen, of one
    image more, keeps to the wished share. So a promise of 1 % needs 49 right calls at least.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
       networks", Proc. ICML (2017), 1321-1330.
    .. [2] J. Platt, "Probabilistic outputs for support vector machines", Adv. Large Margin
       Classifiers (1999), 61-74.
    """
    if valid.empty:
        return Doubt(1.0, None, error, 0, 0, NO_VALID)
    temperature = _fit_temperature(valid, classes)
    images = measure(valid, classes, temperature)
    ordered = images.sort_values("confidence", ascending=False, kind="stable")
    confidence = ordered["confidence"].to_numpy()
    n = np.arange(1, len(ordered) + 1)
    bound = ((~ordered["right"]).cumsum().to_numpy() + HALF) / (n + 1)
    is_last = np.append(confidence[1:] < confidence[:-1], True)  # equal calls stay together
    fits = np.flatnonzero((bound <= error) & is_last)
    if not len(fits):
        return Doubt(
            temperature, None, error, len(valid), 0,
            f"the surest of {len(valid)} validation images do not promise an error of {error:g}: "
            "too few are right",
        )  # fmt: skip
    last = fits[-1]
    return Doubt(temperature, float(confidence[last]), error, len(valid), int(n[last]))


def measure(rows: pd.DataFrame, classes: Sequence[str], temperature: float) -> pd.DataFrame:
    """Tell of each image how sure the model is, and whether it is right.

    Parameters
    ----------
    rows : pandas.DataFrame, shape (n_images, n_columns)
        ``label``, ``predicted`` and ``p_<class>``, beside any others.
    classes : sequence of str
        All classes of the model.
    temperature : float

    Returns
    -------
    pandas.DataFrame
        As `rows`, with ``confidence`` (probability of the class called, 0..1), ``right``,
        ``in_top`` (whether the truth is among the three most probable classes) and ``close``
        (whether the second class is more than half as probable as the first).
    """
    probabilities = softmax(_logs(rows, classes) / temperature, axis=1)
    ranked = np.sort(probabilities, axis=1)
    place = pd.Index(classes).get_indexer(rows["label"])
    order = np.argsort(-probabilities, axis=1, kind="stable")
    second = ranked[:, -2] if len(classes) > 1 else np.zeros(len(rows))
    return rows.assign(
        confidence=ranked[:, -1],
        right=rows["label"].to_numpy() == rows["predicted"].to_numpy(),
        in_top=(order[:, :TOP] == place[:, None]).any(axis=1),
        close=CLOSE * second > ranked[:, -1],
    )


def score(
    scored: pd.DataFrame, classes: Sequence[str], doubt: Doubt, n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Tell at each hospital what the confidence is worth.

    Parameters
    ----------
    scored : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``label``, ``predicted``, ``p_<class>`` and ``group``.
    classes : sequence of str
        All classes of the model.
    doubt : Doubt
        Of the validation images; no image of `scored` moves it.
    n_draws, seed : int
        For the intervals.

    Returns
    -------
    dict
        For each hospital a dict with ``doubt``: ``error`` (share of wrong calls), ``accepted``
        and ``error_of_accepted``, ``promise`` (of the wished error: kept, broken, or open where
        the interval holds both), ``error_of_surest_half``, ``close`` and ``close_of_wrong``,
        ``top_3`` (the truth is among the three most probable classes), each with the interval of
        `bootstrap.describe_share`; ``overconfidence`` (mean confidence minus accuracy), ``ece``
        (expected calibration error) and ``ece_before`` (at temperature 1). What cannot be told is
        None, beside ``<name>_reason``.

    Notes
    -----
    The expected calibration error is over ten bins of as many images each [1]_. It is never
    negative, so that of few images is too high.

    References
    ----------
    .. [1] K. Nguyen and B. O'Connor, "Posterior calibration and exploratory analysis for natural
       language processing models", Proc. EMNLP (2015), 1587-1598.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for name, rows in scored.groupby("hospital", sort=True):
        images = measure(rows, classes, doubt.temperature)
        own_seed = seed_for(seed, "doubt", str(name))
        block = _describe_shares(images, len(classes), doubt, n_draws, own_seed)
        block["overconfidence"] = _describe_overconfidence(images, n_draws, own_seed)
        block["ece"] = _calibration_error(images)
        block["ece_before"] = _calibration_error(measure(rows, classes, 1.0))
        blocks[str(name)] = {"doubt": block}
    return blocks


def list_reliability(
    scored: pd.DataFrame, classes: Sequence[str], temperature: float
) -> pd.DataFrame:
    """List mean confidence beside accuracy, ten bins of each hospital's images.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``confidence``, ``accuracy`` and ``n``.
    """
    images = measure(scored, classes, temperature)
    pieces = [
        _bin(own).assign(hospital=name, part=part)
        for (name, part), own in images.groupby(["hospital", "part"], sort=True)
    ]
    return pd.concat(pieces)[["hospital", "part", "confidence", "accuracy", "n"]]


def list_risk(scored: pd.DataFrame, classes: Sequence[str], temperature: float) -> pd.DataFrame:
    """List the share of wrong calls among the surest images of each hospital.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``coverage`` (share of the images that are answered) and ``error``
        (of those); twenty rows at most for each hospital.
    """
    images = measure(scored, classes, temperature)
    pieces = []
    for (name, part), own in images.groupby(["hospital", "part"], sort=True):
        n = np.unique(np.ceil(len(own) * np.arange(1, STEPS + 1) / STEPS).astype(int))
        risk = 1 - _rank(own)["right"].cumsum().to_numpy()[n - 1] / n
        piece = pd.DataFrame({"coverage": n / len(own), "error": risk})
        pieces.append(piece.assign(hospital=name, part=part))
    return pd.concat(pieces)[["hospital", "part", "coverage", "error"]]


def _logs(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return log-probabilities, shape (n_images, n_classes)."""
    values = rows[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    return np.asarray(np.log(np.clip(values, SMALLEST, None)))


def _fit_temperature(valid: pd.DataFrame, classes: Sequence[str]) -> float:
    logs = _logs(valid, classes)
    n, n_classes = logs.shape
    if n_classes == 1:
        return 1.0
    true = logs[np.arange(n), pd.Index(classes).get_indexer(valid["label"])]
    unsure = 1 / (n + 2)
    others = (logs.sum(axis=1) - true) / (n_classes - 1)
    wanted = float(((1 - unsure) * true + unsure * others).mean())

    def miss(log_temperature: float) -> float:
        cold = math.exp(-log_temperature)
        return float(logsumexp(cold * logs, axis=1).mean()) - cold * wanted

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = minimize_scalar(miss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x)


def _describe_shares(
    images: pd.DataFrame, n_classes: int, doubt: Doubt, n_draws: int, seed: int
) -> dict[str, Any]:
    def share(hits: pd.Series) -> dict[str, Any]:
        return describe_share(hits, images.loc[hits.index, "group"], n_draws, seed)

    confidence, wrong = images["confidence"], ~images["right"]
    median = confidence.nlargest(math.ceil(len(images) / 2)).iloc[-1]
    block: dict[str, Any] = {
        "error": share(wrong),
        "error_of_surest_half": share(wrong[confidence >= median]),
        "close": share(images["close"]),
        "close_of_wrong": share(images.loc[wrong, "close"]),
    }
    if n_classes > TOP:
        block["top_3"] = share(images["in_top"])
    else:
        block |= {"top_3": None, "top_3_reason": FEW_CLASSES}
    if doubt.threshold is None:
        nothing = dict.fromkeys(("accepted", "error_of_accepted", "promise"))
        return block | nothing | {"accepted_reason": doubt.reason}
    accepted = confidence >= doubt.threshold
    kept = share(wrong[accepted])
    block |= {"accepted": share(accepted), "error_of_accepted": kept, "promise": None}
    if kept["low"] is not None:
        broken, open_ = kept["low"] > doubt.error, kept["high"] > doubt.error
        block["promise"] = "broken" if broken else "open" if open_ else "kept"
    return block


def _describe_overconfidence(images: pd.DataFrame, n_draws: int, seed: int) -> dict[str, Any]:
    """Describe mean confidence minus accuracy; its draws round confidences to a hundredth."""
    value = float(images["confidence"].mean() - images["right"].mean())
    block: dict[str, Any] = {"value": value, "low": None, "high": None}
    n_cells = PERCENT + 1
    percent = np.rint(PERCENT * images["confidence"].to_numpy()).astype(np.int64)
    cells = images["right"].to_numpy(np.int64) * n_cells + percent
    grouped = bootstrap.count_by_group(cells, images["group"], 2 * n_cells)
    if grouped.n_groups < MIN_GROUPS:
        return block | {"interval_reason": bootstrap.too_few(grouped.n_groups)}
    imagined = np.zeros((2, n_cells))
    imagined[:, percent.sum() // len(percent)] = HALF
    drawn = bootstrap.redraw(grouped, n_draws, seed, imagined.ravel())
    gap = np.concatenate([np.arange(n_cells) / PERCENT, np.arange(n_cells) / PERCENT - 1])
    draws = Draws(drawn @ gap / drawn.sum(axis=1), grouped.n_effective)
    block["low"], block["high"] = bootstrap.expand([draws], value)
    return block


def _rank(images: pd.DataFrame) -> pd.DataFrame:
    """Return ``confidence`` and ``right``, the surest first.

    Of equally sure images none comes first: each is as right as all of them on average.
    """
    right = images.groupby("confidence")["right"].transform("mean")
    ranked = images[["confidence"]].assign(right=right)
    return ranked.sort_values("confidence", ascending=False)


def _bin(images: pd.DataFrame) -> pd.DataFrame:
    """Return mean ``confidence``, ``accuracy`` and ``n`` of bins of as many images each."""
    ranked = _rank(images)
    place = np.arange(len(ranked)) * N_BINS // len(ranked)
    return ranked.groupby(place).agg(
        confidence=("confidence", "mean"), accuracy=("right", "mean"), n=("right", "size")
    )


def _calibration_error(images: pd.DataFrame) -> float:
    bins = _bin(images)
    gaps = (bins["confidence"] - bins["accuracy"]).abs()
    return float((gaps * bins["n"]).sum() / bins["n"].sum())
