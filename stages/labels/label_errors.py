"""Labels that are probably wrong: what a model says of an image that it did not learn from."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from stages.core.shares import describe_share

N_FOLDS = 5
MARGIN = 4.0  # how often as probable as the label another class must be
FREEDOM = 4.0  # C of scikit-learn times the number of features; chosen as told in find_suspects
MAX_ITERATIONS = 5000  # some dozens are used
DIGITS = (
    9  # kept of a probability: the last bits may differ with the threads of the algebra library
)
TOO_FEW = "fewer than two classes stand in two groups or more"


@dataclass(frozen=True)
class Verdicts:
    """What models say of images that they did not learn from.

    Attributes
    ----------
    probabilities : pandas.DataFrame, shape (n_judged, n_classes)
        Index image_id, sorted; columns the classes. Without rows where nothing can be judged.
    n_folds : int
        Models fitted; 0 where nothing can be judged.
    """

    probabilities: pd.DataFrame
    n_folds: int


def predict_out_of_fold(features: pd.DataFrame, images: pd.DataFrame, seed: int) -> Verdicts:
    """Return the probabilities of each image by a model that saw nothing of its group.

    Parameters
    ----------
    features : pandas.DataFrame, shape (n_images, n_features)
        Index image_id; all of `images` must be there.
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``label`` and ``group``. Images of one group vouch for one another,
        a wrong label included, so they are always judged together.
    seed : int
        Of the folds.

    Returns
    -------
    Verdicts
        The same for any order of the rows and any names of classes and groups.

    Notes
    -----
    Multinomial logistic regression on standardised features; both are fitted anew without each
    fold. The squared length of such a vector grows with the number of features, so the penalty
    grows with it. Five folds, fewer where there are fewer groups.

    A class whose images all stand in one fold would be judged by a model that does not know it,
    and each of its labels would look wrong: such a class (of one group, or of a few groups that
    met) is left out.
    """
    rows = images.sort_values("image_id")
    labels, classes = pd.factorize(rows["label"])
    folds = _deal_folds(labels, pd.factorize(rows["group"])[0], seed)
    judged = rows[folds >= 0]
    present = classes[np.unique(labels[folds >= 0])]
    targets = pd.Index(present).get_indexer(judged["label"])
    x = features.loc[judged["image_id"]].to_numpy()
    probabilities = np.zeros((len(judged), len(present)))
    # One thread: the last bits depend on their number, and several wait for one another.
    with threadpool_limits(1):
        for training, held_back in _turns(folds[folds >= 0]):
            scaler = StandardScaler().fit(x[training])
            model = LogisticRegression(C=FREEDOM / x.shape[1], max_iter=MAX_ITERATIONS)
            model.fit(scaler.transform(x[training]), targets[training])
            probabilities[held_back] = model.predict_proba(scaler.transform(x[held_back]))
    index = pd.Index(judged["image_id"], name="image_id")
    frame = pd.DataFrame(probabilities, index=index, columns=list(present))
    return Verdicts(frame, len(np.unique(folds[folds >= 0])))


def find_suspects(verdicts: Verdicts, images: pd.DataFrame) -> pd.DataFrame:
    """Return the images whose label is probably wrong, by confident learning [1]_.

    Parameters
    ----------
    verdicts : Verdicts
        Of the images.
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital`` and ``label``.

    Returns
    -------
    pandas.DataFrame, shape (n_suspects, 7)
        Columns of `tables.SUSPECTS`, by rank: the label of least probability first.

    Notes
    -----
    An image counts as another class where its probability of that class reaches the mean that
    the images labelled so have of it: a class that the model is never sure of asks for less.
    cleanlab [2]_ estimates from these counts how many labels are wrong
    (``off_diagonal_calibrated``). So many, those of least probability, are suspected, as far as
    another class is four times as probable.

    That rule, `MARGIN` and `FREEDOM` were chosen on simulated hospitals of other seeds than the
    demo's, 240 to 1200 images at a time. With 5 % or 2 % of the labels changed at random, and
    with 5 % or 2 % changed to a class of similar look, F1 was 0.85, 0.73, 0.73 and 0.61; of the
    filters of ``cleanlab.filter.find_label_issues`` the best, ``low_self_confidence``, had 0.79,
    0.64, 0.65 and 0.46. Where the classes lie far apart and few labels are wrong, the mean is
    hard to reach, and about one wrong label in five is not named.

    References
    ----------
    .. [1] C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty
       in Dataset Labels", J. Artif. Intell. Res. 70 (2021), 1373-1411.
    .. [2] cleanlab 2.9, Apache License 2.0, https://github.com/cleanlab/cleanlab.
    """
    known = images.set_index("image_id").loc[verdicts.probabilities.index, ["hospital", "label"]]
    classes = verdicts.probabilities.columns
    p = verdicts.probabilities.to_numpy()
    labels = classes.get_indexer(known["label"])
    at = np.arange(len(p))
    suggested = p.argmax(axis=1) if len(p) else labels
    rows = known.reset_index().assign(
        suggested=classes[suggested], p_label=p[at, labels], p_suggested=p[at, suggested]
    )
    least = rows.sort_values("p_label", kind="stable").head(_estimate_errors(labels, p))
    suspects = least[least["p_suggested"] >= MARGIN * least["p_label"]].reset_index(drop=True)
    return suspects.assign(rank=np.arange(1, len(suspects) + 1, dtype=np.int32))


def report(verdicts: Verdicts, suspects: pd.DataFrame, images: pd.DataFrame) -> dict[str, object]:
    """Count what was judged, left out and suspected.

    Parameters
    ----------
    verdicts, suspects
        Of `predict_out_of_fold` and `find_suspects`.
    images : pandas.DataFrame, shape (n_images, n_columns)
        All that were looked at; needs ``image_id``, ``hospital``, ``label`` and ``group``.

    Returns
    -------
    dict
        ``n_images`` were judged and ``n_left_out`` not, for their class. ``accuracy`` is the
        share of judged images whose label is the most probable class: a judge that is often
        wrong suspects many labels that are right.
    """
    judged = images[images["image_id"].isin(verdicts.probabilities.index)]
    left_out = images[~images["image_id"].isin(verdicts.probabilities.index)]
    content: dict[str, object] = {
        "n_images": len(judged),
        "n_left_out": len(left_out),
        "n_groups": judged["group"].nunique(),
        "n_suspects": len(suspects),
        "n_folds": verdicts.n_folds or None,
        "classes_left_out": _count(left_out["label"]),
        "accuracy": describe_share(_count_right(verdicts, judged), len(judged)),
        "by_hospital": {
            hospital: {
                "n_images": int((judged["hospital"] == hospital).sum()),
                "n_suspects": int((suspects["hospital"] == hospital).sum()),
            }
            for hospital in sorted(set(images["hospital"]))
        },
        "by_class": {
            label: _count(own["suggested"]) for label, own in suspects.groupby("label", sort=True)
        },
    }
    if judged.empty:
        content |= {"n_folds_reason": TOO_FEW, "accuracy_reason": TOO_FEW}
    return content


def _deal_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Return the fold of each row, -1 where its class cannot be judged.

    Classes and groups are numbers in the order of their first row, so that no name can tip the
    balance between two folds.
    """
    folds = np.where(_stand_apart(labels, groups), 0, -1)
    while True:
        rest = folds >= 0
        n_folds = _count_folds(labels[rest], groups[rest])
        if n_folds < 2:
            return np.full(len(labels), -1)
        dealer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class may have fewer images than there are folds: two folds are enough.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            turns = list(dealer.split(labels[rest], labels[rest], groups[rest]))
        dealt = np.zeros(int(rest.sum()), np.int64)
        for fold, (_, held_back) in enumerate(turns):
            dealt[held_back] = fold
        apart = _stand_apart(labels[rest], dealt)
        folds[rest] = np.where(apart, dealt, -1)
        if apart.all():
            return folds


def _count_folds(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> int:
    """Return how many folds can be dealt; 0 where there is nothing to tell apart."""
    counts = np.unique(labels, return_counts=True)[1]
    return min(N_FOLDS, len(np.unique(groups)), int(counts.max())) if len(counts) > 1 else 0


def _stand_apart(labels: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows belong to a class that stands in two places or more."""
    pairs = pd.DataFrame({"label": labels, "place": places})
    apart: NDArray[np.bool_] = pairs.groupby("label")["place"].transform("nunique").to_numpy() > 1
    return apart


def _turns(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows to learn from and the rows to judge, fold by fold."""
    for fold in np.unique(folds):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def _estimate_errors(labels: NDArray[np.int64], p: NDArray[np.float64]) -> int:
    """Return how many labels are wrong, by confident learning."""
    if not len(p):
        return 0
    # Takes a second, so only here.
    from cleanlab.count import num_label_issues

    return int(num_label_issues(labels, p, estimation_method="off_diagonal_calibrated"))


def _count_right(verdicts: Verdicts, judged: pd.DataFrame) -> int:
    if judged.empty:
        return 0
    likeliest = verdicts.probabilities.idxmax(axis=1)
    return int((likeliest.loc[judged["image_id"]].to_numpy() == judged["label"].to_numpy()).sum())


def _count(values: pd.Series) -> dict[str, int]:
    """Return how often each value occurs, by name."""
    counts: dict[str, int] = values.value_counts().sort_index().to_dict()
    return counts
