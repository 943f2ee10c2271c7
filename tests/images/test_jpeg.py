"""JPEG files: a destroyed one never passes for a picture, and a whole one never for destroyed."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from stages.core.errors import ImageError
from stages.images import decoding, jpeg

END = b"\xff\xd9"


def scene(seed: int = 3, side: int = 256) -> np.ndarray:
    """Draw cells and noise, so that picture code has something everywhere."""
    rng = np.random.default_rng(seed)
    rgb = np.full((side, side, 3), (226, 214, 220), np.uint8)
    for _ in range(12):
        centre = tuple(int(value) for value in rng.integers(0, side, 2))
        colour = tuple(int(value) for value in rng.integers(90, 210, 3))
        cv2.circle(rgb, centre, side // 9, colour, -1)
    return cv2.add(rgb, rng.integers(0, 14, rgb.shape, np.uint8))


def encode(rgb: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    """Encode with Pillow."""
    sink = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(sink, "JPEG", **({"quality": 92} | options))
    return sink.getvalue()


def with_block(content: bytes, block: bytes, share: float) -> bytes:
    """Overwrite a block that begins at a share of the file."""
    at = int(share * len(content))
    return content[:at] + block[: len(content) - at] + content[at + len(block) :]


def destroyed() -> dict[str, bytes]:
    """Files whose picture code was overwritten or lost, by what happened."""
    whole, n = encode(scene()), len(encode(scene()))
    progressive = encode(scene(), progressive=True)
    restarts = encode(scene(), restart_marker_blocks=4)
    other = encode(scene(9))
    return {
        "zeros to the end": whole[: n * 6 // 10] + bytes(n * 4 // 10),
        "zeros to the end mark": whole[: n * 6 // 10] + bytes(n * 4 // 10) + END,
        "zeros to the end, longer than the file": whole[: n * 6 // 10] + bytes(3 * n),
        "zeros in the last tenth": whole[: n * 9 // 10] + bytes(n // 10) + END,
        "255 to the end": whole[: n * 6 // 10] + b"\xff" * (n * 4 // 10),
        "erased flash memory": whole[: n * 6 // 10] + b"\xf6" * (n * 4 // 10) + END,
        "a block of zeros": with_block(whole, bytes(4096), 0.5),
        "a block of another file": with_block(whole, other[n // 3 : n // 3 + 4096], 0.34),
        "a block of text": with_block(whole, b"patient moved, again\n" * 100, 0.3),
        "a block lost": whole[: n // 2] + whole[n // 2 + 4096 :],
        "a block twice": whole[: n // 2] + whole[n // 2 - 4096 :],
        "zeros in progressive code": with_block(progressive, bytes(2048), 0.5),
        "zeros to the end of progressive code": progressive[: n // 2] + bytes(n // 2),
        "a block lost between restarts": restarts[: n // 2] + restarts[n // 2 + 900 :],
        "the end lost, an end mark put": whole[: n * 6 // 10] + END,
    }


@pytest.mark.parametrize("what", destroyed())
def test_destroyed_code_is_refused(what: str) -> None:
    """Whatever libjpeg silently fills or shifts does not become a picture."""
    with pytest.raises(ImageError, match=r"^(truncated|damaged): (the|a part of the) picture code"):
        decoding.decode(destroyed()[what])


def zeros_that_fit() -> bytes:
    """A file with as many zeros as the code of the lost blocks takes: libjpeg finds no fault."""
    content = encode(scene())
    for cut in range(len(content) // 2, len(content) // 2 + 200):
        least, most = 0, 4 * len(content)
        while least < most:
            n = (least + most) // 2
            try:
                simplejpeg.decode_jpeg(content[:cut] + bytes(n) + END, "RGB")
                return content[:cut] + bytes(n)
            except ValueError as error:
                least, most = (least, n) if "extraneous" in str(error) else (n + 1, most)
    raise AssertionError("no cut with zeros that fit")


def test_zeros_that_fit_as_picture_code_are_no_picture() -> None:
    """Zeros at the end are padding, or the picture is lost, whatever the decoder says of them."""
    content = zeros_that_fit()
    for end in (b"", END):
        with pytest.raises(ImageError, match=r"^truncated: the picture code ends"):
            decoding.decode(content + end)


def whole() -> dict[str, bytes]:
    """Files that lost nothing, however odd they are, by what is odd."""
    plain = encode(scene())
    white = scene()
    white[:150] = 255
    black = scene()
    black[:60] = black[-60:] = 0
    grey = scene()
    grey[-90:] = 128
    return {
        "no end mark": plain[:-2],
        "half an end mark": plain[:-1],
        "zeros behind the end mark": plain + bytes(5000),
        "zeros before the end mark": plain[:-2] + bytes(300) + END,
        "zeros instead of the end mark": plain[:-2] + bytes(700),
        "text behind the end mark": plain + b"trailing garbage" * 10,
        "a thumbnail behind the end mark": plain + encode(scene(5, 64)),
        "a thumbnail behind progressive code": encode(scene(), progressive=True)
        + encode(scene(5, 64), "L"),
        "progressive": encode(scene(), progressive=True),
        "restarts": encode(scene(), restart_marker_blocks=1),
        "grey": encode(scene(), "L"),
        "saturated ground, own code tables": encode(white, optimize=True),
        "saturated ground, progressive": encode(white, progressive=True, optimize=True),
        "black borders, own code tables": encode(black, optimize=True),
        "zeros that mean a white ground": encode(np.where(np.indices((256, 256, 3))[0] < 9, black,
            np.uint8(255)), optimize=True),
        "libjpeg's grey at the end": encode(grey, optimize=True),
        "one colour but for one pixel": encode(np.where(np.indices((256, 256, 3)).sum(0), 255, 0)
            .astype(np.uint8), optimize=True),
    }  # fmt: skip


@pytest.mark.parametrize("what", whole())
def test_whole_files_are_kept(what: str) -> None:
    """Odd is not destroyed: the pixels are those of Pillow, told to be lenient with the ends."""
    content = whole()[what]
    lenient = Image.open(io.BytesIO(content + END))
    expected = np.array(lenient.convert("RGB"))
    np.testing.assert_array_equal(decoding.decode(content).rgb, expected)


@pytest.mark.parametrize(
    ("marker", "bits", "name"),
    [
        (0xC1, 12, "a JPEG of 12 bits"),
        (0xC3, 8, "a lossless JPEG of 8 bits"),
        (0xC3, 16, "a lossless JPEG of 16 bits"),
        (0xC5, 8, "a hierarchical JPEG"),
        (0xF7, 8, "a JPEG-LS"),
    ],
)
def test_kinds_that_are_not_read_are_named(marker: int, bits: int, name: str) -> None:
    """A picture in a rare kind of JPEG is no damaged file, and the way out is said."""
    content = bytearray(encode(scene()))
    at = content.find(b"\xff\xc0")
    content[at + 1], content[at + 4] = marker, bits
    with pytest.raises(ImageError, match=f"^foreign_format: {name}, which is not read; save"):
        decoding.decode(bytes(content))


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 93, 100])
def test_quality_is_found_in_the_tables(quality: int) -> None:
    """What Pillow was asked for is found, in colour and grey, and whatever stands around it."""
    assert jpeg.find_quality(encode(scene(side=32), quality=quality)) == quality
    noted = encode(scene(side=32), mode="L", quality=quality, comment=b"a note", progressive=True)
    assert jpeg.find_quality(noted) == quality


def test_quality_of_foreign_tables_is_the_nearest() -> None:
    """One step beside the table of 80, and a table that no quality has."""
    tables = Image.open(io.BytesIO(encode(scene(side=32), quality=80))).quantization
    beside = [tables[0][0] + 1, *tables[0][1:]]
    assert jpeg.find_quality(encode(scene(side=32), quality=50, qtables=[beside])) == 80
    assert jpeg.find_quality(encode(scene(side=32), quality=50, qtables=[[255] * 64])) == 1
