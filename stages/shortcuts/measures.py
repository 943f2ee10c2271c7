"""What an image tells besides its cell: size, file, the cell's place, colours of the background.

Every measure has a name of three parts, ``<level>/<family>/<measure>``. Level `published` is the
publisher's file, `seen` is what is left of it in the array that a network gets.
"""

import io
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from stages.core.params import InputsParams
from stages.images import decoding
from stages.inputs import preparation

Pixels = NDArray[np.uint8]

SIDE = 64  # px, of the views that are measured: the background is measured in squares of 8 px
GRID = 8  # squares along a side
CORNER = 16  # a corner is a sixteenth of each side
FORMATS = ("bmp", "jpeg", "png", "tiff")
CHANNELS = ("red", "green", "blue")
AROUND_THE_CELL = ("colour", "corners", "background")
HIDDEN = "inputs.hide is background: nothing around the cell is left to see"


def measure(content: bytes, geometry: preparation.Geometry, rule: InputsParams) -> dict[str, float]:
    """Measure what an image tells besides its cell.

    Parameters
    ----------
    content : bytes
        The publisher's file.
    geometry : inputs.Geometry
        Of this image; `preparation.geometries`.
    rule : InputsParams
        How the experiment prepares images.

    Returns
    -------
    dict of str to float
        By ``<level>/<family>/<measure>``, the same names for every image of an experiment:

        - ``published/size``: width and height in px, and their ratio;
        - ``published/file``: format, means and first steps of the JPEG quantisation tables, colour
          sampling, bytes of the comment; 0 where the file is no JPEG;
        - ``published/bytes``: length of the file, and by pixel;
        - ``published/position``: the cell's centre from the image's middle, in shares of the
          sides; NaN where no cell was found;
        - ``published/colour``, ``corners``, ``background``: mean and standard deviation of each
          channel, mean colour of the four corners, mean colours of 8 x 8 squares, 0..255, of the
          image with its cell covered;
        - ``seen/colour``, ``corners``, ``background``: the same of the prepared view, for each
          white balance; not where `absent` says so;
        - ``seen/size``: as published, where the whole image is stretched to a square, because the
          stretching can be seen;
        - ``seen/position``: as published, where the crop does not follow the cell.

    Raises
    ------
    ImageError
        The file cannot be decoded.

    Notes
    -----
    The cell is covered before any colour is measured. Its colours, and how far it reaches into
    the corners of a crop, tell the class for good reasons: measured with the cell, seven of
    eleven classes of a collection without a known shortcut could be told (AUC above 0.8). The
    number of bytes cannot be had without the cell, whose detail makes the file large; so it is
    scored, but `probing.ASIDE` keeps it out of the alarms and of what is asked together.
    """
    rgb = decoding.decode(content).rgb
    height, width = rgb.shape[:2]
    size = {"width": width, "height": height, "aspect": width / height}
    covered = preparation.cover(rgb, geometry)
    whole = preparation.prepare(covered, geometry, _plainly(rule, "whole"), SIDE, "none")
    place = _place(geometry.centre, width, height)
    families: dict[str, Mapping[str, float]] = {
        "published/size": size,
        "published/file": _read_header(content),
        "published/bytes": {"file": len(content), "pixel": len(content) / (width * height)},
        "published/position": place,
        "published/colour": _colours(covered),
        "published/corners": _corners(covered),
        "published/background": _squares(whole),
    }
    if rule.crop == "whole":
        families["seen/size"] = size
    if rule.crop != "cell":
        families["seen/position"] = place
    if rule.hide != "background":
        families |= _see(covered, geometry, rule)
    return {
        f"{family}/{name}": float(value)
        for family, measures in families.items()
        for name, value in measures.items()
    }


def absent(rule: InputsParams) -> dict[str, str]:
    """Return the families that `measure` leaves out under this rule, each with the reason.

    Returns
    -------
    dict of str to str
        By ``<level>/<family>``.
    """
    reasons = dict.fromkeys([f"seen/{name}" for name in AROUND_THE_CELL], HIDDEN)
    found = reasons if rule.hide == "background" else {}
    if rule.crop != "whole":
        found["seen/size"] = f"inputs.crop is {rule.crop}: the crop's size follows the cells"
    if rule.crop == "cell":
        found["seen/position"] = "inputs.crop is cell: the cell is always in the middle"
    return found


def _see(
    covered: Pixels, geometry: preparation.Geometry, rule: InputsParams
) -> dict[str, dict[str, float]]:
    """Measure the prepared views, in which the cell is covered."""
    found: dict[str, dict[str, float]] = {f"seen/{name}": {} for name in AROUND_THE_CELL}
    for balance in rule.white_balance:
        view = preparation.prepare(covered, geometry, _plainly(rule, rule.crop), SIDE, balance)
        measures = (_colours(view), _corners(view), _squares(view))
        for family, values in zip(AROUND_THE_CELL, measures, strict=True):
            found[f"seen/{family}"] |= {f"{balance}_{name}": v for name, v in values.items()}
    return found


def _plainly(rule: InputsParams, crop: str) -> InputsParams:
    """Return the rule with this crop, hiding nothing."""
    return rule.model_copy(update={"crop": crop, "hide": "nothing"})


def _read_header(content: bytes) -> dict[str, float]:
    """Return what the file's header tells of how it was written."""
    image = Image.open(io.BytesIO(content))
    measures = {"format": float(FORMATS.index(decoding.recognise(content)))}
    measures |= dict.fromkeys(
        ("luma_mean", "luma_first", "chroma_mean", "chroma_first", "sampling", "comment"), 0.0
    )
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        tables = [image.quantization[key] for key in sorted(image.quantization)]
        for name, table in zip(("luma", "chroma"), tables, strict=False):
            measures[f"{name}_mean"] = sum(table) / len(table)
            measures[f"{name}_first"] = float(table[0])
        measures["sampling"] = float(JpegImagePlugin.get_sampling(image))
        measures["comment"] = float(len(image.info.get("comment", b"")))
    return measures


def _place(centre: tuple[float, float] | None, width: int, height: int) -> dict[str, float]:
    if centre is None:
        return {"x": np.nan, "y": np.nan}
    return {"x": (centre[0] + 0.5) / width - 0.5, "y": (centre[1] + 0.5) / height - 0.5}


def _colours(rgb: Pixels) -> dict[str, float]:
    means, deviations = cv2.meanStdDev(rgb)
    return {
        f"{name}_{channel}": float(value)
        for name, values in (("mean", means), ("sd", deviations))
        for channel, value in zip(CHANNELS, values.ravel(), strict=True)
    }


def _corners(rgb: Pixels) -> dict[str, float]:
    """Return the mean colour of each corner."""
    height, width = (max(1, side // CORNER) for side in rgb.shape[:2])
    places = {
        "top_left": rgb[:height, :width],
        "top_right": rgb[:height, -width:],
        "bottom_left": rgb[-height:, :width],
        "bottom_right": rgb[-height:, -width:],
    }
    return {
        f"{place}_{channel}": float(value)
        for place, corner in places.items()
        for channel, value in zip(CHANNELS, corner.mean(axis=(0, 1)), strict=True)
    }


def _squares(view: Pixels) -> dict[str, float]:
    """Return the mean colour of each square of the grid."""
    step = SIDE // GRID
    means = view.reshape(GRID, step, GRID, step, 3).mean(axis=(1, 3))
    return {
        f"{row}_{column}_{channel}": float(means[row, column, place])
        for row in range(GRID)
        for column in range(GRID)
        for place, channel in enumerate(CHANNELS)
    }
