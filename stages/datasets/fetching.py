"""A publisher's files, byte for byte: from a mirror, a folder or the network, checked."""

import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from tqdm import tqdm

from stages.core import formats, store
from stages.core.errors import DownloadError
from stages.core.formats import PICTURE_ENDINGS
from stages.datasets.contents import checksum
from stages.datasets.hospitals import Archive, Hospital

log = logging.getLogger(__name__)

ARCHIVE_ENDINGS = (
    ".zip", ".rar", ".7z", ".npz",
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz",
)  # fmt: skip

MIRROR_VARIABLE = "SMEARFLOW_MIRROR"
ATTEMPTS = 4  # for each address; a cut connection goes on where it stopped
PAUSE_SECONDS = 1.0  # before the second attempt; doubles
CHUNK = 1 << 20
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
HEADERS = {
    "User-Agent": "smearflow",
    "Accept-Encoding": "identity",  # a range counts bytes of the file, not of its compression
}
WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
WAY_OUT = (
    "Get the files by hand, put them into a folder named as the hospital, and give the folder "
    "above it as SMEARFLOW_MIRROR."
)


class _Fault(Exception):
    """Why one address gave no file; the next attempt or the next address may."""

    def __init__(self, text: str, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


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
    if not any(_is_archive(name) or _holds_archive(path) for name, path in files.items()):
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


def fetch_archive(archive: Archive, target: Path) -> None:
    """Fetch one archive from the first of its addresses that gives the declared file.

    Raises
    ------
    DownloadError
        None does; the message names the fault of each.
    """
    if not archive.urls:
        raise DownloadError(
            f"{archive.name} has no address in data/hospitals.yaml: its publisher gives it out by "
            f"hand only. {WAY_OUT}"
        )
    faults = []
    for url in archive.urls:
        with _partial_file(url) as partial:
            try:
                _fetch_url(url, partial, archive)
                verify(partial, archive, url)
            except (_Fault, DownloadError) as fault:
                faults.append(f"{url}: {fault}")
                if len(faults) < len(archive.urls):
                    log.warning("download: %s; trying the next address", faults[-1])
                continue
            _note(partial).unlink(missing_ok=True)
            shutil.move(partial, target)
        log.info("download: %s, %d bytes", archive.name, target.stat().st_size)
        return
    raise DownloadError(f"{archive.name} cannot be had. {'; '.join(faults)}. {WAY_OUT}")


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
            path.unlink()
            _note(path).unlink(missing_ok=True)
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
    if scheme == "file":
        source = store.resolve(url2pathname(urlsplit(url).path))
        if not source.is_file():
            raise _Fault(f"there is no file {source}")
        _require_outside(source, "a file:// address")
        _copy(source, partial)
        return
    if scheme not in ("http", "https"):
        raise _Fault("addresses begin with https://, http:// or file://")
    for attempt in range(ATTEMPTS):
        try:
            _stream(url, partial, archive)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            may_pass = isinstance(error, httpx.TransportError)
            fault = _Fault(f"{type(error).__name__}: {error}", may_pass)
        except _Fault as caught:
            fault = caught
        else:
            return
        if not fault.may_pass or attempt + 1 == ATTEMPTS:
            raise fault
        time.sleep(PAUSE_SECONDS * 2**attempt)


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
        own.unlink(missing_ok=True)
        _note(own).unlink(missing_ok=True)


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


def _note(partial: Path) -> Path:
    """Return the file that keeps the server's mark (ETag) of a half-fetched file's version."""
    return partial.with_name(partial.name + ".version")


def _stream(url: str, partial: Path, archive: Archive) -> None:
    """Fetch what is missing of `partial`; start again where the server cannot go on."""
    have = partial.stat().st_size if partial.is_file() else 0
    version = _note(partial).read_text(encoding="utf-8") if _note(partial).is_file() else ""
    # Without a mark of the version, two halves could be of different files.
    headers = HEADERS | (
        {"Range": f"bytes={have}-", "If-Range": version} if have and version else {}
    )
    with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as reply:
        if reply.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if reply.headers.get("Content-Range") == f"bytes */{have}":
                return  # it was complete
            partial.unlink(missing_ok=True)
            raise _Fault("the server has another file now", may_pass=True)
        goes_on = reply.status_code == httpx.codes.PARTIAL_CONTENT
        if goes_on and not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            partial.unlink(missing_ok=True)
            raise _Fault("the server went on at another place", may_pass=True)
        if not goes_on:
            _require_file(reply, archive)
            partial.unlink(missing_ok=True)  # before its note, or a kill here would mix versions
        mark = reply.headers.get("ETag", "")
        if mark.startswith("W/"):  # a weak mark does not promise the same bytes
            mark = ""
        mark = mark or reply.headers.get("Last-Modified", "")
        _note(partial).write_text(mark, encoding="utf-8")
        _save(reply, partial, have if goes_on else 0, archive.name)


def _require_file(reply: httpx.Response, archive: Archive) -> None:
    code = reply.status_code
    if code != httpx.codes.OK:
        raise _Fault(f"HTTP {code} {reply.reason_phrase}", may_pass=code in WORTH_ANOTHER_TRY)
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise _Fault("the server compresses the file on its way, so that its bytes are not known")
    if "text/html" in reply.headers.get("Content-Type", "") and _is_archive(archive.name):
        raise _Fault("the server answered with a web page, not with the file")


def _save(reply: httpx.Response, partial: Path, have: int, name: str) -> None:
    length = re.fullmatch(r"\d+", reply.headers.get("Content-Length", ""))
    total = have + int(length[0]) if length else None
    with (
        partial.open("ab" if have else "wb") as sink,
        tqdm(
            desc=name,
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        for chunk in reply.iter_raw():  # as it comes: a chunk that waits is lost by a cut
            sink.write(chunk)
            bar.update(len(chunk))


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, CHUNK)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_ENDINGS)


def _holds_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        found = formats.recognise(stream.read(formats.HEAD))
    return found is not None and found.kind == "archive"
