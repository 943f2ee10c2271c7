"""What a long stage has done so far, item by item, so that a killed run goes on."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Progress:
    """Results by item, each in a line of a file as soon as it is there.

    Attributes
    ----------
    known : dict of str to object
        What an earlier run has left.
    """

    def __init__(self, path: Path, signature: str) -> None:
        self.known: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._file.seek(0)
        # What follows the last line end is of a line that a kill cut short.
        whole = self._file.read().rpartition(b"\n")[0]
        first, *lines = whole.split(b"\n")
        if first == json.dumps(signature).encode():
            self._file.truncate(len(whole) + 1)
            self.known = dict(json.loads(line) for line in lines)
        else:
            self._file.truncate(0)
            self._write(signature)

    def add(self, name: str, result: Any) -> None:
        """Keep the result of an item; anything that JSON can hold."""
        self.known[name] = result
        self._write([name, result])

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

    def _write(self, content: Any) -> None:
        self._file.write(json.dumps(content).encode() + b"\n")
        self._file.flush()


@contextmanager
def keep(path: Path, *inputs: bytes) -> Iterator[Progress]:
    """Open what is done so far; on success the file goes.

    Parameters
    ----------
    path : pathlib.Path
        Where results are kept.
    inputs : bytes
        All that a result depends on. Where they differ from those of the earlier run, nothing of
        it is taken.
    """
    progress = Progress(path, digest(*inputs))
    try:
        yield progress
    finally:
        progress.close()
    path.unlink()


def digest(*pieces: bytes) -> str:
    """Return a name for these bytes; where one piece ends and the next begins counts."""
    hashes = "".join(hashlib.sha256(one).hexdigest() for one in pieces)
    return hashlib.sha256(hashes.encode()).hexdigest()
