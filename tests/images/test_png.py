"""PNG files: pixels without their checksum are refused, and 16 bits are read in their range."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from stages.core.errors import ImageError
from stages.images import decoding
from tests.images.test_jpeg import scene

RGB = scene()


def encode(levels: np.ndarray) -> bytes:
    """Encode by OpenCV, which writes 16 bits of colours."""
    return cv2.imencode(".png", levels if levels.ndim == 2 else levels[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("factor", [1, 4, 16, 64, 257])
@pytest.mark.parametrize("is_grey", [True, False])
def test_16_bits_are_read_in_their_range(factor: int, is_grey: bool) -> None:
    """8, 10, 12 and 14 bits in 16 come out as bright as 16, with a note."""
    levels = (RGB[..., 1] if is_grey else RGB).astype(np.uint16) * np.uint16(factor)
    picture = decoding.decode(encode(levels))
    expected = np.repeat(RGB[..., 1:2], 3, 2) if is_grey else RGB
    np.testing.assert_array_equal(picture.rgb, expected)
    assert picture.notes == (("fewer_bits",) if factor < 257 else ())


def test_a_dark_picture_of_8_bits_stays_dark() -> None:
    """Only numbers with room to spare are brought up."""
    picture = decoding.decode(encode(RGB // 8))
    np.testing.assert_array_equal(picture.rgb, RGB // 8)
    assert picture.notes == ()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("block", [bytes(512), b"\xff" * 64, b"x"])
@pytest.mark.parametrize("library", ["pillow", "opencv"])
def test_overwritten_pixels_are_refused(share: float, block: bytes, library: str) -> None:
    """Whatever stands in the pixels' chunk, its checksum does not fit, or it has no end."""
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, "PNG")
    content = sink.getvalue() if library == "pillow" else encode(RGB)
    at = int(share * len(content))
    broken = content[:at] + block + content[at + len(block) :]
    with pytest.raises(ImageError, match=r"^(damaged|truncated|unreadable): "):
        decoding.decode(broken)
