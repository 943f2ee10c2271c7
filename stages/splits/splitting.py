"""Who trains, who tunes, who tests: by the chosen method, hospital by hospital."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.core.errors import SplitError, name_some
from stages.core.params import SplitParams
from stages.core.settings import seed_for
from stages.splits.leaks import LEAKY

DRAWN = ("train", "valid", "test")
SIDES = (*DRAWN, "unseen")
# Methods that follow the publisher's own parts, and what is done at a hospital without any.
PUBLISHED = {"cohort": "grouped", "official": "random"}


@dataclass(frozen=True)
class Plan:
    """How the images of one training hospital are divided.

    Attributes
    ----------
    method : str
        As `SplitParams.method`; a method of `PUBLISHED` only where the hospital has parts.
    shares : mapping of str to float
        The share asked of train, valid and test; of the publisher's train part where the
        publisher is followed.
    folds : int
        Number of parts of the cross-validation.
    fold : int, optional
        The part that is held back; None: no cross-validation within this hospital.
    official : mapping of str to str
        Our part for each of the publisher's; empty where the publisher is not followed.
    """

    method: str
    shares: Mapping[str, float]
    folds: int
    fold: int | None
    official: Mapping[str, str]

    @property
    def unit(self) -> str:
        """The column whose values stay whole."""
        return "image_id" if self.method in LEAKY else "group"

    @property
    def held_part(self) -> str:
        """The part that a fold of the cross-validation becomes."""
        return "valid" if self.official else "test"

    @property
    def parts(self) -> list[str]:
        """The parts that are asked for, in the order of `DRAWN`."""
        given = self.official.values()
        return [part for part in DRAWN if self.shares.get(part, 0) > 0 or part in given]


def plan_hospitals(
    rule: SplitParams,
    official_parts: Mapping[str, Mapping[str, str]],
    places: Mapping[str, str],
) -> dict[str, Plan]:
    """Decide how the images of each hospital that trains are divided.

    Parameters
    ----------
    rule : SplitParams
        What is asked.
    official_parts : mapping of str to mapping
        By hospital its ``Layout.official_parts``: our part for each of the publisher's. Only the
        methods of `PUBLISHED` look at it.
    places : mapping of str to str
        By hospital of the experiment the place that it is (`tables.IMAGES`): copies and parts of
        one hospital share it. A hospital that is not named is a place of its own.

    Returns
    -------
    dict of str to Plan
        By hospital. Those that the fold of ``leave_hospitals_out`` leaves out, whole places in
        the order of their first mention, have none, as all others outside
        ``rule.train_hospitals``: they are unseen.

    Raises
    ------
    SplitError
        The folds leave no place, or no image, to train or to test on; or a hospital trains, and
        another one of its place is unseen.
    """
    training = rule.train_hospitals
    if rule.method == "leave_hospitals_out" and rule.fold is not None:
        known = list(dict.fromkeys(places.get(name, name) for name in training))
        held = known[rule.fold :: rule.folds]
        training = [name for name in training if places.get(name, name) not in held]
        if not held or not training:
            raise SplitError(
                f"params.yaml, split.fold: fold {rule.fold} of {rule.folds} leaves {len(held)} of "
                f"the {len(known)} places of train_hospitals out (copies of one hospital are one "
                f"place), and {len(known) - len(held)} train; both must be 1 at least. "
                "Lower folds or fold, or add training hospitals."
            )
    _require_copies_apart(training, places)
    return {name: _plan(rule, official_parts.get(name, {})) for name in training}


def _require_copies_apart(training: list[str], places: Mapping[str, str]) -> None:
    """Raise a SplitError where a hospital trains and another one of its place is unseen."""
    trained = {places.get(name, name): name for name in reversed(training)}
    for hospital, place in places.items():
        if hospital not in training and place in trained:
            raise SplitError(
                f"params.yaml, split.train_hospitals: {trained[place]} trains, and {hospital}, "
                "a copy of the same hospital (same_as in data/hospitals.yaml), is unseen. "
                f"Put {hospital} into train_hospitals, or take {hospital} out of hospitals."
            )


def list_official(labels: pd.DataFrame, rule: SplitParams) -> dict[str, dict[str, str]]:
    """Return for each training hospital which of our parts each of the publisher's is.

    Empty where the method does not follow the publisher. Reads ``hospital``, ``official_part``
    and ``official_side`` of all images, kept or not.
    """
    if rule.method not in PUBLISHED:
        return {}
    told = labels[labels["official_side"].notna() & labels["hospital"].isin(rule.train_hospitals)]
    return {
        str(name): dict(zip(own["official_part"], own["official_side"], strict=True))
        for name, own in told.groupby("hospital")
    }


def _plan(rule: SplitParams, official: Mapping[str, str]) -> Plan:
    method, fold, valid = rule.method, rule.fold, rule.valid
    if method == "leave_hospitals_out":
        return Plan(method, {"train": 1 - valid, "valid": valid}, rule.folds, None, {})
    if method in PUBLISHED and official:
        if fold is not None:  # whatever is published to learn from takes its turn as valid
            official = {name: part.replace("valid", "train") for name, part in official.items()}
            valid = 1 / rule.folds
        return Plan(method, {"train": 1 - valid, "valid": valid}, rule.folds, fold, official)
    test = rule.test if fold is None else 1 / rule.folds
    shares = {"train": 1 - valid - test, "valid": valid, "test": test}
    if shares["train"] < 1e-9:
        raise SplitError(
            f"params.yaml, split.valid: got {valid}; with one of {rule.folds} folds as test "
            "nothing is left to train. Lower valid, or raise folds."
        )
    return Plan(PUBLISHED.get(method, method), shares, rule.folds, fold, {})


def part_unlike(
    images: pd.DataFrame, unlike: Collection[str], reference: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part the pictures that are left out for their colours from those that are divided.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        The kept images; needs ``image_id`` and ``hospital``.
    unlike : collection of str
        The image_id of pictures whose colours are unlike those of the reference.
    reference : str, optional
        The hospital; None where nothing is dropped.

    Returns
    -------
    images, left_out : pandas.DataFrame
        What is divided; and what is not, with ``part``, ``left_out_reason`` and ``twin_group``: a
        picture that reaches no model makes twins of no others.

    Raises
    ------
    SplitError
        A hospital has no picture that is like the reference.
    """
    is_unlike = images["image_id"].isin(unlike)
    alike = images[~is_unlike]
    lost = sorted(set(images["hospital"]) - set(alike["hospital"]))
    if lost:
        n_lost = int((images["hospital"] == lost[0]).sum())
        raise SplitError(
            f"params.yaml, quality.similar: drop leaves none of {lost[0]}'s {n_lost} pictures, as "
            f"their colours are unlike those of {reference}. Raise quality.similar_within, set "
            f"similar to flag, or take {lost[0]} out of hospitals."
        )
    left_out = images[is_unlike]
    reason = f"colours unlike those of {reference}"
    return alike, left_out.assign(
        part="left_out", left_out_reason=reason, twin_group=left_out["image_id"]
    )


def assign_parts(labels: pd.DataFrame, plans: Mapping[str, Plan], seed: int) -> pd.DataFrame:
    """Name the part of every image.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        The kept images, with a unique index; needs ``image_id``, ``hospital``, ``label`` and
        ``group`` without gaps, and ``official_part`` where a plan follows the publisher.
    plans : mapping of str to Plan
        Of `plan_hospitals`. Images of a hospital without a plan become ``"unseen"``.
    seed : int
        Of the experiment; each hospital's order is drawn with its own, by name.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        ``part`` and ``left_out_reason`` (None where not left out), on the index of `labels`.
        Depends on the images of the same hospital, its plan and the seed: never on row order,
        the names of classes or other hospitals. Unless the method is one of `leaks.LEAKY`, no
        group stands on two sides.

    Raises
    ------
    SplitError
        An image has no group, or a hospital with a plan has no image.

    Notes
    -----
    Images of one patient share smear and camera, so a split by image measures memory of the
    patient as much as knowledge of the class [1]_.

    References
    ----------
    .. [1] P. W. Koh et al., "WILDS: A Benchmark of in-the-Wild Distribution Shifts", ICML 2021.
    """
    lost = sorted(labels.loc[labels["group"].isna(), "image_id"])
    if lost:
        raise SplitError(
            f"data/labels.parquet, group: {len(lost)} images have none, first {name_some(lost)}, "
            "so that nobody knows which images share their side. Run 'uv run dvc repro -f "
            "harmonise', which groups them."
        )
    placed = pd.DataFrame({"part": "unseen", "left_out_reason": None}, labels.index, dtype=object)
    for hospital, plan in plans.items():
        own = labels[labels["hospital"] == hospital]
        if own.empty:
            raise SplitError(
                f"params.yaml, split.train_hospitals: no picture of {hospital!r} is kept in this "
                "taxonomy. Choose another taxonomy, or leave the hospital out."
            )
        placed.loc[own.index] = _place(own, plan, seed_for(seed, "split", hospital))
    return placed


def _place(own: pd.DataFrame, plan: Plan, seed: int) -> pd.DataFrame:
    """Give each image of one hospital its part, or the reason why it has none."""
    placed = pd.DataFrame({"part": "train", "left_out_reason": None}, own.index, dtype=object)
    if plan.official:
        placed = _follow_publisher(own, plan)
    # A valid part that is published stays as it is; else it is drawn from what is to train.
    if not (placed["part"] == "valid").any():
        pool = own[placed["part"] == "train"]
        placed.loc[pool.index, "part"] = _divide(pool, plan, seed)
    return placed


def _follow_publisher(own: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Place the images as published; a unit in two parts stays in the later one.

    So the published test part stays whole, and its scores comparable with others'.
    """
    unit, theirs = own[plan.unit], own["official_part"]
    places = {name: float(DRAWN.index(part)) for name, part in plan.official.items()}
    rank = theirs.map(places).astype(float)
    last = rank.groupby(unit).transform("max")
    keeper = own[rank == last].groupby(plan.unit)["image_id"].min()

    def place(name: str, official: object, mine: float, latest: float) -> tuple[str, str | None]:
        if pd.isna(official):
            return "left_out", "no official part"
        if pd.isna(mine):
            return "left_out", f"official part {official} is no part of ours"
        if mine < latest:
            return "left_out", f"group of {keeper[name]} in {DRAWN[int(latest)]}"
        return DRAWN[int(mine)], None

    rows = [place(*row) for row in zip(unit, theirs, rank, last, strict=True)]
    return pd.DataFrame(rows, own.index, ["part", "left_out_reason"], dtype=object)


def _divide(pool: pd.DataFrame, plan: Plan, seed: int) -> pd.Series:
    """Divide by the plan's shares; where there are folds, one is held and the rest divided."""
    if plan.fold is None:
        return _deal(pool, plan.unit, plan.shares, seed)
    even = dict.fromkeys(range(plan.folds), 1 / plan.folds)
    held = _deal(pool, plan.unit, even, seed_for(seed, "folds")) == plan.fold
    rest = {part: share for part, share in plan.shares.items() if part != plan.held_part}
    return _deal(pool[~held], plan.unit, rest, seed).reindex(pool.index, fill_value=plan.held_part)


def _deal(images: pd.DataFrame, unit: str, shares: Mapping[Any, float], seed: int) -> pd.Series:
    """Deal whole units to parts: largest first, each to the part that its classes fill least.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``label`` and the column `unit`.
    unit : str
        The column whose values stay whole.
    shares : mapping of any to float
        Parts and the shares of every class that they want, as far as whole units allow. Only
        their proportions count. Of parts that are filled alike, the first gets the unit; where
        all shares are equal, the one with the fewest images.
    seed : int
        Of the order of units of one size.

    Returns
    -------
    pandas.Series, shape (n_images,)
        The part of each image, on the index of `images`.
    """
    place, names = pd.factorize(images[unit], sort=True)
    kind, classes = pd.factorize(images["label"], sort=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (place, kind), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    parts = [part for part, share in shares.items() if share > 0]
    asked = np.array([shares[part] for part in parts])
    is_even = (asked == asked[0]).all()
    wanted = np.outer(asked, counts.sum(axis=0))  # (n_parts, n_classes)
    filled = np.zeros_like(wanted)
    dealt = np.empty(len(names), dtype=object)
    for index in order:
        has = np.flatnonzero(counts[index])
        own = counts[index, has]
        # Half of the unit counts while choosing, so that rounding favours no part (Webster).
        after = (filled[:, has] + own / 2) / wanted[:, has]
        level = np.round(after @ (own / own.sum()), 9)
        tied = np.flatnonzero(level == level.min())
        # Or else the first fold would get the odd image of every class.
        chosen = tied[np.argmin(filled[tied].sum(axis=1))] if is_even else tied[0]
        filled[chosen, has] += own
        dealt[index] = parts[chosen]
    return pd.Series(dealt[place], index=images.index)


def group_twins(
    images: pd.DataFrame, find: Callable[[list[str], list[bytes]], list[str]]
) -> pd.Series:
    """Name the twin cluster of each picture, across hospitals.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``phash`` and ``part``.
    find : callable
        Image ids and hashes to cluster names; ``near_duplicates.group_twins``.

    Returns
    -------
    pandas.Series of str, shape (n_images,)
        On the index of `images`. The pictures of the training hospitals are clustered among
        themselves first, and an unseen picture near any of them joins such a cluster: it can never
        be the bridge that makes twins of two pictures which are none, and so take one of them
        out of its part. Of several clusters it joins that of the side that comes first, train
        before all, and one of which everything is left out last.
    """
    everywhere = _cluster(images, find)
    trained = images["part"] != "unseen"
    at_home = _cluster(images[trained], find)
    # The name at home of each cluster that holds a training picture.
    known = pd.DataFrame({"rank": _rank(images["part"][trained]), "name": at_home})
    first = known.sort_values(["rank", "name"])  # what is left out has no rank, and comes last
    home = first["name"].groupby(everywhere[first.index]).first()
    return at_home.reindex(images.index).fillna(everywhere.map(home)).fillna(everywhere)


def _rank(parts: pd.Series) -> pd.Series:
    """Return the place of each part among the sides; missing where an image is left out."""
    return parts.map({name: place for place, name in enumerate(SIDES)})


def _cluster(
    images: pd.DataFrame, find: Callable[[list[str], list[bytes]], list[str]]
) -> pd.Series:
    found = find(list(images["image_id"]), list(images["phash"]))
    return pd.Series(found, index=images.index, dtype=object)


def leave_out_twins(images: pd.DataFrame) -> pd.DataFrame:
    """Take out the images whose near twin stands on another side.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``twin_group`` (across hospitals), ``part`` and ``left_out_reason``.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        ``part`` and ``left_out_reason`` (None where not left out), on the index of `images`.

    Notes
    -----
    Twins inside one hospital share a group already; this is for images that two collections
    publish. Of each cluster the side that comes first in train, valid, test, unseen keeps its
    images: no image changes sides because of another hospital, it can only be left out.
    """
    rank = _rank(images["part"])
    best = rank.groupby(images["twin_group"]).transform("min")
    keeper = images[rank == best].groupby("twin_group")["image_id"].min()
    leaves = rank > best  # never where the image is left out already, and so has no rank
    reason = [
        f"twin of {keeper[twin]} in {SIDES[int(kept)]}" if leaving else known
        for twin, kept, leaving, known in zip(
            images["twin_group"], best, leaves, images["left_out_reason"], strict=True
        )
    ]
    return pd.DataFrame(
        {
            "part": images["part"].mask(leaves, "left_out"),
            "left_out_reason": pd.Series(reason, index=images.index, dtype=object),
        }
    )


def require_trainable(split: pd.DataFrame, hospitals: list[str], plans: Mapping[str, Plan]) -> None:
    """Stop where a class cannot be learnt, or a hospital has nothing to test on.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``hospital``, ``label``, ``part`` and ``left_out_reason``.
    hospitals : list of str
        All of the experiment. Each must be tested, except those that train while others are
        left out for the test.
    plans : mapping of str to Plan
        Of `plan_hospitals`.

    Raises
    ------
    SplitError
        Names the classes or the hospital, and the way out.
    """
    learnt = set(split.loc[split["part"] == "train", "label"])
    unlearnt = split[~split["label"].isin(learnt) & (split["part"] != "left_out")]
    if len(unlearnt):
        where = sorted(set(unlearnt["hospital"]))
        raise SplitError(
            f"no picture of {name_some(sorted(set(unlearnt['label'])))} is in the training part, "
            f"but {name_some(where)} has {len(unlearnt)} of them. Add a training hospital that "
            "has the class, choose a taxonomy without it, or lower split.valid and split.test."
        )
    tested = set(split.loc[split["part"].isin(["test", "unseen"]), "hospital"])
    for hospital in hospitals:
        plan = plans.get(hospital)
        if hospital not in tested and (plan is None or plan.method != "leave_hospitals_out"):
            reasons = split.loc[split["hospital"] == hospital, "left_out_reason"]
            if len(reasons) and reasons.astype(str).str.startswith("twin of").all():
                raise SplitError(
                    f"all pictures of {hospital} are copies of other hospitals', as "
                    f"{reasons.iloc[0]}. Take {hospital} out of hospitals: in params.yaml."
                )
            raise SplitError(
                f"{hospital} has no picture to test on in this taxonomy. Leave it out of "
                f"hospitals: in params.yaml, or choose another taxonomy{_way_to_test(plan)}."
            )
    if not tested:
        raise SplitError(
            "params.yaml, split: leave_hospitals_out tests the hospitals that do not train, and "
            f"all of them train: {name_some(sorted(plans))}. Take one out of train_hospitals, or "
            "choose a fold."
        )


def _way_to_test(plan: Plan | None) -> str:
    if plan is None:
        return ""
    if plan.official:
        return ", or name its published test part (layout.official_parts in data/hospitals.yaml)"
    return ", or raise split.test" if plan.fold is None else ", or lower split.folds"
