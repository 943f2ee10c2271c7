"""JPEG files: pixels where the whole picture code is there, and a name for what is not read."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from stages.core.errors import ImageError

END = b"\xff\xd9"
ZEROS = bytes(64)  # a block of picture code never looks so, but where zeros mean nothing more
TABLES, SCAN, QUANTISATION = 0xC4, 0xDA, 0xDB  # markers
NOTHING_MORE = 0  # symbol
FRAMES = range(0xC0, 0xD0)  # markers that begin a frame, but for the three below
PROGRESSIVE = 0xC2
NO_FRAMES = (0xC4, 0xC8, 0xCC)
LONE_MARKERS = (0x01, *range(0xD0, 0xD9))  # without a length
# How coarsely brightness is kept at quality 50, from means to the finest detail of a block: the
# standard's example, which libjpeg scales.
STANDARD = np.array(
    [
        16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
        26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
        56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
        95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
    ]
)  # fmt: skip
COLOURS = {"L": "RGB", "RGB": "RGB", "CMYK": "CMYK"}


def load(content: bytes, mode: str) -> NDArray[np.uint8] | None:
    """Decode a JPEG strictly: what libjpeg only warns of is an error.

    Parameters
    ----------
    content : bytes
    mode : str
        ``"L"``, ``"RGB"`` or ``"CMYK"``, of its header.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3 or 4), optional
        RGB, or CMYK as stored. None where this decoder cannot say: another one must try.

    Raises
    ------
    ImageError
        ``truncated``: the picture code ends before the last row. ``damaged``: it does not fit
        together, because a part was overwritten or lost.

    Notes
    -----
    Every bit of the picture code must be used up when the last pixel is decoded. Whatever was
    overwritten or lost inside shifts what follows, so that code is lacking or left over; libjpeg
    then fills with grey, or goes on, and says so in a warning that Pillow hides. What says
    nothing of the pixels is no fault: no end mark, padding before it, anything behind it. Zeros
    at the end are taken for padding, because now and then they fit as picture code.
    """
    if content.endswith((ZEROS, ZEROS + END)) and not _mean_nothing_more(content):
        content = _without_padding(content if content.endswith(END) else content + END)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, COLOURS[mode])
    except ValueError as error:
        said = str(error)
    else:
        if _lacks_scans(content):
            raise ImageError("truncated", "the last scans of progressive picture code are missing")
        return pixels
    if said.startswith("Premature end of JPEG file") and not content.endswith(END):
        return load(content + END, mode)
    if "remature end" in said:
        raise ImageError("truncated", "the picture code ends before the last row")
    if not said.startswith("Corrupt JPEG data"):
        return None
    whole = _without_padding(content)
    if whole != content:
        return load(whole, mode)
    raise ImageError(
        "damaged", f"a part of the picture code was overwritten or lost ({said.split(': ')[-1]})"
    )


def _without_padding(content: bytes) -> bytes:
    """Drop zeros before the last end mark, but not one that belongs to a 255 before it."""
    start = content[: content.rfind(END)]
    code = start.rstrip(b"\x00")
    kept = len(code) + (code.endswith(b"\xff") and len(code) < len(start))
    return start[:kept] + END if kept < len(start) else content


def name_unread(content: bytes) -> str | None:
    """Name the kind of a JPEG that no decoder here reads; None where it is a usual one."""
    for marker, place in _segments(content):
        if marker == 0xF7:
            return "a JPEG-LS"
        if marker in FRAMES and marker not in NO_FRAMES:
            return _name_frame(marker, content[place])
    return None


def find_quality(content: bytes) -> int | None:
    """Return the quality that a JPEG was last saved with, on libjpeg's scale of 1 to 100.

    Parameters
    ----------
    content : bytes
        A JPEG that can be decoded.

    Returns
    -------
    int, optional
        Of the table for brightness: the quality whose table is nearest. Exact for files of
        libjpeg, and of most programs; Photoshop and cameras have tables of their own. None where
        the file has none of 8 bits. Says nothing of what was lost when it was saved before.
    """
    for marker, place in _segments(content):
        end = place - 2 + int.from_bytes(content[place - 2 : place], "big")
        while marker == QUANTISATION and place + 64 < end:
            if content[place] == 0:  # of 8 bits, and the first
                return _nearest_quality(content[place + 1 : place + 65])
            place += 65 + 64 * (content[place] >> 4)
    return None


@cache
def _nearest_quality(table: bytes) -> int:
    qualities = np.arange(1, 101)[:, np.newaxis]
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((STANDARD * scales + 50) // 100, 1, 255)
    off = np.abs(tables - np.frombuffer(table, np.uint8).astype(np.int64)).sum(axis=1)
    return int(off.argmin()) + 1


def _mean_nothing_more(content: bytes) -> bool:
    """Tell whether zeros are the code of blocks without detail: of a table, the first code is 0."""
    firsts = set()
    for marker, place in _segments(content):
        end = place - 2 + int.from_bytes(content[place - 2 : place], "big")
        while marker == TABLES and place + 17 < end:
            if content[place] >> 4:  # of details, not of means
                firsts.add(content[place + 17])
            place += 17 + sum(content[place + 1 : place + 17])
    return firsts == {NOTHING_MORE}


def _lacks_scans(content: bytes) -> bool:
    """Tell whether progressive code ends behind one of its scans: whole to libjpeg, but coarse.

    Each scan holds some of the 64 frequencies of some colours, down to a bit; all colours and
    frequencies must have come down to bit 0.
    """
    lowest: dict[int, NDArray[np.int64]] = {}
    for marker, place in _segments(content):
        if marker == PROGRESSIVE:
            n_colours = content[place + 5]
            ids = content[place + 6 : place + 6 + 3 * n_colours : 3]
            lowest = {colour: np.ones(64, np.int64) for colour in ids}
        if marker == SCAN and lowest:  # in picture code, 255 is followed by other bytes
            for scan in content[place - 4 : content.find(END, place)].split(bytes([255, SCAN]))[1:]:
                end = 3 + 2 * scan[2]
                first, last, bits = scan[end : end + 3]
                for colour in scan[3:end:2]:
                    lowest[colour][first : last + 1] = bits & 15
    return any(bits.any() for bits in lowest.values())


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers before the picture code, and where what they mark begins."""
    place = 2
    while place + 9 < len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF or marker in LONE_MARKERS:
            place += 1 if marker == 0xFF else 2
            continue
        yield marker, place + 4
        if marker == SCAN:
            return
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")


def _name_frame(marker: int, bits: int) -> str | None:
    if marker & 3 == 3:
        return f"a lossless JPEG of {bits} bits"
    if marker & 4:
        return "a hierarchical JPEG"
    return f"a JPEG of {bits} bits" if bits != 8 else None
