"""Pages of one file: pictures inside of it, and every text escaped."""

import base64
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

QUALITY = 85  # of the JPEGs: a page of a thousand of them can still be sent


def embed(rgb: Pixels) -> str:
    """Return a picture as the address that holds it: ``data:image/jpeg;base64,...``.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    """
    jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")


def render(template: str, **content: object) -> str:
    """Fill in a template of this package; a name that it lacks is an error, not a gap."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**content)
