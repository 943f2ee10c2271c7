"""Numbers of 16 bits: brought to 8 bits in the range that their camera uses."""

import numpy as np
from numpy.typing import NDArray

RANGES = (8, 10, 12, 14, 16)  # bits that cameras give; most files store them in 16
DARK = 64  # of 256: where all upper bytes are below, the uppermost 2 of 16 bits are not in use


def to_8_bits(
    levels: NDArray[np.uint16], brightest: int | None = None, is_negative: bool = False
) -> tuple[NDArray[np.uint8], int]:
    """Keep the upper 8 of the bits in use.

    Parameters
    ----------
    levels : numpy.ndarray of uint16, shape (height, width) or (height, width, n_channels)
        Grey, or red, green, blue and what is left out.
    brightest : int, optional
        The largest possible number, where the file names it.
    is_negative : bool
        0 is white.

    Returns
    -------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    bits : int
        In use: of `brightest`, or else the fewest of `RANGES` that hold all numbers.

    Notes
    -----
    Few files name their range. A smear's background is near the camera's white, so that the
    brightest pixel tells it: a background below a quarter of the range would be taken for white.
    """
    colours = levels[..., None] if levels.ndim == 2 else levels
    colours = colours[..., :3] if colours.shape[-1] > 2 else colours[..., [0, 0, 0]]
    top = max(int(colours.max()), brightest or 0)
    bits = next(bits for bits in RANGES if top < 2**bits)
    if is_negative:
        colours = np.uint16(2**bits - 1) - colours
    return (colours >> (bits - 8)).astype(np.uint8), bits
