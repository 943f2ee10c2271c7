"""Where in a picture the evidence for a class lies: five methods, on the pixels a network saw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core import backend
from stages.core.settings import seed_for
from stages.models.trained import Model, SingleModel, build

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Map = NDArray[np.float64]

GRID = 8  # squares along a side that occlusion hides, each twice as wide as its step
BATCH = 33  # pictures that a network is asked about at once: half of occlusion's
N_SEGMENTS = 60  # superpixels of LIME
N_SAMPLES = 99  # pictures that LIME asks about
KERNEL_WIDTH = 0.25  # of LIME's weights: how near to the whole picture a sample counts


@dataclass(frozen=True)
class Method:
    """A way to find what a call rests on.

    Attributes
    ----------
    find : callable
        Takes a model, pixels of shape (size, size, 3), places of classes among the model's, and a
        source of chance; returns one map for each class, before `normalise`.
    needs : str, optional
        What a network must have, in the words of ``say_lacking``.
    """

    find: Callable[[SingleModel, Pixels, Sequence[int], np.random.Generator], Map]
    needs: str | None = None


@dataclass(frozen=True)
class Explainer:
    """What is explained, and by which methods.

    Attributes
    ----------
    parts : dict of str to SingleModel
        The models that are explained: of an ensemble or a cascade the members with a network, of
        a single model itself. Trees on measures beside a network have no pixels to point at.
    forgotten : dict of str to SingleModel or None
        The same with shuffled weights, see `forget`; None where there is no network.
    lacking : dict of str to dict of str to str
        By method and part, why it cannot be.
    left_out : list of str
        Members that are not explained.
    """

    parts: dict[str, SingleModel]
    forgotten: dict[str, SingleModel | None]
    lacking: dict[str, dict[str, str]]
    left_out: list[str]

    @classmethod
    def of(cls, model: Model, methods: Sequence[str], seed: int) -> "Explainer":
        """Look through a model for what can be explained."""
        members = {"model": model} if isinstance(model, SingleModel) else model.members
        networks = {name: one for name, one in members.items() if one.network is not None}
        parts = networks or members
        forgotten = {
            name: forget(part, seed_for(seed, "explain", name)) if name in networks else None
            for name, part in parts.items()
        }
        lacking = {
            method: {
                name: why for name, part in parts.items() if (why := say_lacking(method, part))
            }
            for method in methods
        }
        return cls(parts, forgotten, lacking, sorted(set(members) - set(parts)))

    @property
    def side(self) -> int:
        """The largest side that a part sees, px."""
        return max(part.recipe.side for part in self.parts.values())

    @property
    def methods(self) -> list[str]:
        """Those that can explain a part at least."""
        return [name for name, why in self.lacking.items() if len(why) < len(self.parts)]

    @property
    def not_made(self) -> dict[str, str]:
        """The others, with the reason."""
        return {
            name: next(iter(why.values()))
            for name, why in self.lacking.items()
            if name not in self.methods
        }

    def parts_for(self, method: str) -> dict[str, SingleModel]:
        """Return the parts that a method can explain."""
        return {name: part for name, part in self.parts.items() if name not in self.lacking[method]}

    def ask(
        self, method: str, look: Callable[[int], Pixels], classes: Sequence[str], seed: int
    ) -> Iterator[tuple[str, SingleModel, dict[str, Map]]]:
        """Explain a picture by a method, part by part.

        Parameters
        ----------
        method : str
        look : callable
            Gives for a side, px, the picture as a network of this side sees it.
        classes : sequence of str
        seed : int

        Yields
        ------
        tuple of (str, SingleModel, dict)
            A part by name, and of each class that it knows the map. A cascade's second model knows
            the classes of its groups alone; a part that knows none is left out.
        """
        for name, part in self.parts_for(method).items():
            known = [one for one in classes if one in part.classes]
            if known:
                columns = [part.classes.index(one) for one in known]
                found = explain(method, part, look(part.recipe.side), columns, seed)
                yield name, part, dict(zip(known, found, strict=True))


def say_lacking(method: str, part: SingleModel) -> str | None:
    """Return why a method cannot explain a model, in one line; None where it can."""
    needs = METHODS[method].needs
    if needs is None:
        return None
    if part.network is None or part.classifier is not None:
        return f"{method} follows a network to its answer; this recipe answers by a classifier"
    has_attention = bool(_find_attention(part.network))
    if needs == "attention" and not has_attention:
        return f"{method} reads a transformer's attention; this network has none"
    if needs == "maps" and (has_attention or _find_last_maps(part.network) is None):
        return f"{method} reads the maps of a last convolution; this network has none"
    return None


def explain(method: str, part: SingleModel, x: Pixels, columns: Sequence[int], seed: int) -> Map:
    """Find where the evidence for some classes lies.

    Parameters
    ----------
    method : str
        A name of `METHODS`, which the model does not lack.
    part : SingleModel
    x : numpy.ndarray of uint8, shape (size, size, 3)
        A picture as the model sees it.
    columns : sequence of int
        Places of the classes among the model's.
    seed : int
        For LIME.

    Returns
    -------
    numpy.ndarray of float64, shape (n_classes, size, size)
        Evidence for the class, not against it: none below 0, the sum of each map is 1, or 0 where
        nothing speaks for the class.
    """
    found = METHODS[method].find(part, x, columns, np.random.default_rng(seed))
    return normalise(np.stack([resize(one, x.shape[0]) for one in found]))


def resize(values: NDArray[Any], side: int) -> Map:
    """Return a map of another side, interpolated linearly."""
    size = (side, side)
    return cv2.resize(values, size, interpolation=cv2.INTER_LINEAR).astype(np.float64)


def normalise(maps: Map) -> Map:
    """Drop what is below 0, and scale each map to a sum of 1."""
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(-2, -1), keepdims=True)
    shares: Map = np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)
    return shares


def ask(part: SingleModel, x: Pixels) -> NDArray[np.float64]:
    """Return the probabilities of pictures as they lie, shape (n_rows, n_classes).

    In smaller batches than `trained.answer`: the last one is filled up, and most of it is waste.
    """
    if part.classifier is not None:
        return np.asarray(part.ask(x), np.float64)
    n_more = -len(x) % BATCH
    full = np.concatenate([x, np.zeros((n_more, *x.shape[1:]), x.dtype)])
    answers = [part.network.predict_on_batch(one) for one in full.reshape(-1, BATCH, *x.shape[1:])]
    return np.concatenate(answers)[: len(x)].astype(np.float64)


def find_ground(x: Pixels) -> Pixels:
    """Return the colour that hides a place: the median of the picture's border, shape (3,)."""
    border = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])
    ground: Pixels = np.rint(np.median(border, axis=0)).astype(np.uint8)
    return ground


def forget(part: SingleModel, seed: int) -> SingleModel:
    """Return the model with the weights of each layer shuffled: it has learnt nothing.

    Notes
    -----
    The check of [1]_: a method that shows the same for such a network shows the picture, and not
    what the network learnt. Shuffled weights keep their scale, so that the answers stay finite.

    References
    ----------
    .. [1] J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
    """
    rng = np.random.default_rng(seed)
    recipe: Any = part.recipe
    network = build(recipe, part.input_shape, len(part.classes))
    network.set_weights(
        [rng.permutation(one.ravel()).reshape(one.shape) for one in part.network.get_weights()]
    )
    return replace(part, network=network)


def grad_cam(part: SingleModel, x: Pixels, columns: Sequence[int], _: np.random.Generator) -> Map:
    """Weigh the last convolution's maps by their mean gradient.

    References
    ----------
    .. [1] R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017.
    """
    maps, gradients = _differentiate(part, x, columns)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    found: Map = np.maximum((weights * maps).sum(axis=-1), 0)
    return found


def grad_cam_pp(
    part: SingleModel, x: Pixels, columns: Sequence[int], _: np.random.Generator
) -> Map:
    """Weigh each place of the last convolution's maps by its own share of the gradient.

    References
    ----------
    .. [1] A. Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep
       Convolutional Networks", WACV 2018; equation 19, which takes the exponential of the logit
       for the score, so that first derivatives are enough.
    """
    maps, gradients = _differentiate(part, x, columns)
    square, cube = gradients**2, gradients**3
    below = 2 * square + maps.sum(axis=(0, 1)) * cube
    shares = np.divide(square, below, out=np.zeros_like(square), where=np.abs(below) > 1e-12)
    weights = (shares * np.maximum(gradients, 0)).sum(axis=(1, 2), keepdims=True)
    found: Map = np.maximum((weights * maps).sum(axis=-1), 0)
    return found


def occlusion(part: SingleModel, x: Pixels, columns: Sequence[int], _: np.random.Generator) -> Map:
    """Hide one square after the other, and see how much less probable a class gets.

    References
    ----------
    .. [1] M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
    """
    size = x.shape[0]
    edges = np.rint(np.arange(-1, GRID + 2) * size / GRID).clip(0, size).astype(int)
    hidden = np.repeat(x[None], GRID * GRID + 1, axis=0)  # the last one stays whole
    squares = [
        (slice(edges[row], edges[row + 2]), slice(edges[column], edges[column + 2]))
        for row in range(GRID)
        for column in range(GRID)
    ]
    for picture, square in zip(hidden, squares, strict=False):
        picture[square] = find_ground(x)
    p = ask(part, hidden)
    lost = p[-1] - p[:-1]
    total, count = np.zeros((len(columns), size, size)), np.zeros((size, size))
    for drop, square in zip(lost[:, list(columns)], squares, strict=True):
        total[(slice(None), *square)] += np.maximum(drop, 0)[:, None, None]
        count[square] += 1
    mean: Map = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return mean


def lime(part: SingleModel, x: Pixels, columns: Sequence[int], rng: np.random.Generator) -> Map:
    """Hide superpixels by chance, and fit a linear model of which of them a class needs.

    References
    ----------
    .. [1] M. Ribeiro, S. Singh, C. Guestrin, "Why Should I Trust You? Explaining the Predictions
       of Any Classifier", KDD 2016. Superpixels are SLIC's; kernel and ridge as the authors' code
       has them.
    """
    from skimage.segmentation import slic
    from sklearn.linear_model import Ridge

    segments = slic(x, n_segments=N_SEGMENTS, compactness=10, start_label=0)
    shown = rng.random((N_SAMPLES, segments.max() + 1)) < 0.5
    shown[0] = True
    samples = np.where(shown[:, segments][..., None], x, find_ground(x))
    distance = 1 - np.sqrt(shown.mean(axis=1))  # of the cosine to the whole picture
    weights = np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2))
    fitted = Ridge(alpha=1.0).fit(
        shown.astype(np.float64), ask(part, samples)[:, list(columns)], weights
    )
    found: Map = fitted.coef_.reshape(len(columns), -1)[:, segments]
    return found


def rollout(part: SingleModel, x: Pixels, columns: Sequence[int], _: np.random.Generator) -> Map:
    """Follow a transformer's attention from the class token back to the patches.

    It is the same for every class: attention knows none.

    References
    ----------
    .. [1] S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.
    """
    keras = backend.load_keras()
    layers = _find_attention(part.network)
    inputs = keras.Model(part.network.inputs, [layer.input[0] for layer in layers])
    tokens = inputs.predict_on_batch(x[None])
    scores = [
        layer(one, one, return_attention_scores=True)[1][0]
        for layer, one in zip(layers, tokens, strict=True)
    ]
    flow = roll([np.asarray(one, np.float64) for one in scores])
    side = round(float(np.sqrt(len(flow))))
    return np.repeat(flow.reshape(1, side, side), len(columns), axis=0)


def roll(attention: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return how much of the class token's answer comes from each patch.

    Parameters
    ----------
    attention : sequence of numpy.ndarray, each of shape (n_heads, n_tokens, n_tokens)
        By layer: how much each token (rows) takes of each other one; the class token is the first.

    Returns
    -------
    numpy.ndarray of float64, shape (n_tokens - 1,)
        Heads are averaged, and half of each token goes past each layer as it is.
    """
    n_tokens = attention[0].shape[-1]
    flow = np.eye(n_tokens)
    for heads in attention:
        flow = (heads.mean(axis=0) + np.eye(n_tokens)) / 2 @ flow
    return flow[0, 1:]


METHODS: Mapping[str, Method] = {
    "grad_cam": Method(grad_cam, "maps"),
    "grad_cam_pp": Method(grad_cam_pp, "maps"),
    "occlusion": Method(occlusion),
    "lime": Method(lime),
    "rollout": Method(rollout, "attention"),
}


def _find_attention(network: Any) -> list[Any]:
    kind = backend.load_keras().layers.MultiHeadAttention
    return [layer for layer in network.layers if isinstance(layer, kind)]


def _find_last_maps(network: Any) -> Any:
    """Return the last output that has places: behind it the network knows of none."""
    for layer in reversed(network.layers):
        if len(layer.output.shape) == 4 and layer.output.shape[1] > 1:
            return layer.output
    return None


@lru_cache(maxsize=4)
def _cut(network: Any) -> tuple[Any, Any]:
    """Return the network up to its last maps, and on from there to what its last layer takes."""
    keras = backend.load_keras()
    edge = _find_last_maps(network)
    return keras.Model(network.inputs, edge), keras.Model(edge, network.layers[-1].input)


def _differentiate(part: SingleModel, x: Pixels, columns: Sequence[int]) -> tuple[Map, Map]:
    """Return the last maps, and the gradient of each class's logit by them.

    Shapes (side, side, n_maps) and (n_classes, side, side, n_maps). Logits, not probabilities: the
    softmax would mix in what speaks against the other classes, and is flat where it is sure.
    """
    tf = backend.load_tensorflow()[1]
    trunk, tail = _cut(part.network)
    last = part.network.layers[-1]
    maps = tf.constant(trunk.predict_on_batch(x[None]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        logits = tf.cast(tail(maps, training=False), "float32") @ last.kernel + last.bias
        wanted = [logits[0, column] for column in columns]
    gradients = [tape.gradient(one, maps)[0] for one in wanted]
    return np.asarray(maps[0], np.float64), np.stack(gradients).astype(np.float64)
