"""Who trains, who tunes, who tests: whole groups, class by class, hospital by hospital."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from stages.core.errors import SplitError, name_some
from stages.core.params import SplitParams, seed_for
from stages.core.tables import PARTS

DRAWN = ("train", "valid", "test")
CLASS_SHARE_TOLERANCE = 0.02


def assign_parts(labels: pd.DataFrame, rule: SplitParams, seed: int) -> pd.Series:
    """Name the part of every picture, keeping each group on one side.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        The kept pictures; needs ``image_id``, ``hospital``, ``label`` and ``group``, no gaps.
    rule : SplitParams
        Pictures of hospitals outside ``rule.train_hospitals`` become ``"unseen"``. Fractions are
        of each class of each training hospital, as far as its groups allow.
    seed : int
        Of the experiment; each hospital's order is drawn with its own, by name.

    Returns
    -------
    pandas.Series of str, shape (n_images,)
        Named ``part``, on the index of `labels`. Depends on the set of pictures of the same
        hospital and the seed: never on row order, the names of classes or other hospitals.

    Raises
    ------
    SplitError
        A hospital has no picture, or a class is missing from the training part.

    Notes
    -----
    Largest groups first, each to the part whose share of the group's classes is filled least.
    Pictures of one patient share smear and camera, so a split by picture measures memory of the
    patient as much as knowledge of the class [1]_.

    References
    ----------
    .. [1] P. W. Koh et al., "WILDS: A Benchmark of in-the-Wild Distribution Shifts", ICML 2021.
    """
    part = pd.Series("unseen", index=labels.index, name="part")
    for hospital in rule.train_hospitals:
        own = labels[labels["hospital"] == hospital]
        if own.empty:
            raise SplitError(
                f"params.yaml, split.train_hospitals: no picture of {hospital!r} is kept in this "
                "taxonomy. Choose another taxonomy, or leave the hospital out."
            )
        drawn = _draw_groups(own, rule, np.random.default_rng(seed_for(seed, "split", hospital)))
        part[own.index] = own["group"].map(drawn)
    return part


def _draw_groups(
    labels: pd.DataFrame, rule: SplitParams, rng: np.random.Generator
) -> dict[str, str]:
    counts = pd.crosstab(labels["group"], labels["label"]).sort_index()
    shuffled = counts.iloc[rng.permutation(len(counts))]
    sizes = shuffled.to_numpy().sum(axis=1)
    ordered = shuffled.iloc[np.argsort(-sizes, kind="stable")]
    fractions = np.array([1 - rule.valid - rule.test, rule.valid, rule.test])
    wanted = np.outer(fractions, counts.to_numpy().sum(axis=0))  # (n_parts, n_classes)
    open_parts = np.flatnonzero(fractions > 0)
    filled = np.zeros_like(wanted)
    drawn = {}
    for group, own in zip(ordered.index, ordered.to_numpy(), strict=True):
        has = own > 0
        # Half of the group counts while choosing, so that rounding favours no part (Webster).
        after = (filled[open_parts][:, has] + own[has] / 2) / wanted[open_parts][:, has]
        chosen = open_parts[np.argmin(np.round(after @ (own[has] / own.sum()), 9))]
        filled[chosen] += own
        drawn[str(group)] = DRAWN[chosen]
    return drawn


def group_twins(
    images: pd.DataFrame, find: Callable[[list[str], list[bytes]], list[str]]
) -> pd.Series:
    """Name the twin cluster of each picture, across hospitals.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``phash`` and ``part``.
    find : callable
        Image ids and hashes to cluster names; ``twins.group_twins``.

    Returns
    -------
    pandas.Series of str, shape (n_images,)
        On the index of `images`. The pictures of the training hospitals are clustered among
        themselves first, and an unseen picture near any of them joins that cluster: it can never
        be the bridge that makes twins of two pictures which are none, and so take one of them
        out of its part.
    """
    everywhere = _cluster(images, find)
    trained = images["part"] != "unseen"
    at_home = _cluster(images[trained], find)
    # The name at home of each cluster that holds a training picture.
    home = at_home.groupby(everywhere[trained]).min()
    return at_home.reindex(images.index).fillna(everywhere.map(home)).fillna(everywhere)


def _cluster(
    images: pd.DataFrame, find: Callable[[list[str], list[bytes]], list[str]]
) -> pd.Series:
    found = find(list(images["image_id"]), list(images["phash"]))
    return pd.Series(found, index=images.index, dtype=object)


def leave_out_twins(images: pd.DataFrame) -> pd.DataFrame:
    """Take out the pictures whose near twin stands on another side.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital``, ``twin_group`` (across hospitals) and ``part``.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        ``part`` and ``left_out_reason`` (None where not left out), on the index of `images`.

    Notes
    -----
    Twins inside one hospital share a group already; this is for pictures that two collections
    publish. Of each cluster the side that comes first in train, valid, test, unseen keeps its
    pictures: no picture changes sides because of another hospital, it can only be left out.
    """
    rank = images["part"].map({name: index for index, name in enumerate(PARTS)})
    best = rank.groupby(images["twin_group"]).transform("min")
    leaves = rank > best
    keeper = images[~leaves].groupby("twin_group")["image_id"].min()
    reason = [
        f"twin of {keeper[twin]} in {PARTS[int(kept)]}" if leaving else None
        for twin, kept, leaving in zip(images["twin_group"], best, leaves, strict=True)
    ]
    return pd.DataFrame(
        {
            "part": images["part"].mask(leaves, "left_out"),
            "left_out_reason": pd.Series(reason, index=images.index, dtype=object),
        }
    )


def require_trainable(split: pd.DataFrame, hospitals: list[str]) -> None:
    """Stop where a class cannot be learnt, or a hospital has nothing to test on.

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
    tested = split[split["part"].isin(["test", "unseen"])]
    for hospital in hospitals:
        if not (tested["hospital"] == hospital).any():
            raise SplitError(
                f"{hospital} has no picture to test on in this taxonomy. Leave it out of "
                "hospitals: in params.yaml, choose another taxonomy, or raise split.test."
            )


def report(split: pd.DataFrame) -> dict[str, object]:
    """Count what stands where, and measure the leaks that are left.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.SPLIT`.

    Returns
    -------
    dict
        Pictures, groups and classes of each part; the largest distance of a class's share in a
        part from its share in the hospital; the share of test pictures that have a twin, or a
        picture of the same group, in the training part. With whole groups, and twins left out,
        both are 0; they measure what a change of the method would let through.
    """
    used = split[split["part"] != "left_out"]
    tested = split[split["part"] == "test"]
    held_back = split[split["part"].isin(["test", "unseen"])]
    trained = split[split["part"] == "train"]
    return {
        "n_images": len(split),
        "n_left_out": int((split["part"] == "left_out").sum()),
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
        "leaks": {
            "share_of_test_with_twin_in_train": _share(
                held_back["twin_group"], trained["twin_group"]
            ),
            "share_of_test_with_group_in_train": _share(tested["group"], trained["group"]),
        },
    }


def _share(tested: pd.Series, trained: pd.Series) -> float | None:
    return float(tested.isin(set(trained)).mean()) if len(tested) else None


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
