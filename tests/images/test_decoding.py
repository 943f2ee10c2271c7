"""Decoding: the right pixels, or the right reason, for every kind of file."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.core.errors import ImageError
from stages.core.params import FilterParams
from stages.core.tables import REASONS
from stages.images import decoding

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RULE = FilterParams(min_side=16, max_side=200, twin_bits=24, max_lost=1)
WAYS = {
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restarts": ("JPEG", {"restart_marker_blocks": 3}),
    "full colour": ("JPEG", {"subsampling": 0, "quality": 95}),
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
}


def scene(height: int = 90, width: int = 70) -> np.ndarray:
    """Draw something that has shapes and noise."""
    rng = np.random.default_rng(3)
    rgb = np.full((height, width, 3), (230, 214, 220), np.uint8)
    cv2.circle(rgb, (width // 2, height // 2), height // 4, (110, 60, 150), -1)
    return cv2.add(rgb, rng.integers(0, 12, rgb.shape, np.uint8))


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Encode with Pillow."""
    sink = io.BytesIO()
    image.save(sink, file_format, **options)
    return sink.getvalue()


def encoded(way: str) -> bytes:
    """Encode the scene in a named way."""
    file_format, options = WAYS[way]
    return encode(Image.fromarray(scene()), file_format, **options)


@pytest.mark.parametrize("way", ["png", "bmp", "tiff", "lzw"])
def test_lossless_formats_give_the_stored_pixels(way: str) -> None:
    """What went into a lossless file comes out, writable, under the right names."""
    picture = decoding.decode(encoded(way))
    np.testing.assert_array_equal(picture.rgb, scene())
    assert picture.format == WAYS[way][0].lower()
    assert picture.mode == "RGB"
    assert picture.rgb.flags.writeable


@pytest.mark.parametrize("way", ["baseline", "progressive", "restarts", "full colour"])
def test_jpeg_pixels_are_those_of_opencv(way: str) -> None:
    """An independent decoder sees the same pixels."""
    content = encoded(way)
    theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoding.decode(content).rgb, theirs[:, :, ::-1])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pictures are not at hand")
def test_real_jpeg_pixels_are_those_of_opencv() -> None:
    """Also for real files of two cameras."""
    files = [*sorted((SHARED / "barcelona").rglob("*.jpg"))[::60]]
    files += sorted((SHARED / "raabin").rglob("*.jpg"))[::60]
    for file in files:
        content = file.read_bytes()
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decoding.decode(content).rgb, theirs[:, :, ::-1])


def test_alpha_is_left_out() -> None:
    """A TIFF with four channels, as Munich publishes them, keeps its colours."""
    rgba = np.dstack([scene(), np.full((90, 70), 10, np.uint8)])
    picture = decoding.decode(encode(Image.fromarray(rgba), "TIFF"))
    np.testing.assert_array_equal(picture.rgb, scene())
    assert picture.mode == "RGBA"


def test_grey_and_palette_become_rgb() -> None:
    """Pictures of one channel and of a palette have three equal or looked-up channels."""
    grey = scene()[:, :, 0]
    picture = decoding.decode(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(picture.rgb, np.dstack([grey] * 3))
    assert picture.mode == "L"
    palette = Image.fromarray(scene()).convert("P")
    expected = np.array(palette.convert("RGB"))
    content = encode(palette, "PNG", transparency=bytes([0, 100]))
    np.testing.assert_array_equal(decoding.decode(content).rgb, expected)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    """A 16-bit grey picture is scaled, not clipped."""
    grey = scene()[:, :, 0].astype(np.uint16) * 256 + 77
    for file_format in ("PNG", "TIFF"):
        picture = decoding.decode(encode(Image.fromarray(grey), file_format))
        np.testing.assert_array_equal(picture.rgb[:, :, 1], grey >> 8)


def test_sixteen_bit_colour_keeps_the_upper_eight() -> None:
    """The same for three channels, written by another library."""
    rgb = scene().astype(np.uint16) * 256 + 77
    content = cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()
    np.testing.assert_array_equal(decoding.decode(content).rgb, scene())


def test_cmyk_is_converted() -> None:
    """A printer's JPEG comes out close to the colours that went in."""
    content = encode(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95)
    picture = decoding.decode(content)
    assert picture.mode == "CMYK"
    assert np.abs(picture.rgb.astype(int) - scene()).mean() < 8


def test_floating_point_is_refused() -> None:
    """Numbers without a known white are no stained picture."""
    content = encode(Image.fromarray(scene()[:, :, 0].astype(np.float32)), "TIFF")
    with pytest.raises(ImageError, match=r"foreign_format: a TIFF of 1 x 32 bits \(floating-point"):
        decoding.decode(content)


def test_orientation_note_is_ignored() -> None:
    """A camera's note to turn the picture does not move its pixels."""
    plain = Image.fromarray(scene())
    exif = Image.Exif()
    exif[274] = 6
    turned = decoding.decode(encode(plain, "JPEG", exif=exif))
    np.testing.assert_array_equal(turned.rgb, decoding.decode(encode(plain, "JPEG")).rgb)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty: the file has no bytes"),
        (b"patient moved\n", "not_an_image: begins with"),
        (b"GIF89a" + bytes(50), "not_an_image: begins with"),
        (bytes(5000), "unreadable: the file holds zeros"),
        (b"\xff\xd8\xff" + bytes(300), "unreadable: a jpeg file whose header is damaged"),
        (b"BM", "not_an_image"),
    ],
)
def test_no_picture_has_a_reason(content: bytes, message: str) -> None:
    """Each kind of wrong file is told apart."""
    with pytest.raises(ImageError, match=message):
        decoding.decode(content)


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_file_never_gives_wrong_pixels(way: str) -> None:
    """Wherever a file ends, it is refused, or nothing of its picture was lost."""
    content = encoded(way)
    whole = decoding.decode(content).rgb
    reasons = []
    step = max(1, len(content) // 60)
    # Behind a scan of progressive code as well: what is there is whole, and not all.
    scans = [
        place for place in range(18, len(content)) if content[place : place + 2] == b"\xff\xda"
    ]
    late = range(len(content) - 60, len(content))
    for end in [*range(18, len(content), step), *late, *scans]:
        try:
            np.testing.assert_array_equal(decoding.decode(content[:end]).rgb, whole)
        except ImageError as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"truncated", "damaged", "unreadable"}
    with pytest.raises(ImageError, match=r"truncated: "):
        decoding.decode(content[: len(content) * 3 // 5])


@pytest.mark.parametrize("way", ["baseline", "progressive"])
def test_a_cut_file_with_an_end_mark_is_found(way: str) -> None:
    """A program that closed a cut JPEG properly does not hide the loss."""
    content = encoded(way)
    with pytest.raises(ImageError, match=r"truncated: the picture code ends before the last row"):
        decoding.decode(content[: len(content) * 3 // 5] + b"\xff\xd9")


def test_a_grey_corner_is_no_cut_file() -> None:
    """A whole picture that ends in the very grey of the filling is kept."""
    rgb = scene()
    rgb[-40:, -40:] = 128
    for options in ({}, {"progressive": True}):
        content = encode(Image.fromarray(rgb), "JPEG", quality=95, **options)
        assert decoding.decode(content).rgb.shape == rgb.shape


def test_a_huge_header_is_refused_before_decoding() -> None:
    """A small file that promises a huge picture takes no memory."""
    content = bytearray(encoded("png"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    with pytest.raises(ImageError, match=r"oversized"):
        decoding.decode(bytes(content))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(WAYS)), st.data())
def test_damage_gives_a_picture_or_a_reason(way: str, data: st.DataObject) -> None:
    """Whatever bytes are changed, no other exception comes out."""
    content = bytearray(encoded(way))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = f"{decoding.decode(bytes(content)).rgb.ndim} axes"
    except ImageError as error:
        outcome = error.reason
    assert outcome == "3 axes" or outcome in REASONS


def test_sizes_at_the_bounds_are_allowed() -> None:
    """min_side and max_side themselves pass; one pixel beyond does not."""
    decoding.check_size(scene(16, 200), RULE)
    with pytest.raises(ImageError, match=r"undersized: 30 x 15 px; min_side is 16"):
        decoding.check_size(scene(15, 30), RULE)
    with pytest.raises(ImageError, match=r"oversized: 201 x 30 px; max_side is 200"):
        decoding.check_size(scene(30, 201), RULE)


def test_one_colour_is_blank_and_one_other_pixel_is_not() -> None:
    """Blank means that every pixel is the same."""
    flat = np.full((40, 40, 3), 200, np.uint8)
    with pytest.raises(ImageError, match=r"blank: every pixel is"):
        decoding.check_size(flat, RULE)
    flat[30, 30, 2] = 201
    decoding.check_size(flat, RULE)
