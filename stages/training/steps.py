"""One step of a network's training: what learns, on which rows, at which rate, until when."""

import itertools
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.core import backend
from stages.core.errors import ModelError
from stages.core.params import InputsParams
from stages.inputs.reading import Examples
from stages.models import networks, pretrained, trained
from stages.models.recipes import NetworkRecipe, Step
from stages.training import batches
from stages.training.checkpoints import Progress

SMALLEST_LEARNING_RATE = 1e-7
WARM_UP = 0.1  # share of a cosine schedule's updates in which the rate rises
LOG_SECONDS = 10.0
HISTORY = (
    "member",
    "step",
    "epoch",
    "loss",
    "val_loss",
    "accuracy",
    "val_accuracy",
    "learning_rate",
)

logger = logging.getLogger(__name__)


@dataclass
class Part:
    """Rows of one part with what the loss needs of each.

    Attributes
    ----------
    rows : Examples
    targets : numpy.ndarray of float32, shape (n_rows, n_classes)
        1 in the column of the row's class.
    weights : numpy.ndarray of float32, shape (n_rows,)
        Of the row in the loss.
    """

    rows: Examples
    targets: np.ndarray
    weights: np.ndarray


@dataclass
class Job:
    """Everything that one network's training needs besides its rows.

    Attributes
    ----------
    recipe : NetworkRecipe
    classes : list of str
    inputs : InputsParams
        How the images were prepared.
    seed : int
    progress : Progress
        What was done so far, in memory and, where a folder is given, on disk.
    steps, seconds : list
        As of ``fitting.Training``; grow with each step and epoch.
    """

    recipe: NetworkRecipe
    classes: list[str]
    inputs: InputsParams
    seed: int
    progress: Progress
    steps: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def run(job: Job, network: Any, number: int, step: Step, train: Part, valid: Part) -> None:
    """Train one step of a recipe, or what is left of it; leave the kept weights in the network.

    Parameters
    ----------
    job : Job
        Takes note of what was done.
    network : keras.Model
        With the weights that the step before left.
    number : int
        Of the step, from 1.
    step : Step
    train, valid : Part
        `valid` may have no rows: then all epochs are run.

    Raises
    ------
    ModelError
        The loss is no longer a number, or a batch does not fit into memory; the best weights so
        far are kept in the job's folder.
    """
    tf = backend.load_tensorflow()[1]
    recipe, progress = job.recipe, job.progress
    networks.freeze(network, recipe, step.train)
    learning = networks.count_weights(network)[1]
    if number < progress.step:
        job.steps.append(_count(job, number, step, learning))
        return
    progress.next_step(number)
    done = len(progress.epochs_of(number))
    if progress.variables:
        _assign(network.variables, progress.variables)
        pretrained.finish(network)
    if not progress.is_over and done < step.epochs:
        keeps_best = step.schedule == "plateau" and len(valid.rows.image_ids) > 0
        try:
            model, feeds = _prepare_step(job, network, train, valid, done, number)
            _compile(job, model, step, len(feeds[0]))
            if progress.optimiser:
                model.optimizer.build(model.trainable_variables)
                _assign(model.optimizer.variables, progress.optimiser)
            model.fit(
                feeds[0],
                validation_data=feeds[1],
                epochs=step.epochs,
                initial_epoch=done,
                shuffle=False,
                verbose=0,
                callbacks=_callbacks(job, network, model, number, step, keeps_best),
            )
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise ModelError(
                f"a batch of {recipe.batch} does not fit into memory.{_say_kept(progress)} Lower "
                "the recipe's batch (half of it is a good next try) or its size."
            ) from None
    trained.put_back(network, progress.kept)
    job.steps.append(_count(job, number, step, learning))


def _prepare_step(
    job: Job, network: Any, train: Part, valid: Part, done: int, number: int
) -> tuple[Any, tuple[Any, Any]]:
    """Return what is trained, and the datasets of its training and validation rows.

    Layers in front of the first one that learns are run without their dropout. Where the recipe
    asks for stored views (or changes no image, so that every view is the same) they run once.
    """
    keras = backend.load_keras()
    recipe, has_valid = job.recipe, len(valid.rows.image_ids) > 0
    balances = job.inputs.white_balance
    grey = balances.count("grey_world") / len(balances)
    cut = networks.split(network)
    n_views = 1 if recipe.augment.is_empty else recipe.views
    if cut and n_views:
        trunk, tail = cut
        stored = _store(trunk, train.rows, recipe, grey, n_views, job.seed)
        judged = _store(trunk, valid.rows, recipe, grey, 1, job.seed) if has_valid else None
        return tail, (
            _feed(stored, train, recipe.batch, job.seed + number, done, recipe.sampling),
            _feed(judged, valid, recipe.batch, None) if judged is not None else None,
        )
    model = network
    if cut:
        trunk, tail = cut
        (pixels,) = network.inputs
        model = keras.Model(pixels, tail(trunk(pixels, training=False)))
    return model, (
        batches.make_dataset(
            train.rows, train.targets, train.weights, recipe, grey, job.seed + number, done
        ),
        batches.make_dataset(valid.rows, valid.targets, valid.weights, recipe, grey, None)
        if has_valid
        else None,
    )


def _store(
    trunk: Any, rows: Examples, recipe: NetworkRecipe, grey: float, n_views: int, seed: int
) -> np.ndarray:
    """Run the frozen layers over all views; return (n_rows, n_views, ...) float32, kept on disk."""
    shape = (len(rows.image_ids), n_views, *trunk.output_shape[1:])
    n_bytes = 4 * int(np.prod(shape))
    with tempfile.TemporaryFile(prefix="smearflow-") as file:
        file.truncate(n_bytes)
        if hasattr(os, "posix_fallocate"):
            # Takes the room now: a disk that is full later would be a crash, not an error.
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        stored = np.memmap(file, np.float32, "r+", shape=shape)
    seen = np.zeros(len(rows.image_ids), int)
    for places, pixels in batches.stream_views(rows, recipe, grey, n_views, seed):
        answers = trained.answer(trunk, pixels)
        for place, maps in zip(places, answers, strict=True):
            stored[place, seen[place]] = maps
            seen[place] += 1
    return stored


def _compile(job: Job, model: Any, step: Step, n_batches: int) -> None:
    keras = backend.load_keras()
    recipe = job.recipe
    rate: Any = step.learning_rate
    if step.schedule == "cosine":
        updates = n_batches * step.epochs
        warm = max(1, round(WARM_UP * updates))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, updates - warm), warmup_target=step.learning_rate, warmup_steps=warm
        )
    optimiser = _optimisers(keras)[recipe.optimiser](
        rate,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.average > 0,
        ema_momentum=recipe.average or 0.99,
    )
    model.compile(
        optimizer=optimiser,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        weighted_metrics=[],
        # Compiled for a CPU, a step of the fine-tuned network takes many times as long.
        jit_compile="auto" if backend.list_gpus() else False,
    )


def _optimisers(keras: Any) -> dict[str, Any]:
    found = keras.optimizers
    return {
        "adam": found.Adam,
        "adamw": found.AdamW,
        "sgd": found.SGD,
        "rmsprop": found.RMSprop,
        "nadam": found.Nadam,
        "adagrad": found.Adagrad,
        "adamax": found.Adamax,
    }


def _callbacks(
    job: Job, network: Any, model: Any, number: int, step: Step, keeps_best: bool
) -> list[Any]:
    """Return what runs after each epoch: guards, averaged weights, rate, stop, and our journal."""
    keras = backend.load_keras()
    recipe, progress = job.recipe, job.progress
    past = progress.epochs_of(number)
    watchers = []
    if keeps_best:
        watchers = [
            keras.callbacks.ReduceLROnPlateau(
                step.monitor, factor=step.factor, patience=step.patience,
                min_lr=SMALLEST_LEARNING_RATE,
            ),
            keras.callbacks.EarlyStopping(step.monitor, patience=step.stop_patience),
        ]  # fmt: skip
    swap = []
    if recipe.average > 0:
        swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
    clock = [time.perf_counter(), 0.0]

    def begin(_: Any) -> None:
        # The watchers learn the past epochs again, then the rate is put back.
        for row in past:
            for watcher in watchers:
                watcher.on_epoch_end(int(row["epoch"]) - 1, dict(row))
        model.stop_training = False
        if past:
            _assign(model.optimizer.variables, progress.optimiser)
            for one in swap:
                one._ema_weights_in_model = True

    def end(epoch: int, logs: dict[str, float]) -> None:
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        seen = {"learning_rate": rate, **logs, "step": number, "epoch": epoch + 1}
        row = {name: float(seen.get(name, np.nan)) for name in HISTORY[1:]}
        _require_numbers(row, progress)
        now = time.perf_counter()
        job.seconds.append(now - clock[0])
        clock[0] = now
        progress.history.append(row)
        sign = -1.0 if step.monitor == "val_accuracy" else 1.0
        value = sign * row[step.monitor] if keeps_best else None
        if value is None or progress.best is None or value < progress.best:
            progress.best, progress.kept = value, trained.collect_learning(network)
        progress.is_over = bool(model.stop_training)
        if progress.folder is not None:
            progress.variables = [v.numpy() for v in network.variables]
            progress.optimiser = [v.numpy() for v in model.optimizer.variables]
            progress.save()
        if now - clock[1] > LOG_SECONDS:
            clock[1] = now
            values = ", ".join(f"{name} {row[name]:.4g}" for name in HISTORY[3:])
            logger.info(
                "train: step %d, epoch %d of at most %d (%.1f s): %s",
                number, epoch + 1, step.epochs, job.seconds[-1], values,
            )  # fmt: skip

    journal = keras.callbacks.LambdaCallback(on_train_begin=begin, on_epoch_end=end)
    return [*swap, *watchers, journal]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _require_numbers(row: Mapping[str, float], progress: Progress) -> None:
    watched = [row["loss"]] + ([row["val_loss"]] if not np.isnan(row["val_accuracy"]) else [])
    if not np.isfinite(watched).all():
        raise ModelError(
            f"the loss is no longer a number in epoch {int(row['epoch'])} of step "
            f"{int(row['step'])}.{_say_kept(progress)} Lower the recipe's learning_rate in "
            "params.yaml (a tenth of it is a good next try)."
        )


def _say_kept(progress: Progress) -> str:
    if progress.folder is None or not progress.history:
        return ""
    last = progress.history[-1]
    return (
        f" The best weights until epoch {int(last['epoch'])} of step {int(last['step'])} are kept "
        f"in {progress.folder} (arrays kept/... of state.npz)."
    )


def _count(job: Job, number: int, step: Step, learning: int) -> dict[str, Any]:
    rows = job.progress.epochs_of(number)
    kept = len(rows)
    if step.schedule == "plateau" and not np.isnan(rows[0]["val_loss"]):
        sign = -1.0 if step.monitor == "val_accuracy" else 1.0
        kept = 1 + int(np.argmin([sign * row[step.monitor] for row in rows]))
    return describe(step.train, learning, len(rows), kept)


def describe(train: str, learning: int, epochs_run: int, kept_epoch: int) -> dict[str, Any]:
    """Return a row of ``Training.steps``."""
    return {
        "member": "model",
        "train": train,
        "n_learning": learning,
        "epochs_run": epochs_run,
        "kept_epoch": kept_epoch,
    }


def _feed(
    x: np.ndarray,
    part: Part,
    batch: int,
    seed: int | None,
    first_epoch: int = 0,
    sampling: str = "shuffled",
) -> Any:
    """Return a tf.data.Dataset of (rows, targets, weights), in a new order every epoch.

    `x` holds the stored views of each row, of which every epoch takes one. Without a seed the
    order is that of the rows, and the first view is taken. Only a batch at a time is read.
    """
    _, tf = backend.load_tensorflow()
    n_rows = len(part.targets)
    epochs = itertools.count(first_epoch)

    def draw() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        order = np.arange(n_rows)
        views = np.zeros(n_rows, int)
        if seed is not None:
            epoch = next(epochs)
            order = batches.draw_order(part.targets, part.rows.image_ids, sampling, seed, epoch)
            if x.shape[1] > 1:
                views = np.random.default_rng([seed, epoch]).integers(x.shape[1], size=n_rows)
        for start in range(0, n_rows, batch):
            rows = order[start : start + batch]
            values = x[rows, views[start : start + batch]]
            yield values, part.targets[rows], part.weights[rows]

    signature = (
        tf.TensorSpec((None, *x.shape[2:]), x.dtype),
        tf.TensorSpec((None, part.targets.shape[1]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(draw, output_signature=signature)
    n_batches = -(-n_rows // batch)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(2)
