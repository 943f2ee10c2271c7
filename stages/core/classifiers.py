"""Classical classifiers of vectors: fitted by scikit-learn, stored as plain arrays, ours to read.

A fitted model is a set of named arrays. Prediction needs numpy alone and gives what scikit-learn
gives, so that a stored model is neither unpickled nor tied to a version.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import morphology, parallel, reduction, store
from stages.core.errors import ModelError, name_some
from stages.core.params import ClassifierRecipe, ClassifierSettings, seed_for
from stages.core.reduction import Array, Arrays, Floats, Layout

FILE = "classifier.npz"
GREY_UNIT = 3 * 255
MAX_ITERATIONS = 5000
TIE_SHARE = 1e-3  # of a vote: what decides between classes with as many neighbours

Codes = NDArray[np.int64]
Fit = Callable[[ClassifierSettings, Floats, Codes, int], Arrays]
Score = Callable[[ClassifierSettings, Arrays, Floats], Floats]


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


# -- What is stored


@dataclass(frozen=True)
class _Kind:
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
_ALWAYS: Layout = {"present": ("i", ("present",)), "n_inputs": ("i", ())}

KINDS = {
    "svm": _Kind(_fit_svm, _score_svm, _SCALING | {
        "c": ("f", ()),
        "gamma": ("f", ()),
        "support_vectors": ("f", ("vectors", "columns")),
        "n_support": ("i", ("present",)),
        "dual_coefficients": ("f", ("rivals", "vectors")),
        "intercepts": ("f", ("pairs",)),
    }),
    "logistic": _Kind(_fit_logistic, _score_logistic, _SCALING | {
        "c": ("f", ()),
        "coefficients": ("f", ("present", "columns")),
        "intercepts": ("f", ("present",)),
    }),
    "knn": _Kind(_fit_knn, _score_knn, _SCALING | {
        "vectors": ("f", ("vectors", "columns")),
        "codes": ("i", ("vectors",)),
    }),
    "forest": _Kind(_fit_forest, _score_trees, _TREES),
    "extra_trees": _Kind(_fit_extra_trees, _score_trees, _TREES),
}  # fmt: skip


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
