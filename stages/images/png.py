"""PNG files: their checksums, which Pillow does not look at, and numbers of 16 bits."""

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ImageError

SIGNATURE = 8  # bytes before the first chunk
PIXELS = b"IDAT"
BITS = 24  # place of the bits of one number


def require_whole(content: bytes) -> None:
    """Refuse a PNG whose pixels do not have the checksum that was written with them.

    Raises
    ------
    ImageError
        ``damaged``. A file that ends too early is left to the decoder.
    """
    place = SIGNATURE
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if end + 4 > len(content):
            return
        if content[place + 4 : place + 8] == PIXELS:
            written = int.from_bytes(content[end : end + 4], "big")
            if zlib.crc32(content[place + 4 : end]) != written:
                raise ImageError("damaged", f"bytes {place} to {end} do not have their checksum")
        place = end + 4


def is_deep(content: bytes) -> bool:
    """Tell whether the numbers have 16 bits, by the header."""
    return content[BITS] == 16


def read_levels(content: bytes) -> NDArray[np.uint16]:
    """Decode a PNG of 16 bits; of a file without damage.

    Returns
    -------
    numpy.ndarray of uint16, shape (height, width) or (height, width, n_channels)
    """
    levels = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    return (levels if levels.ndim == 2 else levels[..., 2::-1]).astype(np.uint16)
