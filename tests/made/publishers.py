"""Publishers on this computer: a server that misbehaves as told, and one that answers as they do.

No test asks a real one. `Server` gives one file and plays one bad day of the network; `Publishers`
gives the files of every block of data/hospitals.yaml, each by its publisher's way of giving: who
redirects to a store with a pass in the address, who packs at request, who shows a web page first.
"""

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stages.datasets import transfer

Request = BaseHTTPRequestHandler
PAGE = b"<!doctype html><title>Confirm</title><p>Download anyway?"


@contextmanager
def serve(answer: Callable[[Request], None]) -> Iterator[str]:
    """Run a web server on a free port of this computer; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
                answer(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `transfer` wait for nothing between attempts, and ask this computer without a proxy."""
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def say(request: Request, code: int, body: bytes = b"", **headers: str) -> None:
    """Answer with a code, headers (an underscore stands for a hyphen) and a body."""
    request.send_response(code)
    headers.setdefault("Content_Length", str(len(body)))
    for name, value in headers.items():
        if value:
            request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


class Server:
    """Gives one file, as told, and keeps what it was asked for."""

    def __init__(self, content: bytes) -> None:
        self.url = ""
        self.content = content
        self.etag = '"1"'
        self.cuts: list[int] = []  # bytes after which the next replies break off
        self.codes: list[int] = []  # replies of these codes come first
        self.ranges: list[str | None] = []  # the Range header of each request
        self.headers: dict[str, str] = {}
        self.knows_ranges = True
        self.knows_if_range = True
        self.shift = 0  # a broken server that goes on at another place
        self.announced: int | None = None  # another length than that of what is sent
        self.pieces = 1  # in which a reply is sent
        self.pause = 0.0  # seconds before each piece

    def answer(self, request: Request) -> None:
        """Answer one request."""
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.codes:
            say(request, self.codes.pop(0), **self.headers)
            return
        start = 0
        is_same = not self.knows_if_range or request.headers.get("If-Range") == self.etag
        if asked and self.knows_ranges and is_same:
            start = int(asked[len("bytes=") : -1]) + self.shift
            if start >= len(self.content):
                say(request, 416, Content_Range=f"bytes */{len(self.content)}", ETag=self.etag)
                return
        body = self.content[start:]
        length = len(body) if self.announced is None or start else self.announced
        headers = {"Content_Length": str(length), "ETag": self.etag} | self.headers
        if start:
            last = len(self.content) - 1
            headers["Content_Range"] = f"bytes {start}-{last}/{len(self.content)}"
        say(request, 206 if start else 200, **headers)
        self._send(request, body[: self.cuts.pop(0)] if self.cuts else body)

    def _send(self, request: Request, body: bytes) -> None:
        size = -(-len(body) // self.pieces) or 1
        for place in range(0, len(body), size):
            time.sleep(self.pause)
            request.wfile.write(body[place : place + size])


@contextmanager
def serve_file(content: bytes) -> Iterator[Server]:
    """Run a `Server` of one file, h.zip."""
    server = Server(content)
    with serve(server.answer) as base:
        server.url = f"{base}/h.zip"
        yield server


def give(request: Request, content: bytes) -> None:
    """Answer as a store of files does: with its mark, and from any byte on."""
    server = Server(content)
    server.etag = f'"{len(content)}"'
    server.answer(request)


class Publishers:
    """The publishers of data/hospitals.yaml, all at one address of this computer.

    The first folder of a path is the publisher's host: `move` writes addresses so.

    Attributes
    ----------
    files : dict of str to bytes
        What is given out, by address as in data/hospitals.yaml.
    asked : list of str
        Host of each request.
    """

    def __init__(self) -> None:
        self.base = ""
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._passes: set[str] = set()
        self._seen: set[str] = set()

    def move(self, url: str) -> str:
        """Return the address here of an address of a publisher."""
        return f"{self.base}/{url.partition('://')[2]}"

    def answer(self, request: Request) -> None:
        """Answer as the publisher does whose host the path begins with."""
        path = request.path.removeprefix("/")
        host = path.partition("/")[0]
        self.asked.append(host)
        is_first = path not in self._seen
        self._seen.add(path)
        if host == "store":
            self._give_by_pass(request, path)
            return
        asked = path.removeprefix("codeload.")
        content = next((one for url, one in self.files.items() if url.endswith(asked)), None)
        if content is None:
            say(request, 404)
        elif host == "data.mendeley.com" and is_first:
            say(request, 403, PAGE, Content_Type="text/html")  # a browser is asked to prove itself
        elif host == "zenodo.org" and is_first:
            say(request, 429, Retry_After="0")
        elif host == "figshare.com" and is_first:
            say(request, 202, Retry_After="0")  # still packing
        elif host in ("data.mendeley.com", "figshare.com"):
            self._send_to_store(request, path)
        elif host == "github.com":
            say(request, 302, Location=f"{self.base}/codeload.{path}")
        elif host == "codeload.github.com":
            send_chunks(request, content)
        else:
            give(request, content)

    def _send_to_store(self, request: Request, path: str) -> None:
        one_time = secrets.token_hex(8)
        self._passes.add(one_time)
        say(request, 302, Location=f"/store/{path}?X-Amz-Signature={one_time}")

    def _give_by_pass(self, request: Request, path: str) -> None:
        signed = parse_qs(urlsplit(request.path).query).get("X-Amz-Signature", [""])[0]
        if signed not in self._passes:
            say(request, 403)
            return
        self._passes.remove(signed)
        address = re.sub(r"^store/|\?.*", "", path)
        give(request, next(one for url, one in self.files.items() if url.endswith(address)))


def send_chunks(request: Request, content: bytes) -> None:
    """Answer as GitHub does, which packs while it sends: no length, no mark, no ranges."""
    request.protocol_version = "HTTP/1.1"
    say(
        request, 200, Content_Length="", Transfer_Encoding="chunked", Content_Type="application/zip"
    )
    for place in range(0, len(content), 1000):
        chunk = content[place : place + 1000]
        request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    request.wfile.write(b"0\r\n\r\n")
    request.close_connection = True
