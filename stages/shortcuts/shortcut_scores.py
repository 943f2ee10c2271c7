"""How well what must not matter tells class and hospital, and which classes it gives away."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from stages.core.settings import seed_for
from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import METHOD, Array, bounds, count_by_group, redraw
from stages.evaluation.metrics import METRICS
from stages.evaluation.roc import count_by_score, draw_weights, weighted_auc
from stages.shortcuts import contingency
from stages.shortcuts.probing import ASIDE, TOGETHER, Answers, Codes, Flags, Question, answer, ask

MIN_IMAGES = 10  # of a class, and of the others, before an alarm is raised
MIN_GROUPS = 3  # the same in groups
STRAYS = 0.01  # share of the rest that is taken for a class where a part of the class is told
FEWEST_STRAYS = 3  # images; fewer may come last among the rest by chance
TIMES = 5  # a part is named from so many times the share that chance tells
N_DRAWS = 200
EVERYWHERE = "all hospitals"
LAST_SEEN = ("seen", TOGETHER)
WHAT_TELLS = {
    "size": "the size of the image",
    "file": "the way the file was written",
    "position": "the place of the cell",
    "colour": "the colour around the cell",
    "corners": "the colour of the corners",
    "background": "the background",
    TOGETHER: "all that is around the cell",
}


def weighted_share(scores: Array, positive: Flags, weights: Array, strays: float) -> Array:
    """Compute which share of a class is told before some of the rest is taken for it.

    Parameters
    ----------
    scores, positive, weights
        As `weighted_auc` takes them.
    strays : float
        Share of all other images that may be called so too, 0..1.

    Returns
    -------
    numpy.ndarray, shape (n_draws,)
        Recall of the class, 0..1, where `strays` of all other images are called so too; `strays`
        itself where the scores tell nothing. Equal scores are called in equal shares. NaN where a
        draw lacks the class or the rest.

    Notes
    -----
    A marker that is on a share s of a class, and on nothing else, gives an AUC of .5 + s / 2,
    the same as a vague likeness of all images; but it gives a recall of s with no false call.
    """
    own, rest = count_by_score(-scores, positive, weights)
    n_own, n_rest = own.sum(axis=1), rest.sum(axis=1)
    before = np.cumsum(rest, axis=1) - rest
    # Of each score as large a part is called as the strays that are left allow.
    left = np.clip(strays * n_rest[:, None] - before, 0, rest)
    part = np.divide(left, rest, out=np.ones_like(rest), where=rest > 0)
    part[before > strays * n_rest[:, None]] = 0
    told = (part * own).sum(axis=1)
    is_known = (n_own > 0) & (n_rest > 0)
    shares: Array = np.divide(told, n_own, out=np.full(len(told), np.nan), where=is_known)
    return shares


def score(question: Question, answers: Answers, seed: int) -> dict[str, dict[str, Any]]:
    """Score the answers of each family.

    Returns
    -------
    dict
        By level and family: ``balanced_accuracy`` and ``auc`` (mean over the classes, each against
        the rest) with ``value``, ``low`` and ``high``, ``baseline`` (what a constant answer gets)
        and the sizes.
    """
    n_classes = len(question.names)
    weights = draw_weights(question.groups, N_DRAWS, seed)
    scores: dict[str, dict[str, Any]] = {}
    for (level, family), probabilities in answers.items():
        cells = question.truth * n_classes + probabilities.argmax(axis=1)
        grouped = count_by_group(cells, pd.Series(question.groups), n_classes**2)
        observed = grouped.total.reshape(n_classes, n_classes)
        drawn = redraw(grouped, N_DRAWS, seed).reshape(-1, n_classes, n_classes)
        metric = METRICS["balanced_accuracy"]
        areas = [
            _measure(weighted_auc, probabilities[:, place], question.truth == place, weights)
            for place in range(n_classes)
        ]
        points, draws = zip(*areas, strict=True)
        scores.setdefault(level, {})[family] = {
            "balanced_accuracy": _with_bounds(float(metric(observed)), metric(drawn, observed)),
            "auc": _with_bounds(float(np.mean(points)), np.mean(draws, axis=0)),
            "baseline": {"balanced_accuracy": 1 / n_classes, "auc": 0.5},
            "n_classes": n_classes,
            "n_images": len(question.truth),
            "n_groups": question.n_groups,
        }
    return scores


def list_unjudged(labelled: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Name the classes of which there is too little to raise an alarm about.

    Parameters
    ----------
    labelled : pandas.DataFrame, shape (n_images, n_columns)
        ``label`` and ``group`` of the images of one hospital, or of all.

    Returns
    -------
    dict
        By class: ``reason``, and ``n_images`` and ``n_groups`` of the class.

    Notes
    -----
    The fewer groups a class has, the easier they look alike by chance, and the bootstrap cannot
    know. Of drawn tables where every group held one class and looks followed the groups alone,
    480 looks at a class gave 7 false alarms with two groups a class, 2 with three, 1 with four and
    none with five; where every group held all classes, 2400 looks gave none.
    """
    refused = {}
    for name in sorted(labelled["label"].unique()):
        is_own = labelled["label"] == name
        for own, what in ((is_own, "of it"), (~is_own, "of other classes")):
            sizes = {"n_images": int(own.sum()), "n_groups": labelled["group"][own].nunique()}
            if sizes["n_images"] < MIN_IMAGES:
                reason = f"{sizes['n_images']} images {what}; {MIN_IMAGES} are needed"
            elif sizes["n_groups"] < MIN_GROUPS:
                reason = f"{sizes['n_groups']} groups {what}; {MIN_GROUPS} are needed"
            else:
                continue
            groups = labelled["group"][is_own].nunique()
            refused[name] = {"reason": reason, "n_images": int(is_own.sum()), "n_groups": groups}
            break
    return refused


def find_alarms(
    question: Question,
    answers: Answers,
    unjudged: Collection[str],
    hospital: str | None,
    alarm: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Name the classes that a family tells from the rest.

    Parameters
    ----------
    question : Question
    answers : dict
        What `answer` returned.
    unjudged : collection of str
        Classes to pass over; `list_unjudged`.
    hospital : str, optional
        Where all images come from; None: from all training hospitals.
    alarm : float
        A class is named where the lower end of its AUC reaches this, or that of the share of it
        that is told alone (`weighted_share`) reaches `TIMES` what chance tells.
    seed : int
        For the intervals.

    Returns
    -------
    list of dict
        ``hospital``, ``class``, ``level``, ``family``, ``auc``, ``low``, ``high``, ``n`` images and
        ``n_groups`` of the class; and where only a part of the class is told, ``share`` with
        ``value``, ``low`` and ``high``, and ``strays``, the share of the rest taken for it. Sorted.

    Notes
    -----
    A perfect marker of a share s of a class gives an AUC of .5 + s / 2, so that the AUC alone is
    silent below s = .6; a marker that the rest bears and the class lacks leaves the share low. So
    both are looked at, the share from `bootstrap.MIN_GROUPS` groups of the class on: a few slides
    of one class always share something. How often a planted marker is found, and how often there
    is an alarm where nothing is: ``python -m tests.bench.bench_alarm``. What tells other classes
    tells this one by exclusion: leaving the AUC below .8, of up to 2.5 times what chance tells.
    """
    weights = draw_weights(question.groups, N_DRAWS, seed)
    alarms = []
    for place, name in enumerate(question.names):
        if name in unjudged:
            continue
        positive = question.truth == place
        n_groups = len(np.unique(question.groups[positive]))
        strays = max(STRAYS, FEWEST_STRAYS / max(int((~positive).sum()), 1))
        for (level, family), probabilities in answers.items():
            if family in ASIDE:
                continue
            area, share = (
                _with_bounds(*_measure(measure, probabilities[:, place], positive, weights))
                for measure in (weighted_auc, partial(weighted_share, strays=strays))
            )
            is_whole = area["low"] >= alarm
            is_part = n_groups >= bootstrap.MIN_GROUPS and share["low"] >= TIMES * strays
            if is_whole or is_part:
                alarms.append(
                    {
                        "hospital": hospital, "class": name, "level": level, "family": family,
                        "auc": area["value"], "low": area["low"], "high": area["high"],
                        "n": int(positive.sum()),
                        "n_groups": n_groups,
                        **({} if is_whole else {"share": share | {"strays": strays}}),
                    }
                )  # fmt: skip
    return sorted(alarms, key=lambda one: (one["class"], one["level"], one["family"]))


def report(
    images: pd.DataFrame,
    measures: pd.DataFrame,
    counts: pd.DataFrame,
    by_image: bool,
    alarm: float,
    seed: int,
) -> dict[str, Any]:
    """Ask the simple models for class and hospital; lay out metrics/probe.json.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        The measured images: ``image_id``, ``hospital``, ``group``, and ``label``, which is None
        where it must not be read.
    measures : pandas.DataFrame, shape (n_images, n_measures)
        By image_id; columns ``<level>/<family>/<measure>``.
    counts : pandas.DataFrame
        What `count_classes` returned for all images to learn from, measured or not.
    by_image : bool
        Hold out single images, not groups.
    alarm : float
        AUC from which a class is reported, by the lower end of its interval.
    seed : int
        Of the experiment.

    Returns
    -------
    dict
        ``scores``, ``shortcut_score``, ``hospital_told``, ``contingency``, ``alarms``,
        ``not_judged``, ``warnings`` and the sizes. Alarms of a hospital come from models of its
        own images alone, so that no other hospital changes them; those of hospital None come
        from the models of all training hospitals together.
    """
    rows = images.set_index("image_id").sort_index()
    labelled = rows[rows["label"].notna()]
    told = _tell_classes(labelled, measures, by_image, alarm, seed)
    together = contingency.describe_contingency(counts)
    seen = [one for one in told["alarms"] if one["level"] == "seen"]
    return {
        **told,
        **_tell_hospitals(rows, measures, by_image, seed),
        "contingency": together,
        "warnings": [
            *contingency.say_contingency(together),
            *say_alarms(seen),
            *_warn_of_groups(told["not_judged"]),
        ],
        "n_images": {"labelled": len(labelled), "all": len(rows)},
        "n_images_by_hospital": rows["hospital"].value_counts().sort_index().to_dict(),
        "held_out_by": "image" if by_image else "group",
        "interval": METHOD,
        "n_draws": N_DRAWS,
        "alarm": alarm,
    }


def list_scores(content: Mapping[str, Any]) -> pd.DataFrame:
    """List the scores of what `report` returned, as a plot takes them.

    Returns
    -------
    pandas.DataFrame
        ``level``, ``family``, ``target`` (class or hospital), ``balanced_accuracy``, ``low``,
        ``high``, ``auc`` and ``baseline`` (of the balanced accuracy); sorted.
    """
    rows = [
        {
            "level": level,
            "family": family,
            "target": target,
            "balanced_accuracy": entry["balanced_accuracy"]["value"],
            "low": entry["balanced_accuracy"]["low"],
            "high": entry["balanced_accuracy"]["high"],
            "auc": entry["auc"]["value"],
            "baseline": entry["baseline"]["balanced_accuracy"],
        }
        for target, scores in (("class", content["scores"]), ("hospital", content["hospital_told"]))
        for level, entries in sorted((scores or {}).items())
        for family, entry in sorted(entries.items())
    ]
    columns = ["level", "family", "target", "balanced_accuracy", "low", "high", "auc", "baseline"]
    return pd.DataFrame(rows, columns=columns)


def say_alarms(alarms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in plain words, once for each hospital and class, what tells the class.

    Parameters
    ----------
    alarms : sequence of dict
        As in metrics/probe.json.

    Returns
    -------
    list of str
        One family is named: one that the network sees before a published one, a single family
        before all together, one that tells the whole class before a part of it, then that of the
        highest lower end.
    """
    lines = []
    found: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for one in alarms:
        found.setdefault((one["hospital"], one["class"]), []).append(one)
    for (hospital, name), own in found.items():
        best = max(own, key=_rank)
        where = f"At {hospital}" if hospital else "Over all training hospitals"
        when = "even after" if best["level"] == "seen" else "but not after"
        lines.append(
            f"{where} {WHAT_TELLS.get(best['family'], best['family'])} tells "
            f"{_say_told(name, best)}, {when} preparation."
        )
    return lines


def _rank(alarm: Mapping[str, Any]) -> tuple[bool, bool, bool, float]:
    told = alarm.get("share", alarm)
    return (
        alarm["level"] == "seen", alarm["family"] != TOGETHER, "share" not in alarm, told["low"],
    )  # fmt: skip


def _say_told(name: str, alarm: Mapping[str, Any]) -> str:
    if "share" not in alarm:
        area = f"AUC {alarm['auc']:.2f}, {alarm['low']:.2f} to {alarm['high']:.2f}"
        return f"{name} from the rest ({area}, n {alarm['n']})"
    share = alarm["share"]
    return (
        f"a part of {name} from the rest ({share['value']:.0%}, {share['low']:.0%} to "
        f"{share['high']:.0%}, n {alarm['n']}; {share['strays']:.0%} of the rest is taken for it)"
    )


def _tell_classes(
    labelled: pd.DataFrame, measures: pd.DataFrame, by_image: bool, alarm: float, seed: int
) -> dict[str, Any]:
    """Ask for the class: over all training hospitals, and at each by itself."""
    hospitals = sorted(labelled["hospital"].unique())
    content: dict[str, Any] = {"alarms": [], "not_judged": {}}
    everywhere: list[str | None] = [None, *hospitals] if len(hospitals) > 1 else hospitals
    for hospital in everywhere:
        own = labelled if hospital is None else labelled[labelled["hospital"] == hospital]
        start = seed_for(seed, "probe", "class", hospital or "")
        question = ask(own["label"], own["group"], by_image, start)
        answers = answer(question, measures, start) if len(question.names) > 1 else {}
        unjudged = list_unjudged(own)
        content["not_judged"][hospital or EVERYWHERE] = unjudged
        content["alarms"] += find_alarms(question, answers, unjudged, hospital, alarm, start)
        if len(own) == len(labelled):
            content["not_held_out"] = question.left_out
            content |= _score_classes(question, answers, own["hospital"], start)
    content["n_alarms"] = len(content["alarms"])
    return content


def _score_classes(
    question: Question, answers: Answers, hospitals: pd.Series, seed: int
) -> dict[str, Any]:
    if not answers:
        reason = "fewer than two classes can be held out"
        names = ("scores", "shortcut_score")
        return dict.fromkeys(names) | {f"{name}_reason": reason for name in names}
    scores = score(question, answers, seed)
    if LAST_SEEN not in answers:
        reason = "preparation leaves nothing around the cell to see"
        return {"scores": scores, "shortcut_score": None, "shortcut_score_reason": reason}
    level, family = LAST_SEEN
    predicted = answers[LAST_SEEN].argmax(axis=1)
    where = hospitals.loc[question.image_ids].to_numpy()
    by_hospital = {
        str(name): _score_hospital(question, predicted, where == name)
        for name in sorted(hospitals.unique())
    }
    return {
        "scores": scores,
        "shortcut_score": scores[level][family] | {"by_hospital": by_hospital},
    }


def _score_hospital(question: Question, predicted: Codes, here: Flags) -> dict[str, Any]:
    """Score the images of one hospital over the classes that it holds."""
    n_classes = len(question.names)
    cells = question.truth[here] * n_classes + predicted[here]
    counts = np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)
    held = int((counts.sum(axis=1) > 0).sum())
    entry: dict[str, Any] = {"n_images": int(here.sum()), "n_classes": held}
    if not held:
        reason = "no class of this hospital can be held out"
        return entry | {"balanced_accuracy": None, "balanced_accuracy_reason": reason}
    value = float(METRICS["balanced_accuracy"](counts))
    return entry | {"balanced_accuracy": value, "baseline": 1 / held}


def _tell_hospitals(
    rows: pd.DataFrame, measures: pd.DataFrame, by_image: bool, seed: int
) -> dict[str, Any]:
    """Ask for the hospital, of images of all parts: the hospital is no label."""
    start = seed_for(seed, "probe", "hospital")
    question = ask(rows["hospital"], rows["group"], by_image, start)
    if len(question.names) > 1:
        told = score(question, answer(question, measures, start), start)
        return {"hospital_told": told, "hospitals_not_held_out": question.left_out}
    reason = "fewer than two hospitals can be held out"
    if rows["hospital"].nunique() < 2:
        reason = "there is one hospital"
    return {
        "hospital_told": None,
        "hospital_told_reason": reason,
        "hospitals_not_held_out": question.left_out,
    }


def _warn_of_groups(not_judged: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which classes come from so few groups that group and class cannot be told apart."""
    return [
        f"At {hospital} all {entry['n_images']} measured images of {name} come from "
        f"{entry['n_groups']} slides, patients or other groups: whether these or the cells are "
        "learnt cannot be known."
        for hospital, classes in not_judged.items()
        if hospital != EVERYWHERE
        for name, entry in classes.items()
        if entry["n_images"] >= MIN_IMAGES and entry["n_groups"] < MIN_GROUPS
    ]


def _measure(
    measure: Callable[[Array, Flags, Array], Array], scores: Array, positive: Flags, weights: Array
) -> tuple[float, Array]:
    """Return what is observed of one class and of each draw; the former where a draw lacks it."""
    observed = float(measure(scores, positive, np.ones((1, len(scores))))[0])
    draws = measure(scores, positive, weights)
    return observed, np.where(np.isnan(draws), observed, draws)


def _with_bounds(value: float, draws: Array) -> dict[str, float]:
    low, high = bounds(draws)
    return {"value": value, "low": low, "high": high}
