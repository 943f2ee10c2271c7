"""Transfer: over every bad day of a network, the right bytes or one line, and never other bytes.

Others of the twelve stand in test_fetching: ranges ignored, another file between two parts where
the server says so, wrong bytes, a web page that says that it is one, 404, no connection.
"""

import base64
import email.utils
import logging
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.datasets import transfer
from stages.datasets.transfer import Fault
from tests.datasets.test_archives import zipped
from tests.datasets.test_unpacking import rarred
from tests.made import publishers
from tests.made.publishers import Request, Server, say

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {"A/1.jpg": bytes(range(256)) * 40, "B/2.jpg": bytes(range(255, -1, -1)) * 40}
CONTENT = zipped(PICTURES, zipfile.ZIP_STORED)  # 20 kB
OTHER = CONTENT.replace(bytes(range(9)), bytes(9))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server; wait for nothing between attempts."""
    publishers.hurry(monkeypatch)
    with publishers.serve_file(CONTENT) as server:
        yield server


def fetch(url: str, folder: Path, name: str = "h.zip") -> bytes:
    """Fetch a file; return its bytes."""
    transfer.fetch(url, folder / "partial", name)
    return (folder / "partial").read_bytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=5), ranges=st.booleans())
def test_cut_at_any_byte(cuts: list[int], ranges: bool, server: Server, tmp_path: Path) -> None:
    """However often, while it brings new bytes; where it cannot go on, from the start."""
    transfer.discard(tmp_path / "partial")
    server.cuts, server.knows_ranges = list(cuts), ranges
    try:
        assert fetch(server.url, tmp_path) == CONTENT
    except Fault:  # it brought no new byte four times
        assert len(cuts) >= transfer.ATTEMPTS
        server.cuts = []
        assert fetch(server.url, tmp_path) == CONTENT


def test_what_cuts_often_but_brings_bytes_is_not_given_up(server: Server, tmp_path: Path) -> None:
    """Ten cuts, more than may follow on one another without a new byte."""
    server.cuts = [2000] * 10
    assert fetch(server.url, tmp_path) == CONTENT
    assert [asked for asked in server.ranges if asked] == [
        f"bytes={number * 2000}-" for number in range(1, 11)
    ]


@pytest.mark.parametrize("later", [False, True])
def test_a_busy_server_is_asked_again_when_it_says(
    later: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retry-After in seconds or as a date; what would be too long is told instead."""
    waited: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waited.append)
    server.codes = [503]
    server.headers = {"Retry-After": email.utils.formatdate(time.time() + 90) if later else "90"}
    assert fetch(server.url, tmp_path) == CONTENT
    assert len(waited) == 2  # the other one is of the server
    assert 80 < max(waited) <= 90
    server.codes = [429]
    server.headers = {"Retry-After": "86400"}
    with pytest.raises(Fault, match=r"^HTTP 429 Too Many Requests, and asks .* in 86400 seconds$"):
        fetch(server.url, tmp_path)


@pytest.mark.parametrize("announced", [len(CONTENT) - 500, len(CONTENT) + 500])
def test_a_length_that_lies(announced: int, server: Server, tmp_path: Path) -> None:
    """Half an archive is none: what was announced too short is gone on with, then it is whole."""
    server.announced = announced
    assert fetch(server.url, tmp_path) == CONTENT


@pytest.mark.parametrize("pack", [zipped, rarred])
def test_an_archive_without_its_end_is_a_fault(pack, server: Server, tmp_path: Path) -> None:
    """Of a server that gives no length, only its content tells."""
    server.content = pack(PICTURES)[:-100]
    server.headers = {"Content_Length": ""}
    name = "h.rar" if pack is rarred else "h.zip"
    with pytest.raises(Fault, match=r"^the server sent an archive without its end$"):
        fetch(server.url, tmp_path, name)


def test_another_file_under_the_range_of_the_first(server: Server, tmp_path: Path) -> None:
    """A server that ignores If-Range: the new file's mark tells, and it is fetched whole."""
    server.cuts = [9000, 0, 0, 0, 0]
    with pytest.raises(Fault, match=r"RemoteProtocolError"):
        fetch(server.url, tmp_path)
    server.content, server.etag, server.knows_if_range = OTHER, '"2"', False
    assert len(OTHER) == len(CONTENT)
    assert fetch(server.url, tmp_path) == OTHER
    server.content, server.etag = CONTENT, '"3"'  # as long as what is there
    assert fetch(server.url, tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (publishers.PAGE, "a web page, and no archive"),
        (b'{"message": "moved"}', "text, and no archive"),
        (bytes(range(1, 256)), "unknown content that .*, and no archive"),
    ],
)
def test_what_is_no_archive_is_not_kept(
    content: bytes, told: str, server: Server, tmp_path: Path
) -> None:
    """Whatever type the server gives it; a table may be text, but not empty."""
    server.content = content
    with pytest.raises(Fault, match=f"^the server sent {told}$"):
        fetch(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []
    if content:
        assert fetch(server.url, tmp_path, "master.csv") == content


def test_a_circle_of_redirects_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: it would not pass."""
    publishers.hurry(monkeypatch)
    told = r"^the address leads in a circle of redirects$"
    with (
        publishers.serve(lambda request: say(request, 302, Location=request.path)) as base,
        pytest.raises(Fault, match=told),
    ):
        fetch(f"{base}/h.zip", tmp_path)


def test_a_pass_that_ran_out_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """403 behind a redirect: the publisher gives a new one; none of them is ever logged."""
    publishers.hurry(monkeypatch)
    caplog.set_level(logging.INFO)
    shown: list[str] = []

    def answer(request: Request) -> None:
        if request.path == "/h.zip":
            say(request, 302, Location=f"/store?pass={len(shown)}-secret")
            return
        shown.append(request.path)
        if len(shown) < 3:
            say(request, 403)
        else:
            publishers.give(request, CONTENT)

    with publishers.serve(answer) as base:
        assert fetch(f"{base}/h.zip", tmp_path) == CONTENT
    assert shown == [f"/store?pass={number}-secret" for number in range(3)]
    assert "secret" not in caplog.text


def test_slow_is_no_fault_and_silent_is_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is of the silence between two bytes, here .2 s: ten pieces in .5 s arrive."""
    monkeypatch.setattr(transfer, "TIMEOUT", httpx.Timeout(0.2))
    server.pieces, server.pause = 10, 0.05
    assert fetch(server.url, tmp_path) == CONTENT
    assert len(server.ranges) == 1
    transfer.discard(tmp_path / "partial")
    server.pieces, server.pause = 1, 0.5
    with pytest.raises(Fault, match=r"^ReadTimeout"):
        fetch(server.url, tmp_path)
    assert len(server.ranges) == 1 + transfer.ATTEMPTS


# -- Kaggle ----------------------------------------------------------------------------------------

NAME, KEY = "somebody", "0123456789abcdef-key"


def test_kaggle_learns_who_asks_and_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its store, at another place, gets no credentials; they stand in no log and in no file."""
    publishers.hurry(monkeypatch)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("KAGGLE_USERNAME", NAME)
    monkeypatch.setenv("KAGGLE_KEY", KEY + "\n")
    at_kaggle: list[str | None] = []
    at_store: list[str] = []

    def store(request: Request) -> None:
        at_store.append(str(request.headers))
        publishers.give(request, CONTENT)

    with publishers.serve(store) as elsewhere:

        def kaggle(request: Request) -> None:
            at_kaggle.append(request.headers.get("Authorization"))
            if request.path.startswith("/api/"):
                say(request, 302, Location=f"{elsewhere}/h.zip?pass=1")
            else:
                publishers.give(request, CONTENT)

        with publishers.serve(kaggle) as base:
            monkeypatch.setattr(transfer, "KAGGLE", f"{base}/api/v1/datasets/download/")
            assert fetch(f"{base}/api/v1/datasets/download/o/n", tmp_path) == CONTENT
            transfer.discard(tmp_path / "partial")
            assert fetch(f"{base}/elsewhere/h.zip", tmp_path) == CONTENT
    expected = "Basic " + base64.b64encode(f"{NAME}:{KEY}".encode()).decode()
    assert at_kaggle == [expected, None]
    assert len(at_store) == 1
    assert "Authorization" not in at_store[0]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (KEY, expected.removeprefix("Basic ")):
        assert secret not in caplog.text
        assert secret.encode() not in written


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_is_told_without_it(
    code: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once asked, it names the variables and the page of the data."""
    monkeypatch.setenv("KAGGLE_USERNAME", NAME)
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    base = server.url.removesuffix("h.zip")
    monkeypatch.setattr(transfer, "KAGGLE", f"{base}api/v1/datasets/download/")
    server.codes = [code]
    told = rf"HTTP {code} \w+: Kaggle does not take KAGGLE_USERNAME and KAGGLE_KEY, .* {base}datas"
    with pytest.raises(Fault, match=told + r"ets/o/n$") as caught:
        fetch(f"{base}api/v1/datasets/download/o/n", tmp_path)
    assert len(server.ranges) == 1
    assert KEY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("given", [{}, {"KAGGLE_USERNAME": NAME}, {"KAGGLE_KEY": KEY}])
def test_without_the_key_nothing_is_asked(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names both variables and the page that makes them."""
    for name in transfer.KAGGLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    told = r"set KAGGLE_USERNAME and KAGGLE_KEY .*https://www.kaggle.com/settings"
    with pytest.raises(Fault, match=told) as caught:
        fetch(transfer.KAGGLE + "o/n", tmp_path)
    assert KEY not in str(caught.value)


# -- killed ----------------------------------------------------------------------------------------

DRIVER = """
import os, pathlib, random, signal, time
from stages import download
draw = random.Random(20)
for _ in range(20):
    child = os.fork()
    if child == 0:
        download.main("h")
        os._exit(0)
    time.sleep(draw.uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in pathlib.Path("data/raw").glob("h/*.zip"):
        print(path.stat().st_size)
print("end")
download.main("h")
"""


def test_killed_at_twenty_moments_and_run_again(server: Server, tmp_path: Path) -> None:
    """Real processes; what has the final name is whole at each moment, and at last right."""
    (tmp_path / "data").mkdir()
    (tmp_path / ".dvc").mkdir()
    server.pieces, server.pause = 25, 0.01
    block = {"title": "T", "licence": "L", "citation": "C"}
    block["archives"] = [{"name": "h.zip", "urls": [server.url]}]
    (tmp_path / "data/hospitals.yaml").write_text(yaml.safe_dump({"h": block}))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *sizes, end = done.stdout.split()
    assert end == "end"
    assert set(sizes) <= {str(len(CONTENT))}
    assert (tmp_path / "data/raw/h/h.zip").read_bytes() == CONTENT
    assert any(server.ranges), "no killed run was gone on with"
    assert len(server.ranges) > 10
