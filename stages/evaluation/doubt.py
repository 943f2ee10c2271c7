"""How far a model's confidence is to be trusted, and which images it may answer alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from stages.core.params import EvaluateParams
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
NO_IMAGE = "no image to learn it from"
TRAINS = "it trains: home tells"
ALONE = "no other place is unseen"
FEW_CLASSES = f"a model of {TOP} classes or fewer always names the right one among {TOP}"


@dataclass(frozen=True)
class Doubt:
    """What some images that taught the model nothing say of its confidence.

    Attributes
    ----------
    temperature : float
        By which log-probabilities are divided; above 1 where the model is too sure.
    threshold : float, optional
        Calls of that confidence or more are accepted; None where no threshold is known.
    wished_error : float
        Share of wrong calls among the accepted ones that was asked for.
    n_images : int
        From which both were learnt.
    reason : str, optional
        Why there is no threshold.
    """

    temperature: float
    threshold: float | None
    wished_error: float
    n_images: int
    reason: str | None = None


def fit(images: pd.DataFrame, classes: Sequence[str], wished_error: float) -> Doubt:
    """Fit temperature and threshold.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``label`` (the truth), ``predicted`` and ``p_<class>``.
    classes : sequence of str
        All classes of the model.
    wished_error : float
        Share of wrong calls wished among the accepted ones, 0..1.

    Returns
    -------
    Doubt
        Without an image the temperature is 1, and there is no threshold.

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
    n_images = len(images)
    if not n_images:
        return Doubt(1.0, None, wished_error, 0, NO_IMAGE)
    temperature = _fit_temperature(images, classes)
    ranked = measure(images, classes, temperature).sort_values("confidence", ascending=False)
    confidence = ranked["confidence"].to_numpy()
    n = np.arange(1, n_images + 1)
    bound = ((~ranked["right"]).cumsum().to_numpy() + HALF) / (n + 1)
    is_last = np.append(confidence[1:] < confidence[:-1], True)  # equal calls stay together
    fits = np.flatnonzero((bound <= wished_error) & is_last)
    if len(fits):
        return Doubt(temperature, float(confidence[fits[-1]]), wished_error, n_images)
    reason = f"of {n_images} images not even the surest promise an error of {wished_error:g}"
    return Doubt(temperature, None, wished_error, n_images, reason)


def measure(images: pd.DataFrame, classes: Sequence[str], temperature: float) -> pd.DataFrame:
    """Tell of each image how sure the model is, and whether it is right.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``label``, ``predicted`` and ``p_<class>``, beside any others.
    classes : sequence of str
        All classes of the model.
    temperature : float
        1 for the probabilities as they are.

    Returns
    -------
    pandas.DataFrame
        As `images`, with ``confidence`` (probability of the class called, 0..1), ``right``,
        ``in_top`` (whether the truth is among the three most probable classes) and ``close``
        (whether the second class is more than half as probable as the first).
    """
    probabilities = softmax(_logs(images, classes) / temperature, axis=1)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    truth = pd.Index(classes).get_indexer(images["label"])
    return images.assign(
        confidence=ranked[:, 0],
        right=images["label"].to_numpy() == images["predicted"].to_numpy(),
        in_top=(order[:, :TOP] == truth[:, None]).any(axis=1),
        close=(CLOSE * ranked[:, 1:2] > ranked[:, :1]).any(axis=1),
    )


def score(
    scored: pd.DataFrame,
    valid: pd.DataFrame,
    places: Mapping[str, str],
    classes: Sequence[str],
    rule: EvaluateParams,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Tell at each hospital what the confidence is worth.

    Parameters
    ----------
    scored : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``part``, ``label``, ``predicted``, ``p_<class>`` and ``group``.
    valid : pandas.DataFrame, shape (n_images, n_columns)
        The validation images; as for `fit`.
    places : mapping of str to str
        By hospital its place; copies and parts of one hospital share it.
    classes : sequence of str
        All classes of the model.
    rule : EvaluateParams
        The error that is wished, and the draws behind each interval.
    seed : int
        Each hospital draws with a seed of its own name.

    Returns
    -------
    dict
        For each hospital a dict with ``doubt``. Of the probabilities as they are: ``error`` (share
        of wrong calls), ``error_of_surest_half``, ``close`` and ``close_of_wrong``, ``top_3`` (the
        truth is among the three most probable classes), each with the interval of
        `bootstrap.describe_share`; ``overconfidence`` (mean confidence minus accuracy) and ``ece``
        (expected calibration error). Of a doubt learnt at ``home`` (from the validation images)
        and ``elsewhere`` (at unseen hospitals of other places): its attributes, ``accepted``,
        ``error_of_accepted``, ``promise`` (kept, broken, or open where the interval holds both),
        ``overconfidence`` and ``ece``. What cannot be told is None, beside ``<name>_reason``.

    Notes
    -----
    No image of a hospital takes part in the doubt that is judged there.

    The expected calibration error is over ten bins of as many images each [1]_. It is never
    negative, so that of few images is too high.

    References
    ----------
    .. [1] K. Nguyen and B. O'Connor, "Posterior calibration and exploratory analysis for natural
       language processing models", Proc. EMNLP (2015), 1587-1598.
    """
    home = fit(valid, classes, rule.error)
    unseen = scored[scored["part"] == "unseen"]
    blocks: dict[str, dict[str, Any]] = {}
    for name, own in scored.groupby("hospital", sort=True):
        hospital = str(name)
        draw = (rule.bootstrap, seed_for(seed, "doubt", hospital))
        block = _describe(measure(own, classes, 1.0), len(classes), *draw)
        block["home"] = _describe_promise(own, classes, home, *draw)
        others = unseen[unseen["hospital"].map(places) != places[hospital]]
        if (own["part"] != "unseen").any() or others.empty:
            reason = ALONE if others.empty else TRAINS
            block |= {"elsewhere": None, "elsewhere_reason": reason}
        else:
            elsewhere = fit(others, classes, rule.error)
            block["elsewhere"] = _describe_promise(own, classes, elsewhere, *draw)
        blocks[hospital] = {"doubt": block}
    return blocks


def fit_for_strangers(
    scored: pd.DataFrame, valid: pd.DataFrame, classes: Sequence[str], wished_error: float
) -> dict[str, Any]:
    """Learn the doubt that pictures of a place outside of the experiment are met with.

    Parameters
    ----------
    scored, valid : pandas.DataFrame, shape (n_images, n_columns)
        As `score` takes them.
    classes : sequence of str
    wished_error : float

    Returns
    -------
    dict
        The attributes of a `Doubt`, ``learnt_from`` and ``hospitals``: of unseen hospitals, which
        are what a stranger is; else of validation images, which promise too much.
    """
    unseen = scored[scored["part"] == "unseen"]
    images, source = (valid, "valid") if unseen.empty else (unseen, "unseen")
    doubt = fit(images, classes, wished_error)
    hospitals = sorted(map(str, images["hospital"].unique()))
    source = source if len(images) else "nothing"
    return vars(doubt) | {"learnt_from": source, "hospitals": hospitals}


def list_reliability(scored: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """List mean confidence beside accuracy, ten bins of each hospital's images.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``confidence``, ``accuracy`` and ``n``.
    """
    pieces = [
        _bin(own).assign(hospital=name, part=part)
        for (name, part), own in measure(scored, classes, 1.0).groupby(["hospital", "part"])
    ]
    return pd.concat(pieces)[["hospital", "part", "confidence", "accuracy", "n"]]


def list_risk(scored: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """List the share of wrong calls among the surest images of each hospital.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``coverage`` (share of the images that are answered) and ``error``
        (of those); twenty rows at most for each hospital.
    """
    pieces = []
    for (name, part), own in measure(scored, classes, 1.0).groupby(["hospital", "part"]):
        n = np.unique(np.ceil(len(own) * np.arange(1, STEPS + 1) / STEPS).astype(int))
        risk = 1 - _rank(own)["right"].cumsum().to_numpy()[n - 1] / n
        piece = pd.DataFrame({"coverage": n / len(own), "error": risk})
        pieces.append(piece.assign(hospital=name, part=part))
    return pd.concat(pieces)[["hospital", "part", "coverage", "error"]]


def _logs(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return log-probabilities, shape (n_images, n_classes)."""
    values = rows[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    return np.asarray(np.log(np.clip(values, SMALLEST, None)))


def _fit_temperature(images: pd.DataFrame, classes: Sequence[str]) -> float:
    logs = _logs(images, classes)
    n, n_classes = logs.shape
    if n_classes == 1:
        return 1.0
    true = logs[np.arange(n), pd.Index(classes).get_indexer(images["label"])]
    unsure = 1 / (n + 2)
    others = (logs.sum(axis=1) - true) / (n_classes - 1)
    wanted = float(((1 - unsure) * true + unsure * others).mean())

    def miss(log_temperature: float) -> float:
        cold = math.exp(-log_temperature)
        return float(logsumexp(cold * logs, axis=1).mean()) - cold * wanted

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = minimize_scalar(miss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x)


def _describe(images: pd.DataFrame, n_classes: int, n_draws: int, seed: int) -> dict[str, Any]:
    """Describe what needs no threshold; `images` as `measure` gives them."""
    confidence, wrong = images["confidence"], ~images["right"]
    median = confidence.nlargest(math.ceil(len(images) / 2)).iloc[-1]
    hits = {
        "error": wrong,
        "error_of_surest_half": wrong[confidence >= median],
        "close": images["close"],
        "close_of_wrong": images.loc[wrong, "close"],
        "top_3": images["in_top"],
    }
    block: dict[str, Any] = {
        name: describe_share(one, images.loc[one.index, "group"], n_draws, seed)
        for name, one in hits.items()
    }
    if n_classes <= TOP:
        block |= {"top_3": None, "top_3_reason": FEW_CLASSES}
    return block | _describe_calibration(images, n_draws, seed)


def _describe_promise(
    rows: pd.DataFrame, classes: Sequence[str], doubt: Doubt, n_draws: int, seed: int
) -> dict[str, Any]:
    """Describe a doubt, and what it is worth on images that it does not know."""
    images = measure(rows, classes, doubt.temperature)
    block = vars(doubt) | _describe_calibration(images, n_draws, seed)
    if doubt.threshold is None:
        return block | dict.fromkeys(("accepted", "error_of_accepted", "promise"))
    del block["reason"]
    accepted = images["confidence"] >= doubt.threshold
    kept = images[accepted]
    error = describe_share(~kept["right"], kept["group"], n_draws, seed)
    block |= {
        "accepted": describe_share(accepted, images["group"], n_draws, seed),
        "error_of_accepted": error,
        "promise": None,
    }
    if error["low"] is not None:
        broken, open_ = (error[end] > doubt.wished_error for end in ("low", "high"))
        block["promise"] = "broken" if broken else "open" if open_ else "kept"
    return block


def _describe_calibration(images: pd.DataFrame, n_draws: int, seed: int) -> dict[str, Any]:
    bins = _bin(images)
    gaps = (bins["confidence"] - bins["accuracy"]).abs()
    return {
        "overconfidence": _describe_overconfidence(images, n_draws, seed),
        "ece": float((gaps * bins["n"]).sum() / bins["n"].sum()),
    }


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
