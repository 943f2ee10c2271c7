"""The stains of a picture: densities by stain, the stains' own colours, rings, a small copy."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.images.cell_masks import CellMask
from stages.images.optical_density import MEASURE_UNIT, add_channels, optical_density

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

STAINS = ("blue", "eosin", "rest")
RINGS = 8
THUMBNAIL = 40  # px
HALF_SIDE = 1.5  # of the thumbnail, in cell radii
MOST_LOOKED_AT = 4
SAMPLED = 160  # px, of the longer side, about as many as the outline has

# Red, green and blue parts of the optical density of methylene blue and of eosin in a Giemsa stain:
# "Giemsa" in the plugin Colour Deconvolution of ImageJ (G. Landini).
METHYLENE_BLUE = (0.834750233, 0.513556283, 0.196330403)
EOSIN = (0.092789, 0.954111, 0.283111)

STAINED = 0.15  # mean optical density of the channels from which a pixel counts as stained
MIN_STAINED = 200  # pixels, from which stains can be told
ENDS = (1.0, 99.0)  # percentiles of the hue at which a picture's two stains lie
MIN_ANGLE = 0.1  # between them; what is nearer is one stain and its noise


def _unmix() -> Floats:
    """Return the matrix that takes optical densities to stains, with what neither explains."""
    blue, eosin = (np.array(stain) / np.linalg.norm(stain) for stain in (METHYLENE_BLUE, EOSIN))
    rest = np.cross(blue, eosin)
    inverse: Floats = np.linalg.inv(np.stack([blue, eosin, rest / np.linalg.norm(rest)]))
    return inverse


_UNMIX = _unmix()


def deconvolve(density: Floats) -> Floats:
    """Return how much of each stain makes up an optical density.

    Parameters
    ----------
    density : numpy.ndarray of float64, shape (..., 3)
        Of red, green and blue.

    Returns
    -------
    numpy.ndarray of float64, shape (..., 3)
        Of methylene blue, of eosin, and of the direction across both, which a Giemsa stain leaves
        near 0. Negative where the colour lies outside of what the two can mix.

    References
    ----------
    .. [1] A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color
       deconvolution", Anal Quant Cytol Histol 2001.
    """
    # Written out, as a product of matrices may add up in another order on another processor.
    parts = [density[..., channel, None] * _UNMIX[channel] for channel in range(3)]
    mixed: Floats = parts[0] + parts[1] + parts[2]
    return mixed


def measure(rgb: Pixels, mask: CellMask) -> dict[str, float | list[float] | bytes | None]:
    """Return the stain columns of the quality table.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    mask : CellMask
        Of the same picture.

    Returns
    -------
    dict
        Names and units as in ``tables.QUALITY``, six significant digits. Measured on every k-th
        pixel of every k-th row, so that the longer side has 160 at most; None where there is no
        cell, or nothing of what is to be measured.

    Notes
    -----
    As deconvolution is linear, a mean density by stain is that of the channels, which are summed
    in whole numbers, deconvolved.
    """
    step = -(-max(rgb.shape[:2]) // SAMPLED)
    density = optical_density(rgb[::step, ::step], mask.white)
    cell, nucleus = mask.cell[::step, ::step], mask.nucleus[::step, ::step]
    stained = add_channels(density) >= 3 * STAINED * MEASURE_UNIT
    blue, eosin = estimate_stains(density[stained])
    measures: dict[str, float | list[float] | bytes | None] = {
        **_name("nucleus", _mean(density, nucleus)),
        **_name("cytoplasm", _mean(density, cell & ~nucleus)),
        "blue_stain": blue,
        "eosin_stain": eosin,
        "stained_around": _share(stained, ~cell),
        "profile": _profile(density, mask, step),
    }
    return {**{name: _round(value) for name, value in measures.items()},
            "thumbnail": _shrink(rgb, mask)}  # fmt: skip


def estimate_stains(
    density: NDArray[np.int32],
) -> tuple[list[float], list[float]] | tuple[None, None]:
    """Estimate the two stains whose mixtures the pixels are.

    Parameters
    ----------
    density : numpy.ndarray of int32, shape (n_pixels, 3)
        Optical densities of stained pixels, in any unit.

    Returns
    -------
    blue, eosin : list of float, length 3, or None
        Red, green and blue parts of the optical density, of length 1; blue is the one that absorbs
        more red. None where the pixels are too few, or of one colour.

    References
    ----------
    .. [1] M. Macenko et al., "A method for normalizing histology slides for quantitative
       analysis", ISBI 2009: the pixels' plane, and the ends of the hues within it.
    """
    if len(density) < MIN_STAINED:
        return None, None
    wide = density.astype(np.int64)
    plane = np.linalg.eigh((wide.T @ wide).astype(np.float64))[1][:, :0:-1]
    plane = plane * np.sign(plane.sum(axis=0))
    # Columns one by one, as in `deconvolve`.
    along, across = (sum(wide[:, c] * axis[c] for c in range(3)) for axis in plane.T)
    low, high = np.percentile(np.arctan2(across, along), ENDS)
    if high - low < MIN_ANGLE:
        return None, None
    ends = [plane[:, 0] * np.cos(angle) + plane[:, 1] * np.sin(angle) for angle in (low, high)]
    eosin, blue = sorted(ends, key=lambda stain: float(stain[0]))
    return blue.tolist(), eosin.tolist()


def _mean(density: NDArray[np.int32], where: NDArray[np.bool_]) -> list[float] | None:
    """Return the mean density of each stain, in optical densities."""
    n = int(where.sum())
    if not n:
        return None
    sums = density[where].sum(axis=0, dtype=np.int64)
    return [float(value) for value in deconvolve(sums / (n * MEASURE_UNIT))]


def _name(place: str, densities: list[float] | None) -> dict[str, float | None]:
    values: list[float] | list[None] = densities or [None] * len(STAINS)
    return {f"{place}_{stain}": value for stain, value in zip(STAINS, values, strict=True)}


def _share(marked: NDArray[np.bool_], where: NDArray[np.bool_]) -> float | None:
    n = int(where.sum())
    return int((marked & where).sum()) / n if n else None


def _profile(density: NDArray[np.int32], mask: CellMask, step: int) -> list[float] | None:
    """Return the mean density of each stain in rings of equal width, the innermost first."""
    if mask.centre is None or mask.cell_radius is None:
        return None
    rows, columns = (np.arange(n) * step for n in density.shape[:2])
    off = (rows[:, None] - mask.centre[1]) ** 2 + (columns[None, :] - mask.centre[0]) ** 2
    ring = np.minimum(RINGS * np.sqrt(off) / mask.cell_radius, RINGS).astype(np.int64).ravel()
    n_pixels = np.bincount(ring, minlength=RINGS + 1)[:RINGS]
    if not n_pixels.all():
        return None
    sums = [
        np.bincount(ring, density[..., channel].ravel(), RINGS + 1)[:RINGS] for channel in range(3)
    ]
    means = np.stack(sums, axis=1) / (n_pixels[:, None] * MEASURE_UNIT)
    return [float(value) for value in deconvolve(means).T.ravel()]


def _shrink(rgb: Pixels, mask: CellMask) -> bytes:
    """Return the square around the cell in 40 x 40 px; around the whole picture without a cell."""
    height, width = rgb.shape[:2]
    centre, half = ((width - 1) / 2, (height - 1) / 2), max(height, width) / 2
    if mask.centre is not None and mask.cell_radius is not None:
        centre, half = mask.centre, HALF_SIDE * mask.cell_radius
    # Pixels looked at in each direction for one of the thumbnail.
    times = min(max(1, round(2 * half / THUMBNAIL)), MOST_LOOKED_AT)
    n = times * THUMBNAIL
    along = (2 * np.arange(n) + 1 - n) * half / n
    # What lies outside of the picture is filled by the nearest pixel of its border.
    rows, columns = (
        np.clip(np.rint(middle + along), 0, side - 1).astype(np.int64)
        for middle, side in ((centre[1], height), (centre[0], width))
    )
    seen = rgb[rows].take(columns, axis=1)
    # Means of whole squares: the same on every processor.
    small = cv2.resize(seen, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).tobytes()


def _round(value: object) -> float | list[float] | None:
    if isinstance(value, list):
        return [float(f"{one:.6g}") for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else None
