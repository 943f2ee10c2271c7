"""Lost parts: blocks that a disk lost, and breaks across a picture; grounds are none."""

import io
import random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.core.errors import ImageError
from stages.images import decoding, lost_parts
from tests.images.test_jpeg import encode, scene


def lose(rgb: np.ndarray, start: int, n: int, value: int, order: str) -> np.ndarray:
    """Overwrite `n` bytes of the picture as a file holds it: rows, upside down, or by channel."""
    if order == "by channel":
        flat = np.moveaxis(rgb, 2, 0).copy().ravel()
        flat[start : start + n] = value
        return np.moveaxis(flat.reshape(3, *rgb.shape[:2]), 0, 2)
    flat = (rgb[::-1] if order == "upside down" else rgb).copy().ravel()
    flat[start : start + n] = value
    lost = flat.reshape(rgb.shape)
    return lost[::-1] if order == "upside down" else lost


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_block_that_cuts_through_rows_is_found(data: st.DataObject) -> None:
    """Wherever a block begins or ends within a row, its rows are told; in any order of rows."""
    height, width = data.draw(st.integers(60, 150)), data.draw(st.integers(60, 150))
    rgb = np.ascontiguousarray(scene(data.draw(st.integers(0, 20)))[:height, :width])
    row, n_rows = data.draw(st.integers(3, height // 2)), data.draw(st.integers(3, height // 3))
    column = data.draw(st.integers(width // 7, width * 6 // 7))
    order = data.draw(st.sampled_from(["rows", "upside down", "by channel"]))
    size = 1 if order == "by channel" else 3
    start, n = (row * width + column) * size, n_rows * width * size
    if data.draw(st.booleans()):
        n = rgb.size - start
    value = data.draw(st.sampled_from([0, 255, 0x80, 0xF6]))
    assert "from within a row on" in (
        lost_parts.find_lost_block(lose(rgb, start, n, value, order)) or ""
    )


def test_the_rows_of_a_lost_block_are_named() -> None:
    """First and last whole row, in the picture's own order."""
    rgb = scene()
    width = rgb.shape[1]
    lost = lose(rgb, (100 * width + 100) * 3, 10 * width * 3, 0, "rows")
    assert lost_parts.find_lost_block(lost) == (
        "rows 101 to 109 hold nothing but 0, from within a row on"
    )
    assert lost_parts.find_lost_block(np.ascontiguousarray(lost[::-1])) == (
        "rows 146 to 154 hold nothing but 0, from within a row on"
    )


def healthy() -> dict[str, np.ndarray]:
    """Pictures with rows of one value that were photographed, drawn or cropped so."""
    black, corner, white, frame = scene(), scene(), scene(), scene()
    black[:40] = black[-25:] = 0
    corner[180:] = corner[:, 150:] = 0
    white = np.full((256, 256, 3), 255, np.uint8)
    cv2.circle(white, (128, 128), 80, (120, 60, 150), -1)
    white = cv2.GaussianBlur(white, (9, 9), 0)
    frame[:6] = frame[-6:] = frame[:, :6] = frame[:, -6:] = 0
    inside = (np.indices((256, 256)) - 128.0) ** 2
    field = np.where(inside.sum(0)[..., None] < 120**2, scene(), 0).astype(np.uint8)
    bar = scene()
    bar[230:236, 150:230] = 0
    legend = scene()
    legend[220:] = 255
    cv2.putText(legend, "20 um", (150, 245), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0))
    return {
        "whole": scene(), "black borders": black, "cropped beyond the field": corner,
        "saturated ground": white, "frame": frame, "round field": field, "scale bar": bar,
        "legend": legend,
    }  # fmt: skip


@pytest.mark.parametrize("what", healthy())
def test_borders_and_grounds_are_no_lost_blocks(what: str) -> None:
    """What ends with a row, or stands in the row beside too, is never called lost."""
    for picture in (healthy()[what], healthy()[what].transpose(1, 0, 2)):
        assert lost_parts.find_lost_block(np.ascontiguousarray(picture)) is None


@pytest.mark.parametrize("what", ["whole", "saturated ground", "round field", "scale bar"])
def test_a_picture_without_border_has_no_break(what: str) -> None:
    """Cells, saturated ground and a round field are no reason to look at a picture."""
    assert not lost_parts.has_break(healthy()[what])


@pytest.mark.parametrize("what", ["black borders", "frame"])
def test_borders_are_breaks(what: str) -> None:
    """A border is kept, but pointed at: the same rows may be what a disk lost."""
    assert lost_parts.has_break(healthy()[what])


@pytest.mark.parametrize("value", [0, 128, 255])
def test_rows_lost_from_the_first_pixel_on_are_a_break(value: int) -> None:
    """What cannot be told from a border by its place is pointed at like one."""
    rgb = scene()
    rgb[101:] = value
    assert lost_parts.find_lost_block(rgb) is None
    assert lost_parts.has_break(rgb)


def test_a_shift_of_all_blocks_behind_one_is_a_break() -> None:
    """Brightness that is off from one block on, begun anywhere in a row, is seen; noise is not."""
    rgb = scene().astype(np.int16)
    for block in (70, 333, 500):
        row, column = divmod(block, 32)
        shifted = rgb.copy()
        shifted[row * 8 : row * 8 + 8, column * 8 :, 2] -= 7
        shifted[row * 8 + 8 :, :, 2] -= 7
        assert lost_parts.has_break(np.clip(shifted, 0, 255).astype(np.uint8)), block


def test_small_and_narrow_pictures_are_judged_without_error() -> None:
    """Fewer rows or columns than a block has."""
    for shape in ((8, 8), (8, 300), (300, 8), (9, 31), (1, 1)):
        rgb = np.full((*shape, 3), 9, np.uint8)
        assert lost_parts.find_lost_block(rgb) is None
        assert not lost_parts.has_break(rgb)


def test_nearly_every_lost_block_of_a_jpeg_is_refused_or_a_break() -> None:
    """Of blocks as disks lose them, at random places: one in ten passes the decoder, few both."""
    drawn = random.Random(7)
    contents = [encode(scene(seed)) for seed in range(4)]
    n_decoded = n_unseen = 0
    for _ in range(300):
        content, other = drawn.sample(contents, 2)
        size = drawn.choice([512, 1024, 2048, 4096])
        at = drawn.randrange(700, len(content) - size - 2)
        block = drawn.choice([bytes(size), other[at : at + size], b""])
        try:
            rgb = decoding.decode(content[:at] + block + content[at + size :]).rgb
        except ImageError:
            continue
        n_decoded += 1
        n_unseen += not lost_parts.has_break(rgb)
    assert n_decoded <= 30
    assert n_unseen <= 6


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG"])
@pytest.mark.parametrize("value", [0, 255])
def test_files_without_compression_and_their_copies_are_refused(kind: str, value: int) -> None:
    """Half of a file overwritten: refused with its rows, also where it was saved again since."""
    sink = io.BytesIO()
    rgb = scene()
    Image.fromarray(rgb).save(sink, "BMP" if kind == "BMP" else "TIFF")
    content = bytearray(sink.getvalue())
    middle = len(content) // 2 - 200
    if kind == "BMP":
        content[middle:] = bytes([value]) * (len(content) - middle)
    else:  # its directory stands at the end or the beginning
        content[middle : middle + 60000] = bytes([value]) * 60000
    if kind == "PNG":
        again = io.BytesIO()
        Image.open(io.BytesIO(bytes(content))).save(again, "PNG")
        content = bytearray(again.getvalue())
    with pytest.raises(ImageError, match=rf"^damaged: rows \d+ to \d+ hold nothing but {value}, "):
        decoding.decode(bytes(content))
