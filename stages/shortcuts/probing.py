"""Simple models on what must not matter: how well it tells the class, and the hospital.

The measures are columns named ``<level>/<family>/<measure>``. For each family of a level a simple
model answers every image without having seen its group; `all` is the mean of a level's families.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.preprocessing import StandardScaler

from stages.core.settings import seed_for
from stages.evaluation.bootstrap import Array

Codes: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Family: TypeAlias = tuple[str, str]  # level and family
Answers: TypeAlias = dict[Family, Array]  # probabilities, shape (n_images, n_classes)


FOLDS = 5
TREES, MIN_LEAF = 30, 5
SHRINKAGE = 0.1
LINEAR = "background"  # the family whose many measures are pixels of one small image
TOGETHER = "all"
ASIDE = ("bytes",)  # families that know the cell: they raise no alarm and are not in `all`
ALL_AT_ONCE = "too few groups: all its images are held out at once, none is left to learn from"


@dataclass(frozen=True)
class Question:
    """Which class each image is of, and when each image is held out.

    Attributes
    ----------
    image_ids : pandas.Index, shape (n_images,)
        The images of a class that can be held out, sorted.
    names : list of str, length n_classes
        Classes, or hospitals.
    truth, groups, folds : numpy.ndarray of int64, shape (n_images,)
        Class, group, and fold in which the image is held out.
    left_out : dict of str to str
        Classes that cannot be held out, each with the reason.
    """

    image_ids: pd.Index
    names: list[str]
    truth: Codes
    groups: Codes
    folds: Codes
    left_out: dict[str, str]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.groups))


def draw(images: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Choose at most `n` images, evenly over the classes of each hospital.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital`` and ``label``. Images whose label is not read have None;
        those of one hospital count as one class.
    n : int
        How many to choose.
    seed : int
        Of the experiment.

    Returns
    -------
    pandas.DataFrame
        The chosen rows, sorted by image_id. Where a class has fewer images than its share, the
        other classes get more.
    """
    lots = [seed_for(seed, "probe", image_id) for image_id in images["image_id"]]
    shuffled = images.assign(lot=lots).sort_values(["lot", "image_id"])
    label = shuffled["label"].fillna("")
    shuffled["turn"] = shuffled.groupby([shuffled["hospital"], label]).cumcount()
    chosen = shuffled.sort_values(["turn", "lot", "image_id"]).head(n)
    return chosen.drop(columns=["lot", "turn"]).sort_values("image_id", ignore_index=True)


def ask(truth: pd.Series, groups: pd.Series, by_image: bool, seed: int) -> Question:
    """Deal the images into folds for a question.

    Parameters
    ----------
    truth : pandas.Series of str, shape (n_images,)
        Class of each image, by image_id. None: the image takes no part.
    groups : pandas.Series of str, shape (n_images,)
        On the same index.
    by_image : bool
        Hold out single images, as a split method does that is leaky by name.
    seed : int
        For the order of the groups.

    Returns
    -------
    Question
        Without the classes whose groups all fall into one fold, as a single group must: nobody
        could answer them. Depends on neither the order of the rows nor the names of classes and
        groups.

    Notes
    -----
    Where every slide holds one class, a class of two slides is learnt from one and asked about
    the other; a fold then lacks some classes, which changes nothing, because answers are judged
    over all folds together.
    """
    truth = truth.dropna().sort_index()
    names, codes = _number(truth)
    _, ids = _number(groups.loc[truth.index])
    folds = _deal(codes, np.arange(len(codes)) if by_image else ids, seed)
    is_out = [len(np.unique(folds[codes == place])) < 2 for place in range(len(names))]
    keep = ~np.isin(codes, np.flatnonzero(is_out))
    renumbered = np.cumsum(np.logical_not(is_out)) - 1
    return Question(
        truth.index[keep],
        [name for name, out in zip(names, is_out, strict=True) if not out],
        renumbered[codes[keep]].astype(np.int64),
        ids[keep],
        folds[keep],
        {name: ALL_AT_ONCE for name, out in zip(names, is_out, strict=True) if out},
    )


def answer(question: Question, measures: pd.DataFrame, seed: int) -> Answers:
    """Let a simple model of each family answer every image that it did not learn from.

    Parameters
    ----------
    question : Question
        At least two classes.
    measures : pandas.DataFrame, shape (n_images, n_measures)
        By image_id; columns ``<level>/<family>/<measure>``.
    seed : int
        For the trees.

    Returns
    -------
    dict of (level, family) to numpy.ndarray, shape (n_images, n_classes)
        Probabilities, rows as in `question`. The family `all` of a level is the mean of its
        families but those of `ASIDE`.

    Notes
    -----
    The background is a small image, whose squares matter together: standardised linear
    discriminants with a shrunk covariance and equal priors. On real backgrounds they told as much
    as a logistic regression in a fifth of the time, and need no number of steps. The other
    families hold few measures, some of them discrete (one odd size among many): extremely
    randomised trees [1]_ with balanced weights. On real images the mean over families told more
    than one model of all measures, in which a few telling ones drown among hundreds.

    References
    ----------
    .. [1] P. Geurts, D. Ernst and L. Wehenkel, "Extremely randomized trees", Machine Learning 63
       (2006), 3-42.
    """
    rows = measures.loc[question.image_ids]
    columns: dict[Family, list[str]] = {}
    for name in sorted(measures.columns):
        level, family, _ = name.split("/", 2)
        columns.setdefault((level, family), []).append(name)
    answers: Answers = {}
    for level in sorted({level for level, _ in columns}):
        own = {key: names for key, names in columns.items() if key[0] == level}
        for (_, family), names in own.items():
            x = rows[names].to_numpy(np.float64)
            start = seed_for(seed, level, family)
            answers[level, family] = _answer_family(question, x, family, start)
        asked = [answers[key] for key in own if key[1] not in ASIDE]
        answers[level, TOGETHER] = np.mean(asked, axis=0)
    return answers


def _number(values: pd.Series) -> tuple[list[str], Codes]:
    """Give numbers to values as they appear by image, so that their names do not matter."""
    codes, names = pd.factorize(values)
    return [str(name) for name in names], codes.astype(np.int64)


def _deal(codes: Codes, groups: Codes, seed: int) -> Codes:
    """Deal whole groups into folds, the largest first.

    Each group goes where its classes are filled least, a rare class counting as much as a common
    one: two groups of a rare class so come into two folds, whatever else they hold.
    """
    counts = pd.crosstab(groups, codes)
    table, names = counts.to_numpy(), counts.index.to_numpy()
    shuffled = np.random.default_rng(seed).permutation(len(names))
    largest_first = shuffled[np.argsort(-table[shuffled].sum(axis=1), kind="stable")]
    shares = table / table.sum(axis=0)
    filled = np.zeros((FOLDS, table.shape[1]))
    chosen = np.zeros(len(names), np.int64)
    for place in largest_first:
        full = filled[:, table[place] > 0].sum(axis=1)
        chosen[place] = int(np.argmin(np.round(full, 9)))
        filled[chosen[place]] += shares[place]
    return chosen[np.searchsorted(names, groups)]


def _answer_linear(x: Array, truth: Codes, asked: Array, n_classes: int) -> Array:
    """Return class probabilities by linear discriminants of standardised measures.

    A measure that never changed tells nothing, whatever it is in the images that are asked about.
    """
    varies = np.ptp(x, axis=0) > 0
    if not varies.any():
        return np.full((len(asked), n_classes), 1 / n_classes)
    discriminants = LinearDiscriminantAnalysis(
        "lsqr", shrinkage=SHRINKAGE, priors=np.full(n_classes, 1 / n_classes)
    )
    scaler = StandardScaler().fit(x[:, varies])
    # A lone picture counts twice: with the same mean and still no spread it changes nothing, but
    # scikit-learn prints a warning of each class of one.
    lone = np.flatnonzero(np.bincount(truth)[truth] == 1)
    learnt = np.concatenate([np.arange(len(truth)), lone])
    discriminants.fit(scaler.transform(x[:, varies])[learnt], truth[learnt])
    probabilities: Array = discriminants.predict_proba(scaler.transform(asked[:, varies]))
    return probabilities


def _answer_trees(x: Array, truth: Codes, asked: Array, seed: int) -> Array:
    """Return class probabilities by extremely randomised trees; NaN is a value of its own."""
    trees = ExtraTreesClassifier(
        TREES, min_samples_leaf=MIN_LEAF, class_weight="balanced", random_state=seed
    )
    probabilities: Array = trees.fit(x, truth).predict_proba(asked)
    return probabilities


def _answer_family(question: Question, x: Array, family: str, seed: int) -> Array:
    """Return the probabilities of each class, each fold answered by a model of the others."""
    n_classes = len(question.names)
    probabilities = np.full((len(x), n_classes), 1 / n_classes)
    if (x == x[0]).all():
        return probabilities
    for fold in np.unique(question.folds):
        out = question.folds == fold
        learnt = x[~out], question.truth[~out], x[out]
        probabilities[out] = (
            _answer_linear(*learnt, n_classes) if family == LINEAR else _answer_trees(*learnt, seed)
        )
    return probabilities
