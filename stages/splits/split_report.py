"""What stands in which part: counts, class shares, sizes against what was asked, and leaks."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.core.params import SplitParams
from stages.core.tables import PARTS
from stages.splits import leaks
from stages.splits.splitting import DRAWN, Plan

CLASS_SHARE_TOLERANCE = 0.02
MAX_PAIRS = 20


def report(split: pd.DataFrame, rule: SplitParams, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """Count what stands where, and measure what leaks.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.SPLIT`, and ``patient`` and ``slide``, empty where not published.
    rule : SplitParams
        What was asked.
    plans : mapping of str to Plan
        How it was done at each hospital that trains (`splitting.plan_hospitals`).

    Returns
    -------
    dict
        ``method``, ``fold`` and, where it differs, the method by hospital; images, groups and
        classes of each part; ``class_shares``: the largest distance of a class's share in a part
        from its share in the hospital; ``sizes``: the share of each part asked for, and how far
        it may lie from what was asked (`describe_sizes`); ``leaks`` (`leaks.measure`);
        ``on_two_sides``: patients, slides and twin clusters in more than one of train, valid and
        test; ``absent``: classes that a part asked for lacks; ``single_group_classes``: those of
        which a hospital has one group; ``conflicting_twins``: twins of different classes.
    """
    used = split[split["part"] != "left_out"]
    sizes = {name: describe_sizes(split, name, plan) for name, plan in plans.items()}
    return {
        "method": rule.method,
        "fold": rule.fold,
        "method_by_hospital": {
            name: plan.method for name, plan in plans.items() if plan.method != rule.method
        },
        "n_images": len(split),
        "n_left_out": int((split["part"] == "left_out").sum()),
        "n_left_out_by_reason": _count_reasons(split["left_out_reason"].dropna()),
        "n_by_part": {part: int((split["part"] == part).sum()) for part in PARTS},
        "n_groups_by_part": {
            part: int(used.loc[used["part"] == part, "group"].nunique()) for part in PARTS[:4]
        },
        "by_hospital": {
            hospital: {
                part: own.loc[own["part"] == part, "label"].value_counts().sort_index().to_dict()
                for part in PARTS
                if (own["part"] == part).any()
            }
            for hospital, own in split.groupby("hospital")
        },
        "class_shares": _class_shares(used),
        "sizes": sizes,
        "absent": list_absent(split, sizes),
        "single_group_classes": _list_single_groups(used),
        "on_two_sides": _count_two_sided(used[used["part"].isin(DRAWN)]),
        "conflicting_twins": _find_conflicts(split),
        "leaks": leaks.measure(split),
    }


def describe_sizes(split: pd.DataFrame, hospital: str, plan: Plan) -> dict[str, dict[str, Any]]:
    """Compare the size of each part asked for with what was asked.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        As `report` takes it.
    hospital : str
        One that trains.
    plan : Plan
        How it was divided.

    Returns
    -------
    dict of str to dict
        By part ``share`` (of all of the hospital's images), ``asked`` and ``tolerance``: how far
        apart the two can be. Where the publisher divides, nothing was asked: None, and a reason.

    Notes
    -----
    How far off can a part be that was dealt as it should, whole groups being what they are? Let
    F_p count the images of part p by class, f_p be its share, and <x, y> the sum over the classes
    of x y / (images of the class). `splitting` gives each group g to the part where the sum over
    the parts of <F_p, F_p> / f_p grows least. Were the part drawn at random, with probabilities
    f_p, the same sum for D_p, the distance of F_p from what is asked, would on average grow by
    (n_parts - 1) <g, g>; with the best part it grows no more. As the D_p add up to nothing, in
    the end <D_p, D_p> is at most f_p (1 - f_p) (n_parts - 1) G, G being the sum of all <g, g>,
    and the share of part p no further off than the root of that over the number of images
    (Cauchy and Schwarz). Where a fold is held back, the rest is dealt anew: both distances add
    up, and for the second G is bounded by the sum over the classes of the largest group. Twins
    that were left out later may have been of any part.
    """
    own = split[split["hospital"] == hospital]
    shares = {part: float((own["part"] == part).mean()) for part in plan.parts}
    if plan.official:
        unasked = {"asked": None, "asked_reason": "its publisher divides the images"}
        return {part: {"share": share, **unasked} for part, share in shares.items()}
    sizes = own.groupby(["label", plan.unit]).size()
    by_class = sizes.groupby("label")
    spread = ((sizes**2).groupby("label").sum() / by_class.sum()).sum() / len(own)
    largest = by_class.max().sum() / len(own)

    def distance(share: float, n_parts: int, spread: float) -> float:
        return math.sqrt(share * (1 - share) * (n_parts - 1) * spread)

    if plan.fold is None:
        errors = {part: distance(plan.shares[part], len(shares), spread) for part in shares}
    else:
        held = distance(1 / plan.folds, plan.folds, spread)
        of_rest = {part: plan.shares[part] / (1 - 1 / plan.folds) for part in shares}
        of_rest[plan.held_part] = 0.0
        errors = {part: held + distance(of_rest[part], 2, largest) for part in shares}
    left_out = float((own["part"] == "left_out").mean())
    return {
        part: {
            "share": share,
            "asked": plan.shares[part],
            # Rounded up, so that the six digits of the metrics cannot make it too small.
            "tolerance": math.floor((errors[part] + left_out) * 10_000 + 1) / 10_000,
        }
        for part, share in shares.items()
    }


def list_absent(split: pd.DataFrame, sizes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List ``hospital/class/part`` of each class that a part asked for does not hold.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``hospital``, ``label`` and ``part``.
    sizes : mapping of str to mapping
        By hospital that trains, the parts asked for.
    """
    held = set(zip(split["hospital"], split["label"], split["part"], strict=True))
    classes = split[["hospital", "label"]].drop_duplicates()
    return sorted(
        f"{hospital}/{label}/{part}"
        for hospital, label in zip(classes["hospital"], classes["label"], strict=True)
        for part in sizes.get(hospital, {})
        if (hospital, label, part) not in held
    )


def _count_reasons(reasons: pd.Series) -> dict[str, int]:
    """Count the reasons without the image that a twin or group names."""
    kinds = reasons.astype(str).str.replace(r"^(twin|group) of .+ in ", r"\1 in ", regex=True)
    return {str(kind): int(n) for kind, n in kinds.value_counts().sort_index().items()}


def _class_shares(used: pd.DataFrame) -> dict[str, object]:
    drawn = used[used["part"].isin(DRAWN)]
    worst, beyond = 0.0, []
    for hospital, own in drawn.groupby("hospital"):
        whole = own["label"].value_counts(normalize=True)
        for part, piece in own.groupby("part"):
            shares = (
                piece["label"].value_counts(normalize=True).reindex(whole.index, fill_value=0.0)
            )
            for label, distance in (shares - whole).abs().items():
                worst = max(worst, float(distance))
                if distance > CLASS_SHARE_TOLERANCE:
                    beyond.append(f"{hospital}/{part}/{label}")
    return {"largest_distance": worst, "tolerance": CLASS_SHARE_TOLERANCE, "beyond": sorted(beyond)}


def _list_single_groups(used: pd.DataFrame) -> list[str]:
    n_groups = used.groupby(["hospital", "label"])["group"].nunique()
    return sorted(f"{hospital}/{label}" for hospital, label in n_groups.index[n_groups == 1])


def _count_two_sided(drawn: pd.DataFrame) -> dict[str, dict[str, int]]:
    counts = {}
    for link, name in (("patient", "patients"), ("slide", "slides"), ("twin", "twin_clusters")):
        sides = drawn["part"].groupby(leaks.identify(drawn, link)).agg(["size", "nunique"])
        if link == "twin":
            sides = sides[sides["size"] > 1]  # an image alone is no cluster
        counts[name] = {"n": len(sides), "n_on_two_sides": int((sides["nunique"] > 1).sum())}
    return counts


def _find_conflicts(split: pd.DataFrame) -> dict[str, object]:
    """Find twin clusters of several classes; of each its first image, and the first of another."""
    ordered = split.sort_values("image_id")
    first = ordered.groupby("twin_group")[["image_id", "label"]].transform("first")
    others = ordered[ordered["label"] != first["label"]].drop_duplicates("twin_group")
    pairs = [
        f"{one} ({label}) and {other} ({another})"
        for one, label, other, another in zip(
            first.loc[others.index, "image_id"],
            first.loc[others.index, "label"],
            others["image_id"],
            others["label"],
            strict=True,
        )
    ]
    return {"n_clusters": len(pairs), "pairs": sorted(pairs)[:MAX_PAIRS]}
