"""Trains a recipe: networks step by step, classifiers on what a network hides, several together."""

import itertools
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import (
    classifiers,
    combining,
    feeding,
    frameworks,
    models,
    networks,
    pretrained,
)
from stages.core.errors import ModelError, name_some
from stages.core.examples import Examples, plain
from stages.core.models import CompositeModel, Model, SingleModel
from stages.core.params import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    HeadRecipe,
    InputsParams,
    NetworkRecipe,
    Step,
    seed_for,
)
from stages.core.progress import Progress, fingerprint

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


@dataclass
class _Part:
    """Rows of one part with what the loss needs of each."""

    rows: Examples
    targets: np.ndarray
    weights: np.ndarray


@dataclass
class _Job:
    """Everything that one network's training needs besides its rows."""

    recipe: HeadRecipe | NetworkRecipe
    classes: list[str]
    inputs: InputsParams
    seed: int
    progress: Progress
    steps: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def fit(
    recipe: AnyRecipe,
    train: Any,
    valid: Any,
    labels: pd.Series,
    classes: Sequence[str],
    inputs: InputsParams,
    seed: int,
    weights_dir: str | None = None,
    partial: Path | None = None,
) -> Training:
    """Train a recipe.

    Parameters
    ----------
    recipe : HeadRecipe, NetworkRecipe, ClassifierRecipe, CascadeRecipe or EnsembleRecipe
        What to train.
    train, valid : examples.Examples, or dict of str to examples.Examples
        Rows to learn from, and rows that say when to stop, as `examples.read` gives them for the
        recipe; for a composite by member. `valid` may be empty: then all epochs are run at one
        learning rate and the last weights are kept.
    labels : pandas.Series of str
        Class by image_id.
    classes : sequence of str
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
    if isinstance(recipe, CascadeRecipe):
        return _fit_cascade(
            recipe, train, valid, labels, classes, inputs, seed, weights_dir, partial
        )
    if isinstance(recipe, EnsembleRecipe):
        fitted = {
            name: fit(
                member, train[name], valid[name], labels, classes, inputs, seed_for(seed, name),
                weights_dir, partial and partial / name,
            )
            for name, member in recipe.members.items()
        }  # fmt: skip
        return _join(recipe, fitted, classes, inputs)
    train_labels = labels.loc[list(train.image_ids)].tolist()
    valid_labels = labels.loc[list(valid.image_ids)].tolist()
    _check(train, train_labels, valid_labels, classes)
    if isinstance(recipe, ClassifierRecipe):
        return _fit_classifier(recipe, train, valid, labels, classes, inputs, seed)
    settings = f"{recipe!r} {inputs!r} {list(classes)} {seed} {weights_dir}"
    key = fingerprint(settings, [*train_labels, "", *valid_labels], train.x)
    job = _Job(recipe, list(classes), inputs, seed, Progress.start(partial, key))
    weights = class_weights(train_labels, classes, recipe.class_weights)
    parts = [
        _Part(rows, *_encode(names, classes, weights))
        for rows, names in ((train, train_labels), (valid, valid_labels))
    ]
    return _fit_network(job, parts[0], parts[1], train_labels, weights_dir)


def _fit_cascade(
    recipe: CascadeRecipe,
    train: Any,
    valid: Any,
    labels: pd.Series,
    classes: Sequence[str],
    inputs: InputsParams,
    seed: int,
    weights_dir: str | None,
    partial: Path | None,
) -> Training:
    combining.require_groups(classes, recipe.groups)
    fitted = {}
    for name, rename in (("first", combining.merge), ("second", combining.narrow)):
        renamed = pd.Series(rename(list(labels), recipe.groups), index=labels.index)
        own = sorted(set(rename(list(classes), recipe.groups)))
        fitted[name] = fit(
            recipe.members[name], train[name], valid[name], renamed, own, inputs,
            seed_for(seed, name), weights_dir, partial and partial / name,
        )  # fmt: skip
    return _join(recipe, fitted, classes, inputs)


def _join(
    recipe: CascadeRecipe | EnsembleRecipe,
    fitted: Mapping[str, Training],
    classes: Sequence[str],
    inputs: InputsParams,
) -> Training:
    members = {
        name: one.model for name, one in fitted.items() if isinstance(one.model, SingleModel)
    }
    history = pd.concat(
        [one.history.assign(member=name) for name, one in fitted.items()], ignore_index=True
    )
    steps = [{**step, "member": name} for name, one in fitted.items() for step in one.steps]
    seconds = [value for one in fitted.values() for value in one.seconds]
    return Training(CompositeModel(list(classes), recipe, inputs, members), history, steps, seconds)


def _fit_classifier(
    recipe: ClassifierRecipe,
    train: Examples,
    valid: Examples,
    labels: pd.Series,
    classes: Sequence[str],
    inputs: InputsParams,
    seed: int,
) -> Training:
    start = time.perf_counter()
    shown = plain(train)
    names = labels.loc[list(shown.image_ids)].tolist()
    x = models.vectors(recipe, shown.x)
    classifier = classifiers.fit(recipe, x, names, classes, seed)
    model = SingleModel(
        list(classes), recipe, inputs, tuple(train.x.shape[1:]), classifier=classifier
    )
    row = {"member": "model", "step": 1, "epoch": 1, "learning_rate": np.nan}
    for prefix, part in (("", shown), ("val_", valid)):
        truth = labels.loc[list(part.image_ids)]
        row |= _judge(prefix, models.predict_images(model, part), truth)
    steps = [_describe_step("all", 0, 1, 1)]
    history = pd.DataFrame([row], columns=list(HISTORY))
    return Training(model, history, steps, [time.perf_counter() - start])


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
    job: _Job, train: _Part, valid: _Part, labels: Sequence[str], weights_dir: str | None
) -> Training:
    keras, tf = frameworks.load_tensorflow()
    keras.utils.set_random_seed(job.seed)
    tf.config.experimental.enable_op_determinism()
    recipe, shape = job.recipe, _input_shape(train.rows)
    if not len(valid.rows.image_ids):
        logger.info("train: no image to validate on; running all epochs")
    with _devices(recipe, tf):
        network = networks.build(recipe, shape, len(job.classes), weights_dir, pretrained=True)
        if isinstance(recipe, HeadRecipe):
            networks.standardise(network, train.rows.x)
        for number, step in enumerate(recipe.steps, 1):
            _run_step(job, network, number, step, train, valid)
    rows = [{"member": "model", **row} for row in job.progress.history]
    history = pd.DataFrame(rows, columns=list(HISTORY)).astype({"step": int, "epoch": int})
    classifier = None
    if isinstance(recipe, NetworkRecipe) and recipe.then is not None:
        shown = plain(train.rows)
        hidden = models.answer(networks.first_hidden(network), shown.x)
        classifier = classifiers.fit(recipe.then, hidden, labels, job.classes, job.seed)
    model = SingleModel(job.classes, recipe, job.inputs, shape, network, classifier)
    return Training(model, history, job.steps, job.seconds)


def _input_shape(rows: Examples) -> tuple[int, ...]:
    """Return the shape of what a network gets: the rows' without the margin around them."""
    if rows.x.ndim == 2:
        return (int(rows.x.shape[1]),)
    side = int(rows.x.shape[1]) - 2 * rows.margin
    return (side, side, 3)


def _devices(recipe: HeadRecipe | NetworkRecipe, tf: Any) -> Any:
    """Return where to build and train: on all GPUs together where there are several."""
    keras = frameworks.load_keras()
    gpus = tf.config.list_physical_devices("GPU")
    mixed = isinstance(recipe, NetworkRecipe) and recipe.precision == "mixed"
    if mixed and not gpus:
        logger.info("train: mixed precision is slower without a GPU; computing in float32")
    # Set in either case: the policy outlives a training in the same process.
    keras.mixed_precision.set_dtype_policy("mixed_float16" if mixed and gpus else "float32")
    return tf.distribute.MirroredStrategy().scope() if len(gpus) > 1 else nullcontext()


def _run_step(job: _Job, network: Any, number: int, step: Step, train: _Part, valid: _Part) -> None:
    """Train one step of a recipe, or what is left of it; leave the kept weights in the network."""
    tf = frameworks.load_tensorflow()[1]
    recipe, progress = job.recipe, job.progress
    if isinstance(recipe, NetworkRecipe):
        networks.freeze(network, recipe, step.train)
    learning = networks.count_weights(network)[1]
    if number < progress.step:
        job.steps.append(_count_step(job, number, step, learning))
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
    models.put_back(network, progress.kept)
    job.steps.append(_count_step(job, number, step, learning))


def _prepare_step(
    job: _Job, network: Any, train: _Part, valid: _Part, done: int, number: int
) -> tuple[Any, tuple[Any, Any]]:
    """Return what is trained, and the datasets of its training and validation rows.

    Layers in front of the first one that learns are run without their dropout. Where the recipe
    asks for stored views (or changes no image, so that every view is the same) they run once.
    """
    keras = frameworks.load_keras()
    recipe, has_valid = job.recipe, len(valid.rows.image_ids) > 0
    if isinstance(recipe, HeadRecipe):
        return network, (
            _feed(train.rows.x, train, recipe.batch, job.seed, done),
            _feed(valid.rows.x, valid, recipe.batch, None) if has_valid else None,
        )
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
        feeding.make_dataset(
            train.rows, train.targets, train.weights, recipe, grey, job.seed + number, done
        ),
        feeding.make_dataset(valid.rows, valid.targets, valid.weights, recipe, grey, None)
        if has_valid
        else None,
    )


def _store(
    trunk: Any, rows: Examples, recipe: NetworkRecipe, grey: float, n_views: int, seed: int
) -> np.ndarray:
    """Run the frozen layers over all views; return (n_rows, n_views, ...) float32, kept on disk."""
    shape = (len(rows.image_ids), n_views, *trunk.output_shape[1:])
    with tempfile.TemporaryFile(prefix="smearflow-") as file:
        file.truncate(4 * int(np.prod(shape)))
        stored = np.memmap(file, np.float32, "r+", shape=shape)
    seen = np.zeros(len(rows.image_ids), int)
    for places, pixels in feeding.stream_views(rows, recipe, grey, n_views, seed):
        answers = models.answer(trunk, pixels)
        for place, maps in zip(places, answers, strict=True):
            stored[place, seen[place]] = maps
            seen[place] += 1
    return stored


def _compile(job: _Job, model: Any, step: Step, n_batches: int) -> None:
    keras, tf = frameworks.load_tensorflow()
    recipe = job.recipe
    rate: Any = step.learning_rate
    if step.schedule == "cosine":
        updates = n_batches * step.epochs
        warm = max(1, round(WARM_UP * updates))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, updates - warm), warmup_target=step.learning_rate, warmup_steps=warm
        )
    if isinstance(recipe, HeadRecipe):
        optimiser = keras.optimizers.Adam(rate)
        smoothing = 0.0
    else:
        optimiser = _optimisers(keras)[recipe.optimiser](
            rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.clip_norm,
            use_ema=recipe.average > 0,
            ema_momentum=recipe.average or 0.99,
        )
        smoothing = recipe.label_smoothing
    model.compile(
        optimizer=optimiser,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=smoothing),
        metrics=["accuracy"],
        weighted_metrics=[],
        # Compiled for a CPU, a step of the fine-tuned network takes many times as long.
        jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
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
    job: _Job, network: Any, model: Any, number: int, step: Step, keeps_best: bool
) -> list[Any]:
    """Return what runs after each epoch: guards, averaged weights, rate, stop, and our journal."""
    keras = frameworks.load_keras()
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
    if isinstance(recipe, NetworkRecipe) and recipe.average > 0:
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
            progress.best, progress.kept = value, models.collect_learning(network)
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


def _count_step(job: _Job, number: int, step: Step, learning: int) -> dict[str, Any]:
    rows = job.progress.epochs_of(number)
    kept = len(rows)
    if step.schedule == "plateau" and not np.isnan(rows[0]["val_loss"]):
        sign = -1.0 if step.monitor == "val_accuracy" else 1.0
        kept = 1 + int(np.argmin([sign * row[step.monitor] for row in rows]))
    return _describe_step(step.train, learning, len(rows), kept)


def _describe_step(train: str, learning: int, epochs_run: int, kept_epoch: int) -> dict[str, Any]:
    return {
        "member": "model",
        "train": train,
        "n_learning": learning,
        "epochs_run": epochs_run,
        "kept_epoch": kept_epoch,
    }


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
            f"data/split.parquet holds labels that are no class: {name_some(strange)}. "
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


def _feed(
    x: np.ndarray,
    part: _Part,
    batch: int,
    seed: int | None,
    first_epoch: int = 0,
    sampling: str = "shuffled",
) -> Any:
    """Return a tf.data.Dataset of (rows, targets, weights), in a new order every epoch.

    `x` holds a row, or a row for each of several views, of which every epoch takes one. Without a
    seed the order is that of the rows, and the first view is taken. Only a batch at a time is
    read.
    """
    _, tf = frameworks.load_tensorflow()
    n_rows = len(part.targets)
    has_views = len(x) == n_rows and x.ndim > 2 and seed is not None and x.shape[1] > 1
    squeeze = x.ndim > 2
    epochs = itertools.count(first_epoch)

    def draw() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        order = np.arange(n_rows)
        views = np.zeros(n_rows, int)
        if seed is not None:
            epoch = next(epochs)
            order = feeding.draw_order(part.targets, sampling, seed, epoch)
            if has_views:
                views = np.random.default_rng([seed, epoch]).integers(x.shape[1], size=n_rows)
        for start in range(0, n_rows, batch):
            rows = order[start : start + batch]
            values = x[rows, views[start : start + batch]] if squeeze else x[rows]
            yield values, part.targets[rows], part.weights[rows]

    signature = (
        tf.TensorSpec((None, *x.shape[2 if squeeze else 1 :]), x.dtype),
        tf.TensorSpec((None, part.targets.shape[1]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(draw, output_signature=signature)
    n_batches = -(-n_rows // batch)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(2)
