"""Random turns, stains and cameras: what another hospital may do to the same cell."""

import math
from typing import Annotated, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stages.core.settings import Group, Share
from stages.inputs import preparation

Pixels = NDArray[np.uint8]
Transform = NDArray[np.float64]


class Augmentation(Group):
    """How a training image is changed, anew at every view; what is not named is not done.

    Attributes
    ----------
    rotation : float, default 0.0
        To both sides, degrees, 0 to 180.
    flips : bool, default False
        Whether half of the views are mirrored at each axis.
    shift : float, default 0.0
        Standard deviation along each axis, share of the side, 0 to 0.3.
    shear : float, default 0.0
        To both sides, degrees, 1 to 45, or 0.
    zoom : float, default 0.0
        Largest change of the logarithm of the scale, 0 to 0.7 (0.1: factors 0.9 to 1.1).
    brightness : list of float, default None
        Smallest and largest factor of the light, 0.1 to 3.
    stain : float, default 0.0
        How far amount and hue of the dyes move in optical density, 0 to 2; 1: as tried.
    gamma : float, default 0.0
        Standard deviation of the logarithm of the power to which density is raised, of each
        channel and of all together, 0 to 1.
    haze : float, default 0.0
        Share of views through haze, which takes away contrast, 0 to 1.
    colour : float, default 0.0
        Share of views under a lamp of another tint, 0 to 1.
    clip : float, default 0.0
        Share of views of which the camera clips the darkest and the brightest, 0 to 1.
    grey : float, default 0.0
        Share of views in grey, 0 to 1.
    blur : float, default 0.0
        Share of views that are blurred, 0 to 1.
    noise : float, default 0.0
        Share of views with noise of a camera, 0 to 1.
    jpeg : float, default 0.0
        Share of views that were JPEG files once more, 0 to 1.
    hide : float, default 0.0
        Share of views in which everything outside the cell is hidden, 0 to 1.

    Notes
    -----
    The bounds refuse what the two projects fell into: a zoom of 1.1, which Keras reads as factors
    from -0.1 to 2.1; a shear of 0.1, which is a tenth of a degree; a brightness that starts at 0
    and gives black images.
    """

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    flips: bool = False
    shift: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.7)] = 0.0
    brightness: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    stain: Annotated[float, Field(ge=0, le=2)] = 0.0
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.0
    haze: Share = 0.0
    colour: Share = 0.0
    clip: Share = 0.0
    grey: Share = 0.0
    blur: Share = 0.0
    noise: Share = 0.0
    jpeg: Share = 0.0
    hide: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _refuse_known_slips(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        zoom, shear = given.get("zoom", 0), given.get("shear", 0)
        if isinstance(zoom, int | float) and zoom > 0.7:
            raise ValueError(
                f"zoom is {zoom}; it is the largest change of the logarithm of the scale, 0 to 0.7 "
                "(0.1: factors 0.9 to 1.1). Keras reads 1.1 as factors from -0.1 to 2.1"
            )
        if isinstance(shear, int | float) and 0 < shear < 1:
            raise ValueError(
                f"shear is {shear}; it is in degrees, 1 to 45, or 0 for none: less than a degree "
                "changes nothing"
            )
        return given

    @model_validator(mode="after")
    def _brightness_in_order(self) -> Self:
        if self.brightness is not None:
            low, high = self.brightness
            if not 0.1 <= low <= high <= 3:
                raise ValueError(
                    f"brightness is {self.brightness}; it is two factors in order, 0.1 to 3: one "
                    "near 0 gives black images"
                )
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return self == Augmentation()


STAIN_MIXING = 0.08  # at stain 1: standard deviation of the 3 x 3 matrix around the identity
CHANNEL_GAIN = 0.28  # at stain 1: exp N(0, )
COMMON_GAIN = (-0.5, 0.4)  # at stain 1: exp U
GAMMA_PIVOT = 0.8  # density (natural logarithm) that no power changes: a pale nucleus's
STEEPEST = 20.0  # power, so that floats hold what comes of it
HAZE = (0.1, 0.6)  # of the way from each grey level to the background's
BLACK, CLIPPED_WHITE = (0.0, 70.0), (200.0, 255.0)  # levels that become 0 and 255
TINT = (0.78, 1.06)
BLUR = (0.3, 0.9)  # down to this share of the side, and up again
NOISE = (1.0, 7.0)  # standard deviation, grey levels
JPEG = (30, 90)  # quality
# Of each grey level: what inputs' white point did last is undone, and done again after the change.
DENSITY = -np.log((np.arange(256, dtype=np.float32) + preparation.BLACK_OFFSET) / preparation.WHITE)


def augment(
    wide: Pixels,
    hidden: Pixels | None,
    margin: int,
    rule: Augmentation,
    grey_share: float,
    rng: np.random.Generator,
) -> Pixels:
    """Draw one view of a picture.

    Parameters
    ----------
    wide : numpy.ndarray of uint8, shape (size + 2 * margin, size + 2 * margin, 3)
        The prepared picture with its surroundings.
    hidden : numpy.ndarray of uint8, same shape, optional
        The same with everything outside the cell hidden; shown in a share ``rule.hide`` of views.
    margin : int
        Surroundings on each side, px.
    rule : Augmentation
    grey_share : float
        Share of the views that end with grey world, as that share of the plain views is prepared.
    rng : numpy.random.Generator
        Of this view alone.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size, 3)
        A new array. Beyond the surroundings the border is repeated.
    """
    shown = hidden if wants_mask(rule, rng) and hidden is not None else wide
    view = _cut(shown, margin, random_transform(rule, rng))
    view = change_colours(view, rule, rng)
    if grey_share and rng.random() < grey_share:
        view = preparation.to_grey_world(view)
    return view


def random_transform(rule: Augmentation, rng: np.random.Generator) -> Transform:
    """Draw a rotation, mirror, zoom, shift and shear.

    Parameters
    ----------
    rule : Augmentation
        Rotation and shear are drawn evenly up to their degrees to both sides, zoom evenly in the
        logarithm of the scale, shift from a normal distribution. With flips a view is mirrored
        at each axis half of the time; in a full circle the second mirror would change nothing.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of float64, shape (3, 3)
        Affine map for ``preparation.prepare``: middle at 0, unit half a side. The identity where
        the rule moves nothing.

    Notes
    -----
    A smear has no upside, and each hospital's camera its own scale; what the cell shows must not
    depend on either. Every rule takes the same draws, so that one change does not move another;
    shear, which came later, has a generator of its own.
    """
    most = math.radians(rule.rotation)
    is_full = rule.rotation == 180
    angle = rng.uniform(0.0, 2 * most) - (0.0 if is_full else most)
    quarter = int(4 * rng.random())
    mirror = -1.0 if rule.flips and quarter < 2 else 1.0
    upside = -1.0 if rule.flips and quarter % 2 and not is_full else 1.0
    zoom = math.exp(rng.uniform(-rule.zoom, rule.zoom))
    shift_x, shift_y = rng.normal(0.0, 2 * rule.shift, size=2)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = np.array(
        [[mirror * cos, -upside * sin, shift_x], [mirror * sin, upside * cos, shift_y], [0, 0, 1.0]]
    )
    if rule.shear:
        degrees = rng.spawn(1)[0].uniform(-rule.shear, rule.shear)
        turn[:2, 1] += math.tan(math.radians(degrees)) * turn[:2, 0]
    return turn


def wants_mask(rule: Augmentation, rng: np.random.Generator) -> bool:
    """Draw whether a view hides the cell's neighbours."""
    return bool(rng.random() < rule.hide)


def change_colours(image: Pixels, rule: Augmentation, rng: np.random.Generator) -> Pixels:
    """Draw another stain, lamp and camera for a prepared picture.

    Parameters
    ----------
    image : numpy.ndarray of uint8, shape (size, size, 3)
        As ``preparation.prepare`` gives it.
    rule : Augmentation
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size, 3)
        A new array, or `image` itself where nothing is changed.

    Notes
    -----
    Dyes add up in optical density, so their amount and hue are changed there. First gamma: the
    density d of each channel becomes .8 (d / .8) ** exp(N(0, gamma) + N(0, gamma)), the second draw
    common to all channels; so the nucleus becomes paler or denser beside the plasma, which no
    matrix can do. Then stain: mixing of channels I + N(0, .08), gain of each channel exp N(0, .28),
    of all exp U(-.5, .4), the ranges scaled by ``rule.stain``. Then haze (levels go 10 to 60 % of
    the way to the background's), the lamp (a tint U(.78, 1.06) of each channel, and brightness), a
    camera that clips (levels up to 70 become 0, from 200 on 255), a grey one, blur (down to 30-90 %
    of the side and up), noise (standard deviation 1-7) and JPEG (quality 30-90). In the project's
    first experiments the colour changes were worth .2 of macro F1 at hospitals that the network had
    not seen; blur, noise and JPEG were worth about nothing, and cost nothing.
    """
    changed = _restain(image, rule, rng)
    if rng.random() < rule.grey:
        changed = np.repeat(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < rule.blur:
        changed = _blur(changed, rng.uniform(*BLUR))
    if rng.random() < rule.noise:
        noise = rng.normal(0.0, rng.uniform(*NOISE), size=changed.shape)
        noise += changed
        changed = _to_pixels(noise)
    if rng.random() < rule.jpeg:
        changed = _compress(changed, int(rng.integers(JPEG[0], JPEG[1], endpoint=True)))
    return changed


def _cut(wide: Pixels, margin: int, transform: Transform) -> Pixels:
    """Sample the view that `transform` shows; without a change, the very pixels of the middle."""
    size = wide.shape[0] - 2 * margin
    if np.array_equal(transform, np.eye(3)):
        return np.array(wide[margin : margin + size, margin : margin + size])
    # From the view's pixel centres to the middle 0 and unit half a side, and back to wide pixels.
    inward = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
    half, middle = size / 2, size / 2 + margin - 0.5
    matrix = np.array([[half, 0, middle], [0, half, middle], [0, 0, 1]]) @ transform @ inward
    merged = min(float(np.hypot(*matrix[:2, axis])) for axis in (0, 1))
    if merged > 1.1:  # as `preparation.prepare` does: average what is merged
        sigma = 0.5 * math.sqrt(merged**2 - 1)
        wide = cv2.GaussianBlur(wide, (5, 5), sigma).astype(np.uint8, copy=False)
    return cv2.warpAffine(
        wide,
        matrix[:2],
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.uint8, copy=False)


def _restain(image: Pixels, rule: Augmentation, rng: np.random.Generator) -> Pixels:
    mixing = np.eye(3) + rng.normal(0.0, rule.stain * STAIN_MIXING, size=(3, 3))
    gain = np.exp(rng.normal(0.0, rule.stain * CHANNEL_GAIN, size=3))
    gain *= math.exp(rng.uniform(rule.stain * COMMON_GAIN[0], rule.stain * COMMON_GAIN[1]))
    slope, offset = _draw_exposure(rule, rng)
    is_exposed = bool((slope != 1).any() or (offset != 0).any())
    table = _bend(rule, rng) if rule.gamma else DENSITY
    if not (rule.stain or rule.gamma):
        return _expose(image, slope, offset) if is_exposed else image
    density = cv2.LUT(image, table).reshape(-1, 3).astype(np.float32, copy=False)
    # In place: white exp(-density) - offset.
    levels = density @ (mixing.T * gain).astype(np.float32)
    np.negative(levels, out=levels)
    np.exp(levels, out=levels)
    levels *= preparation.WHITE
    levels -= preparation.BLACK_OFFSET
    return _to_pixels(levels * slope + offset if is_exposed else levels).reshape(image.shape)


def _bend(rule: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the density of each grey level and channel, shape (1, 256, 3); paper white stays."""
    own = rng.spawn(1)[0]
    power = np.exp(own.normal(0.0, rule.gamma, size=3) + own.normal(0.0, rule.gamma))
    share: NDArray[np.float64] = np.maximum(DENSITY, 0)[:, None] / GAMMA_PIVOT
    bent: NDArray[np.float64] = GAMMA_PIVOT * share ** np.minimum(power, STEEPEST)
    np.minimum(bent, DENSITY[0], out=bent)  # no camera shows more than black
    return bent[None].astype(np.float32)


def _draw_exposure(
    rule: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw what haze, lamp and camera do to the levels of each channel: slope and offset."""
    light = rng.uniform(*TINT, size=3) if rng.random() < rule.colour else np.ones(3)
    offset = np.zeros(3)
    if not (rule.brightness or rule.haze or rule.clip):
        return light, offset
    # Generators of their own: other rules' draws are as if there were none of these.
    of_brightness, of_haze, of_clip = rng.spawn(3)
    if rule.brightness is not None:
        darkest, brightest = rule.brightness
        light = light * of_brightness.uniform(darkest, brightest)
    slope = light
    if of_haze.random() < rule.haze:
        gone = of_haze.uniform(*HAZE)
        background = preparation.WHITE - preparation.BLACK_OFFSET
        slope, offset = light * (1 - gone), light * gone * background
    if of_clip.random() < rule.clip:
        black, white = of_clip.uniform(*BLACK), of_clip.uniform(*CLIPPED_WHITE)
        gain = 255 / (white - black)
        slope, offset = slope * gain, (offset - black) * gain
    return slope, offset


def _expose(image: Pixels, slope: NDArray[np.float64], offset: NDArray[np.float64]) -> Pixels:
    table = _to_pixels(np.arange(256.0)[:, None] * slope + offset)
    return cv2.LUT(image, table[None]).astype(np.uint8, copy=False)


def _to_pixels(levels: NDArray[np.floating]) -> Pixels:
    """Round and clip in place, and change the type."""
    np.rint(levels, out=levels)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


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
