"""Answers as files: a journal that a killed run goes on from, then CSV, JSON and a page."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from stages.answering import differential
from stages.answering.about import Confidence
from stages.answering.differential import Counts
from stages.answering.model import Answer
from stages.core import store
from stages.core.errors import PipelineError
from stages.core.progress import digest
from stages.pages import drawing

MARK = "smearflow predict "  # what a journal begins with, so that no other file is taken for one
N_SHOWN = 1000  # pictures on a page
RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what begins so


class Journal:
    """Answers in the order of the pictures, each in a line of a file as soon as it is there.

    Parameters
    ----------
    path : pathlib.Path
    signature : str
        All that answers depend on: where it differs from that of the file, nothing is taken.

    Raises
    ------
    PipelineError
        The file is no journal, or another run writes it.

    Attributes
    ----------
    n_done : int
        Answers that an earlier run has left.
    """

    def __init__(self, path: Path, signature: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: IO[bytes] = path.open("ab+")
        try:
            self.n_done = self._open(_line(MARK + signature))
        except PipelineError:
            self._file.close()
            raise

    def _open(self, head: bytes) -> int:
        """Return how many answers stand there behind this head; begin anew behind another."""
        if not _is_free(self._file):
            raise PipelineError(
                f"another run writes {self.path}. Wait for it, or name another file for this one."
            )
        self._file.seek(0)
        first = self._file.readline(len(head))
        mark = _line(MARK)[:-2]  # or as much of it as a kill has left
        if first[: len(mark)] != mark[: len(first)]:
            raise PipelineError(
                f"{self.path} is no file of smearflow, and answers would be kept there while they "
                "are asked. Move it, or name another file for the answers."
            )
        if first != head:
            self._file.truncate(0)
            self._file.write(head)
            return 0
        end, n_done = self._file.tell(), 0
        for line in self._file:
            if not line.endswith(b"\n"):  # cut short by a kill
                break
            n_done += 1
            end += len(line)
        self._file.truncate(end)
        return n_done

    def add(self, answer: Answer, shown: Mapping[str, Any]) -> None:
        """Keep an answer, and what a page shows of it."""
        self._file.write(_line(asdict(answer) | {"shown": dict(shown)}))
        self._file.flush()

    def read(self) -> Iterator[tuple[Answer, dict[str, Any]]]:
        """Yield the answers from the first one on."""
        self._file.seek(0)
        next(self._file)
        for line in self._file:
            content = json.loads(line)
            shown = content.pop("shown")
            yield Answer(**(content | {"flags": tuple(content["flags"])})), shown

    def close(self) -> None:
        """Close the file, which stays for the next run."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file; before `close`, or it may be another run's."""
        self.path.unlink(missing_ok=True)


def sign(*pieces: object) -> str:
    """Return a name for all that answers depend on."""
    return digest(json.dumps(pieces, default=str).encode())


def write_csv(
    path: Path, journal: Journal, classes: Sequence[str], about: Mapping[str, Any]
) -> None:
    """Write a row for each picture.

    A name that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    top = [f"{kind}_{place}" for place in (1, 2, 3) for kind in ("class", "p")]
    columns = ["picture", "verdict", *top, "flags", "problem", "sha256", "cell_radius_px",
               *(f"p_{name}" for name in classes), *about]  # fmt: skip
    with (
        store.replace(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        for one, _ in journal.read():
            likeliest = [item for pair in one.likeliest for item in (pair[0], _round(pair[1]))]
            chances = [_round(one.chances.get(name)) for name in classes]
            rows.writerow(
                [harmless(one.picture), one.verdict, *likeliest, *[""] * (6 - len(likeliest)),
                 " ".join(one.flags), harmless(one.problem or ""), one.sha256,
                 _round(one.radius), *chances, *about.values()]
            )  # fmt: skip


def write_json(
    path: Path, journal: Journal, counts: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write one object: ``model``, ``counts`` by folder, ``pictures``."""
    with store.replace(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{\n"model": ' + json.dumps(about) + ',\n"counts": ' + json.dumps(counts))
        file.write(',\n"pictures": [')
        for place, (one, _) in enumerate(journal.read()):
            file.write(",\n" if place else "\n")
            file.write(json.dumps(store.plain(asdict(one)), ensure_ascii=False))
        file.write("\n]\n}\n")


def write_page(
    path: Path,
    journal: Journal,
    counts: Mapping[str, Any],
    about: Mapping[str, Any],
    promise: Confidence,
) -> None:
    """Write a page for the browser that needs no network; the first thousand pictures."""
    shown = [pair for _, pair in zip(range(N_SHOWN), journal.read(), strict=False)]
    n_all = sum(counts["verdicts"].values())
    page = drawing.render(
        "answers.html.jinja", about=about, counts=counts, shown=shown, promise=promise, n_all=n_all
    )
    store.write_bytes(path, page.encode("utf-8"))


def tabulate(counts: Counts, cell_types: Mapping[str, Sequence[str]],
             usual: Mapping[str, tuple[float, float]]) -> dict[str, Any]:  # fmt: skip
    """Return the verdicts of all pictures, and the differential count of each folder."""
    return {
        "verdicts": dict(sorted(counts.verdicts.items())),
        "by_folder": {
            folder: {
                "n": sum(own.values()),
                "classes": [asdict(one) for one in differential.describe(own, cell_types, usual)],
            }
            for folder, own in counts.by_folder.items()
        },
    }


def _is_free(file: IO[bytes]) -> bool:
    """Take a lock that ends with this process; tell whether it could be had."""
    if sys.platform == "win32":
        return True  # there, a file that is open cannot be removed
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # flock would go on in its children
    except (BlockingIOError, PermissionError):
        return False
    return True


def _line(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def harmless(text: str) -> str:
    """Return a text that a spreadsheet shows and does not run."""
    return f"'{text}" if text.startswith(RISKY) else text
