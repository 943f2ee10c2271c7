"""Formats: the content tells what a file is, whatever its name; what is unknown stays unknown."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from stages.core import formats
from stages.core.formats import HEAD, recognise

CELL = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))
WRITTEN = {  # as Pillow writes them: (name, kind)
    "JPEG": ("JPEG", "picture"),
    "PNG": ("PNG", "picture"),
    "BMP": ("BMP", "picture"),
    "TIFF": ("TIFF", "picture"),
    "GIF": ("GIF", "foreign"),
    "PPM": ("PNM", "foreign"),
    "PCX": ("PCX", "foreign"),
    "SGI": ("SGI", "foreign"),
    "DDS": ("DDS", "foreign"),
    "ICO": ("Windows icon", "foreign"),
    "JPEG2000": ("JPEG 2000", "foreign"),
    "WEBP": ("WebP", "foreign"),
    "AVIF": ("AVIF", "foreign"),
    "PDF": ("PDF", "other"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_pictures_are_known_as_pillow_writes_them(kind: str) -> None:
    """Another program's files are the oracle."""
    codec = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}.get(kind)
    if codec and not features.check(codec):
        pytest.skip(f"Pillow cannot write {kind} here")
    sink = io.BytesIO()
    CELL.save(sink, kind)
    found = recognise(sink.getvalue()[:HEAD])
    assert found is not None
    assert (found.name, found.kind) == WRITTEN[kind]


BOX = b"\0\0\0\x18ftyp%s\0\0\0\0%s"
SAMPLES = {
    "HEIC": BOX % (b"mif1", b"heic"),
    "AVIF": BOX % (b"avif", b"mif1"),
    "camera raw (CR3)": BOX % (b"crx ", b"isom"),
    "a video": BOX % (b"isom", b"mp42"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG-LS": b"\xff\xd8\xff\xf7\0\x0b",
    "SVG": b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='x'>",
    "DICOM": bytes(128) + b"DICM",
    "NIfTI": b"\x5c\x01" + bytes(342) + b"n+1\0",
    "camera raw (CR2)": b"II*\0\x10\0\0\0CR\x02\0",
    "camera raw (RAF)": b"FUJIFILMCCD-RAW 0201",
    "a web page": b"\n<!DOCTYPE html><html>",
    "text": "Zellen, gezählt\n".encode(),
    "Zstandard": b"\x28\xb5\x2f\xfd\x04",
    "a pointer of Git LFS to a picture that was not fetched": b"version https://git-lfs.github.com/spec/v1\noid",
    "a picture behind blanks, as a faulty transfer leaves it": b"\r\n\xff\xd8\xff\xe0",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_formats_that_pillow_does_not_write_are_known(name: str) -> None:
    """By the marks of their public descriptions."""
    assert formats.describe(SAMPLES[name]) == name


def test_a_camera_s_raw_tiff_is_known_by_its_name() -> None:
    """Its first picture is a thumbnail, which would be taken for the cell."""
    head = b"MM\0*\0\0\0\x08"
    assert recognise(head, "A/1.tif") == formats.Format("TIFF", "picture")
    assert recognise(head, "A/1.NEF") == formats.Format("camera raw (NEF)", "foreign")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_are_known_with_and_without_a_mark(kind: int) -> None:
    """The oldest tars have a checksum only."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as packed:
        packed.addfile(tarfile.TarInfo("A/1.jpg"), io.BytesIO())
    head = bytearray(sink.getvalue()[:HEAD])
    assert formats.describe(bytes(head)) == "tar"
    head[257:265] = bytes(8)
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:512]))
    assert formats.describe(bytes(head)) == "tar"
    head[3] ^= 1
    assert recognise(bytes(head)) is None


@pytest.mark.parametrize(
    "content", [b"BMI,age\n22,40\n", b"PK is no zip\n", b"BMfoo", b"P1,x\n", b"Pt 7\n"]
)
def test_a_text_that_begins_like_a_picture_is_a_text(content: bytes) -> None:
    """Two letters are not enough."""
    assert recognise(content) == formats.Format("text", "other")


@given(st.binary(max_size=600))
def test_any_bytes_are_named_without_a_fault(content: bytes) -> None:
    """And no more than the first bytes are looked at."""
    assert recognise(content) == recognise(content[:HEAD])
    assert formats.describe(content)


def test_every_mark_finds_its_own_format() -> None:
    """None is hidden behind a shorter one of another format."""
    for offset, mark, known in formats.MARKS:
        found = recognise(bytes(offset) + mark + bytes(64))
        assert found is not None
        assert found == known, mark
