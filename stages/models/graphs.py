"""A whole trained model as one TensorFlow graph: from prepared pixels to the probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core import backend
from stages.core.errors import ModelError
from stages.images import morphology
from stages.models import networks, vector_graphs
from stages.models.classifiers import GREY_UNIT
from stages.models.composites import OTHERS
from stages.models.recipes import CascadeRecipe, NetworkRecipe
from stages.models.trained import Model, SingleModel

OUTPUT = "probabilities"
LARGEST = 1_500_000_000  # bytes; ONNX and LiteRT end at 2**31
WAYS = 4  # of lying, over which a network with flips_at_test is asked


@dataclass(frozen=True)
class Input:
    """One of the arrays that a graph takes.

    Attributes
    ----------
    is_measures : bool
        Whether it holds the measures of prepared pictures, or the pictures.
    side : int
        Of the prepared pictures, px.
    """

    is_measures: bool
    side: int

    @property
    def name(self) -> str:
        """For example ``"pixels_112"``."""
        return f"{'measures' if self.is_measures else 'pixels'}_{self.side}"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one view of one picture."""
        return (len(morphology.NAMES),) if self.is_measures else (self.side, self.side, 3)


def list_singles(model: Model) -> dict[str, SingleModel]:
    """Return a composite's members by name, or the model itself without a name."""
    return {"": model} if isinstance(model, SingleModel) else model.members


def list_inputs(model: Model) -> dict[str, Input]:
    """Return what each single model takes, by its name; members may take the same."""
    return {name: _find_input(one) for name, one in list_singles(model).items()}


def build(model: Model, exact: bool = True) -> Any:
    """Put a model with all its members into one graph.

    Parameters
    ----------
    model : SingleModel or CompositeModel
    exact : bool
        Whether classifiers of vectors use float64 where they did in training; see
        `vector_graphs.classify`.

    Returns
    -------
    tensorflow.Module
        Its function ``answer`` takes the inputs of `list_inputs`, each once, by name: uint8 of
        shape (n_images, n_views, side, side, 3), or float32 of shape (n_images, n_views,
        n_measures). It gives ``{"probabilities": float32 of shape (n_images, n_classes)}``: what
        ``trained.predict_images`` says, the mean over the views included.

    Raises
    ------
    ModelError
        A part cannot be put into a graph, or the numbers are more than a file can hold.
    """
    tf = backend.load_tensorflow()[1]
    _require_fits(model, exact)
    takes = list_inputs(model)
    inputs = list({one.name: one for one in takes.values()}.values())
    n_views = len(model.inputs.white_balance)
    singles = list_singles(model)
    asked = {name: _freeze(_find_network(one)) for name, one in singles.items()}

    def answer(*arrays: Any) -> dict[str, Any]:
        given = dict(zip((one.name for one in inputs), arrays, strict=True))
        found = {}
        for name, one in singles.items():
            rows = tf.reshape(given[takes[name].name], (-1, *takes[name].row_shape))
            answers = _ask(one, asked[name], rows, exact)
            views = tf.reshape(answers, (-1, n_views, len(one.classes)))
            found[name] = tf.reduce_mean(views, axis=1)
        return {OUTPUT: _join(model, found)}

    specs = [
        tf.TensorSpec(
            (None, n_views, *one.row_shape), tf.float32 if one.is_measures else tf.uint8, one.name
        )
        for one in inputs
    ]
    module = tf.Module()
    module.answer = tf.function(answer, input_signature=specs, autograph=False)
    assert not module.answer.get_concrete_function().captured_inputs
    return module


def _find_input(one: SingleModel) -> Input:
    recipe = one.recipe
    takes_measures = not isinstance(recipe, NetworkRecipe) and recipe.vectors == "measures"
    return Input(takes_measures, one.input_shape[0])


def _find_network(one: SingleModel) -> Any:
    """Return the network that is asked: up to the hidden layer where a classifier follows."""
    if one.classifier is not None and isinstance(one.recipe, NetworkRecipe):
        return networks.first_hidden(one.network)
    return one.network


def _freeze(network: Any) -> Callable[[Any], Any] | None:
    """Return a network with its weights as constants; a LiteRT file leaves variables empty."""
    if network is None:
        return None
    keras, tf = backend.load_tensorflow()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            # Its copies of its weights, see `pretrained.finish`, would be inputs of the graph.
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    learning, others = (
        [variable.numpy() for variable in variables]
        for variables in (network.trainable_variables, network.non_trainable_variables)
    )

    def run(x: Any) -> Any:
        constants = [list(map(tf.constant, numbers)) for numbers in (learning, others)]
        return network.stateless_call(*constants, x, training=False)[0]

    return run


def _ask(one: SingleModel, network: Callable[[Any], Any] | None, rows: Any, exact: bool) -> Any:
    """Return the probabilities of prepared rows; see `SingleModel.predict`."""
    tf = backend.load_tensorflow()[1]
    x, ways = tf.cast(rows, tf.float32), 1
    if network is not None:
        if one.recipe.flips_at_test:
            ways = WAYS
            turned = (x, x[:, ::-1], x[:, :, ::-1], tf.transpose(x, (0, 2, 1, 3)))
            x = tf.concat(turned, axis=0)
        x = network(x)
    elif not _find_input(one).is_measures:
        x = tf.reshape(tf.reduce_sum(x, axis=3) / GREY_UNIT, (-1, one.input_shape[0] ** 2))
    if one.classifier is not None:
        x = vector_graphs.classify(one.classifier, x, exact)
    answers = tf.reduce_sum(tf.reshape(x, (ways, -1, len(one.classes))), axis=0)
    return answers / tf.reduce_sum(answers, axis=1, keepdims=True)


def _join(model: Model, found: Mapping[str, Any]) -> Any:
    """Return what the members' answers say together; see `composites.join`."""
    if isinstance(model, SingleModel):
        return found[""]
    tf = backend.load_tensorflow()[1]
    columns = {
        name: dict(zip(one.classes, tf.unstack(found[name], axis=1), strict=True))
        for name, one in model.members.items()
    }
    if isinstance(model.recipe, CascadeRecipe):
        return _cascade(columns["first"], columns["second"], model.recipe, model.classes)
    return sum(_stack(own, model.classes) for own in columns.values()) / len(columns)


def _stack(columns: Mapping[str, Any], names: Sequence[str]) -> Any:
    tf = backend.load_tensorflow()[1]
    return tf.stack([columns[name] for name in names], axis=1)


def _cascade(
    first: Mapping[str, Any], second: Mapping[str, Any], recipe: CascadeRecipe, classes: list[str]
) -> Any:
    """Return `composites.cascade` of columns by name."""
    tf = backend.load_tensorflow()[1]
    groups = dict(sorted(recipe.groups.items()))
    inside = [name for names in groups.values() for name in names]
    coarse = list(first)
    said = tf.argmax(_stack(first, coarse), axis=1, output_type=tf.int32)
    fine = _stack(second, inside)
    undecided = second[OTHERS] >= tf.reduce_max(fine, axis=1)
    divided = {name: first[name] for name in classes if name not in inside}
    tiny = np.finfo(np.float32).tiny
    for group, names in groups.items():
        within = tf.maximum(_stack(second, names), tiny)
        shares = within / tf.reduce_sum(within, axis=1, keepdims=True)
        columns = tf.unstack(shares * first[group][:, None], axis=1)
        divided |= dict(zip(names, columns, strict=True))
    result = plain = _stack(divided, classes)
    for group, names in groups.items():
        kept = undecided & (said == coarse.index(group))
        result = tf.where(kept[:, None], _prefer(plain, names, classes), result)
    names_group = tf.reduce_any([said == coarse.index(group) for group in groups], axis=0)
    share = tf.reduce_sum(_stack(first, list(groups)), axis=1, keepdims=True)
    spread = fine / tf.maximum(tf.reduce_sum(fine, axis=1, keepdims=True), tiny) * share
    columns = dict(zip(inside, tf.unstack(spread, axis=1), strict=True))
    asked = _prefer(_stack(divided | columns, classes), inside, classes)
    result = tf.where((names_group & ~undecided)[:, None], asked, result)
    return result / tf.reduce_sum(result, axis=1, keepdims=True)


def _prefer(rows: Any, names: Sequence[str], classes: Sequence[str]) -> Any:
    """Lower the other columns where one of them exceeds the largest of `names`."""
    tf = backend.load_tensorflow()[1]
    own = np.isin(classes, names)
    top = tf.reduce_max(tf.gather(rows, np.flatnonzero(own), axis=1), axis=1)
    highest = tf.reduce_max(tf.gather(rows, np.flatnonzero(~own), axis=1), axis=1)
    factor = tf.minimum(0.99 * top / tf.where(highest > 0, highest, tf.ones_like(highest)), 1.0)
    return tf.where(own[None], rows, rows * factor[:, None])


def _require_fits(model: Model, exact: bool) -> None:
    size = 0
    for one in list_singles(model).values():
        size += 4 * one.n_weights
        if one.classifier is not None:
            n_numbers = sum(array.size for array in one.classifier.arrays.values())
            size += (8 if exact else 4) * n_numbers
    if size > LARGEST:
        raise ModelError(
            f"the model holds about {size / 1e9:.1f} GB of numbers; one file holds "
            f"{LARGEST / 1e9:.1f}. Train with fewer rows, or with reduce: pca."
        )
