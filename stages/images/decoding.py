"""The one decoder: file bytes to RGB pixels, or the reason why not."""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.core import formats
from stages.core.errors import ImageError
from stages.core.params import FilterParams
from stages.images import depth, jpeg, lost_parts, png, tiff

ORIENTATION = 274  # tag
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
    notes : tuple of str
        What was decided: ``"fewer_bits"``, the numbers fill only a part of the 16 bits and were
        read in that range; ``"other_pages"``, the file holds thumbnails or masks beside it.
    """

    rgb: np.ndarray
    format: str
    mode: str
    notes: tuple[str, ...] = ()


def decode(content: bytes) -> Picture:
    """Decode a whole picture file.

    Parameters
    ----------
    content : bytes
        A JPEG, PNG, BMP or TIFF file.

    Returns
    -------
    Picture
        The page that is the picture, where a TIFF holds thumbnails beside it.

    Raises
    ------
    ImageError
        With the reason ``empty``, ``not_an_image``, ``unreadable``, ``foreign_format``,
        ``truncated``, ``damaged``, or ``oversized`` (more than `MAX_PIXELS` by its header, so
        never decoded).

    Notes
    -----
    Every pixel is decoded: a header says nothing of the end of the file. JPEG goes through
    simplejpeg, which passes on libjpeg's warnings of destroyed picture code; its pixels equal
    Pillow's and OpenCV's. Everything else goes through Pillow.

    The orientation note of cameras is ignored: a microscope has no upright, and published masks
    and sizes refer to the stored pixels. Of 16-bit numbers the upper 8 of the bits in use are kept
    (`depth.to_8_bits`). CMYK and palettes are converted; alpha is left out, not blended, because
    it is no part of the stain.
    """
    file_format = recognise(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged notes of a camera, palettes with alpha: harmless
        if file_format == "png":
            png.require_whole(content)
        page = _find_page(content) if file_format == "tiff" else None
        image = _open(content, file_format, page)
        levels = _load(content, image, file_format)
    notes: tuple[str, ...] = ("other_pages",) if page and page.n_pages > 1 else ()
    if levels.dtype == np.uint8:
        levels = _deepen(content, file_format, page, levels)
    if levels.dtype == np.uint16:
        brightest, is_negative = (page.brightest, page.is_negative) if page else (None, False)
        levels, bits = depth.to_8_bits(levels, brightest, is_negative)
        notes += ("fewer_bits",) * (bits < 16)
    # A JPEG's lost code is found by its decoder, and leaves no rows of one value.
    lost = lost_parts.find_lost_block(levels) if file_format != "jpeg" else None
    if lost is not None:
        raise ImageError("damaged", lost)
    return Picture(levels, file_format, image.mode, notes)


def recognise(content: bytes) -> str:
    """Name the picture format by the first bytes of a file.

    Raises
    ------
    ImageError
        With the reason ``empty``, ``not_an_image``, or ``unreadable`` for a file of zeros.
    """
    if not content:
        raise ImageError("empty", "the file has no bytes")
    found = formats.recognise(content[: formats.HEAD])
    if found is not None and found.kind == "picture":
        return found.name.lower()
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


def _find_page(content: bytes) -> tiff.Page:
    try:
        page = tiff.find_page(content)
    except ImageError as error:
        if error.reason == "unreadable" and _lacks_directory(content):
            raise ImageError("truncated", "ends before its directory of rows") from None
        raise
    _refuse_huge(page.width, page.height)
    return page


def _lacks_directory(content: bytes) -> bool:
    """Tell whether a TIFF ends before the directory that its first bytes point to."""
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    start = content[8:16] if 43 in content[2:4] else content[4:8]
    return int.from_bytes(start, order) + 2 > len(content)


def _open(content: bytes, file_format: str, page: tiff.Page | None) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=[file_format.upper()])
        if page is not None:
            image.seek(page.place)
            image.getexif().pop(ORIENTATION, None)  # of TIFFs alone Pillow turns the pixels
    except Image.DecompressionBombError as error:
        raise ImageError("oversized", str(error)) from None
    except Exception as error:  # of many kinds, by the damage
        if page is not None:
            raise tiff.not_read(page) from None
        _refuse_unread(content, file_format)
        text = f"{file_format}: {error}"
        if isinstance(error, UnidentifiedImageError):
            text = f"a {file_format} file whose header is damaged"
        raise ImageError("unreadable", text) from None
    _refuse_huge(image.width, image.height)
    return image


def _refuse_huge(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("oversized", f"{width} x {height} px by its header")


def _refuse_unread(content: bytes, file_format: str) -> None:
    name = jpeg.name_unread(content) if file_format == "jpeg" else None
    if name is not None:
        raise ImageError("foreign_format", f"{name}, which is not read; save it with 8 bits, lossy")


def _load(content: bytes, image: Image.Image, file_format: str) -> np.ndarray:
    """Return RGB of 8 bits, the upper ones of more, or grey levels of 16 bits as they are."""
    if file_format == "jpeg":
        rgb = jpeg.load(content, image.mode)
        if rgb is not None and rgb.shape[2] == 3:
            return rgb
    try:
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds, by format and fault
        _refuse_unread(content, file_format)
        text = str(error)
        reason = "truncated" if _says_cut(error) else "unreadable"
        raise ImageError(reason, text or type(error).__name__) from None


def _deepen(
    content: bytes, file_format: str, page: tiff.Page | None, rgb: np.ndarray
) -> np.ndarray:
    """Return the 16-bit numbers of a picture whose upper bytes are `rgb`; itself with 8 bits."""
    is_dark = rgb.max(initial=0) < depth.DARK
    if file_format == "png" and is_dark and png.is_deep(content):
        return png.read_levels(content)
    if page is None or page.bits != 16:
        return rgb
    levels = tiff.read_levels(content, page)
    if levels is None and (is_dark or page.is_planar):  # of planes Pillow takes the other byte
        raise tiff.not_read(page)
    return rgb if levels is None else levels


def _says_cut(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        word in text for word in ("truncated", "not enough", "unexpected end", "eof", "incomplete")
    )
