"""Rows of a few overlapping classes, and classifiers fitted to them."""

from functools import lru_cache

import numpy as np

from stages.models import classifiers
from stages.models.recipes import ClassifierSettings

CLASSES = ["basophil", "eosinophil", "lymphocyte", "monocyte"]
SEED = 7
KINDS = {
    "svm": {"c": [0.5, 5.0]},
    "svm_pca": {"c": [2.0], "reduce": "pca", "components": 3},
    "knn": {"neighbours": 3},
    "knn_pca": {"neighbours": 4, "reduce": "pca", "components": 0.99},
    "logistic": {"c": [0.1, 1.0]},
    "logistic_l1": {"c": [0.5], "penalty": "l1"},
    "forest": {"trees": 12, "depth": 5},
    "extra_trees": {"trees": 12},
}


def settings_of(name):
    return ClassifierSettings(
        classifier=name.removesuffix("_pca").removesuffix("_l1"), **KINDS[name]
    )


@lru_cache
def rows(n=120, n_columns=6, n_classes=4, seed=0):
    """Overlapping clouds of different widths, in columns of very different units."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % n_classes)
    middles = rng.normal(0, 1.2, (n_classes, n_columns))
    x = middles[codes] + rng.normal(0, 1, (n, n_columns))
    return (x * 3.0 ** np.arange(-3, n_columns - 3)).astype(np.float32), codes


def labels_of(codes):
    return [CLASSES[code] for code in codes]


@lru_cache
def fitted(name, n_classes=4):
    x, codes = rows(n_classes=n_classes)
    return classifiers.fit(settings_of(name), x, labels_of(codes), CLASSES, SEED)


def in_fit_order(x, codes):
    order = classifiers._order_rows(x, codes)
    return x[order], codes[order]


def new_rows(n_classes=4):
    """Rows of the same clouds that no model has seen."""
    return rows(n=300, n_classes=n_classes)[0][120:] * np.float32(1.01)


# -- The oracle
