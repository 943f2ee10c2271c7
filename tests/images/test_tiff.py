"""TIFF files: read as they are meant, one page of several, or named for what is not read."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import ImageError
from stages.core.tables import REASONS
from stages.images import decoding
from tests.images.test_jpeg import scene

RGB = scene()
GREY = RGB[..., 1]
DEEP = RGB.astype(np.uint16)


def write(*pages: np.ndarray, bigtiff: bool = False, **options: Any) -> bytes:
    """Write pages; options that are lists hold one for each page."""
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink, bigtiff=bigtiff) as file:
        for place, page in enumerate(pages):
            own = {k: v[place] if isinstance(v, list) else v for k, v in options.items()}
            file.write(page, **({"photometric": "rgb" if page.ndim == 3 else "minisblack"} | own))
    return sink.getvalue()


def thrice(grey: np.ndarray) -> np.ndarray:
    """Grey as red, green and blue."""
    return np.repeat(grey[..., None], 3, 2)


READ: dict[str, tuple[bytes, np.ndarray, tuple[str, ...]]] = {
    "8 bits": (write(RGB), RGB, ()),
    "BigTIFF": (write(RGB, bigtiff=True), RGB, ()),
    "16 bits": (write(DEEP * 257), RGB, ()),
    "12 bits in 16": (write(DEEP * 16), RGB, ("fewer_bits",)),
    "10 bits in 16": (write(DEEP * 4), RGB, ("fewer_bits",)),
    "14 bits in 16": (write(DEEP * 64), RGB, ("fewer_bits",)),
    "8 bits in 16": (write(DEEP), RGB, ("fewer_bits",)),
    "12 bits in 16, grey": (write(DEEP[..., 0] * 16), thrice(RGB[..., 0]), ("fewer_bits",)),
    "12 bits in 16, big-endian": (
        write(DEEP.astype(">u2") * 16, compression="zlib"), RGB, ("fewer_bits",),
    ),
    "12 bits in 16, planes": (
        write(np.moveaxis(DEEP * 16, 2, 0), planarconfig="separate"), RGB, ("fewer_bits",),
    ),
    "12 bits in 16, tiles, alpha": (
        write(np.dstack([DEEP * 16, DEEP[..., 0]]), tile=(64, 64), extrasamples=[[2]]),
        RGB, ("fewer_bits",),
    ),
    "a dark picture of a named range": (
        write(DEEP * 16, extratags=((281, "H", 1, 65535, True),)), RGB >> 4, (),
    ),
    "a dark picture of 12 bits by its word": (
        write(DEEP, extratags=((281, "H", 1, 4095, True),)), RGB >> 4, ("fewer_bits",),
    ),
    "negative": (write(255 - GREY, photometric="miniswhite"), thrice(GREY), ()),
    "negative, 16 bits": (
        write(np.uint16(257) * (255 - GREY), photometric="miniswhite"), thrice(GREY), (),
    ),
    "negative, 12 bits in 16": (
        write(np.uint16(4095) - DEEP[..., 1] * 16, photometric="miniswhite"), thrice(GREY),
        ("fewer_bits",),
    ),
    "turned by its note": (write(RGB, extratags=((274, "H", 1, 6, True),)), RGB, ()),
    "thumbnail first": (write(RGB[::4, ::4], RGB, subfiletype=[1, 0]), RGB, ("other_pages",)),
    "thumbnail that does not say so": (write(RGB[::4, ::4], RGB), RGB, ("other_pages",)),
    "thumbnail behind, 12 bits in 16": (
        write(DEEP * 16, DEEP[::4, ::4] * 16), RGB, ("other_pages", "fewer_bits"),
    ),
    "reduced copy of three quarters": (
        write(RGB[:192, :192], RGB, subfiletype=[1, 0]), RGB, ("other_pages",),
    ),
    "mask of its size behind": (
        write(RGB, GREY > 128, subfiletype=[0, 4]), RGB, ("other_pages",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", READ)
def test_pixels_and_notes(what: str) -> None:
    """The picture as a viewer shows it, to a level; what was decided for it is noted."""
    content, expected, notes = READ[what]
    picture = decoding.decode(content)
    off = np.abs(picture.rgb.astype(int) - expected)
    assert off.max() <= 1
    assert picture.notes == notes


NOT_READ = {
    "floating-point": (write(np.float32(RGB / 255)), "3 x 32 bits (floating-point rgb"),
    "signed": (write((RGB.astype(int) - 128).astype(np.int8)), "3 x 8 bits (signed rgb"),
    "32 bits": (write(GREY.astype(np.uint32)), "1 x 32 bits (minisblack"),
    "three cells": (write(RGB, RGB[::-1], RGB[:, ::-1]), "3 pages, 3 of which could be the pic"),
    "channels as pages": (write(*np.moveaxis(RGB, 2, 0)), "3 pages, 3 of which could be the pic"),
    "nothing but thumbnails": (write(RGB, subfiletype=1), "nothing but thumbnails or masks"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_READ)
def test_what_is_not_read_is_named(what: str) -> None:
    """A rare kind is no damaged file: the line says what it is."""
    content, name = NOT_READ[what]
    with pytest.raises(ImageError, match=r"^foreign_format: a (big )?TIFF") as caught:
        decoding.decode(content)
    assert name in str(caught.value)


def test_a_directory_that_points_to_itself_ends() -> None:
    """A chain of pages without an end is no endless loop."""
    content = bytearray(write(RGB))
    start = int.from_bytes(content[4:8], "little")
    n = int.from_bytes(content[start : start + 2], "little")
    content[start + 2 + 12 * n : start + 6 + 12 * n] = content[4:8]
    with pytest.raises(ImageError, match=r"^foreign_format: a TIFF of more than 500 pages"):
        decoding.decode(bytes(content))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_headers_give_a_picture_or_a_reason(data: st.DataObject) -> None:
    """Whatever bytes of header, directory or end are lost: no other error, and an end."""
    content = bytearray(READ[data.draw(st.sampled_from(sorted(READ)))][0])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, min(len(content), 400) - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 2, 255]))
    try:
        outcome = f"{decoding.decode(bytes(content)).rgb.ndim} axes"
    except ImageError as error:
        outcome = error.reason
    assert outcome == "3 axes" or outcome in REASONS


def test_16_bits_that_one_decoder_only_reads() -> None:
    """LZW is read where the upper bytes say all, and named where they are dark."""
    bright = cv2.imencode(".tiff", DEEP[..., ::-1] * 257, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1]
    np.testing.assert_array_equal(decoding.decode(bright.tobytes()).rgb, RGB)
    dark = cv2.imencode(".tiff", DEEP[..., ::-1] * 16, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1]
    with pytest.raises(ImageError, match=r"^foreign_format: .* compression lzw"):
        decoding.decode(dark.tobytes())


def test_libraries_say_nothing_of_a_file_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Pillow logs an error of its own, which would stand in the user's terminal beside our line."""
    content = write(np.zeros((8, 8, 64), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match="foreign_format: a TIFF of 64 x 8 bits"):
        decoding.decode(content)
    assert caplog.records == []
