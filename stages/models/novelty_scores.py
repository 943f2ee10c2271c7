"""How unlike its training images a model finds an image: four scores, higher is stranger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from stages.core import backend
from stages.inputs.reading import Examples
from stages.models.recipes import Single
from stages.models.trained import SingleModel, answer, vectors

Array = NDArray[np.float64]

NEIGHBOUR = 10  # which of the nearest training images tells the distance
LEAST_RIDGE = 1e-9
BLOCK = 1024  # images compared with all training images at once
SCORES = {
    "softmax": "the class called is not probable",
    "energy": "no class is spoken for, before they are made to sum to 1",
    "mahalanobis": "its features are far from those of each class, for how far from all they are",
    "neighbours": f"its features are far from the {NEIGHBOUR}th nearest training image's",
}
NO_NETWORK = "no network of this recipe has features to compare"
BY_CLASSIFIER = "this recipe answers by a classifier, which has no logits"


@dataclass(frozen=True)
class Known:
    """What the training images look like to a network.

    Attributes
    ----------
    means : numpy.ndarray, shape (n_classes, n_features)
    mean : numpy.ndarray, shape (n_features,)
        Of the classes, and of all images.
    within, overall : numpy.ndarray, shape (n_features, n_features)
        Inverse covariance about the classes' means, and about the mean of all.
    directions : numpy.ndarray, shape (n_images, n_features)
        The features of each training image, of length 1.
    """

    means: Array
    mean: Array
    within: Array
    overall: Array
    directions: Array


def extract(part: SingleModel, x: NDArray[np.uint8]) -> Array:
    """Return what a network's last layer, or the classifier behind it, looks at.

    Parameters
    ----------
    part : SingleModel
        With a network.
    x : numpy.ndarray, shape (n_rows, size, size, 3)

    Returns
    -------
    numpy.ndarray, shape (n_rows, n_features)
    """
    if part.classifier is not None:
        found = vectors(part.recipe, part.network, x)
    else:
        before = part.network.layers[-1].input
        found = answer(backend.load_keras().Model(part.network.inputs[0], before), x)
    return np.asarray(found, np.float64)


def extract_images(part: SingleModel, examples: Examples) -> pd.DataFrame:
    """Return the features of each image by image_id, sorted: the mean over its views."""
    features = pd.DataFrame(extract(part, examples.x), index=examples.image_ids)
    return features.groupby(level=0, sort=True).mean()


def learn(features: Array, labels: NDArray[Any]) -> Known:
    """Learn what is known from the training images.

    Parameters
    ----------
    features : numpy.ndarray, shape (n_images, n_features)
    labels : numpy.ndarray, shape (n_images,)
        Of each image its class.

    Notes
    -----
    Both covariances get the same ridge, for there are often fewer images than features. It is the
    one that fits the covariance about the classes' means [1]_; with one of its own each, their
    difference is mostly that of the two ridges, and known images came out stranger than others.

    References
    ----------
    .. [1] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
       matrices", J. Multivariate Anal. 88 (2004), 365-411.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    classes, places = np.unique(labels, return_inverse=True)
    means = np.stack([features[places == place].mean(axis=0) for place in range(len(classes))])
    mean = features.mean(axis=0)
    within, overall = (_covariance(features - one) for one in (means[places], mean))
    shrinkage = ledoit_wolf_shrinkage(features - means[places], assume_centered=True)
    n_features = features.shape[1]
    # A feature that never moves has no spread to compare with; the least ridge keeps it finite.
    ridge = max(shrinkage * np.trace(within) / n_features, LEAST_RIDGE) * np.eye(n_features)
    within, overall = (np.linalg.inv(one + ridge) for one in (within, overall))
    return Known(means, mean, within, overall, _to_length_1(features))


def measure(part: SingleModel, known: Known, features: Array) -> dict[str, Array]:
    """Score images by their features.

    Parameters
    ----------
    part : SingleModel
    known : Known
    features : numpy.ndarray, shape (n_images, n_features)

    Returns
    -------
    dict of str to numpy.ndarray, shape (n_images,)
        Energy [1]_ where the network has logits, relative Mahalanobis distance [2]_, and one minus
        the cosine to the tenth nearest training image [3]_.

    References
    ----------
    .. [1] W. Liu, X. Wang, J. Owens and Y. Li, "Energy-based out-of-distribution detection",
       NeurIPS (2020).
    .. [2] J. Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection",
       ICML workshop on uncertainty (2021).
    .. [3] Y. Sun, Y. Ming, X. Zhu and Y. Li, "Out-of-distribution detection with deep nearest
       neighbors", ICML (2022).
    """
    near = np.min([_distance(features - mean, known.within) for mean in known.means], axis=0)
    found = {
        "mahalanobis": near - _distance(features - known.mean, known.overall),
        "neighbours": _find_neighbours(known.directions, _to_length_1(features)),
    }
    if part.classifier is None:
        kernel, bias = (weight.numpy() for weight in part.network.layers[-1].weights)
        found["energy"] = -logsumexp(features @ kernel + bias, axis=1)
    return found


def say_lacking(recipes: Mapping[str, Single]) -> dict[str, str]:
    """Return the scores that models with these networks cannot have, with the reason."""
    if not recipes:
        return dict.fromkeys([name for name in SCORES if name != "softmax"], NO_NETWORK)
    if all(one.classical is not None for one in recipes.values()):
        return {"energy": BY_CLASSIFIER}
    return {}


def _covariance(centred: Array) -> Array:
    found: Array = centred.T @ centred / len(centred)
    return found


def _distance(centred: Array, precision: Array) -> Array:
    """Return the squared Mahalanobis distances."""
    squares: Array = np.einsum("ij,ij->i", centred @ precision, centred)
    return squares


def _to_length_1(features: Array) -> Array:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Array = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    return unit


def _find_neighbours(known: Array, asked: Array) -> Array:
    place = max(0, len(known) - NEIGHBOUR)
    pieces = [
        1 - np.partition(asked[start : start + BLOCK] @ known.T, place, axis=1)[:, place]
        for start in range(0, len(asked), BLOCK)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0)
