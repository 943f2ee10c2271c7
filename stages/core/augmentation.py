"""Random turns, stains and cameras: what another hospital may do to the same cell."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Shares and ranges as measured in the project's first experiments: with them, a network trained
# at one hospital lost about half as much at others as without.
ZOOM = 0.35  # exp U(-, +)
SHIFT = 0.05  # of the side, standard deviation
MASK_SHARE = 0.4
STAIN_MIXING = 0.08  # standard deviation of the 3 x 3 matrix around the identity
CHANNEL_GAIN = 0.28  # exp N(0, )
COMMON_GAIN = (-0.5, 0.4)  # exp U
TINT_SHARE, TINT = 0.5, (0.78, 1.06)
GREY_SHARE = 0.1
BLUR_SHARE, BLUR = 0.65, (0.3, 0.9)  # down to this share of the side, and up again
NOISE_SHARE, NOISE = 0.4, (1.0, 7.0)  # standard deviation, grey levels
JPEG_SHARE, JPEG = 0.2, (30, 90)  # quality
WHITE, BLACK_OFFSET = 242.0, 2.0  # of inputs' white point, which this undoes and does again


def random_transform(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a rotation, mirror, zoom and shift.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of float64, shape (3, 3)
        Affine map for ``inputs.prepare``: middle at 0, unit half a side. Rotation 0..360 degrees,
        mirrored half of the time, zoom exp U(-.35, .35), shift N(0, 5 % of the side).

    Notes
    -----
    A smear has no upside, and each hospital's camera its own scale; what the cell shows must not
    depend on either.
    """
    angle = rng.uniform(0.0, 2 * math.pi)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    zoom = math.exp(rng.uniform(-ZOOM, ZOOM))
    shift_x, shift_y = rng.normal(0.0, 2 * SHIFT, size=2)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return np.array([[mirror * cos, -sin, shift_x], [mirror * sin, cos, shift_y], [0.0, 0.0, 1.0]])


def wants_mask(rng: np.random.Generator) -> bool:
    """Draw whether a view hides the cell's neighbours: in 40 % of views."""
    return bool(rng.random() < MASK_SHARE)


def jitter_stain(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Draw another stain, lamp and camera for a prepared picture.

    Parameters
    ----------
    image : numpy.ndarray of uint8, shape (size, size, 3)
        As ``inputs.prepare`` gives it.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size, 3)
        A new array.

    Notes
    -----
    Dyes add up in optical density, so their amount and hue are changed there: mixing of channels
    I + N(0, .08), gain of each channel exp N(0, .28), of all exp U(-.5, .4). Then the lamp (half
    of the time a tint U(.78, 1.06) of each channel), a grey camera (10 %), blur (65 %: down to
    30-90 % of the side and up), noise (40 %: standard deviation 1-7) and JPEG (20 %: quality
    30-90). In the project's first experiments the colour changes were worth .2 of macro F1 at
    hospitals that the network had not seen; blur, noise and JPEG were worth about nothing, and
    cost nothing.
    """
    changed = _restain(image, rng)
    if rng.random() < GREY_SHARE:
        changed = np.repeat(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < BLUR_SHARE:
        changed = _blur(changed, rng.uniform(*BLUR))
    if rng.random() < NOISE_SHARE:
        noise = rng.normal(0.0, rng.uniform(*NOISE), size=changed.shape)
        changed = np.clip(np.rint(changed + noise), 0, 255).astype(np.uint8)
    if rng.random() < JPEG_SHARE:
        changed = _compress(changed, int(rng.integers(JPEG[0], JPEG[1], endpoint=True)))
    return changed


def _restain(image: Pixels, rng: np.random.Generator) -> Pixels:
    mixing = np.eye(3) + rng.normal(0.0, STAIN_MIXING, size=(3, 3))
    gain = np.exp(rng.normal(0.0, CHANNEL_GAIN, size=3)) * math.exp(rng.uniform(*COMMON_GAIN))
    lamp = rng.uniform(*TINT, size=3) if rng.random() < TINT_SHARE else np.ones(3)
    density = -np.log((np.arange(256, dtype=np.float32) + BLACK_OFFSET) / WHITE)[image]
    changed = density @ (mixing.T * gain).astype(np.float32)
    levels = lamp * (WHITE * np.exp(-changed) - BLACK_OFFSET)
    restained: Pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return restained


def _blur(image: Pixels, share: float) -> Pixels:
    height, width = image.shape[:2]
    small = (max(1, round(width * share)), max(1, round(height * share)))
    down = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    up = cv2.resize(down, (width, height), interpolation=cv2.INTER_LINEAR)
    return up.astype(np.uint8, copy=False)


def _compress(image: Pixels, quality: int) -> Pixels:
    content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    again = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(again[..., ::-1])
