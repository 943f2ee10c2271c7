"""Trains a recipe: networks step by step, classifiers on what a network hides, several together."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import backend
from stages.core.errors import ModelError, name_some
from stages.core.params import InputsParams
from stages.core.settings import seed_for
from stages.inputs.reading import Examples, plain
from stages.models import classifiers, composites, networks, trained
from stages.models.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    NetworkRecipe,
)
from stages.models.rows import Rows
from stages.models.trained import CompositeModel, Model, SingleModel
from stages.training import steps
from stages.training.checkpoints import Progress, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What a training gave.

    Attributes
    ----------
    model : SingleModel or CompositeModel
    history : pandas.DataFrame
        One row for each epoch: member (of a composite, else "model"), step and epoch (from 1,
        epochs counted within their step), loss, val_loss, accuracy, val_accuracy, learning_rate;
        NaN in the val columns where there is nothing to validate on. For watching, not for
        reporting: loss and accuracy are running means while the weights still change.
    steps : list of dict
        For each step: member, train, n_learning (weights that learn), epochs_run, kept_epoch.
    seconds : list of float
        How long each epoch took that was run here, in the order of `history`.
    """

    model: Model
    history: pd.DataFrame
    steps: list[dict[str, Any]]
    seconds: list[float]


@dataclass(frozen=True)
class Task:
    """What a training needs besides its recipe and its rows.

    Attributes
    ----------
    classes : list of str
        All classes, in the order of the probabilities.
    inputs : InputsParams
        How the images were prepared; kept with the model.
    seed : int
        Of the first weights, of dropout, and of the order and the views of the rows.
    weights_dir : str, optional
        Folder with published weights.
    partial : pathlib.Path, optional
        Folder that keeps the state after each epoch. A training that was killed is taken up from
        there and gives the same bits as one that was not. The caller removes it in the end.
    start : mapping of str to numpy.ndarray, optional
        All weights of a trained network to go on from, as `trained.collect` returns them; None:
        drawn or published ones. Of a network alone.
    """

    classes: list[str]
    inputs: InputsParams
    seed: int
    weights_dir: str | None = None
    partial: Path | None = None
    start: Mapping[str, np.ndarray] | None = None

    def of(self, member: str, classes: Sequence[str]) -> "Task":
        """Return the task of one member of a composite: a seed and a folder of its own."""
        return replace(
            self,
            classes=list(classes),
            seed=seed_for(self.seed, member),
            partial=self.partial and self.partial / member,
        )


def fit(recipe: AnyRecipe, train: Rows, valid: Rows, labels: pd.Series, task: Task) -> Training:
    """Train a recipe.

    Parameters
    ----------
    recipe : NetworkRecipe, ClassifierRecipe, CascadeRecipe or EnsembleRecipe
        What to train.
    train, valid : Examples, or dict of str to Examples
        Rows to learn from, and rows that say when to stop, as `rows.read` gives them for the
        recipe; for a composite by member. `valid` may be empty: then all epochs are run at one
        learning rate and the last weights are kept.
    labels : pandas.Series of str
        Class by image_id.
    task : Task

    Returns
    -------
    Training

    Raises
    ------
    ModelError
        A class has no training row, a label is no class, weights or layers are not there, the
        loss is no longer a number, or a batch does not fit into memory.

    Notes
    -----
    The loss is categorical cross-entropy. Validation rows are weighted with the same numbers as
    training rows, so that the two losses can be compared and a rare class counts in the choice of
    the epoch. With ``schedule: plateau`` the learning rate falls by ``factor`` after ``patience``
    epochs without a better validation loss (or accuracy), training ends after ``stop_patience``,
    and the weights of the best epoch are kept. With a constant or cosine schedule all epochs are
    run and the last weights are kept.

    Random numbers are set once, and TensorFlow is asked for operations that give the same bits
    in every run, for the rest of the process; they are the slower ones.
    """
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        assert isinstance(train, dict)
        assert isinstance(valid, dict)
        shares = composites.share_labels(recipe, labels, task.classes)
        fitted = {
            name: fit(member, train[name], valid[name], own, task.of(name, classes))
            for name, member in recipe.members.items()
            for own, classes in [shares[name]]
        }
        return _join(recipe, fitted, task)
    assert not isinstance(train, dict)
    assert not isinstance(valid, dict)
    train_labels = labels.loc[train.image_ids].tolist()
    valid_labels = labels.loc[valid.image_ids].tolist()
    _check(train, train_labels, valid_labels, task.classes)
    if isinstance(recipe, ClassifierRecipe):
        return _fit_classifier(recipe, train, valid, labels, task)
    settings = f"{recipe!r} {task.inputs!r} {task.classes} {task.seed} {task.weights_dir}"
    arrays = [one for one in (train.x, train.hidden, valid.x) if one is not None]
    key = fingerprint(settings, [*train_labels, "", *valid_labels], arrays)
    progress = Progress.start(task.partial, key)
    job = steps.Job(recipe, task.classes, task.inputs, task.seed, progress)
    weights = class_weights(train_labels, task.classes, recipe.class_weights)
    parts = [
        steps.Part(rows, *_encode(names, task.classes, weights))
        for rows, names in ((train, train_labels), (valid, valid_labels))
    ]
    return _fit_network(job, parts[0], parts[1], train_labels, task)


def _join(
    recipe: CascadeRecipe | EnsembleRecipe, fitted: Mapping[str, Training], task: Task
) -> Training:
    members = {
        name: one.model for name, one in fitted.items() if isinstance(one.model, SingleModel)
    }
    history = pd.concat(
        [one.history.assign(member=name) for name, one in fitted.items()], ignore_index=True
    )
    told = [{**step, "member": name} for name, one in fitted.items() for step in one.steps]
    seconds = [value for one in fitted.values() for value in one.seconds]
    model = CompositeModel(task.classes, recipe, task.inputs, members)
    return Training(model, history, told, seconds)


def _fit_classifier(
    recipe: ClassifierRecipe, train: Examples, valid: Examples, labels: pd.Series, task: Task
) -> Training:
    start = time.perf_counter()
    shape = tuple(train.x.shape[1:])
    n_classes, seed = len(task.classes), task.seed
    network = None
    if recipe.has_network:
        network = trained.build(recipe, shape, n_classes, task.weights_dir, pretrained=True)
    x = trained.vectors(recipe, network, train.x)
    names = labels.loc[train.image_ids].tolist()
    classifier = classifiers.fit(recipe, x, names, task.classes, seed)
    model = SingleModel(task.classes, recipe, task.inputs, shape, network, classifier)
    row = {"member": "model", "step": 1, "epoch": 1, "learning_rate": np.nan}
    for prefix, part in (("", train), ("val_", valid)):
        truth = labels.loc[part.image_ids]
        row |= _judge(prefix, trained.predict_images(model, part), truth)
    history = pd.DataFrame([row], columns=list(steps.HISTORY))
    told = [steps.describe("all", 0, 1, 1)]
    return Training(model, history, told, [time.perf_counter() - start])


def _judge(prefix: str, answers: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """Return mean logarithmic loss and accuracy over images, NaN where there are none."""
    if answers.empty:
        return {f"{prefix}loss": np.nan, f"{prefix}accuracy": np.nan}
    truth = labels[~labels.index.duplicated()].loc[answers.index]
    places = answers.columns.get_indexer(truth)
    given = answers.to_numpy()[np.arange(len(truth)), places]
    return {
        f"{prefix}loss": float(-np.log(np.clip(given, 1e-7, None)).mean()),
        f"{prefix}accuracy": float((answers.idxmax(axis=1) == truth).mean()),
    }


def _fit_network(
    job: steps.Job,
    train: steps.Part,
    valid: steps.Part,
    labels: Sequence[str],
    task: Task,
) -> Training:
    keras, tf = backend.load_tensorflow()
    keras.utils.set_random_seed(job.seed)
    tf.config.experimental.enable_op_determinism()
    recipe, shape = job.recipe, _input_shape(train.rows)
    if task.start is None and not len(valid.rows.image_ids):
        logger.info("train: no image to validate on; running all epochs")
    with _devices(recipe):
        network = networks.build(
            recipe, shape, len(job.classes), task.weights_dir, pretrained=task.start is None
        )
        if task.start is not None:
            trained.fill(network, task.start)
        for number, step in enumerate(recipe.steps, 1):
            steps.run(job, network, number, step, train, valid)
    rows = [{"member": "model", **row} for row in job.progress.history]
    history = pd.DataFrame(rows, columns=list(steps.HISTORY)).astype({"step": int, "epoch": int})
    classifier = None
    if recipe.then is not None:
        hidden = trained.vectors(recipe, network, plain(train.rows).x)
        classifier = classifiers.fit(recipe.then, hidden, labels, job.classes, job.seed)
    model = SingleModel(job.classes, recipe, job.inputs, shape, network, classifier)
    return Training(model, history, job.steps, job.seconds)


def _input_shape(rows: Examples) -> tuple[int, ...]:
    """Return the shape of what a network gets: the rows' without the margin around them."""
    side = int(rows.x.shape[1]) - 2 * rows.margin
    return (side, side, 3)


def _devices(recipe: NetworkRecipe) -> Any:
    """Return where to build and train: on all GPUs together where there are several."""
    keras, gpus = backend.load_keras(), backend.list_gpus()
    mixed = recipe.precision == "mixed"
    if mixed and not gpus:
        logger.info("train: mixed precision is slower without a GPU; computing in float32")
    # Set in either case: the policy outlives a training in the same process.
    keras.mixed_precision.set_dtype_policy("mixed_float16" if mixed and gpus else "float32")
    return backend.mirror(tuple(gpus)).scope() if len(gpus) > 1 else nullcontext()


def class_weights(labels: Sequence[str], classes: Sequence[str], method: str) -> dict[str, float]:
    """Return the weight of a row of each class.

    Parameters
    ----------
    labels : sequence of str
        Classes of the training rows; each of `classes` occurs.
    classes : sequence of str
        All classes.
    method : {"none", "balanced", "binary", "sqrt"}
        ``"balanced"`` gives N / (n_classes * n_c), whose mean over the rows is 1. ``"binary"``
        gives N / (2 n_c), the formula for two classes, which both projects used for eleven: the
        loss is 5.5 times as large. ``"sqrt"`` gives roots of the balanced ones, scaled to a mean
        of 1 over the rows.
    """
    counts = pd.Series(labels).value_counts()
    n, k = len(labels), len(classes)
    if method == "none":
        return dict.fromkeys(classes, 1.0)
    if method == "binary":
        return {name: n / (2 * int(counts[name])) for name in classes}
    weights = {name: n / (k * int(counts[name])) for name in classes}
    if method == "balanced":
        return weights
    roots = {name: float(np.sqrt(weights[name])) for name in classes}
    mean = sum(roots[name] * int(counts[name]) for name in classes) / n
    return {name: root / mean for name, root in roots.items()}


def _encode(
    labels: Sequence[str], classes: Sequence[str], weights: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array([classes.index(name) for name in labels], int)
    targets = np.eye(len(classes), dtype=np.float32)[codes]
    return targets, np.array([weights[name] for name in labels], np.float32)


def _check(
    train: Examples,
    train_labels: Sequence[str],
    valid_labels: Sequence[str],
    classes: Sequence[str],
) -> None:
    known = set(classes)
    strange = sorted((set(train_labels) | set(valid_labels)) - known)
    if strange:
        raise ModelError(
            f"data/split holds labels that are no class: {name_some(strange)}. "
            f"Classes: {', '.join(classes)}. Run 'uv run dvc repro', which brings both into step."
        )
    if len(known) < 2:
        raise ModelError(
            f"there is nothing to tell apart: the classes are [{', '.join(classes)}]. Choose a "
            "finer taxonomy, or hospitals with more cell types, in params.yaml."
        )
    hospitals = sorted({image_id.split("/")[0] for image_id in train.image_ids})
    for name in classes:
        if name not in set(train_labels):
            raise ModelError(
                f"class {name!r} has no image in the training part (hospitals: "
                f"{', '.join(hospitals) or 'none'}). Add a hospital that has it to "
                "split.train_hospitals, lower split.valid and split.test, or choose a taxonomy "
                "that merges it with another class."
            )
