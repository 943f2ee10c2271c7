"""Support vectors, logistic regression, neighbours and trees: fit, arrays, prediction.

Fitted by scikit-learn, which each one imports where it fits. What was learnt is kept as plain
arrays; prediction needs NumPy alone and gives what scikit-learn gives.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import parallel
from stages.core.errors import ModelError
from stages.models import reduction
from stages.models.recipes import ClassifierSettings
from stages.models.reduction import Arrays, Floats, Layout

MAX_ITERATIONS = 5000
TIE_SHARE = 1e-3  # of a vote: what decides between classes with as many neighbours

Codes = NDArray[np.int64]
Fit = Callable[[ClassifierSettings, Floats, Codes, int], Arrays]
Score = Callable[[ClassifierSettings, Arrays, Floats], Floats]


# -- Support vectors and logistic regression


def _fit_svm(settings: ClassifierSettings, x: Floats, codes: Codes, _: int) -> Arrays:
    from sklearn.svm import SVC

    def build(c: float) -> Any:
        return SVC(C=c, kernel="rbf", gamma="scale")

    scaling = _fit_scaling(x)
    scaled = _scale(scaling, x)
    c = _choose_c(settings, build, x, codes)
    model = build(c).fit(scaled, codes)
    gamma = 1.0 / (scaled.shape[1] * scaled.var()) if scaled.var() > 0 else 1.0
    return scaling | {
        "c": np.array(c, np.float64),
        "gamma": np.array(gamma, np.float64),
        "support_vectors": model.support_vectors_,
        "n_support": model.n_support_.astype(np.int64),
        "dual_coefficients": np.asarray(model.dual_coef_, np.float64),
        "intercepts": model.intercept_.astype(np.float64),
    }


def _score_svm(_: ClassifierSettings, arrays: Arrays, x: Floats) -> Floats:
    scaled = _scale(arrays, x)
    values = np.empty((len(x), len(arrays["n_support"])))
    for rows in reduction.blocks(len(x), len(arrays["support_vectors"])):
        values[rows] = _svm_values(arrays, scaled[rows])
    return _softmax(values)


def _svm_values(arrays: Arrays, x: Floats) -> Floats:
    """Return one value for each class: won duels, and by less than a third how clearly.

    As scikit-learn's ``decision_function`` with ``ovr``, whose arg-max is ``predict`` with
    ``break_ties``.
    """
    squares = reduction.squared_distances(x, arrays["support_vectors"])
    kernel = np.exp(-float(arrays["gamma"]) * squares)
    ends = np.concatenate([[0], np.cumsum(arrays["n_support"])])
    weights, intercepts = arrays["dual_coefficients"], arrays["intercepts"]
    n_classes = len(ends) - 1
    if n_classes == 2:  # here a positive value means the second class
        second = kernel @ weights[0] + intercepts[0]
        return np.stack([-second, second], axis=1)
    won, clearly = np.zeros((2, len(x), n_classes))
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    for place, (i, j) in enumerate(pairs):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        value = kernel[:, of_i] @ weights[j - 1, of_i] + kernel[:, of_j] @ weights[i, of_j]
        value += intercepts[place]
        won[:, i] += value >= 0
        won[:, j] += value < 0
        clearly[:, i] += value
        clearly[:, j] -= value
    values: Floats = won + clearly / (3 * (np.abs(clearly) + 1))
    return values


def _fit_logistic(settings: ClassifierSettings, x: Floats, codes: Codes, seed: int) -> Arrays:
    from sklearn.linear_model import LogisticRegression

    share, solver = (1.0, "saga") if settings.penalty == "l1" else (0.0, "lbfgs")

    def build(c: float) -> Any:
        return LogisticRegression(
            C=c, l1_ratio=share, solver=solver, max_iter=MAX_ITERATIONS, random_state=seed
        )

    scaling = _fit_scaling(x)
    c = _choose_c(settings, build, x, codes)
    model = build(c).fit(_scale(scaling, x), codes)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes: the first one's scores are 0
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    return scaling | {
        "c": np.array(c, np.float64), "coefficients": coefficients, "intercepts": intercepts
    }  # fmt: skip


def _score_logistic(_: ClassifierSettings, arrays: Arrays, x: Floats) -> Floats:
    return _softmax(_scale(arrays, x) @ arrays["coefficients"].T + arrays["intercepts"])


def _choose_c(
    settings: ClassifierSettings, build: Callable[[float], Any], x: Floats, codes: Codes
) -> float:
    """Return the c with the best mean accuracy over stratified parts, the first of equals."""
    from sklearn.model_selection import StratifiedKFold

    if len(settings.c) == 1:
        return settings.c[0]
    smallest = int(np.bincount(codes).min())
    if smallest < settings.folds:
        raise ModelError(
            f"folds is {settings.folds}, and a class has {smallest} training rows. Lower folds, "
            "name a single c, or leave the class out by the taxonomy."
        )
    # Rows stand in an order drawn from their content: parts need no further shuffling.
    parts = list(StratifiedKFold(settings.folds).split(x, codes))

    def score(c: float) -> float:
        hits = []
        for train, held in parts:
            scaling = _fit_scaling(x[train])
            model = build(c).fit(_scale(scaling, x[train]), codes[train])
            hits.append(float((model.predict(_scale(scaling, x[held])) == codes[held]).mean()))
        return float(np.mean(hits))

    with ThreadPoolExecutor(parallel.count_workers()) as pool:
        scores = list(pool.map(score, settings.c))
    return settings.c[int(np.argmax(scores))]


def _fit_scaling(x: Floats) -> Arrays:
    scale = x.std(axis=0)
    return {"mean": x.mean(axis=0), "scale": np.where(scale > 1e-12, scale, 1.0)}


def _scale(scaling: Arrays, x: Floats) -> Floats:
    scaled: Floats = (x - scaling["mean"]) / scaling["scale"]
    return scaled


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


# -- Neighbours


def _fit_knn(settings: ClassifierSettings, x: Floats, codes: Codes, _: int) -> Arrays:
    if settings.neighbours > len(x):
        raise ModelError(
            f"neighbours is {settings.neighbours}; there are {len(x)} training rows. Lower it."
        )
    unit = {"mean": np.zeros(x.shape[1]), "scale": np.ones(x.shape[1])}
    scaling = _fit_scaling(x) if settings.reduce == "none" else unit
    vectors = _scale(scaling, x).astype(np.float32)
    return scaling | {"vectors": vectors, "codes": codes}


def _score_knn(settings: ClassifierSettings, arrays: Arrays, x: Floats) -> Floats:
    vectors, codes = arrays["vectors"], arrays["codes"]
    k = settings.neighbours
    # The nearest adds a half, the next a quarter and so on: never as much as a whole vote.
    votes = 1 + TIE_SHARE * 0.5 ** np.arange(1, k + 1)
    scaled = _scale(arrays, x).astype(np.float32)
    counts = np.zeros((len(x), int(codes.max()) + 1))
    for rows in reduction.blocks(len(x), len(vectors)):
        squares = reduction.squared_distances(scaled[rows], vectors)
        nearest = np.argsort(squares, axis=1, kind="stable")[:, :k]
        for place, vote in enumerate(votes):
            counts[np.arange(rows.start, rows.stop), codes[nearest[:, place]]] += vote
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


# -- Trees


def _fit_forest(settings: ClassifierSettings, x: Floats, codes: Codes, seed: int) -> Arrays:
    from sklearn.ensemble import RandomForestClassifier

    return _fit_trees(
        RandomForestClassifier(
            settings.trees,
            max_depth=settings.depth,
            random_state=seed,
            n_jobs=parallel.count_workers(),
        ),
        x,
        codes,
    )


def _fit_extra_trees(settings: ClassifierSettings, x: Floats, codes: Codes, seed: int) -> Arrays:
    from sklearn.ensemble import ExtraTreesClassifier

    return _fit_trees(
        ExtraTreesClassifier(
            settings.trees,
            max_depth=settings.depth,
            class_weight="balanced",
            random_state=seed,
            n_jobs=parallel.count_workers(),
        ),
        x,
        codes,
    )


def _fit_trees(forest: Any, x: Floats, codes: Codes) -> Arrays:
    """Fit, and lay the nodes of all trees one after the other.

    A leaf has the feature -1, and in ``left`` the row of its class shares: most leaves are pure,
    so that a few rows serve millions of leaves.
    """
    trees = [member.tree_ for member in forest.fit(x, codes).estimators_]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])])
    features = np.concatenate([tree.feature for tree in trees]).astype(np.int32)
    starts = np.repeat(roots[:-1], np.diff(roots))
    left = (np.concatenate([tree.children_left for tree in trees]) + starts).astype(np.int32)
    right = (np.concatenate([tree.children_right for tree in trees]) + starts).astype(np.int32)
    is_leaf = features < 0
    values = np.concatenate([tree.value[:, 0, :] for tree in trees])[is_leaf]
    shares, place = np.unique(values, axis=0, return_inverse=True)
    left[is_leaf], right[is_leaf], features[is_leaf] = place.ravel(), 0, -1
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return {
        "roots": roots[:-1].astype(np.int64),
        "features": features,
        "thresholds": np.where(is_leaf, 0.0, thresholds),
        "left": left,
        "right": right,
        "shares": shares,
    }


def _score_trees(_: ClassifierSettings, arrays: Arrays, x: Floats) -> Floats:
    columns = x.astype(np.float32)  # as scikit-learn compares them
    features, thresholds = arrays["features"], arrays["thresholds"]
    left, right, shares = arrays["left"], arrays["right"], arrays["shares"]
    total = np.zeros((len(x), shares.shape[1]))
    for root in arrays["roots"]:
        nodes = np.full(len(x), root, dtype=np.int64)
        going = np.flatnonzero(features[nodes] >= 0)
        while len(going):
            here = nodes[going]
            goes_left = columns[going, features[here]] <= thresholds[here]
            nodes[going] = np.where(goes_left, left[here], right[here])
            going = going[features[nodes[going]] >= 0]
        total += shares[left[nodes]]
    total /= len(arrays["roots"])
    return total


# -- All of them


@dataclass(frozen=True)
class Kind:
    """How one classifier is fitted, asked and stored."""

    fit: Fit
    score: Score
    layout: Layout


_SCALING: Layout = {"mean": ("f", ("columns",)), "scale": ("f", ("columns",))}
_TREES: Layout = {
    "roots": ("i", ("trees",)),
    "features": ("i", ("nodes",)),
    "thresholds": ("f", ("nodes",)),
    "left": ("i", ("nodes",)),
    "right": ("i", ("nodes",)),
    "shares": ("f", ("distributions", "present")),
}
KINDS = {
    "svm": Kind(_fit_svm, _score_svm, _SCALING | {
        "c": ("f", ()),
        "gamma": ("f", ()),
        "support_vectors": ("f", ("vectors", "columns")),
        "n_support": ("i", ("present",)),
        "dual_coefficients": ("f", ("rivals", "vectors")),
        "intercepts": ("f", ("pairs",)),
    }),
    "logistic": Kind(_fit_logistic, _score_logistic, _SCALING | {
        "c": ("f", ()),
        "coefficients": ("f", ("present", "columns")),
        "intercepts": ("f", ("present",)),
    }),
    "knn": Kind(_fit_knn, _score_knn, _SCALING | {
        "vectors": ("f", ("vectors", "columns")),
        "codes": ("i", ("vectors",)),
    }),
    "forest": Kind(_fit_forest, _score_trees, _TREES),
    "extra_trees": Kind(_fit_extra_trees, _score_trees, _TREES),
}  # fmt: skip
