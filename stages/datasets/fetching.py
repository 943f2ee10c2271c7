"""A publisher's files, byte for byte: from a mirror, a folder or the network, checked."""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stages.core import formats, store
from stages.core.errors import DownloadError
from stages.core.formats import PICTURE_ENDINGS
from stages.datasets import transfer
from stages.datasets.contents import checksum
from stages.datasets.hospitals import Archive, Hospital
from stages.datasets.transfer import ARCHIVE_ENDINGS, Fault, is_archive_name

log = logging.getLogger(__name__)

MIRROR_VARIABLE = "SMEARFLOW_MIRROR"
CHUNK = 1 << 20


def find_source(hospital: Hospital, name: str) -> Path | None:
    """Return the folder or archive on this computer that holds a hospital's files.

    Parameters
    ----------
    hospital : Hospital
        Not a simulated one.
    name : str
        Of its block in data/hospitals.yaml.

    Returns
    -------
    pathlib.Path or None
        What the mirror has under this name, else the block's ``folder``; None: neither, so
        that its addresses remain. A mirror comes first because whoever sets one wants no network.

    Raises
    ------
    DownloadError
        The mirror or the folder does not exist, or lies where the pipeline writes.
    """
    mirror = mirror_folder()
    if mirror is not None:
        candidates = [mirror / name, *(mirror / (name + ending) for ending in ARCHIVE_ENDINGS)]
        found = next((path for path in candidates if path.is_file() or path.is_dir()), None)
        if found is not None:
            _require_outside(found, f"{MIRROR_VARIABLE} for {name!r}")  # it may be a link
            return found
    if hospital.folder is None:
        return None
    folder = store.resolve(hospital.folder)
    if not folder.is_dir():
        raise DownloadError(
            f"there is no folder {folder}. Correct folder: of {name!r} in data/hospitals.yaml; "
            "it is relative to the project's top folder."
        )
    _require_outside(folder, f"folder: of {name!r} in data/hospitals.yaml")
    return folder


def is_published(files: Mapping[str, Path], declared: Sequence[Archive]) -> bool:
    """Tell whether files are the publisher's archives, and not a folder of pictures.

    They are where archives lie at the folder's top and neither folders nor pictures do. What lies
    beside them, a licence text say, belongs to them.

    Parameters
    ----------
    files : mapping of str to pathlib.Path
        As `walking.walk` found them.
    declared : sequence of Archive
        Where some of these are there and others are not, a warning says so.
    """
    if any("/" in name or name.lower().endswith(PICTURE_ENDINGS) for name in files):
        return False
    if not any(is_archive_name(name) or _holds_archive(path) for name, path in files.items()):
        return False
    missing = sorted({archive.name for archive in declared} - set(files))
    if missing and len(missing) < len(declared):
        log.warning("download: there is no %s; its pictures are missing", ", ".join(missing))
    return True


def copy_published(files: Mapping[str, Path], declared: Sequence[Archive], folder: Path) -> None:
    """Copy the publisher's files byte for byte, and check those that are declared.

    Raises
    ------
    DownloadError
        A file is not the one that its publisher declared.
    """
    expected = {archive.name: archive for archive in declared}
    for name, path in files.items():
        _copy(path, folder / name)
        if name in expected:
            verify(folder / name, expected[name], str(path))
        log.info("download: %s was copied from the mirror", name)


def describe(hospital: Hospital) -> dict[str, str | None]:
    """Return what whoever uses the pictures has to know: whose they are, and how to name them."""
    return {
        "title": hospital.title,
        "licence": hospital.licence,
        "citation": hospital.citation,
        "page": hospital.page,
    }


def reuse(before: Path, archive: Archive, target: Path) -> bool:
    """Take an archive over from an earlier download, where it is the declared one.

    Parameters
    ----------
    before : pathlib.Path
        The archive as it lay in ``data/raw/<hospital>``; it stays there.
    archive : Archive
        Without a sha256 nothing is taken over.
    target : pathlib.Path

    Returns
    -------
    bool
        Whether `target` was made.
    """
    if archive.sha256 is None or not before.is_file():
        return False
    if checksum(before, "sha256") != archive.sha256:
        return False
    try:
        os.link(before, target)
    except OSError:  # a file system without links
        _copy(before, target)
    return True


def mirror_folder() -> Path | None:
    """Return the folder that ``SMEARFLOW_MIRROR`` names, or None where it is not set.

    Raises
    ------
    DownloadError
        The folder does not exist, or lies where the pipeline writes.
    """
    text = os.environ.get(MIRROR_VARIABLE)
    if not text:
        return None
    folder = store.resolve(text)
    if not folder.is_dir():
        raise DownloadError(
            f"{MIRROR_VARIABLE} is {text!r}, but there is no folder {folder}. Correct the "
            "variable, or unset it to use the addresses in data/hospitals.yaml."
        )
    _require_outside(folder, MIRROR_VARIABLE)
    return folder


def fetch_archives(hospital: Hospital, name: str, before: Path, folder: Path) -> None:
    """Fetch a hospital's archives, each from the first of its addresses that gives the right file.

    Parameters
    ----------
    hospital : Hospital
    name : str
        Of its block in data/hospitals.yaml.
    before : pathlib.Path
        The folder of an earlier download; what is the declared archive there is taken over.
    folder : pathlib.Path
        Gets the archives when all are fetched; of a failed run those that came whole wait for the
        next one, outside of ``data/raw``.

    Raises
    ------
    DownloadError
        No address of an archive gives it; the message names the fault of each, and how to get it
        by hand.
    """
    with ExitStack() as held:
        fetched = {
            archive.name: _fetch_archive(archive, hospital, name, held)
            for archive in hospital.archives
            if not reuse(before / archive.name, archive, folder / archive.name)
        }
        for target, partial in fetched.items():
            shutil.move(partial, folder / target)
            transfer.discard(partial)
            log.info("download: %s, %d bytes", target, (folder / target).stat().st_size)


def _fetch_archive(archive: Archive, hospital: Hospital, name: str, held: ExitStack) -> Path:
    """Return the file that holds an archive, which stays locked for as long as `held` is open."""
    by_hand = _tell_by_hand(archive, hospital, name)
    if not archive.urls:
        raise DownloadError(f"{archive.name} is given out by hand only. {by_hand}")
    faults = []
    for url in archive.urls:
        partial = held.enter_context(_partial_file(url))
        try:
            _fetch_url(url, partial, archive)
            verify(partial, archive, url)
        except (Fault, DownloadError) as fault:
            faults.append(f"{url}: {fault}")
            if len(faults) < len(archive.urls):
                log.warning("download: %s; trying the next address", faults[-1])
        else:
            return partial
    raise DownloadError(f"{archive.name} cannot be had. {'; '.join(faults)}. {by_hand}")


def _tell_by_hand(archive: Archive, hospital: Hospital, name: str) -> str:
    """Say at which page to get an archive, how, into which folder, and what to run then."""
    mirror = os.environ.get(MIRROR_VARIABLE) or "../mirror"
    what = "it" if len(hospital.archives) == 1 else f"all {len(hospital.archives)} archives"
    get = f"See {hospital.page} and get" if hospital.page else "Get"
    steps = f" {archive.by_hand}" if archive.by_hand else ""
    return (
        f"{get} {what} yourself.{steps} Put what you got into the folder {mirror}/{name}, and "
        f"run '{MIRROR_VARIABLE}={mirror} uv run dvc repro'."
    )


def verify(path: Path, archive: Archive, origin: str) -> None:
    """Compare a file with the size and the checksums that its publisher declared.

    Raises
    ------
    DownloadError
        They differ; the file is removed.
    """
    compared: list[tuple[str, object, object]] = [
        ("bytes", archive.bytes, path.stat().st_size if archive.bytes is not None else None),
        ("sha256", archive.sha256, checksum(path, "sha256") if archive.sha256 else None),
        ("md5", archive.md5, checksum(path, "md5") if archive.md5 else None),
    ]
    for what, expected, got in compared:
        if expected != got:
            transfer.discard(path)
            raise DownloadError(
                f"{archive.name} from {origin} is not the published file: {what} is {got}, "
                f"expected {expected}. Nothing was kept. Get it again; if the publisher has "
                f"changed it, correct {what} in data/hospitals.yaml"
            )


def _require_outside(source: Path, what: str) -> None:
    """Refuse pictures inside of data/, which a run or a checkout may replace."""
    for root in (store.project_root(), Path.cwd()):
        data = (root / "data").resolve()
        if source.resolve().is_relative_to(data):
            raise DownloadError(
                f"{what} is {source}, inside the project's data/, where the pipeline writes and "
                "DVC may delete. Nothing was changed. Move the pictures to a folder outside of "
                "data/, and name that one."
            )


def _fetch_url(url: str, partial: Path, archive: Archive) -> None:
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        transfer.fetch(url, partial, archive.name)
        return
    if scheme != "file":
        raise Fault("addresses begin with https://, http:// or file://")
    source = store.resolve(url2pathname(urlsplit(url).path))
    if not source.is_file():
        raise Fault(f"there is no file {source}")
    _require_outside(source, "a file:// address")
    _copy(source, partial)


@contextmanager
def _partial_file(url: str) -> Iterator[Path]:
    """Give the file that collects what was fetched of an address, kept when a run is killed.

    It lies outside of ``data/raw``, which is replaced as a whole. Two runs at one time (two
    hospitals of one archive, two queued experiments) must not write to one file: the second gets
    one of its own, and cannot go on where a killed run stopped.
    """
    dvc = store.project_root() / ".dvc"
    folder = (dvc / "tmp" if dvc.is_dir() else Path(tempfile.gettempdir())) / "smearflow"
    folder.mkdir(parents=True, exist_ok=True)
    shared = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    with shared.with_name(shared.name + ".lock").open("w") as lock:
        if _is_free(lock):
            yield shared
            return
    own = shared.with_name(f"{shared.name}.{os.getpid()}")
    try:
        yield own
    finally:
        transfer.discard(own)


def _is_free(lock: IO[str]) -> bool:
    """Take a lock that ends with this process; tell whether it could be had."""
    if sys.platform == "win32":
        return True  # there, a file open for writing cannot be replaced by another process
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, CHUNK)


def _holds_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        found = formats.recognise(stream.read(formats.HEAD))
    return found is not None and found.kind == "archive"
