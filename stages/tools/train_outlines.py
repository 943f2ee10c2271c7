"""train_outlines: learn to outline cells from drawn smears alone -> images/outline_network.npz.

python -m stages.tools.train_outlines
"""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core import backend, parallel
from stages.core.errors import run_stage
from stages.images import outline_network, segmentation
from stages.images.outline_network import CLEAR, MOST, ODDS_UNIT, SHIFT, SIDE, Layer
from stages.simulation.looks import draw_smears

N_LOOKS, N_PICTURES = 480, 16  # hospitals that never were, and pictures of each
N_HELD = 20  # hospitals held back, to see what was learnt
CHANNELS = (16, 24, 40, 64)  # of the network's four scales
BATCH, EPOCHS, LEARNING_RATE = 32, 18, 3e-3
INPUT_UNIT = 32.0  # levels that are 1 for the network while it learns
# What is done to the levels of a picture, anew in each epoch:
CHANNEL_GAIN, COMMON_GAIN, MIXING = 0.35, (-0.7, 0.4), 0.1
BLOTCHES, BLOTCH_SIDES = 0.18, (4, 14)  # of density, over the picture
OFFSET, NOISE = 3.0, 1.5  # levels, standard deviation
FROM = {9: (8, 5), 10: (9, 3), 11: (10, 1)}  # layers that see two others; else the one before

Arrays = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw(look: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return what the network sees of the pictures of one look, and what it should answer.

    Returns
    -------
    levels : numpy.ndarray of uint8, shape (N_PICTURES, SIDE, SIDE, 3)
    truth : numpy.ndarray of uint8, shape (N_PICTURES, SIDE / 2, SIDE / 2, 2)
        Share of each pixel that cell and nucleus cover, 255: all of it.
    """
    pairs = [(drawn.rgb, drawn.mask) for drawn in draw_smears(look, N_PICTURES)]
    seen, truth = [], np.zeros((len(pairs), SIDE, SIDE, 2), np.uint8)
    for number, (rgb, mask) in enumerate(pairs):
        levels, place, _ = segmentation.look(rgb)
        seen.append(levels)
        size = (place[1].stop - place[1].start, place[0].stop - place[0].start)
        for part, least in enumerate((64, 192)):
            inside = (mask > least).astype(np.uint8) * 255
            truth[number][(*place, part)] = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    half = truth.reshape(len(pairs), SIDE // 2, 2, SIDE // 2, 2, 2).mean(axis=(2, 4))
    return np.stack(seen), np.rint(half).astype(np.uint8)


def vary(levels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw other stains, cameras and blotches for a batch of pictures."""
    n = len(levels)
    density = levels.astype(np.float32) - CLEAR
    mixing = np.eye(3) + rng.normal(0, MIXING, (n, 3, 3))
    gain = np.exp(rng.normal(0, CHANNEL_GAIN, (n, 3, 1)) + rng.uniform(*COMMON_GAIN, (n, 1, 1)))
    restain = np.swapaxes(mixing * gain, 1, 2).astype(np.float32)
    density = (density.reshape(n, -1, 3) @ restain).reshape(levels.shape)
    sides = rng.integers(*BLOTCH_SIDES, n)
    blotches = [rng.normal(0, BLOTCHES, (side, side)).astype(np.float32) for side in sides]
    size = (SIDE, SIDE)
    wide = [cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in blotches]
    density *= 1 + np.stack(wide)[..., None]
    density += rng.normal(0, OFFSET, (n, 1, 1, 3)).astype(np.float32)
    density += NOISE * rng.standard_normal(density.shape, dtype=np.float32)
    return np.clip(np.rint(density + CLEAR), 0, MOST).astype(np.float32)


def build() -> Any:
    """Return the network that learns; ``outline_network.answer`` has the same layers."""
    layers = backend.load_keras().layers

    def convolve(x: Any, channels: int, stride: int = 1) -> Any:
        x = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    pixels = layers.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / INPUT_UNIT, offset=-CLEAR / INPUT_UNIT)(pixels)
    scales = []
    for channels in CHANNELS:
        x = convolve(convolve(x, channels, 2), channels)
        scales.append(x)
    x = convolve(x, CHANNELS[-1])
    for finer in reversed(scales[:-1]):
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), finer])
        x = convolve(x, finer.shape[-1])
    answers = layers.Conv2D(2, 1, activation="sigmoid")(x)
    return backend.load_keras().Model(pixels, answers)


def fit(network: Any, levels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
    """Train; the loss is cross-entropy and, since cells are small, what Dice lacks of 1."""
    keras, tf = backend.load_tensorflow()
    n_steps = len(levels) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, n_steps * EPOCHS, warmup_target=LEARNING_RATE, warmup_steps=100
    )

    def loss(true: Any, found: Any) -> Any:
        entropy = keras.losses.binary_crossentropy(true[..., None], found[..., None])
        both = tf.reduce_sum(true * found, (1, 2))
        dice = 2 * both / (tf.reduce_sum(true + found, (1, 2)) + 1)
        return tf.reduce_mean(entropy) + 0.5 * tf.reduce_mean(1 - dice)

    def draw_batches() -> Iterator[tuple[NDArray[np.float32], ...]]:
        rng = np.random.default_rng(0)
        while True:
            for rows in np.array_split(rng.permutation(len(levels)), n_steps):
                turns, flip = int(rng.integers(4)), -1 if rng.random() < 0.5 else 1
                seen, true = vary(levels[rows], rng), (truth[rows] / 255).astype(np.float32)
                yield tuple(np.rot90(one, turns, axes=(1, 2))[:, ::flip] for one in (seen, true))

    half = SIDE // 2
    signature = (tf.TensorSpec((None, SIDE, SIDE, 3)), tf.TensorSpec((None, half, half, 2)))
    batches = tf.data.Dataset.from_generator(draw_batches, output_signature=signature)
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), loss=loss, jit_compile=False)
    network.fit(batches.prefetch(2), steps_per_epoch=n_steps, epochs=EPOCHS, verbose=2)


def fold(network: Any) -> list[Arrays]:
    """Return kernel and bias of each convolution, with its normalisation folded in."""
    convolutions = [one for one in network.layers if type(one).__name__ == "Conv2D"]
    norms = [one for one in network.layers if type(one).__name__ == "BatchNormalization"]
    folded = []
    for layer, norm in zip(convolutions[:-1], norms, strict=True):
        gain, offset, mean, variance = (one.astype(np.float64) for one in norm.get_weights())
        scale = gain / np.sqrt(variance + norm.epsilon)
        folded.append((layer.get_weights()[0].astype(np.float64) * scale, offset - mean * scale))
    kernel, bias = (one.astype(np.float64) for one in convolutions[-1].get_weights())
    return [*folded, (kernel, bias)]


def quantise(folded: list[Arrays], peaks: list[float]) -> list[Layer]:
    """Turn a network into whole numbers.

    Parameters
    ----------
    folded : list of tuple
        Of `fold`.
    peaks : list of float
        The largest output of each layer but the last, which becomes level 127.
    """
    units = [peak / MOST for peak in peaks] + [1 / ODDS_UNIT]
    layers = []
    for number, (kernel, bias) in enumerate(folded):
        before = FROM.get(number, (number - 1,))
        of_input = [
            np.full(
                folded[one][1].size if one >= 0 else 3, units[one] if one >= 0 else 1 / INPUT_UNIT
            )
            for one in before
        ]
        rows = (kernel * np.concatenate(of_input)[:, None]).reshape(-1, kernel.shape[-1])
        step = np.abs(rows).max(axis=0) / MOST
        layers.append(
            Layer(
                np.rint(rows / step).astype(np.int8),
                np.rint(step / units[number] * 2**SHIFT).astype(np.int64),
                np.rint(bias / units[number] * 2**SHIFT).astype(np.int64),
            )
        )
    return layers


def find_peaks(network: Any, levels: NDArray[np.uint8]) -> list[float]:
    """Return what hardly any output of each layer but the last exceeds."""
    keras = backend.load_keras()
    outputs = [one.output for one in network.layers if type(one).__name__ == "ReLU"]
    found = keras.Model(network.inputs, outputs).predict(levels.astype(np.float32), verbose=0)
    return [float(np.percentile(one, 99.99)) for one in found]


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the overlap of each picture's parts, shape (n_pictures, 2)."""
    both = (found & true).sum(axis=(1, 2))
    shares: NDArray[np.float64] = 2 * both / np.maximum((found.sum((1, 2)) + true.sum((1, 2))), 1)
    return shares


def main() -> None:
    """Draw, learn, write the weights, and tell how well drawn pictures held back are outlined."""
    drawn = list(parallel.map_ordered(draw, range(N_LOOKS)))
    levels, truth = (np.concatenate(part) for part in zip(*drawn, strict=True))
    keras, _ = backend.load_tensorflow()
    keras.utils.set_random_seed(0)
    n_held = N_HELD * N_PICTURES
    network = build()
    fit(network, levels[n_held:], truth[n_held:])
    peaks = find_peaks(network, levels[n_held : 2 * n_held])
    layers = quantise(fold(network), peaks)
    outline_network.save(outline_network.WEIGHTS, layers)
    true = truth[:n_held] > 127
    ours = np.stack([outline_network.ask(one, layers) for one in levels[:n_held]])
    floats = network.predict(levels[:n_held].astype(np.float32), verbose=0)
    for name, found in (("floats", floats > 0.5), ("whole numbers", ours > outline_network.EVEN)):
        cell, nucleus = dice(found, true).mean(axis=0)
        sys.stdout.write(f"{name}: cell Dice {cell:.3f}, nucleus {nucleus:.3f}\n")


if __name__ == "__main__":
    run_stage(partial(main))
