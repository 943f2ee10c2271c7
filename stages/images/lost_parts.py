"""Parts of a picture that were overwritten or lost before, as its pixels show it."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

BLOCK = 8  # px; JPEG codes blocks of this side, row by row
# Of 8,343 pictures of eleven collections, 7 have a break, all at a border or a pasted strip:
STEP = 3  # grey levels: a larger jump between rows of blocks is no noise
MOST = 0.75  # of the blocks of one row jump the same way
FLAT_SHARE = 0.02  # of the height: so many rows of one colour are no chance
# and none has a lost block:
ABRUPT_SHARE = 0.125  # of the width: so much of a row must be lost to tell where the loss begins
UNLIKE = 0.1  # of the pixels beside it, at most, may have the value of a lost block

_SUM_OF_BLOCK = np.tile(np.eye(3, dtype=np.float32), (BLOCK, 1))  # of each channel


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


def has_break(rgb: Pixels) -> bool:
    """Tell whether something runs straight across the whole width: probably a part is lost.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    bool
        Rows of one colour; or all blocks of a row, begun anywhere, brighter or darker than those
        above them. Borders and pasted strips do that too.

    Notes
    -----
    JPEG codes a block's brightness as the difference to the block before. What is lost in between
    moves all that follow, from some block on: as many blocks as make a row then differ from those
    above by the same amount. No edge of a cell is as wide and as straight.
    """
    if _has_bar(rgb):
        return True
    rows, columns = rgb.shape[0] // BLOCK, rgb.shape[1] // BLOCK
    if rows < 3 or columns < 4:
        return False
    blocks = rgb[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK * 3)
    # Floats hold these whole numbers and their quarters exactly, and BLAS sums them fast.
    edges = blocks[:, [0, 2, 5, 7]].astype(np.float32) @ _SUM_OF_BLOCK
    first, third, sixth, last = (edges[:, place] for place in range(4))
    # What goes on at the same slope is no jump.
    slope = ((third - first)[1:] + (last - sixth)[:-1]) / 4
    jump = ((first[1:] - last[:-1]) - slope).reshape(-1, 3)
    return any(_fills_a_row(sign * jump > STEP * BLOCK, columns) for sign in (1, -1))


def _has_bar(rgb: Pixels) -> bool:
    """Tell whether rows of one colour end in a step; a saturated ground ends in none."""
    flat = np.all([_flat_rows(rgb[..., channel]) for channel in range(3)], axis=0)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    least = max(4, FLAT_SHARE * len(rgb))
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        for inside, outside in ((start, start - 1), (end - 1, end)):
            if end - start >= least and 0 <= outside < len(rgb):
                jump = rgb[outside].astype(np.int32) - rgb[inside]
                if (np.abs(jump) > STEP).any(axis=1).mean() >= MOST:
                    return True
    return False


def _fills_a_row(jumps: NDArray[np.bool_], columns: int) -> bool:
    """Tell whether most of some `columns` blocks in succession jump, in any channel."""
    sums = np.cumsum(jumps, axis=0)
    sums = np.concatenate([np.zeros((1, sums.shape[1]), sums.dtype), sums])
    return bool((sums[columns:] - sums[:-columns]).max() >= MOST * columns)


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
    least = max(BLOCK, ABRUPT_SHARE * is_lost.shape[1])
    return bool(n >= least and is_lost[1, :n].mean() <= UNLIKE)
