"""Classical classifiers of vectors: fitted by scikit-learn, stored as plain arrays, ours to read.

A fitted model is a set of named arrays. Prediction needs numpy alone and gives what scikit-learn
gives, so that a stored model is neither unpickled nor tied to a version.
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
from stages.models import reduction
from stages.models.estimators import KINDS, Codes
from stages.models.recipes import ClassifierRecipe, ClassifierSettings
from stages.models.reduction import Array, Arrays, Floats, Layout

FILE = "classifier.npz"
GREY_UNIT = 3 * 255
_ALWAYS: Layout = {"present": ("i", ("present",)), "n_inputs": ("i", ())}


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
        n_inputs = int(arrays["n_inputs"])
        if x.shape[1] != n_inputs:
            raise ModelError(
                f"the vectors have {x.shape[1]} columns, those of training had {n_inputs}. "
                "Run 'uv run dvc repro', which brings model and vectors into step."
            )
        reduced = reduction.transform(settings.reduce, arrays, x, settings.umap_neighbours)
        chances = np.zeros((len(x), len(self.classes)))
        kind = KINDS[settings.classifier]
        chances[:, arrays["present"]] = kind.score(settings, arrays, reduced.astype(np.float64))
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
    inside = inside.astype(np.int64)
    arrays, reduced = reduction.fit(settings, x, inside, seed_for(seed, "reduction"))
    kind = KINDS[settings.classifier]
    fitted = kind.fit(settings, reduced.astype(np.float64), inside, seed_for(seed, "classifier"))
    arrays = arrays | fitted | {"present": present, "n_inputs": np.array(x.shape[1], np.int64)}
    return Classifier(settings, tuple(classes), arrays)


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
    _check_layout(path, settings, arrays, len(classes))
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

    Raises
    ------
    ModelError
        The recipe takes stored features.
    """
    if recipe.vectors == "features":
        raise ModelError("vectors: features come from data/features, not from pixels.")
    if recipe.vectors == "measures":
        return morphology.measure_all(pixels)
    n, height, width, _ = pixels.shape
    grey = np.empty((n, height * width), dtype=np.float32)
    for rows in reduction.blocks(n, 3 * height * width):
        total = pixels[rows].sum(axis=3, dtype=np.float32)
        grey[rows] = total.reshape(len(total), -1) / GREY_UNIT
    return grey


# -- What is stored


def _read_arrays(path: Path) -> Arrays:
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise ModelError(f"{path} is missing. Run 'uv run dvc repro', which makes it.") from None
    except (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, MemoryError,
            zipfile.BadZipFile, zlib.error, NotImplementedError):  # fmt: skip
        raise _foreign(path, "it cannot be read as plain arrays") from None


def _check_layout(path: Path, settings: ClassifierSettings, arrays: Arrays, n_classes: int) -> None:
    """Check names, kinds of numbers, shapes, and all numbers that point somewhere."""
    layout = _ALWAYS | reduction.LAYOUTS[settings.reduce] | KINDS[settings.classifier].layout
    if set(arrays) != set(layout):
        raise _foreign(
            path, f"it holds {name_some(sorted(arrays))}, not {name_some(sorted(layout))}"
        )
    sizes: dict[str, int] = {}
    for name, (kind, axes) in layout.items():
        array = arrays[name]
        fits = array.dtype.kind == kind and array.ndim == len(axes)
        if not fits or any(
            sizes.setdefault(axis, n) != n for axis, n in zip(axes, array.shape, strict=True)
        ):
            raise _foreign(path, f"{name} is {array.dtype} of shape {array.shape}")
        if kind == "f" and not np.isfinite(array).all():
            raise _foreign(path, f"{name} is not finite")
    problem = _find_problem(settings, arrays, sizes, n_classes)
    if problem:
        raise _foreign(path, problem)


def _find_problem(
    settings: ClassifierSettings, arrays: Arrays, sizes: dict[str, int], n_classes: int
) -> str | None:
    """Return what would send a prediction astray, or into an endless walk."""
    present, n_inputs = arrays["present"], int(arrays["n_inputs"])
    n_present = len(present)
    if n_present < 2 or not _is_within(present, n_classes) or not (np.diff(present) > 0).all():
        return "present is not a rising list of classes"
    if sizes.get("inputs", n_inputs) != n_inputs or n_inputs < 1:
        return "n_inputs contradicts pca_mean"
    n_columns = {
        "none": n_inputs, "pca": sizes.get("components"),
    }.get(settings.reduce, sizes.get("places"))  # fmt: skip
    if sizes.get("columns", n_columns) != n_columns:
        return "mean does not fit the reduction"
    if settings.classifier == "svm" and (
        sizes["rivals"] != n_present - 1
        or sizes["pairs"] != n_present * (n_present - 1) // 2
        or (arrays["n_support"] < 0).any()
        or arrays["n_support"].sum() != sizes["vectors"]
    ):
        return "the support vectors do not fit the classes"
    if settings.classifier == "knn" and (
        sizes["vectors"] < settings.neighbours
        or not _is_within(arrays["codes"], n_present)
        or arrays["codes"].max() != n_present - 1
    ):
        return "codes does not fit the classes, or neighbours"
    if settings.classifier in ("forest", "extra_trees"):
        return _find_lost_node(arrays, int(n_columns or 0))
    return None


def _find_lost_node(arrays: Arrays, n_columns: int) -> str | None:
    features, left, right = arrays["features"], arrays["left"], arrays["right"]
    n_nodes = len(features)
    is_leaf = features < 0
    here = np.flatnonzero(~is_leaf)
    # A child stands behind its parent: every walk ends.
    is_lost = (
        not len(arrays["roots"])
        or not _is_within(arrays["roots"], n_nodes)
        or not (features < n_columns).all()
        or not _is_within(left[is_leaf], len(arrays["shares"]))
        or any(not _is_within(side[here], n_nodes) for side in (left, right))
        or any((side[here] <= here).any() for side in (left, right))
    )
    return "a node of a tree leads nowhere" if is_lost else None


def _is_within(places: Array, n: int) -> bool:
    return bool(((places >= 0) & (places < n)).all())


def _foreign(path: Path, problem: str) -> ModelError:
    return ModelError(
        f"{path} is not a classifier of this recipe: {problem}. Run 'uv run dvc repro -f train', "
        "which makes it anew."
    )


# -- What is given


def _require_vectors(x: NDArray[np.float32]) -> None:
    if x.ndim != 2 or x.shape[1] == 0:
        raise ModelError(f"vectors of shape {x.shape} are no table. Check the recipe's vectors.")
    for rows in reduction.blocks(len(x), x.shape[1]):
        broken = ~np.isfinite(x[rows]).all(axis=1)
        if broken.any():
            raise ModelError(
                f"{int(broken.sum())} vectors hold numbers that are not finite, the first in row "
                f"{rows.start + int(broken.argmax())}. Run 'uv run dvc repro -f' on what made them."
            )


def _encode(labels: Sequence[str], classes: Sequence[str], n_rows: int) -> Codes:
    places = {name: place for place, name in enumerate(classes)}
    unknown = sorted({label for label in labels if label not in places})
    if unknown:
        raise ModelError(
            f"labels {name_some(unknown)} are none of the classes {name_some(list(classes))}. "
            "Run 'uv run dvc repro', which brings labels and taxonomy into step."
        )
    if len(labels) != n_rows:
        raise ModelError(f"{n_rows} vectors have {len(labels)} labels. Give one for each.")
    return np.array([places[label] for label in labels], dtype=np.int64)


def _order_rows(x: NDArray[np.float32], codes: Codes) -> NDArray[np.int64]:
    """Return an order that depends on the rows' content alone, like a shuffle without a seed."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]
    order = sorted(range(len(x)), key=lambda row: (digests[row], int(codes[row])))
    return np.array(order, dtype=np.int64)
