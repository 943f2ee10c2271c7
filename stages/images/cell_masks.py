"""Nucleus and cell of the white cell in the middle of a picture, and what they measure."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from stages.core.errors import TableError
from stages.images.optical_density import MEASURE_UNIT, density_table
from stages.images.segmentation import (
    Mask,
    Pixels,
    enlarge,
    fill_hull,
    outline,
    outline_points,
    working_shape,
)

# Of certainty; chosen on the masks of raabin_krd, where the cells below it have a mean Dice of .805
# and the others of .940 (bench_outlines): elsewhere it may part them less well.
SURE = 0.87
UNSURE = "unsure_outline"  # the flag
MIN_LOBE_SHARE = 0.05  # of the nucleus' area; smaller parts are granules


@dataclass(frozen=True)
class CellMask:
    """What `segment` found.

    Attributes
    ----------
    cell, nucleus : numpy.ndarray of bool, shape (height, width)
        The nucleus lies within the cell. All False where no cell was found.
    white : tuple of float
        Background, red, green, blue, 0..255.
    centre : tuple of float, optional
        x and y in px, pixel centres at whole numbers: the middle between the cell's centroid and
        the centre of the circle around the nucleus.
    cell_radius : float, optional
        sqrt(cell area / pi), px.
    has_cell : bool
        Whether a nucleus was found.
    packed : bytes, optional
        The cell for `unpack`. None where no cell was found.
    certainty : float
        How well the cell is probably outlined, 0..1; see ``segmentation.judge``.
    """

    cell: Mask
    nucleus: Mask
    white: tuple[float, float, float]
    centre: tuple[float, float] | None
    cell_radius: float | None
    has_cell: bool
    packed: bytes | None
    certainty: float

    @property
    def is_unsure(self) -> bool:
        """Whether there is a cell whose outline is to be looked at."""
        return self.has_cell and self.certainty < SURE


def segment(rgb: Pixels) -> CellMask:
    """Outline nucleus and cell of the central white cell.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
        A cell in the middle of its neighbourhood, of any stain.

    Returns
    -------
    CellMask

    Notes
    -----
    Background from the bright pixels; optical density; a small network answers for each pixel, and
    the part that is large and near the middle is the cell, without what is narrower than a neck.

    The network learnt from drawn smears alone (``stages.tools.train_outlines``) and knows no
    hospital. On published masks of three hospitals, Dice of the cell before (thresholds and a
    watershed, at commit 87390e4) and now: raabin_krd .892 and .933 (of 451; 14.9 % and 2.4 % below
    .8), jiangxi .970 and .980, cvb .943 and .958; of the nucleus .925 and .895, .931 and .922, .949
    and .967 (``python -m tests.bench.bench_outlines``). It computes in whole numbers, so that
    every processor gives the same mask.

    A platelet has no nucleus: its dark granules take the nucleus' place, so that it gets a cell
    mask all the same.
    """
    small_cell, small_nucleus, (red, green, blue), certainty = outline(rgb)
    height, width = rgb.shape[:2]
    cell = enlarge(small_cell, height, width)
    nucleus = enlarge(small_nucleus, height, width) & cell
    white = (float(red), float(green), float(blue))
    if not nucleus.any():
        return CellMask(cell, nucleus, white, None, None, False, None, 0.0)
    packed = np.packbits(small_cell).tobytes()
    return CellMask(cell, nucleus, white, *_describe(cell, nucleus), True, packed, certainty)


def unpack(packed: bytes, height: int, width: int) -> Mask:
    """Return the cell that `segment` found, from ``CellMask.packed``.

    Parameters
    ----------
    packed : bytes
        The mask at the working size (``segmentation.working_shape``), a bit for each pixel, rows
        one after the other, zeros up to a whole byte.
    height, width : int
        Of the picture.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)
        ``CellMask.cell``, bit for bit.

    Raises
    ------
    TableError
        The mask is not of a picture of this shape.
    """
    rows, columns = working_shape(height, width)
    if len(packed) != -(-rows * columns // 8):
        raise TableError(
            f"data/quality: a cell_mask of {len(packed)} bytes does not fit a picture of {width} x "
            f"{height} px. Run 'uv run dvc repro', which brings the tables into step."
        )
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns)
    return enlarge(bits.reshape(rows, columns).astype(bool), height, width)


def measure(rgb: Pixels, mask: CellMask) -> dict[str, float | int | bool | None]:
    """Return the mask columns of the quality table; None where there is no cell.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    mask : CellMask
        Of the same picture.

    Returns
    -------
    dict
        Names and units as in ``tables.QUALITY``. A measure of the cytoplasm is None where the
        nucleus fills the cell.
    """
    measures: dict[str, float | int | bool | None] = dict(
        zip(("white_r", "white_g", "white_b"), mask.white, strict=True)
    )
    measures |= dict.fromkeys(
        ("centre_x", "centre_y", "cell_radius", "nucleus_radius", "nucleus_share",
         "nucleus_lobes", "nucleus_solidity", "nucleus_od",
         "cytoplasm_od_r", "cytoplasm_od_g", "cytoplasm_od_b")
    )  # fmt: skip
    measures["has_cell"] = mask.has_cell
    if mask.centre is None:
        return measures
    n_nucleus = int(mask.nucleus.sum())
    cytoplasm = mask.cell & ~mask.nucleus
    measures["centre_x"], measures["centre_y"] = mask.centre
    measures["cell_radius"] = mask.cell_radius
    measures["nucleus_radius"] = math.sqrt(n_nucleus / math.pi)
    measures["nucleus_share"] = n_nucleus / int(mask.cell.sum())
    measures["nucleus_lobes"] = _count_lobes(mask.nucleus)
    measures["nucleus_solidity"] = n_nucleus / int(fill_hull(mask.nucleus).sum())
    measures["nucleus_od"] = _mean_density(rgb[..., 1], mask.white[1], mask.nucleus)
    for channel, name in enumerate("rgb"):
        measures[f"cytoplasm_od_{name}"] = _mean_density(
            rgb[..., channel], mask.white[channel], cytoplasm
        )
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in measures.items()
    }


def touches_border(cell: Mask) -> bool:
    """Tell whether the cell reaches the picture's border, so that a part of it is missing."""
    return bool(cell[[0, -1]].any() or cell[:, [0, -1]].any())


def iou(ours: Mask, theirs: Mask) -> float:
    """Return intersection over union; 1 where both are empty."""
    union = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / union if union else 1.0


def read_published(picture: Pixels) -> tuple[Mask, Mask | None]:
    """Return cell and nucleus of a published mask.

    Parameters
    ----------
    picture : numpy.ndarray of uint8, shape (height, width) or (height, width, 3)
        Background darkest, then cytoplasm, then nucleus: 0, 128 and 255 at jiangxi and cvb, a
        few of whose masks also hold stray levels up to 45 along the edges.

    Returns
    -------
    cell, nucleus : numpy.ndarray of bool, shape (height, width)
        Everything above a quarter, and above three quarters, of the brightest level. No nucleus
        where both are the same: the mask does not tell it.
    """
    levels = picture.max(axis=2) if picture.ndim == 3 else picture
    most = int(levels.max())
    cell: Mask = levels > most // 4
    nucleus: Mask = levels > 3 * most // 4
    return cell, None if (cell == nucleus).all() else nucleus


def _describe(cell: Mask, nucleus: Mask) -> tuple[tuple[float, float], float]:
    """Return centre and radius."""
    y, x = np.nonzero(cell)
    # Whole hundredths: enough for a crop, and no last float digit to differ in.
    around = cv2.minEnclosingCircle(outline_points(nucleus))[0]
    centre = (
        round((int(x.sum()) / len(x) + around[0]) / 2, 2),
        round((int(y.sum()) / len(y) + around[1]) / 2, 2),
    )
    return centre, math.sqrt(len(x) / math.pi)


def _count_lobes(nucleus: Mask) -> int:
    boxes = cv2.connectedComponentsWithStats(nucleus.astype(np.uint8), connectivity=8)[2]
    areas = boxes[1:, cv2.CC_STAT_AREA]
    return int((areas >= MIN_LOBE_SHARE * areas.sum()).sum())


def _mean_density(levels: Pixels, white: float, where: Mask) -> float | None:
    counts = np.bincount(levels[where], minlength=256)
    n = int(counts.sum())
    return int((counts * density_table(white)).sum()) / (n * MEASURE_UNIT) if n else None
