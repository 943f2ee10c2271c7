"""Support vectors, logistic regression, neighbours and trees, learnt by scikit-learn.

What was learnt is kept as plain arrays: a fitted object could be stored as a pickle only, which
runs whatever it holds. Prediction is by public functions, where filling a fresh object would take
private attributes, whose numbers scikit-learn's native code trusts unseen.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.multiclass import _ovr_decision_function

from stages.core import parallel
from stages.core.errors import ModelError
from stages.models import reduction
from stages.models.recipes import ClassifierSettings
from stages.models.reduction import Arrays, Codes, Floats, Layout

MAX_ITERATIONS = 5000
TIE_SHARE = 1e-3  # of a vote: what decides between classes with as many neighbours

_TREES: Layout = {
    "shares": "distributions present", "thresholds": "nodes", "features": "nodes -> columns",
    "children": "nodes sides -> nodes", "leaves": "nodes -> distributions",
    "roots": "trees -> nodes",
}  # fmt: skip
LAYOUTS: dict[str, Layout] = {
    "svm": {"c": "", "gamma": "", "support_vectors": "vectors columns",
            "weights": "pairs vectors", "intercepts": "pairs"},
    "logistic": {"c": "", "coefficients": "present columns", "intercepts": "present"},
    "knn": {"vectors": "vectors columns", "codes": "vectors -> present"},
    "forest": _TREES,
    "extra_trees": _TREES,
}  # fmt: skip


def fit(settings: ClassifierSettings, x: NDArray[np.float32], codes: Codes, seed: int) -> Arrays:
    """Return all that `score` needs, as named in `LAYOUTS`, with each column's mean and scale.

    Raises
    ------
    ModelError
        A class has fewer rows than there are folds, or there are fewer rows than neighbours.
    """
    kind, wide = settings.classifier, x.astype(np.float64)
    arrays = {"mean": np.zeros(x.shape[1]), "scale": np.ones(x.shape[1])}
    if kind in ("svm", "logistic") or (kind == "knn" and settings.reduce == "none"):
        scaler = StandardScaler().fit(wide)
        arrays = {"mean": scaler.mean_, "scale": scaler.scale_}
    scaled = _scale(arrays, x)
    if kind == "svm":
        svm = _fit_best(settings, SVC(kernel="rbf", gamma="scale"), scaled, codes)
        gamma = 1 / (x.shape[1] * scaled.var() or 1.0)  # as scikit-learn's "scale"
        return arrays | {"c": np.array(svm.C), "gamma": np.array(gamma)} | _take_duels(svm)
    if kind == "logistic":
        share, solver = (1.0, "saga") if settings.penalty == "l1" else (0.0, "lbfgs")
        fresh = LogisticRegression(
            l1_ratio=share, solver=solver, max_iter=MAX_ITERATIONS, random_state=seed
        )
        model = _fit_best(settings, fresh, scaled, codes)
        # Of two classes scikit-learn keeps the second: the first one's values are 0.
        n_classes, first = len(model.classes_), np.zeros((1, x.shape[1]))
        return arrays | {
            "c": np.array(model.C),
            "coefficients": np.vstack([first, model.coef_])[-n_classes:],
            "intercepts": np.append(0.0, model.intercept_)[-n_classes:],
        }
    if kind == "knn":
        if settings.neighbours > len(x):
            raise ModelError(
                f"neighbours is {settings.neighbours}; there are {len(x)} training rows. Lower it."
            )
        return arrays | {"vectors": scaled.astype(np.float32), "codes": codes}
    forest, weights = (
        (RandomForestClassifier, None) if kind == "forest" else (ExtraTreesClassifier, "balanced")
    )
    n_jobs = parallel.count_workers()
    trees = forest(settings.trees, max_depth=settings.depth, class_weight=weights,
                   random_state=seed, n_jobs=n_jobs).fit(scaled, codes)  # fmt: skip
    return arrays | _take_nodes([tree.tree_ for tree in trees.estimators_])


def score(settings: ClassifierSettings, arrays: Arrays, x: NDArray[np.float32]) -> Floats:
    """Return each row's shares of the classes that had training rows."""
    scaled, n_classes = _scale(arrays, x), len(arrays["present"])
    if settings.classifier == "svm":
        shares = softmax(_duel(arrays, scaled), axis=1)
    elif settings.classifier == "logistic":
        shares = softmax(scaled @ arrays["coefficients"].T + arrays["intercepts"], axis=1)
    elif settings.classifier == "knn":
        k = settings.neighbours
        _, nearest = reduction.find_nearest(scaled.astype(np.float32), arrays["vectors"], k)
        # The nearest adds a half, the next a quarter and so on: never as much as a whole vote.
        votes = 1 + TIE_SHARE * 0.5 ** np.arange(1, k + 1)
        is_of_class = np.eye(n_classes)[arrays["codes"][nearest]]
        shares = np.average(is_of_class, axis=1, weights=votes)
    else:
        ends = (_walk(arrays, scaled.astype(np.float32), root) for root in arrays["roots"])
        total = sum((arrays["shares"][arrays["leaves"][nodes]] for nodes in ends), 0.0)
        shares = total / len(arrays["roots"])
    return np.asarray(shares)


def _scale(arrays: Arrays, x: NDArray[np.float32]) -> Floats:
    scaled: Floats = (x.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    return scaled.clip(-reduction.FAR, reduction.FAR)


def _fit_best(settings: ClassifierSettings, model: Any, x: Floats, codes: Codes) -> Any:
    """Fit with the c of the best mean accuracy over stratified parts, the first of equals."""

    def judge(c: float) -> float:
        # Each part is scaled by what it learns from. Rows stand in an order drawn from their
        # content: parts need no further shuffling.
        scaled = make_pipeline(StandardScaler(), clone(model).set_params(C=c))
        return float(cross_val_score(scaled, x, codes, cv=settings.folds).mean())

    scores, smallest = [1.0], int(np.bincount(codes).min())
    if len(settings.c) > 1:
        if smallest < settings.folds:
            raise ModelError(
                f"folds is {settings.folds}, and a class has {smallest} training rows. Lower "
                "folds, name a single c, or leave the class out by the taxonomy."
            )
        with ThreadPoolExecutor(parallel.count_workers()) as pool:
            scores = list(pool.map(judge, settings.c))
    return model.set_params(C=settings.c[int(np.argmax(scores))]).fit(x, codes)


def _take_duels(svm: SVC) -> Arrays:
    """Return what each two classes weigh: their own support vectors, and those of others by 0."""
    mine = [slice(*ends) for ends in pairwise(np.cumsum([0, *svm.n_support_]))]
    weights = np.zeros((len(svm.intercept_), len(svm.support_)))
    for duel, (i, j) in zip(weights, combinations(range(len(mine)), 2), strict=True):
        duel[mine[i]] = svm.dual_coef_[j - 1, mine[i]]
        duel[mine[j]] = svm.dual_coef_[i, mine[j]]
    vectors, intercepts = svm.support_vectors_, svm.intercept_
    return {"support_vectors": vectors, "weights": weights, "intercepts": intercepts}


def _duel(arrays: Arrays, x: Floats) -> Floats:
    """Return one value for each class: won duels, and by less than a third how clearly.

    As scikit-learn's ``decision_function``, whose arg-max is ``predict`` with ``break_ties``.
    """
    kernel = rbf_kernel(x, arrays["support_vectors"], gamma=float(arrays["gamma"]))
    duels = kernel @ arrays["weights"].T + arrays["intercepts"]
    if duels.shape[1] == 1:  # here a positive value means the second class
        return np.hstack([-duels, duels])
    values: Floats = _ovr_decision_function(duels < 0, -duels, len(arrays["present"]))
    return values


def _take_nodes(trees: list[Any]) -> Arrays:
    """Lay the nodes of all trees one after the other; a leaf leads to itself, on both sides."""

    def join(name: str) -> Any:
        return np.concatenate([getattr(tree, name) for tree in trees])

    counts = [tree.node_count for tree in trees]
    roots = np.cumsum([0, *counts[:-1]])
    is_leaf, nodes, starts = join("feature") < 0, np.arange(sum(counts)), np.repeat(roots, counts)
    # Most leaves are pure: a few rows of shares serve millions of them.
    leaves = np.zeros(len(nodes), np.int32)
    shares, leaves[is_leaf] = np.unique(join("value")[is_leaf, 0], axis=0, return_inverse=True)
    children = (join("children_left"), join("children_right"))
    sides = [np.where(is_leaf, nodes, side + starts) for side in children]
    return {
        "shares": shares,
        "thresholds": np.where(is_leaf, 0.0, join("threshold")),
        "features": np.where(is_leaf, 0, join("feature")).astype(np.int32),
        "children": np.stack(sides, axis=1).astype(np.int32),
        "leaves": leaves,
        "roots": roots,
    }


def _walk(arrays: Arrays, x: NDArray[np.float32], root: int) -> NDArray[np.int64]:
    """Return the leaf of each row; scikit-learn's own walk checks no index, and may never end."""
    rows, nodes, onward = np.arange(len(x)), np.full(len(x), -1), np.full(len(x), root)
    while (onward != nodes).any():
        nodes = onward
        goes_right = x[rows, arrays["features"].take(nodes)] > arrays["thresholds"].take(nodes)
        onward = arrays["children"].take(2 * nodes + goes_right)
    return nodes
