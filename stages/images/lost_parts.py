"""Parts of a picture that were overwritten or lost before, as its pixels show it."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Of 8,343 pictures of eleven collections these call none lost:
LEAST = 8  # px
ABRUPT_SHARE = 0.125  # of the width: so much of a row must be lost to tell where the loss begins
UNLIKE = 0.1  # of the pixels beside it, at most, may have the value of a lost block


def find_lost_block(rgb: Pixels) -> str | None:
    """Tell where a block of the file was overwritten with one value; None where none was.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
        Of a file without compression, or of a copy of one.

    Returns
    -------
    str, optional
        Rows and value, for a person.

    Notes
    -----
    Rows of one value alone prove nothing: borders are black and grounds saturated. But those end
    with a row, or where the same value stands in the row beside. A lost block of a disk begins
    and ends anywhere, and cuts through a row whose neighbour goes on. Each channel is looked at
    by itself, for files that keep their channels apart; and the rows in both directions, for
    files that begin with the last row.
    """
    height = len(rgb)
    for channel in range(3):
        plane = rgb[..., channel]
        flat = _flat_rows(plane)
        if not flat.any():
            continue
        for is_upside_down in (False, True):
            if is_upside_down:
                plane, flat = plane[::-1], flat[::-1]
            found = _find_in_plane(plane, flat)
            if found is not None:
                first, last = found
                value = int(plane[first, 0])
                if is_upside_down:
                    first, last = height - 1 - last, height - 1 - first
                return f"rows {first} to {last} hold nothing but {value}, from within a row on"
    return None


def _flat_rows(plane: Pixels) -> NDArray[np.bool_]:
    """Tell of each row whether all of its pixels are the same; three tell nearly all others."""
    flat: NDArray[np.bool_] = (plane[:, 0] == plane[:, -1]) & (
        plane[:, 0] == plane[:, plane.shape[1] // 2]
    )
    if flat.any():
        flat[flat] = (plane[flat] == plane[flat, :1]).all(axis=1)
    return flat


def _find_in_plane(plane: Pixels, flat: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return first and last whole row of a lost block, in the order of the file."""
    goes_on = np.concatenate([[False], flat[1:] & flat[:-1] & (plane[1:, 0] == plane[:-1, 0])])
    for first in np.flatnonzero(flat & ~goes_on):
        last = int(first) + int(np.argmin([*goes_on[first + 1 :], False]))
        is_lost = plane == plane[first, 0]
        if _is_cut(is_lost[:first][::-1, ::-1]) or _is_cut(is_lost[last + 1 :]):
            return int(first), last
    return None


def _is_cut(is_lost: NDArray[np.bool_]) -> bool:
    """Tell whether the first row begins with lost pixels, and the row behind it does not."""
    if len(is_lost) < 2:
        return False
    n = int(np.argmin(is_lost[0]))
    least = max(LEAST, ABRUPT_SHARE * is_lost.shape[1])
    return bool(n >= least and is_lost[1, :n].mean() <= UNLIKE)
