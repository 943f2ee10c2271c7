"""Trains a recipe on examples, keeps what it learnt in a folder without pickles, and predicts."""

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pydantic import ValidationError

from stages.core import frameworks, networks
from stages.core.errors import ModelError, name_some
from stages.core.params import AnyRecipe, Group, HeadRecipe, InputsParams, PixelRecipe

PREDICT_BATCH = 64
LOG_EVERY = 5
SMALLEST_LEARNING_RATE = 1e-6
HISTORY = ("epoch", "loss", "val_loss", "accuracy", "val_accuracy", "learning_rate")
CARD = "card.json"
WEIGHTS = "weights.npz"

logger = logging.getLogger(__name__)


class Rows(Protocol):
    """What is trained on: `examples.Examples`, or anything with these two."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Which picture each row shows; ``<hospital>/<path>``."""

    @property
    def x(self) -> np.ndarray:
        """The rows, shape (n_rows, n_features) or (n_rows, size, size, 3)."""


class Card(Group):
    """What ``card.json`` says of a saved model; enough to build its network again."""

    classes: list[str]
    input_shape: list[int]
    inputs: InputsParams
    recipe: AnyRecipe


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and what is needed to feed it and to read its answers.

    Attributes
    ----------
    classes : list of str
        Names of the columns of its probabilities.
    recipe, inputs : HeadRecipe or PixelRecipe, InputsParams
        What it was trained by, and how its pictures were prepared.
    network : keras.Model
        Gives probabilities.
    """

    classes: list[str]
    recipe: HeadRecipe | PixelRecipe
    inputs: InputsParams
    network: Any

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        x : numpy.ndarray, shape (n_rows, n_features) or (n_rows, size, size, 3)
            Rows as `fit` takes them.

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_classes)
            Each row sums to 1.

        Notes
        -----
        Every batch is filled up to the same number of rows. Linear algebra libraries choose
        their order of summing by the shape, and a lone picture shall get the same answer as the
        same picture among thousands.
        """
        answers = np.empty((len(x), len(self.classes)), np.float64)
        for start in range(0, len(x), PREDICT_BATCH):
            rows = np.asarray(x[start : start + PREDICT_BATCH])
            full = np.zeros((PREDICT_BATCH, *rows.shape[1:]), rows.dtype)
            full[: len(rows)] = rows
            answers[start : start + len(rows)] = self.network.predict_on_batch(full)[: len(rows)]
        answers /= answers.sum(axis=1, keepdims=True)
        return answers


def fit(
    recipe: HeadRecipe | PixelRecipe,
    train: Rows,
    train_labels: Sequence[str],
    valid: Rows,
    valid_labels: Sequence[str],
    classes: Sequence[str],
    inputs: InputsParams,
    seed: int,
) -> tuple[TrainedModel, pd.DataFrame]:
    """Train a recipe.

    Parameters
    ----------
    recipe : HeadRecipe or PixelRecipe
        Network, learning rate, epochs, batch, patience, class weights.
    train, valid : Rows
        Rows to learn from, and rows that say when to stop. `valid` may be empty: then all epochs
        are run at one learning rate and the last weights are kept.
    train_labels, valid_labels : sequence of str, length n_rows
        Class of each row.
    classes : sequence of str
        All classes, in the order of the probabilities.
    inputs : InputsParams
        How the pictures were prepared; kept with the model.
    seed : int
        Of the first weights, of dropout and of the order of the rows.

    Returns
    -------
    model : TrainedModel
        With the weights of the epoch of lowest validation loss.
    history : pandas.DataFrame
        One row for each epoch run: epoch (from 1), loss, val_loss, accuracy, val_accuracy,
        learning_rate; NaN in the val columns where `valid` is empty. For watching, not for
        reporting: loss and accuracy are running means while the weights still change.

    Raises
    ------
    ModelError
        A class has no training row, a label is no class, or the loss is no longer a number.

    Notes
    -----
    The loss is categorical cross-entropy. Balanced weights are N / (n_classes * n_c), so that
    the mean weight of a row is 1; validation rows are weighted with the same numbers, so that
    the two losses can be compared and a rare class counts in the choice of the epoch.

    The learning rate falls tenfold after ``patience`` epochs without a lower validation loss,
    and training ends after twice as many: the lower rate gets its chance.

    Random numbers are set once, and TensorFlow is asked for operations that give the same bits
    in every run, for the rest of the process; they are the slower ones.
    """
    _check(train, train_labels, valid_labels, classes)
    keras, tf = frameworks.load_tensorflow()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    network = networks.build(recipe, train.x.shape[-1], len(classes))
    if isinstance(recipe, HeadRecipe):
        networks.standardise(network, train.x)
    network.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=["accuracy"],
        weighted_metrics=[],
    )
    weights = class_weights(train_labels, classes, recipe.class_weights)
    has_valid = len(valid.image_ids) > 0
    if not has_valid:
        logger.info("train: no picture to validate on; running all %d epochs", recipe.epochs)
    rows: list[dict[str, float]] = []
    network.fit(
        _feed(train.x, train_labels, classes, weights, recipe.batch, seed),
        validation_data=_feed(valid.x, valid_labels, classes, weights, recipe.batch, None)
        if has_valid
        else None,
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=_callbacks(recipe, rows, has_valid),
    )
    history = pd.DataFrame(rows, columns=list(HISTORY)).astype({"epoch": int})
    _require_numbers(history, has_valid)
    return TrainedModel(list(classes), recipe, inputs, network), history


def best_epoch(history: pd.DataFrame) -> int:
    """Return the epoch whose weights `fit` kept: of lowest validation loss, or the last one."""
    if history["val_loss"].isna().all():
        return int(history["epoch"].iloc[-1])
    return int(history["epoch"].loc[history["val_loss"].idxmin()])


def class_weights(labels: Sequence[str], classes: Sequence[str], method: str) -> dict[str, float]:
    """Return the weight of a row of each class.

    Parameters
    ----------
    labels : sequence of str
        Classes of the training rows; each of `classes` occurs.
    classes : sequence of str
        All classes.
    method : {"balanced", "none"}
        ``"balanced"`` gives N / (n_classes * n_c), whose mean over the rows is 1.
    """
    if method == "none":
        return dict.fromkeys(classes, 1.0)
    counts = pd.Series(labels).value_counts()
    return {name: len(labels) / (len(classes) * int(counts[name])) for name in classes}


def predict_images(model: TrainedModel, examples: Rows) -> pd.DataFrame:
    """Return the probabilities of each picture: the mean over its views.

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_classes)
        Index image_id, sorted; columns the classes.
    """
    index = pd.Index(examples.image_ids, name="image_id")
    answers = pd.DataFrame(model.predict(examples.x), index=index, columns=model.classes)
    return answers.groupby(level="image_id", sort=True).mean()


def accuracy(model: TrainedModel, examples: Rows, labels: pd.Series) -> float | None:
    """Return the share of pictures that are right, by `labels` per image_id; None: no picture.

    For watching a training. Scores with intervals come from `metrics`, which training does not
    import: a new metric must not train every model again.
    """
    if not len(examples.image_ids):
        return None
    predicted = predict_images(model, examples).idxmax(axis=1)
    return float((predicted == labels.loc[predicted.index]).mean())


def save(model: TrainedModel, folder: Path) -> None:
    """Write a model as ``card.json`` and ``weights.npz``, the same bytes for the same model.

    Notes
    -----
    Numbers and text only: loading a model from a stranger cannot run anything. The arrays are
    not compressed, so that the bytes do not depend on the version of a compressor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(
        classes=model.classes,
        input_shape=list(model.network.input_shape[1:]),
        inputs=model.inputs,
        recipe=model.recipe,
    )
    text = json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
    arrays = {name: weight.numpy() for name, weight in _named_weights(model.network)}
    np.savez(folder / WEIGHTS, allow_pickle=False, **arrays)


def read_card(folder: Path) -> Card:
    """Read what a saved model was trained by, without loading TensorFlow.

    Raises
    ------
    ModelError
        There is no card, or it is of another version.
    """
    try:
        return Card.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(error) from None
    except ValidationError as error:
        raise _foreign(folder, error) from None


def load(folder: Path) -> TrainedModel:
    """Build the network of a saved model and fill in its weights.

    Raises
    ------
    ModelError
        A file is missing, or the weights are not those of the card's network.
    """
    card = read_card(folder)
    try:
        network = networks.build(card.recipe, card.input_shape[-1], len(card.classes))
        with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
            network.set_weights([arrays[name] for name, _ in _named_weights(network)])
    except FileNotFoundError as error:
        raise _missing(error) from None
    except (ValueError, KeyError, IndexError) as error:
        raise _foreign(folder, error) from None
    return TrainedModel(card.classes, card.recipe, card.inputs, network)


def _missing(error: FileNotFoundError) -> ModelError:
    return ModelError(
        f"{error.filename} is missing. Run 'uv run dvc repro', which trains the model."
    )


def _foreign(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{folder} is not a model that this version wrote ({error}). Run 'uv run dvc repro', "
        "which trains it again."
    )


def _named_weights(network: Any) -> list[tuple[str, Any]]:
    return [(f"{layer.name}/{w.name}", w) for layer in network.layers for w in layer.weights]


def _check(
    train: Rows,
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
    labels: Sequence[str],
    classes: Sequence[str],
    weights: dict[str, float],
    batch: int,
    seed: int | None,
) -> Any:
    """Return a tf.data.Dataset of (rows, targets, weights), in a new order every epoch.

    Without a seed the order is that of the rows. Only a batch at a time is read from `x`.
    """
    _, tf = frameworks.load_tensorflow()
    codes = np.array([classes.index(name) for name in labels])
    targets = np.eye(len(classes), dtype=np.float32)[codes]
    row_weights = np.array([weights[name] for name in labels], np.float32)
    epochs = itertools.count()

    def draw() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        order = np.arange(len(codes))
        if seed is not None:
            order = np.random.default_rng([seed, next(epochs)]).permutation(len(codes))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            yield x[rows], targets[rows], row_weights[rows]

    signature = (
        tf.TensorSpec((None, *x.shape[1:]), x.dtype),
        tf.TensorSpec((None, len(classes)), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(draw, output_signature=signature)
    n_batches = -(-len(codes) // batch)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(2)


def _callbacks(
    recipe: HeadRecipe | PixelRecipe, rows: list[dict[str, float]], has_valid: bool
) -> list[Any]:
    """Return what runs after each epoch; `rows` fills with the history."""
    keras, _ = frameworks.load_tensorflow()

    def record(epoch: int, logs: dict[str, float]) -> None:
        seen = {"learning_rate": recipe.learning_rate, **logs, "epoch": epoch + 1}
        rows.append({name: float(seen.get(name, np.nan)) for name in HISTORY})
        if epoch % LOG_EVERY == 0:
            values = ", ".join(f"{name} {rows[-1][name]:.4g}" for name in HISTORY[1:])
            logger.info("train: epoch %d of at most %d: %s", epoch + 1, recipe.epochs, values)

    recorder = keras.callbacks.LambdaCallback(on_epoch_end=record)
    guard = keras.callbacks.TerminateOnNaN()
    if not has_valid:
        return [guard, recorder]
    slower = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.1, patience=recipe.patience, min_lr=SMALLEST_LEARNING_RATE
    )
    stopper = keras.callbacks.EarlyStopping(
        "val_loss", patience=2 * recipe.patience, restore_best_weights=True
    )
    # The recorder stands behind the one that adds this epoch's learning rate to the logs.
    return [guard, slower, recorder, stopper]


def _require_numbers(history: pd.DataFrame, has_valid: bool) -> None:
    watched = ["loss", "val_loss"] if has_valid else ["loss"]
    bad = history[~np.isfinite(history[watched]).all(axis=1)]
    if len(bad):
        raise ModelError(
            f"the loss is no longer a number in epoch {int(bad['epoch'].iloc[0])}. Lower the "
            "recipe's learning_rate in params.yaml (a tenth of it is a good next try)."
        )
