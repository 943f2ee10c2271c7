"""Classifiers of vectors as TensorFlow operations: what `classifiers` answers, inside a graph."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import estimators, reduction
from stages.models.classifiers import Classifier
from stages.models.reduction import Arrays


def classify(classifier: Classifier, x: Any, exact: bool) -> Any:
    """Return the operations that give what ``classifier.predict`` does.

    Parameters
    ----------
    classifier : Classifier
    x : tensorflow.Tensor of float32, shape (n_rows, n_columns)
    exact : bool
        Whether rotations, distances and kernels are computed in float64, as in training. In
        float32 a row that lies within a millionth of a border may fall on the other side.

    Returns
    -------
    tensorflow.Tensor of float32, shape (n_rows, n_classes)

    Raises
    ------
    ModelError
        Its vectors are reduced by UMAP.
    """
    tf = backend.load_tensorflow()[1]
    settings, arrays = classifier.settings, classifier.arrays
    kind = tf.float64 if exact else tf.float32
    if settings.reduce not in ("none", "pca"):
        raise ModelError(
            f"the recipe reduces its vectors by UMAP (reduce: {settings.reduce}), which no such "
            "file can hold. Train with reduce: pca or none."
        )
    if settings.reduce == "pca":
        x = _rotate(arrays, tf.cast(x, kind))
    if (arrays["mean"] != 0).any() or (arrays["scale"] != 1).any():
        centred = tf.cast(x, kind) - tf.constant(arrays["mean"], kind)
        x = _clip(centred / tf.constant(arrays["scale"], kind))
    score = _SCORES[settings.classifier]
    shares = tf.cast(score(settings.neighbours, arrays, x, kind), tf.float32)
    # A class without training rows has 0.
    places = np.eye(len(classifier.classes), dtype=np.float32)[arrays["present"]]
    return tf.matmul(shares, tf.constant(places))


def _rotate(arrays: Arrays, x: Any) -> Any:
    tf = backend.load_tensorflow()[1]
    components = tf.constant(arrays["pca_components"].T, x.dtype)
    return tf.cast(_clip((x - tf.constant(arrays["pca_mean"], x.dtype)) @ components), tf.float32)


def _clip(x: Any) -> Any:
    tf = backend.load_tensorflow()[1]
    far = tf.constant(reduction.FAR, x.dtype)
    return tf.minimum(tf.maximum(x, -far), far)


def _score_svm(_: int, arrays: Arrays, x: Any, kind: Any) -> Any:
    tf = backend.load_tensorflow()[1]
    near = tf.exp(-float(arrays["gamma"]) * _square_distances(x, arrays["support_vectors"], kind))
    weights = tf.constant(arrays["weights"].T, kind)
    duels = near @ weights + tf.constant(arrays["intercepts"], kind)
    n_classes = len(arrays["present"])
    if n_classes == 2:
        return tf.nn.softmax(tf.concat([-duels, duels], axis=1))
    pairs = np.array(list(combinations(range(n_classes), 2)))
    first, second = (tf.constant(np.eye(n_classes)[pairs[:, side]], kind) for side in (0, 1))
    wins = tf.cast(duels >= 0, kind)
    clear = duels @ (first - second)
    # By less than a third of a duel, how clearly they were won: scikit-learn's rule for a draw.
    third = clear / (3 * (tf.abs(clear) + 1))
    return tf.nn.softmax(wins @ first + (1 - wins) @ second + third)


def _score_logistic(_: int, arrays: Arrays, x: Any, kind: Any) -> Any:
    tf = backend.load_tensorflow()[1]
    coefficients = tf.constant(arrays["coefficients"].T, kind)
    values = tf.cast(x, kind) @ coefficients + tf.constant(arrays["intercepts"], kind)
    return tf.nn.softmax(values)


def _score_neighbours(k: int, arrays: Arrays, x: Any, kind: Any) -> Any:
    tf = backend.load_tensorflow()[1]
    rounded = tf.cast(x, tf.float32)  # as the vectors were
    # Of equally near ones the first.
    _, nearest = tf.math.top_k(-_square_distances(rounded, arrays["vectors"], kind), k)
    is_of_class = np.eye(len(arrays["present"]))[arrays["codes"]]
    votes = 1 + estimators.TIE_SHARE * 0.5 ** np.arange(1, k + 1)
    votes = (votes / votes.sum())[:, None]
    return tf.reduce_sum(tf.gather(tf.constant(is_of_class, kind), nearest) * votes, axis=1)


def _square_distances(x: Any, others: NDArray[Any], kind: Any) -> Any:
    """Return the squared distance of each row to each of the others."""
    tf = backend.load_tensorflow()[1]
    wide, theirs = tf.cast(x, kind), others.astype(np.float64)
    products = wide @ tf.constant(theirs.T, kind)
    lengths = tf.reduce_sum(wide * wide, axis=1, keepdims=True)
    return lengths - 2 * products + tf.constant((theirs**2).sum(axis=1), kind)


def _score_trees(_: int, arrays: Arrays, x: Any, __: Any) -> Any:
    """Walk all trees at once, as many steps as the deepest has; a leaf leads to itself."""
    tf = backend.load_tensorflow()[1]
    rounded = tf.cast(x, tf.float32)
    features = tf.constant(arrays["features"], tf.int32)
    thresholds = tf.constant(_round_down(arrays["thresholds"]))
    children = tf.constant(arrays["children"].ravel(), tf.int32)
    roots = tf.constant(arrays["roots"][None], tf.int32)
    nodes = tf.zeros_like(rounded[:, :1], tf.int32) + roots
    for _ in range(_measure_depth(arrays)):
        values = tf.gather(rounded, tf.gather(features, nodes), axis=1, batch_dims=1)
        goes_right = tf.cast(values > tf.gather(thresholds, nodes), tf.int32)
        nodes = tf.gather(children, 2 * nodes + goes_right)
    leaves = tf.gather(tf.constant(arrays["leaves"], tf.int32), nodes)
    shares = tf.gather(tf.constant(arrays["shares"], tf.float32), leaves)
    return tf.reduce_mean(shares, axis=1)


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 up to each: the same float32 values lie above it."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _measure_depth(arrays: Arrays) -> int:
    """Return how many steps the longest way from a root to a leaf has."""
    nodes, depth = arrays["roots"], 0
    while True:
        nodes = np.unique(nodes[(arrays["children"][nodes] != nodes[:, None]).any(axis=1)])
        if not len(nodes):
            return depth
        nodes, depth = np.unique(arrays["children"][nodes]), depth + 1


_SCORES: dict[str, Callable[[int, Arrays, Any, Any], Any]] = {
    "svm": _score_svm,
    "logistic": _score_logistic,
    "knn": _score_neighbours,
    "forest": _score_trees,
    "extra_trees": _score_trees,
}
