"""TIFF files: which page is the picture, what its numbers mean, and a name for what is not read."""

import io
import itertools
import logging
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray

from stages.core.errors import ImageError

BITS, BRIGHTEST = 258, 281  # tags
LESSER = 1 | 4  # subfile types: a smaller copy of another page, a mask of one
WHITE_IS_ZERO, PLANES = 0, 2  # photometric interpretation, planar configuration
READ_BITS = (1, 2, 4, 8, 16)
NUMBERS = {2: "signed ", 3: "floating-point "}  # of sample formats; others are whole numbers
WHOLE = (1, 4)
MOST_PAGES = 500  # of a damaged file, one may be the next of itself
DAMAGED = "a tiff file whose header is damaged"

for library in ("tifffile", "PIL"):
    logging.getLogger(library).setLevel(logging.CRITICAL)  # they tell of damage, and so do we


@dataclass(frozen=True)
class Page:
    """The page of a TIFF that is the picture.

    Attributes
    ----------
    place, n_pages : int
        Its place in the file, from 0; how many there are, with thumbnails and masks.
    width, height : int
        px.
    bits : int
        Of one number.
    brightest : int, optional
        The number that the file says is the brightest.
    is_negative : bool
        0 is white.
    is_planar : bool
        Each colour is stored by itself.
    kind : str
        What it is, for a message.
    """

    place: int
    n_pages: int
    width: int
    height: int
    bits: int
    brightest: int | None
    is_negative: bool
    is_planar: bool
    kind: str


def find_page(content: bytes) -> Page:
    """Return the page that is the picture.

    Raises
    ------
    ImageError
        ``unreadable``: there is no page. ``foreign_format``: several could be the picture, or its
        numbers are of a kind that is not read.

    Notes
    -----
    Thumbnails and masks, which often come first, say what they are, or have less than half of the
    picture's sides. Pages of one size are several cells, layers of focus or the channels of one
    picture: any choice would be a guess.
    """
    pages = _read_pages(content)
    try:
        return _choose(pages)
    except ImageError:
        raise
    except Exception:  # numbers that are none, of many kinds, by the damage
        raise ImageError("unreadable", DAMAGED) from None


def read_levels(content: bytes, page: Page) -> NDArray[np.uint16] | None:
    """Decode a page of 16 bits; of a file without damage.

    Returns
    -------
    numpy.ndarray of uint16, shape (height, width) or (height, width, n_channels), optional
        None where tifffile asks for another package, as for LZW.
    """
    try:
        levels: NDArray[np.uint16] = _read_pages(content)[page.place].asarray()
    except Exception:  # of many kinds, by the compression
        return None
    levels = np.moveaxis(levels, 0, -1) if page.is_planar else levels
    is_whole = levels.dtype == np.uint16 and levels.shape[:2] == (page.height, page.width)
    return levels if is_whole and levels.ndim < 4 else None


def not_read(page: Page) -> ImageError:
    """Return the error that names what the page is."""
    return ImageError(
        "foreign_format", f"{page.kind}, which is not read; save it as RGB with 8 bits"
    )


def _read_pages(content: bytes) -> list[tifffile.TiffPage]:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            pages = [page.aspage() for page in itertools.islice(file.pages, MOST_PAGES + 1)]
    except Exception:  # of many kinds, by the damage
        pages = []
    if not pages:
        raise ImageError("unreadable", DAMAGED)
    if len(pages) > MOST_PAGES:
        raise ImageError("foreign_format", f"a TIFF of more than {MOST_PAGES} pages")
    return pages


def _choose(pages: list[tifffile.TiffPage]) -> Page:
    full = [page for page in pages if not page.subfiletype & LESSER]
    if not full:
        raise ImageError("foreign_format", "a TIFF that holds nothing but thumbnails or masks")
    picture = max(full, key=lambda page: page.imagewidth * page.imagelength)
    rivals = [
        page
        for page in full
        if 2 * page.imagewidth > picture.imagewidth and 2 * page.imagelength > picture.imagelength
    ]
    if len(rivals) > 1:
        raise ImageError(
            "foreign_format",
            f"a TIFF of {len(pages)} pages, {len(rivals)} of which could be the picture; save the "
            "picture as a file of one page",
        )
    named = picture.tags.get(BRIGHTEST)
    found = Page(
        pages.index(picture),
        len(pages),
        int(picture.imagewidth),
        int(picture.imagelength),
        int(np.max(picture.bitspersample)),
        None if named is None else int(np.max(named.value)),
        picture.photometric == WHITE_IS_ZERO,
        picture.planarconfig == PLANES,
        _name_kind(picture),
    )
    if BITS not in picture.tags and picture.samplesperpixel > 1:
        raise ImageError("unreadable", DAMAGED)  # the file ends before this tag's values
    if found.bits not in READ_BITS or picture.sampleformat not in WHOLE:
        raise not_read(found)
    return found


def _name_kind(page: tifffile.TiffPage) -> str:
    """Say what a page holds, in the words of the format."""
    numbers = NUMBERS.get(page.sampleformat, "")
    kind = "big TIFF" if page.parent.is_bigtiff else "TIFF"
    return (
        f"a {kind} of {page.samplesperpixel} x {page.bitspersample} bits ({numbers}"
        f"{_word(page.photometric)}, compression {_word(page.compression)})"
    )


def _word(code: object) -> str:
    """Return a code's name in the format; a number that has none."""
    return str(getattr(code, "name", code)).lower()
