"""Trained models: what they answer, and how they are kept in a folder without pickles."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from stages.core.errors import ModelError
from stages.core.params import InputsParams
from stages.core.settings import Group
from stages.models import backbones, classifiers, composites, networks, pretrained
from stages.models.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    NetworkRecipe,
)
from stages.models.rows import Rows

PREDICT_BATCH = 64
CARD = "card.json"
WEIGHTS = "weights.npz"


class Card(Group):
    """What ``card.json`` says of a saved model; enough to build it again."""

    classes: list[str]
    input_shape: list[int]
    inputs: InputsParams
    recipe: AnyRecipe


@dataclass(frozen=True)
class SingleModel:
    """A trained network, a classifier, or a classifier of a network's hidden layer.

    Attributes
    ----------
    classes : list of str
        Names of the columns of its probabilities.
    recipe, inputs : NetworkRecipe or ClassifierRecipe, InputsParams
        What it was trained by, and how its images were prepared.
    input_shape : tuple of int
        Of one row.
    network : keras.Model, optional
        Gives probabilities, or the features that a classifier takes.
    classifier : classifiers.Classifier, optional
        Gives probabilities from vectors.
    """

    classes: list[str]
    recipe: NetworkRecipe | ClassifierRecipe
    inputs: InputsParams
    input_shape: tuple[int, ...]
    network: Any = None
    classifier: classifiers.Classifier | None = None

    @property
    def n_weights(self) -> int:
        """Number of weights of its network; 0 without one."""
        return int(self.network.count_params()) if self.network is not None else 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        x : numpy.ndarray, shape (n_rows, size, size, 3)
            Rows of the kind that it was trained on.

        Returns
        -------
        numpy.ndarray of float64, shape (n_rows, n_classes)
            Each row sums to 1.

        Raises
        ------
        ModelError
            The rows have another shape than those that it was trained on.
        """
        if not len(x):  # an empty part has no shape to be judged by
            return np.zeros((0, len(self.classes)))
        if tuple(x.shape[1:]) != self.input_shape:
            raise ModelError(
                f"the model takes rows of shape {self.input_shape}, but these are "
                f"{tuple(x.shape[1:])}: features or inputs of params.yaml have changed since. Run "
                "'uv run dvc repro', which trains the model on them."
            )
        ways = range(4 if self.recipe.flips_at_test else 1)
        answers = np.sum([self.ask(x, way) for way in ways], axis=0, dtype=np.float64)
        shares: np.ndarray = answers / answers.sum(axis=1, keepdims=True)
        return shares

    def ask(self, x: np.ndarray, way: int = 0) -> np.ndarray:
        """Return what it says of rows that lie one way; see `answer`."""
        if self.classifier is None:
            return answer(self.network, x, way)
        return self.classifier.predict(vectors(self.recipe, self.network, x, way))


@dataclass(frozen=True)
class CompositeModel:
    """A cascade or an ensemble of single models, by the names of the recipe's members."""

    classes: list[str]
    recipe: CascadeRecipe | EnsembleRecipe
    inputs: InputsParams
    members: dict[str, SingleModel]

    @property
    def n_weights(self) -> int:
        """Number of weights of all members' networks."""
        return sum(member.n_weights for member in self.members.values())


Model = SingleModel | CompositeModel


def vectors(
    recipe: NetworkRecipe | ClassifierRecipe, network: Any, x: np.ndarray, way: int = 0
) -> np.ndarray:
    """Return what a classifier looks at: a network's features, or images as vectors."""
    if isinstance(recipe, NetworkRecipe):
        return answer(networks.first_hidden(network), x, way)
    return answer(network, x) if recipe.has_network else classifiers.vectorise(recipe, x)


def answer(network: Any, x: np.ndarray, way: int = 0) -> np.ndarray:
    """Run a network over rows.

    Parameters
    ----------
    network : keras.Model
    x : numpy.ndarray, shape (n_rows, ...)
        Read a batch at a time.
    way : int
        0: as they are; images mirrored 1: upside down, 2: left to right, 3: along the diagonal.

    Returns
    -------
    numpy.ndarray of float32, shape (n_rows, ...)

    Notes
    -----
    Every batch is filled up to the same number of rows. Linear algebra libraries choose their
    order of summing by the shape, and a lone image shall get the same answer as the same image
    among thousands.
    """
    pieces = []
    for start in range(0, len(x), PREDICT_BATCH):
        rows = _mirror(np.asarray(x[start : start + PREDICT_BATCH]), way)
        full = np.zeros((PREDICT_BATCH, *rows.shape[1:]), rows.dtype)
        full[: len(rows)] = rows
        pieces.append(network.predict_on_batch(full)[: len(rows)])
    return np.concatenate(pieces) if pieces else np.zeros((0, *network.output_shape[1:]))


def accuracy(model: Model, rows: Rows, labels: pd.Series) -> float | None:
    """Return the share of images that are right, by `labels` per image_id; None: no image.

    For watching a training. Scores with intervals come from `metrics`, which training does not
    import: a new metric must not train every model again.
    """
    answers = predict_images(model, rows)
    if answers.empty:
        return None
    return float((answers.idxmax(axis=1) == labels.loc[answers.index]).mean())


def _mirror(rows: np.ndarray, way: int) -> np.ndarray:
    ways = (rows, rows[:, ::-1], rows[:, :, ::-1], rows.swapaxes(1, 2)) if way else (rows,)
    return ways[way]


def predict_images(model: Model, rows: Rows) -> pd.DataFrame:
    """Return the probabilities of each image: the mean over its views.

    Parameters
    ----------
    model : SingleModel or CompositeModel
    rows : Rows, or dict of str to Rows
        As `rows.read` gives them for the model's recipe: for a composite by member.

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_classes)
        Index image_id, sorted; columns the classes.
    """
    if isinstance(model, SingleModel):
        assert not isinstance(rows, dict)
        index = pd.Index(rows.image_ids, name="image_id")
        answers = pd.DataFrame(model.predict(rows.x), index=index, columns=model.classes)
        return answers.groupby(level="image_id", sort=True).mean()
    assert isinstance(rows, dict)
    found = {name: predict_images(member, rows[name]) for name, member in model.members.items()}
    return composites.join(model.recipe, found, model.classes)


def no_answers(card: Card) -> pd.DataFrame:
    """Return the probabilities of no image, without loading TensorFlow."""
    return pd.DataFrame(columns=card.classes, index=pd.Index([], name="image_id"), dtype=float)


def save(model: Model, folder: Path) -> None:
    """Write a model as ``card.json`` and arrays, the same bytes for the same model.

    Notes
    -----
    Numbers and text only: loading a model from a stranger cannot run anything. The arrays are
    not compressed, so that the bytes do not depend on the version of a compressor. The members
    of a composite lie in folders of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = list(model.input_shape) if isinstance(model, SingleModel) else []
    card = Card(classes=model.classes, input_shape=shape, inputs=model.inputs, recipe=model.recipe)
    text = json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
    if isinstance(model, CompositeModel):
        for name, member in model.members.items():
            save(member, folder / name)
        return
    if model.network is not None:
        np.savez(folder / WEIGHTS, allow_pickle=False, **collect(model.network))
    if model.classifier is not None:
        model.classifier.save(folder)


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
    except (ValidationError, UnicodeDecodeError) as error:
        raise _foreign(folder, error) from None


def load(folder: Path) -> Model:
    """Build a saved model and fill in its numbers.

    Raises
    ------
    ModelError
        A file is missing, or the numbers are not those of the card's model.
    """
    card = read_card(folder)
    recipe = card.recipe
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        members = {name: load(folder / name) for name in recipe.members}
        singles = {name: one for name, one in members.items() if isinstance(one, SingleModel)}
        return CompositeModel(card.classes, recipe, card.inputs, singles)
    shape = tuple(card.input_shape)
    network = _load_network(folder, recipe, shape, len(card.classes))
    settings = recipe.classical
    classifier = classifiers.load(folder, settings, card.classes) if settings else None
    return SingleModel(card.classes, recipe, card.inputs, shape, network, classifier)


def _load_network(
    folder: Path, recipe: NetworkRecipe | ClassifierRecipe, shape: tuple[int, ...], n_classes: int
) -> Any:
    if not recipe.has_network:
        return None
    try:
        network = build(recipe, shape, n_classes)
        # A file that is no archive would stay open in np.load.
        with (folder / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            fill(network, arrays)
    except FileNotFoundError as error:
        raise _missing(error) from None
    except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _foreign(folder, error) from None
    return network


def build(
    recipe: NetworkRecipe | ClassifierRecipe,
    shape: tuple[int, ...],
    n_classes: int,
    weights_dir: str | None = None,
    pretrained: bool = False,
) -> Any:
    """Build the network of a recipe, or the one whose features its classifier takes.

    See `networks.build` and `backbones.load_extractor`.
    """
    if isinstance(recipe, NetworkRecipe):
        return networks.build(recipe, shape, n_classes, weights_dir, pretrained)
    wanted = recipe.features
    assert wanted is not None
    return backbones.load_extractor(
        wanted.backbone, shape[0], wanted.layers, weights_dir, pretrained
    )


def fill(network: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Put stored arrays into a network; KeyError or ValueError where they do not fit."""
    network.set_weights([arrays[name] for name, _ in _named_weights(network)])
    pretrained.finish(network)


def collect(network: Any) -> dict[str, np.ndarray]:
    """Return all weights of a network by name, as they are stored."""
    return {name: weight.numpy() for name, weight in _named_weights(network)}


def collect_learning(network: Any) -> dict[str, np.ndarray]:
    """Return the weights of the layers that learn: after an epoch the others are as before."""
    learning = {layer.name for layer in network.layers if layer.trainable}
    return {
        name: weight.numpy()
        for name, weight in _named_weights(network)
        if name.rpartition("/")[0] in learning
    }


def put_back(network: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Put some weights, as `collect_learning` returned them, into the network they came from."""
    for name, weight in _named_weights(network):
        if name in arrays:
            weight.assign(arrays[name])


def _named_weights(network: Any) -> Iterator[tuple[str, Any]]:
    """Yield each weight with a name that is its own; sub-layers share the names of theirs."""
    for layer in network.layers:
        names = [weight.name for weight in layer.weights]
        for place, weight in enumerate(layer.weights):
            same = names.count(weight.name) > 1
            yield f"{layer.name}/{weight.name}" + (f"_{place}" if same else ""), weight


def _missing(error: FileNotFoundError) -> ModelError:
    return ModelError(
        f"{error.filename} is missing. Run 'uv run dvc repro', which trains the model."
    )


def _foreign(folder: Path, error: Exception) -> ModelError:
    text = " ".join(str(error).split())
    return ModelError(
        f"{folder} is not a model that this version wrote ({text}). Run 'uv run dvc repro', "
        "which trains it again."
    )
