"""The one decoder: file bytes to RGB pixels, or the reason why not."""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.core.errors import ImageError
from stages.core.params import FilterParams
from stages.images import jpeg

SIGNATURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}
MAX_PIXELS = 64_000_000  # 8000 x 8000: a decoded picture stays below 200 MB


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes
    ----------
    rgb : numpy.ndarray, shape (height, width, 3), uint8
        Pixels as stored: alpha left out, orientation notes and colour profiles ignored.
    format : str
        ``"jpeg"``, ``"png"``, ``"bmp"`` or ``"tiff"``.
    mode : str
        Channels of the file, in Pillow's names: ``"RGB"``, ``"RGBA"``, ``"L"``, ``"P"`` and so on.
    """

    rgb: np.ndarray
    format: str
    mode: str


def decode(content: bytes) -> Picture:
    """Decode a whole picture file.

    Parameters
    ----------
    content : bytes
        A JPEG, PNG, BMP or TIFF file.

    Returns
    -------
    Picture
        The first frame, where the file holds several.

    Raises
    ------
    ImageError
        With the reason ``empty``, ``not_an_image``, ``unreadable``, ``unsupported``,
        ``truncated``, ``damaged``, or ``oversized`` (more than `MAX_PIXELS` by its header, so
        never decoded).

    Notes
    -----
    Every pixel is decoded: a header says nothing of the end of the file. JPEG goes through
    simplejpeg, which passes on libjpeg's warnings of destroyed picture code; its pixels equal
    Pillow's and OpenCV's. Everything else goes through Pillow.

    The orientation note of cameras is ignored: a microscope has no upright, and published masks
    and sizes refer to the stored pixels. 16-bit channels keep their upper 8 bits. CMYK and
    palettes are converted; alpha is left out, not blended, because it is no part of the stain.
    """
    file_format = recognise(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged notes of a camera, palettes with alpha: harmless
        image = _open(content, file_format)
        mode = image.mode
        rgb = _load(content, image, file_format)
    return Picture(rgb, file_format, mode)


def recognise(content: bytes) -> str:
    """Name the picture format by the first bytes of a file.

    Raises
    ------
    ImageError
        With the reason ``empty``, ``not_an_image``, or ``unreadable`` for a file of zeros.
    """
    if not content:
        raise ImageError("empty", "the file has no bytes")
    for signature, name in SIGNATURES.items():
        if content.startswith(signature):
            return name
    if not any(content[:64]):
        raise ImageError("unreadable", "the file holds zeros: its content was lost before")
    raise ImageError(
        "not_an_image", f"begins with {content[:8]!r}, which is no JPEG, PNG, BMP or TIFF"
    )


def check_size(rgb: np.ndarray, rule: FilterParams) -> None:
    """Refuse a picture that is too small, too large, or of a single colour.

    Parameters
    ----------
    rgb : numpy.ndarray, shape (height, width, 3), uint8
    rule : FilterParams
        ``min_side`` and ``max_side`` in px, both allowed.

    Raises
    ------
    ImageError
        With the reason ``undersized``, ``oversized`` or ``blank``.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < rule.min_side:
        raise ImageError("undersized", f"{width} x {height} px; min_side is {rule.min_side}")
    if max(height, width) > rule.max_side:
        raise ImageError("oversized", f"{width} x {height} px; max_side is {rule.max_side}")
    # The first row tells nearly every picture from a blank one, at a hundredth of the time.
    if (rgb[0] == rgb[0, 0]).all() and (rgb == rgb[0, 0]).all():
        raise ImageError("blank", f"every pixel is {rgb[0, 0].tolist()}")


def _open(content: bytes, file_format: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=[file_format.upper()])
    except Image.DecompressionBombError as error:
        raise ImageError("oversized", str(error)) from None
    except UnidentifiedImageError:
        if file_format == "tiff" and _lacks_directory(content):
            raise ImageError("truncated", "ends before its directory of rows") from None
        _refuse_unread(content, file_format)
        raise ImageError("unreadable", f"a {file_format} file whose header is damaged") from None
    except Exception as error:
        raise ImageError("unreadable", f"{file_format}: {error}") from None
    if image.width * image.height > MAX_PIXELS:
        raise ImageError("oversized", f"{image.width} x {image.height} px by its header")
    return image


def _lacks_directory(content: bytes) -> bool:
    """Tell whether a TIFF ends before the directory that its first 8 bytes point to."""
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    return int.from_bytes(content[4:8], order) + 2 > len(content)


def _refuse_unread(content: bytes, file_format: str) -> None:
    name = jpeg.name_unread(content) if file_format == "jpeg" else None
    if name is not None:
        raise ImageError("unsupported", f"{name}, which is not read; save it with 8 bits, lossy")


def _load(content: bytes, image: Image.Image, file_format: str) -> np.ndarray:
    pixels = jpeg.load(content, image.mode) if file_format == "jpeg" else None
    if pixels is not None and pixels.shape[2] == 3:
        return pixels
    try:
        if image.mode in ("I", "F"):
            raise ImageError("unreadable", f"32-bit numbers ({image.mode}) are no stained picture")
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        return np.array(image.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds, by format and fault
        _refuse_unread(content, file_format)
        text = str(error)
        reason = "truncated" if _says_cut(error) else "unreadable"
        raise ImageError(reason, text or type(error).__name__) from None


def _says_cut(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        word in text for word in ("truncated", "not enough", "unexpected end", "eof", "incomplete")
    )
