"""One web address, fetched into a file over a connection that breaks: whole, or with its fault.

What a broken connection left is gone on with only where the server proves (by its mark of the
file's version, ETag or Last-Modified) that it still has the same file.
"""

import email.utils
import logging
import os
import re
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx
from tqdm import tqdm

from stages.core import formats
from stages.datasets.unpacking import has_end_of_rar

log = logging.getLogger(__name__)
# It would write every address that a publisher redirects to, and their queries hold passes.
logging.getLogger("httpx").setLevel(logging.WARNING)

ATTEMPTS = 4  # one after the other that bring no new byte; then the address is given up
PAUSE_SECONDS = 1.0  # before the second attempt; doubles
LONGEST_WAIT_SECONDS = 600.0  # that a server may ask for
# Of silence, not of the whole: a slow connection may take its time, a dead one may not.
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
HEADERS = {
    "User-Agent": "smearflow",
    "Accept-Encoding": "identity",  # a range counts bytes of the file, not of its compression
}
WORTH_ANOTHER_TRY = (202, 408, 425, 429, 500, 502, 503, 504)  # 202: it is still being packed
ARCHIVE_ENDINGS = (
    ".zip", ".rar", ".7z", ".npz",
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz",
)  # fmt: skip
KAGGLE = "https://www.kaggle.com/api/v1/datasets/download/"
KAGGLE_VARIABLES = ("KAGGLE_USERNAME", "KAGGLE_KEY")
KAGGLE_PAGE = "https://www.kaggle.com/settings"


class Fault(Exception):
    """Why an address gave no file; the next attempt or the next address may.

    Attributes
    ----------
    may_pass : bool
        Whether another attempt is worth it.
    wait : float
        Seconds that the server asks for before it.
    """

    def __init__(self, text: str, may_pass: bool = False, wait: float = 0.0) -> None:
        super().__init__(text)
        self.may_pass = may_pass
        self.wait = wait


def fetch(url: str, partial: Path, name: str) -> None:
    """Fetch a file, going on where an earlier attempt or a killed run stopped.

    Parameters
    ----------
    url : str
        ``https://`` or ``http://``.
    partial : pathlib.Path
        The file to write. After a fault it holds what another run can go on with, or is gone.
    name : str
        What the publisher calls the file; what is called an archive must be a whole one.

    Raises
    ------
    Fault
        The address gives no such file.
    OSError
        The disk fails.
    """
    attempt, most = 0, _size(partial)
    while True:
        try:
            _stream(url, partial, name)
            return
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fault = _explain(error)
        except Fault as caught:
            fault = caught
        attempt = 1 if _size(partial) > most else attempt + 1  # it lives, however slowly
        most = max(most, _size(partial))
        if not fault.may_pass or attempt == ATTEMPTS:
            raise fault
        _wait(fault, attempt, name)


def discard(partial: Path) -> None:
    """Remove what was fetched, and what is known of its version."""
    partial.unlink(missing_ok=True)  # first, or a kill here would mix versions
    note(partial).unlink(missing_ok=True)


def note(partial: Path) -> Path:
    """Return the file that keeps the server's mark of a half-fetched file's version."""
    return partial.with_name(partial.name + ".version")


def is_archive_name(name: str) -> bool:
    """Tell whether a file is called an archive."""
    return name.lower().endswith(ARCHIVE_ENDINGS)


def _stream(url: str, partial: Path, name: str) -> None:
    """Fetch what is missing of `partial`; start again where the server cannot go on."""
    have = _size(partial)
    version = note(partial).read_text(encoding="utf-8") if note(partial).is_file() else ""
    # Without a mark of the version, two halves could be of different files.
    headers = HEADERS | (
        {"Range": f"bytes={have}-", "If-Range": version} if have and version else {}
    )
    with httpx.stream(
        "GET", url, headers=headers, auth=_kaggle(url), timeout=TIMEOUT, follow_redirects=True
    ) as reply:
        if reply.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            is_all = reply.headers.get("Content-Range") == f"bytes */{have}"
            if not is_all or _mark(reply) not in ("", version):
                discard(partial)
                raise Fault("the server has another file now", may_pass=True)
            _require_whole(partial, name)  # nothing was missing
            return
        goes_on = reply.status_code == httpx.codes.PARTIAL_CONTENT
        if goes_on:
            _require_same(reply, partial, have, version)
        else:
            _require_file(reply, name)
            discard(partial)
            note(partial).write_text(_mark(reply), encoding="utf-8")
        expected = _total(reply, have if goes_on else 0)
        _save(reply, partial, expected, name)
    if expected is not None and _size(partial) != expected:
        got = _size(partial)
        if got > expected:
            discard(partial)
        raise Fault(f"{got} bytes came, of {expected} that were announced", may_pass=True)
    _require_whole(partial, name)


def _require_same(reply: httpx.Response, partial: Path, have: int, version: str) -> None:
    """Refuse a part that does not fit behind what is there."""
    if not version or _mark(reply) != version:
        discard(partial)
        raise Fault("the server went on with another file", may_pass=True)
    if not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        discard(partial)
        raise Fault("the server went on at another place", may_pass=True)


def _require_file(reply: httpx.Response, name: str) -> None:
    code = reply.status_code
    if code != httpx.codes.OK:
        raise _refusal(reply)
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise Fault("the server compresses the file on its way, so that its bytes are not known")
    if "text/html" in reply.headers.get("Content-Type", "") and is_archive_name(name):
        raise Fault("the server answered with a web page, not with the file")


def _refusal(reply: httpx.Response) -> Fault:
    code = reply.status_code
    text = f"HTTP {code} {reply.reason_phrase}"
    if code in (401, 403) and str(reply.url).startswith(KAGGLE):
        return Fault(
            f"{text}: Kaggle does not take {' and '.join(KAGGLE_VARIABLES)}, or wants its terms "
            f"accepted at {str(reply.url).replace('/api/v1/datasets/download/', '/datasets/')}"
        )
    wait = _read_wait(reply.headers)
    if wait > LONGEST_WAIT_SECONDS:
        return Fault(f"{text}, and asks to come back in {wait:.0f} seconds")
    # The pass in an address that one is redirected to runs out; the next attempt gets a new one.
    ran_out = code in (401, 403) and bool(reply.history)
    return Fault(text, may_pass=code in WORTH_ANOTHER_TRY or ran_out, wait=wait)


def _require_whole(partial: Path, name: str) -> None:
    """Refuse what is empty, and what is called an archive and is none, or not to its end."""
    with partial.open("rb") as stream:
        head = stream.read(formats.HEAD)
    if not head:
        discard(partial)
        raise Fault("the server sent an empty file", may_pass=True)
    if not is_archive_name(name):
        return
    found = formats.recognise(head)
    if found is None or found.kind != "archive":
        discard(partial)
        raise Fault(f"the server sent {formats.describe(head)}, and no archive")
    cut = (found.name == "zip" and not zipfile.is_zipfile(partial)) or (
        found.name == "RAR" and not has_end_of_rar(partial)
    )
    if cut:
        raise Fault("the server sent an archive without its end", may_pass=True)


def _save(reply: httpx.Response, partial: Path, expected: int | None, name: str) -> None:
    have = _size(partial)
    with (
        partial.open("ab") as sink,
        tqdm(
            desc=name,
            total=expected,
            initial=have,
            unit="B",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        for chunk in reply.iter_raw():  # as it comes: a chunk that waits is lost by a cut
            sink.write(chunk)
            bar.update(len(chunk))


def _total(reply: httpx.Response, have: int) -> int | None:
    """Return the bytes of the whole file, where the server tells."""
    told = re.search(r"/(\d+)$", reply.headers.get("Content-Range", ""))
    if told and have:
        return int(told[1])
    length = re.fullmatch(r"\d+", reply.headers.get("Content-Length", ""))
    return have + int(length[0]) if length else None


def _mark(reply: httpx.Response) -> str:
    """Return what stands for these very bytes: a strong ETag, else the time of the last change."""
    mark = str(reply.headers.get("ETag", ""))
    if mark and not mark.startswith("W/"):  # a weak one does not promise the same bytes
        return mark
    return str(reply.headers.get("Last-Modified", ""))


def _explain(error: Exception) -> Fault:
    if isinstance(error, httpx.TooManyRedirects):
        return Fault("the address leads in a circle of redirects")
    may_pass = isinstance(error, httpx.TransportError)
    return Fault(f"{type(error).__name__}: {error}".rstrip(": "), may_pass)


def _wait(fault: Fault, attempt: int, name: str) -> None:
    seconds = max(fault.wait, PAUSE_SECONDS * 2 ** (attempt - 1))
    if fault.wait > PAUSE_SECONDS:
        log.info("download: %s: %s; waiting %.0f seconds, as it asks", name, fault, seconds)
    time.sleep(seconds)


def _read_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After, which are a number or a date; 0 where it says none."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _kaggle(url: str) -> httpx.BasicAuth | None:
    """Return who asks, for Kaggle alone; httpx sends it to no other place that it redirects to."""
    if not url.startswith(KAGGLE):
        return None
    name, key = (os.environ.get(variable, "").strip() for variable in KAGGLE_VARIABLES)
    if not (name and key):
        raise Fault(
            f"Kaggle gives files to its members: set {' and '.join(KAGGLE_VARIABLES)} to what "
            f"'Create New Token' at {KAGGLE_PAGE} gives you"
        )
    return httpx.BasicAuth(name, key)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
