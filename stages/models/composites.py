"""Several models that answer as one: an average, and a cascade of coarse and fine classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stages.core.errors import ModelError, name_some
from stages.models.recipes import CascadeRecipe, EnsembleRecipe

OTHERS = "others"  # what the second model of a cascade calls everything outside of the groups


def average(answers: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of several models' probabilities.

    Parameters
    ----------
    answers : sequence of pandas.DataFrame, each of shape (n_images, n_classes)
        With the same index and the same columns.

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_classes)
    """
    total = answers[0].copy()
    for other in answers[1:]:
        total += other.loc[total.index, total.columns]
    return total / len(answers)


def join(
    recipe: CascadeRecipe | EnsembleRecipe,
    answers: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return what the members' answers, by name, say together."""
    if isinstance(recipe, EnsembleRecipe):
        return average(list(answers.values()))
    return cascade(answers["first"], answers["second"], recipe.groups, classes)


def share_labels(
    recipe: CascadeRecipe | EnsembleRecipe, labels: pd.Series, classes: Sequence[str]
) -> dict[str, tuple[pd.Series, list[str]]]:
    """Return for each member the labels and the classes that it learns.

    Raises
    ------
    ModelError
        A cascade does not fit the classes; see `require_groups`.
    """
    if isinstance(recipe, EnsembleRecipe):
        return {name: (labels, list(classes)) for name in recipe.members}
    require_groups(classes, recipe.groups)
    found = {}
    for name, rename in (("first", merge), ("second", narrow)):
        own = pd.Series(rename(list(labels), recipe.groups), index=labels.index)
        found[name] = (own, sorted(set(rename(list(classes), recipe.groups))))
    return found


def merge(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the coarse labels, those of a cascade's first model: each group is one class."""
    coarse = {name: group for group, names in groups.items() for name in names}
    return [coarse.get(name, name) for name in labels]


def narrow(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the labels of a cascade's second model: the groups' classes, and others."""
    inside = {name for names in groups.values() for name in names}
    return [name if name in inside else OTHERS for name in labels]


def require_groups(classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Check that a cascade fits the classes.

    Raises
    ------
    ModelError
        A group names a class that is none, has the name of a class, or nothing lies outside.
    """
    inside = [name for names in groups.values() for name in names]
    strange = sorted(set(inside) - set(classes))
    if strange:
        raise ModelError(
            f"the cascade's groups name classes that the taxonomy does not have: "
            f"{name_some(strange)}. Classes: {', '.join(classes)}. Choose another taxonomy, or "
            "correct groups in the recipe."
        )
    twice = sorted(set(groups) & set(classes))
    if twice:
        raise ModelError(
            f"the cascade has a group {twice[0]!r}, which is a class of the taxonomy already. "
            "Choose a finer taxonomy, or another name for the group."
        )
    if OTHERS in inside:
        raise ModelError(
            f"the cascade's groups hold a class {OTHERS!r}, which is what its second model calls "
            "everything outside of them. Give the class another name in data/taxonomies.csv."
        )
    if len(inside) == len(classes):
        raise ModelError(
            "every class stands in one of the cascade's groups, so that its second model has "
            "nothing to tell them from. Use a single model, or leave a class out of groups."
        )


def cascade(
    first: pd.DataFrame,
    second: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Ask a coarse model, and a fine one where the coarse one names a group.

    Parameters
    ----------
    first : pandas.DataFrame, shape (n_images, n_coarse)
        Probabilities of the coarse classes, see `merge`.
    second : pandas.DataFrame, shape (n_images, n_fine)
        Probabilities of the groups' classes and of others, see `narrow`.
    groups : mapping of str to sequence of str
        Coarse class to its fine ones.
    classes : sequence of str
        All fine classes, in the order of the result.

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_classes)
        Rows sum to 1.

    Notes
    -----
    Leukopy's rule: if the first model says a group, the second one is asked, among the classes
    of all groups; if that one says others, the first one's answer stands. A group is no class of
    ours, so that what stands then is the group's likeliest class by the second model. Where
    others and a class are equally likely, others is meant: no order of names decides. The
    likeliest class of a row is the answer by this rule; the share of the groups by the first
    model is divided in the proportions of the second, and an image that was asked about keeps
    what lies outside below that.
    """
    # Sums depend on their order in the last bit, and a stored recipe has its keys sorted.
    groups = dict(sorted(groups.items()))
    inside = [name for names in groups.values() for name in names]
    outside = [name for name in classes if name not in inside]
    second = second.loc[first.index]
    said = first.idxmax(axis=1)
    undecided = second[OTHERS] >= second[inside].max(axis=1)
    result = pd.DataFrame(0.0, index=first.index, columns=list(classes))
    result[outside] = first[outside]
    for group, names in groups.items():
        # A second model that gives all of them 0 divides the group equally.
        within = second[list(names)].clip(lower=np.finfo(float).tiny)
        shares = within.div(within.sum(axis=1), axis=0)
        result[list(names)] = shares.mul(first[group], axis=0)
    for group, names in groups.items():  # only now, when the other groups' shares are known too
        kept = undecided & (said == group)
        # The group's answer stands: its classes come before everything else.
        result.loc[kept] = _prefer(result.loc[kept], list(names))
    asked = said.isin(groups) & ~undecided
    fine = second.loc[asked, inside]
    share = first.loc[asked, list(groups)].sum(axis=1)
    spread = fine.div(fine.sum(axis=1), axis=0).mul(share, axis=0)
    result.loc[asked, inside] = spread
    result.loc[asked] = _prefer(result.loc[asked], inside)
    return result.div(result.sum(axis=1), axis=0)


def _prefer(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Lower the other columns where one of them exceeds the largest of `names`."""
    top = rows[list(names)].max(axis=1)
    others = [name for name in rows.columns if name not in names]
    if not others:
        return rows
    highest = rows[others].max(axis=1)
    factor = (0.99 * top / highest.where(highest > 0, 1.0)).clip(upper=1.0)
    lowered = rows.copy()
    lowered[others] = rows[others].mul(factor, axis=0)
    return lowered
