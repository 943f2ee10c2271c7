"""What a file is by its first bytes: a picture that is read, another picture, an archive.

Names lie: browsers unpack on the way, cameras and phones save under endings of their own. So the
content decides, here and nowhere else, for files of a folder and members of an archive alike.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["picture", "foreign", "archive", "other"]

HEAD = 1024  # bytes that `recognise` looks at
READ = "JPEG, PNG, BMP and TIFF are read"
PICTURE_ENDINGS = (  # of what is called a picture, whether it is one, and whether it is read
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp",
    ".jp2", ".j2k", ".jxl", ".avif", ".heic", ".heif", ".svg", ".psd", ".tga", ".ppm", ".pgm",
    ".pnm", ".pcx", ".dcm", ".czi", ".lif", ".nd2",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes
    ----------
    name : str
        For a person: "JPEG XL".
    kind : str
        ``"picture"``: decoded here; ``"foreign"``: a picture of a format that is not;
        ``"archive"``: holds other files; ``"other"``: no picture.
    """

    name: str
    kind: Kind


# By kind: format -> the places and bytes that mark it. Public format descriptions throughout.
_MARKS: dict[Kind, dict[str, tuple[tuple[int, bytes], ...]]] = {
    "picture": {
        "JPEG": ((0, b"\xff\xd8\xff"),),
        "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
        "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),  # + is BigTIFF
    },
    "foreign": {
        "GIF": ((0, b"GIF87a"), (0, b"GIF89a")),
        "WebP": ((8, b"WEBP"),),
        "JPEG 2000": ((0, b"\0\0\0\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")),
        "JPEG XL": ((0, b"\xff\x0a"), (0, b"\0\0\0\x0cJXL \r\n\x87\n")),
        "JPEG XR": ((0, b"II\xbc\x01"),),
        "JPEG-LS": ((0, b"\xff\xd8\xff\xf7"),),
        "Photoshop": ((0, b"8BPS"),),
        "GIMP": ((0, b"gimp xcf"),),
        "PFM": ((0, b"PF\n"), (0, b"Pf\n")),
        "MNG": ((0, b"\x8aMNG\r\n\x1a\n"), (0, b"\x8bJNG\r\n\x1a\n")),
        "Windows icon": ((0, b"\0\0\x01\0"), (0, b"\0\0\x02\0")),
        "OpenEXR": ((0, b"\x76\x2f\x31\x01"),),
        "Radiance HDR": ((0, b"#?RADIANCE"), (0, b"#?RGBE")),
        "DDS": ((0, b"DDS "),),
        "PCX": ((0, b"\x0a\x05\x01\x08"), (0, b"\x0a\x05\x01\x01")),
        "SGI": ((0, b"\x01\xda\0\x01"), (0, b"\x01\xda\x01\x01")),
        "Sun raster": ((0, b"\x59\xa6\x6a\x95"),),
        "FITS": ((0, b"SIMPLE  ="),),
        "DICOM": ((128, b"DICM"),),
        "NIfTI": ((344, b"n+1\0"), (344, b"ni1\0")),
        "NRRD": ((0, b"NRRD000"),),
        "BPG": ((0, b"BPG\xfb"),),
        "FLIF": ((0, b"FLIF"),),
        "QOI": ((0, b"qoif"),),
        "farbfeld": ((0, b"farbfeld"),),
        "DjVu": ((0, b"AT&TFORM"),),
        "Windows metafile": ((0, b"\xd7\xcd\xc6\x9a"), (40, b" EMF")),
        "Zeiss CZI": ((0, b"ZISRAWFILE"),),
        "Nikon ND2": ((0, b"\xda\xce\xbe\x0a"),),
        "camera raw (CR2)": ((8, b"CR\x02\0"),),
        "camera raw (ORF)": ((0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR")),
        "camera raw (RW2)": ((0, b"IIU\0"),),
        "camera raw (RAF)": ((0, b"FUJIFILMCCD-RAW"),),
        "camera raw (X3F)": ((0, b"FOVb"),),
        "camera raw (MRW)": ((0, b"\0MRM"),),
    },
    "archive": {
        "zip": ((0, b"PK\x03\x04"), (0, b"PK\x05\x06"), (0, b"PK\x07\x08"), (0, b"PK00PK")),
        "RAR": ((0, b"Rar!\x1a\x07"), (0, b"RE~^")),
        "7z": ((0, b"7z\xbc\xaf\x27\x1c"),),
        "gzip": ((0, b"\x1f\x8b"),),
        "bzip2": tuple((0, b"BZh%d1AY&SY" % level) for level in range(1, 10)),
        "xz": ((0, b"\xfd7zXZ\0"),),
        "tar": ((257, b"ustar"),),
        "Zstandard": ((0, b"\x28\xb5\x2f\xfd"),),
        "LZ4": ((0, b"\x04\x22\x4d\x18"), (0, b"\x02\x21\x4c\x18")),
        "lzip": ((0, b"LZIP\x01"),),
        "LZMA": ((0, b"\x5d\0\0\x80\0"), (0, b"\x5d\0\0\x10\0"), (0, b"\x5d\0\0\0\x01")),
        "lzop": ((0, b"\x89LZO\0\r\n\x1a\n"),),
        "compress (.Z)": ((0, b"\x1f\x9d"), (0, b"\x1f\xa0")),
        "cabinet": ((0, b"MSCF\0\0\0\0"),),
        "ar": ((0, b"!<arch>\n"),),
        "cpio": ((0, b"070701"), (0, b"070702"), (0, b"070707")),
        "ARJ": ((0, b"\x60\xea"),),
        "LHA": tuple((2, b"-lh%d-" % method) for method in range(8)),
        "ACE": ((7, b"**ACE**"),),
        "xar": ((0, b"xar!"),),
        "StuffIt": ((0, b"SIT!"), (0, b"StuffIt ")),
        "Zoo": ((20, b"\xdc\xa7\xc4\xfd"),),
        "SquashFS": ((0, b"hsqs"),),
        "Windows image": ((0, b"MSWIM\0\0\0"),),
    },
    "other": {
        "PDF": ((0, b"%PDF"),),
        "PostScript": ((0, b"%!PS"),),
        "an old Office document or thumbnail database": ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),),
        "HDF5": ((0, b"\x89HDF\r\n\x1a\n"),),
        "a NumPy array": ((0, b"\x93NUMPY"),),
        "SQLite": ((0, b"SQLite format 3\0"),),
        "Parquet": ((0, b"PAR1"),),
        "a program": ((0, b"MZ"), (0, b"\x7fELF")),
        "a video": ((8, b"AVI "), (0, b"\x1aE\xdf\xa3"), (0, b"\0\0\x01\xba")),
    },
}
MARKS = [
    (offset, mark, Format(name, kind))
    for kind, formats in _MARKS.items()
    for name, marks in formats.items()
    for offset, mark in marks
]
# A longer mark says more than a shorter one: JPEG-LS begins as JPEG does, CR2 as TIFF.
MARKS.sort(key=lambda one: -(one[0] + len(one[1])))

BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes; two letters alone begin a text as well
BRANDS = {  # of the container that MP4 uses, by what its header says it is made for
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
    "camera raw (CR3)": (b"crx ",),
}
NETPBM = re.compile(rb"P[1-7][\s#]\s*[#\dW]")
MARKUP = (b"<!doctype html", b"<html")
POINTERS = {b"version https://git-lfs": "Git LFS", b"/annex/objects/": "git-annex"}
# Raw files of these cameras are TIFFs, whose first picture is a thumbnail: content does not tell.
RAW_ENDINGS = (
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef",
    ".nrw", ".pef", ".rwl", ".sr2", ".srf", ".srw",
)  # fmt: skip


def recognise(head: bytes, name: str = "") -> Format | None:
    """Name the format of a file.

    Parameters
    ----------
    head : bytes
        The first `HEAD` bytes of the file, or all of a shorter one.
    name : str
        Its name, asked only where the content of two kinds is alike: a camera's raw TIFF.

    Returns
    -------
    Format or None
        None where nothing is known of such bytes.
    """
    if head[:4] in (b"II*\0", b"MM\0*") and name.lower().endswith(RAW_ENDINGS):
        return Format(f"camera raw ({name.rpartition('.')[2].upper()})", "foreign")
    for offset, mark, known in MARKS:
        if head.startswith(mark, offset):
            return known
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return Format("BMP", "picture")
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if NETPBM.match(head):
        return Format("PNM", "foreign")
    if is_tar_header(head):
        return Format("tar", "archive")
    return _text(head)


def describe(head: bytes) -> str:
    """Say in a few words what a file holds, whether it is known or not."""
    if not head:
        return "nothing"
    found = recognise(head)
    return found.name if found else f"unknown content that begins with {head[:8]!r}"


def is_tar_header(head: bytes) -> bool:
    """Tell a tar of the oldest kind, which has no mark, by the checksum of its first header."""
    if len(head) < 512 or not head[0]:
        return False
    declared = head[148:156].strip(b" \0")
    if not declared or any(digit not in b"01234567" for digit in declared):
        return False
    return int(declared, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])


def _by_brand(head: bytes) -> Format:
    brands = head[8 : min(int.from_bytes(head[:4], "big"), 64)]
    for name, known in BRANDS.items():
        if any(brand in brands for brand in known):
            return Format(name, "foreign")
    return Format("a video", "other")


def _text(head: bytes) -> Format | None:
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if plain.startswith(b"<svg") or (
        plain.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in plain
    ):
        return Format("SVG", "foreign")
    if plain.startswith(MARKUP):
        return Format("a web page", "other")
    if head.lstrip().startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return Format("a picture behind blanks, as a faulty transfer leaves it", "other")
    for mark, program in POINTERS.items():
        if plain.startswith(mark):
            return Format(f"a pointer of {program} to a picture that was not fetched", "other")
    printable = bool(head) and not any(sign < 32 and sign not in b"\t\n\r\f" for sign in head)
    return Format("text", "other") if printable and _is_utf8(head) else None


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a letter cut at the end of the head
    return True
