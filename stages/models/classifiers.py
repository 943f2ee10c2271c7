"""Classical classifiers of vectors: learnt by scikit-learn, stored as plain arrays.

A fitted model is a set of named arrays, from which `predict` gives what scikit-learn's object
would, so that a stored model is neither unpickled nor tied to a version.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import store
from stages.core.errors import ModelError, name_some
from stages.core.settings import seed_for
from stages.images import morphology
from stages.models import estimators, reduction
from stages.models.recipes import ClassifierRecipe, ClassifierSettings
from stages.models.reduction import Arrays, Codes, Floats, Layout

FILE = "classifier.npz"
GREY_UNIT = 3 * 255
_ALWAYS: Layout = {"present": "present -> classes", "mean": "columns", "scale": "columns"}


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier.

    Attributes
    ----------
    settings : ClassifierSettings
    classes : tuple of str
        Columns of a prediction.
    arrays : dict of str to numpy.ndarray
        What was learnt; see `save`.
    """

    settings: ClassifierSettings
    classes: tuple[str, ...]
    arrays: Arrays

    @property
    def c(self) -> float | None:
        """The regularisation that the folds chose; None where the classifier has none."""
        return float(self.arrays["c"]) if "c" in self.arrays else None

    def predict(self, x: NDArray[np.float32]) -> Floats:
        """Return class probabilities.

        Parameters
        ----------
        x : numpy.ndarray of float32, shape (n_rows, n_columns)

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_classes)
            Rows sum to 1. A class without training rows has 0. The largest is the classifier's
            own call.

        Raises
        ------
        ModelError
            The vectors are longer or shorter than those of training, or not finite.

        Notes
        -----
        Of trees: the mean of their leaves. Of neighbours: their votes; between classes with as
        many votes the nearer neighbour decides by a thousandth of a vote. Of a logistic
        regression: its probabilities. Of a support vector machine: the softmax of its
        one-against-rest values, which has its order but is **not calibrated**; Platt's
        probabilities [1]_ may contradict the call, and cost a cross-validation.

        References
        ----------
        .. [1] J. Platt, "Probabilistic outputs for support vector machines", in Advances in Large
           Margin Classifiers (1999).
        """
        settings, arrays = self.settings, self.arrays
        _require_vectors(x)
        n_inputs = len(arrays.get("pca_mean", arrays["mean"]))
        if x.shape[1] != n_inputs:
            raise ModelError(
                f"the vectors have {x.shape[1]} columns, those of training had {n_inputs}. "
                "Run 'uv run dvc repro', which brings model and vectors into step."
            )
        chances = np.zeros((len(x), len(self.classes)))
        for start in range(0, len(x), reduction.BATCH):
            rows = slice(start, start + reduction.BATCH)
            reduced = reduction.transform(settings, arrays, x[rows])
            chances[rows, arrays["present"]] = estimators.score(settings, arrays, reduced)
        return chances

    def save(self, folder: Path) -> None:
        """Write ``classifier.npz``: named arrays, no pickle, same bytes for the same model."""
        with store.replace(folder / FILE) as temporary, temporary.open("wb") as file:
            arrays = self.arrays | {"classes": np.array(self.classes)}
            named: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
            np.savez(file, **named)


def fit(
    settings: ClassifierSettings,
    x: NDArray[np.float32],
    labels: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> Classifier:
    """Fit a reduction and a classifier.

    Parameters
    ----------
    settings : ClassifierSettings
        Where ``c`` names several, the one with the best mean accuracy over ``folds`` stratified
        parts is taken, the first of equals, and then fitted on all rows.
    x : numpy.ndarray of float32, shape (n_rows, n_columns)
        Training rows, and no others: the reduction learns from them too.
    labels : sequence of str, length n_rows
    classes : sequence of str
        All classes, in the order of the model's columns; some may have no rows.
    seed : int

    Returns
    -------
    Classifier
        The same for any order of the rows.

    Raises
    ------
    ModelError
        A label is unknown, fewer than two classes have rows, a vector is not finite, a class has
        fewer rows than there are folds, or the settings do not fit the rows.

    Notes
    -----
    Support vectors, logistic regression, and neighbours of unreduced vectors work on standardised
    columns; trees need none, and the scale of a reduction has a meaning. Extra trees weigh classes
    equally; the others are those of the projects that they come from, and take rows as they are.

    With several views of a picture, views of one may stand on both sides of a fold; the folds
    choose ``c`` and report nothing.
    """
    _require_vectors(x)
    codes = _encode(labels, classes, len(x))
    order = _order_rows(x, codes)
    x, codes = np.ascontiguousarray(x[order]), codes[order]
    present, inside = np.unique(codes, return_inverse=True)
    if len(present) < 2:
        raise ModelError(
            f"the training rows hold {len(present)} of the classes {name_some(list(classes))}; a "
            "classifier needs two. Check split.train_hospitals and the taxonomy."
        )
    arrays, reduced = reduction.fit(settings, x, inside, seed_for(seed, "reduction"))
    arrays |= estimators.fit(settings, reduced, inside, seed_for(seed, "classifier"))
    return Classifier(settings, tuple(classes), arrays | {"present": present})


def load(folder: Path, settings: ClassifierSettings, classes: Sequence[str]) -> Classifier:
    """Read what `Classifier.save` wrote.

    Parameters
    ----------
    folder : pathlib.Path
    settings : ClassifierSettings
        Those of `fit`: they say which arrays must be there.
    classes : sequence of str
        Those of `fit`.

    Returns
    -------
    Classifier

    Raises
    ------
    ModelError
        The file is missing, damaged, or of another classifier; also where an array would have to
        be unpickled.
    """
    path = folder / FILE
    arrays = _read_arrays(path)
    if arrays.pop("classes", np.array([])).tolist() != list(classes):
        raise _foreign(path, "its classes are not those asked for")
    problem = _find_problem(settings, arrays, len(classes))
    if problem:
        raise _foreign(path, problem)
    return Classifier(settings, tuple(classes), arrays)


def vectorise(recipe: ClassifierRecipe, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn prepared pictures into the vectors of a recipe.

    Parameters
    ----------
    recipe : ClassifierRecipe
    pixels : numpy.ndarray of uint8, shape (n_images, size, size, 3)

    Returns
    -------
    numpy.ndarray of float32, shape (n_images, n_columns)
        ``grey``: the mean of the channels, 0..1, row by row. ``measures``: those of
        ``morphology.NAMES``.
    """
    if recipe.vectors == "measures":
        return morphology.measure_all(pixels)
    n, height, width, _ = pixels.shape
    grey: NDArray[np.float32] = pixels.sum(axis=3, dtype=np.float32)
    grey /= GREY_UNIT
    return grey.reshape(n, height * width)


# -- What is stored


def _read_arrays(path: Path) -> Arrays:
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            return {name: np.asarray(stored[name]) for name in stored.files}
    except FileNotFoundError:
        raise ModelError(f"{path} is missing. Run 'uv run dvc repro', which makes it.") from None
    except (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, MemoryError,
            zipfile.BadZipFile, zlib.error, NotImplementedError):  # fmt: skip
        raise _foreign(path, "it cannot be read as plain arrays") from None


def _find_problem(settings: ClassifierSettings, arrays: Arrays, n_classes: int) -> str | None:
    """Return what would send a prediction astray, or into an endless walk."""
    layout = _ALWAYS | reduction.LAYOUTS[settings.reduce] | estimators.LAYOUTS[settings.classifier]
    if set(arrays) != set(layout):
        return f"it holds {name_some(sorted(arrays))}, not {name_some(sorted(layout))}"
    n_present = arrays["present"].size
    pairs = n_present * (n_present - 1) // 2
    sizes = {"classes": n_classes, "present": n_present, "pairs": pairs, "sides": 2}
    for name, rule in layout.items():
        array, (axes, _, target) = arrays[name], rule.partition(" -> ")
        kinds = (np.int32, np.int64) if target else (np.float32, np.float64)
        given = zip(axes.split(), (*array.shape, 0, 0), strict=False)
        shape = tuple(sizes.setdefault(axis, n) for axis, n in given)
        if array.dtype not in kinds or array.shape != shape or not array.size:
            return f"{name} is {array.dtype} of shape {array.shape}"
        if not np.isfinite(array).all():
            return f"{name} is not finite"
        if target and not ((array >= 0) & (array < sizes[target])).all():
            return f"{name} leads nowhere"
    if n_present < 2 or not (np.diff(arrays["present"]) > 0).all():
        return "present is not a rising list of classes"
    if any((arrays[name] <= 0).any() for name in ("scale", "gamma") if name in arrays):
        return "scale or gamma is not positive"
    if settings.classifier == "knn" and sizes["vectors"] < settings.neighbours:
        return "vectors are fewer than neighbours"
    # No node leads back: every walk ends.
    if "nodes" in sizes and (np.arange(sizes["nodes"]) > arrays["children"].T).any():
        return "a node of a tree leads back"
    return None


def _foreign(path: Path, problem: str) -> ModelError:
    return ModelError(
        f"{path} is not a classifier of this recipe: {problem}. Run 'uv run dvc repro -f train', "
        "which makes it anew."
    )


# -- What is given


def _require_vectors(x: NDArray[np.float32]) -> None:
    if x.ndim != 2 or x.shape[1] == 0:
        raise ModelError(f"vectors of shape {x.shape} are no table. Check the recipe's vectors.")
    # A sum of finite float32 is finite in float64, and takes no copy of the table.
    broken = ~np.isfinite(x.sum(axis=1, dtype=np.float64))
    if broken.any():
        raise ModelError(
            f"{int(broken.sum())} vectors hold numbers that are not finite, the first in row "
            f"{int(broken.argmax())}. Run 'uv run dvc repro -f' on what made them."
        )


def _encode(labels: Sequence[str], classes: Sequence[str], n_rows: int) -> Codes:
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise ModelError(
            f"labels {name_some(unknown)} are none of the classes {name_some(list(classes))}. "
            "Run 'uv run dvc repro', which brings labels and taxonomy into step."
        )
    if len(labels) != n_rows:
        raise ModelError(f"{n_rows} vectors have {len(labels)} labels. Give one for each.")
    return np.array([list(classes).index(label) for label in labels], dtype=np.int64)


def _order_rows(x: NDArray[np.float32], codes: Codes) -> NDArray[np.int64]:
    """Return an order that depends on the rows' content alone, like a shuffle without a seed."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]
    order = sorted(range(len(x)), key=lambda row: (digests[row], int(codes[row])))
    return np.array(order, dtype=np.int64)
