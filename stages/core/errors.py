"""The errors that a person can mend, and how a stage ends with one line instead of a traceback.

PipelineError            anything below: where, what, way out
|-- ParamsError          params.yaml is wrong
|-- HospitalError        data/hospitals.yaml or a label map is wrong
|-- DownloadError        an archive cannot be had, or is not the published one
|-- ArchiveError         an archive cannot be read
|-- ImageError           a picture cannot be decoded or prepared
|-- TableError           a table breaks its contract
|-- SplitError           the images cannot be divided as asked
`-- ModelError           a recipe, its weights or its training is wrong
"""

import difflib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

MAX_NAMED = 5


class PipelineError(Exception):
    """Something a person can mend; its text says where, what, and the way out."""


class ParamsError(PipelineError):
    """params.yaml holds an unknown key, a wrong value or an impossible combination."""


class HospitalError(PipelineError):
    """A hospital's block or label map is missing or wrong."""


class DownloadError(PipelineError):
    """An archive cannot be fetched, or is not what its publisher declared."""


class ArchiveError(PipelineError):
    """An archive cannot be read."""


class ImageError(PipelineError):
    """A picture cannot be decoded or prepared; ``reason`` is from the closed list of `filter`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Travel between processes: by default only the joined text would."""
        return ImageError, (self.reason, self.detail)


class TableError(PipelineError):
    """A table breaks its contract."""


class SplitError(PipelineError):
    """The images cannot be divided as asked."""


class ModelError(PipelineError):
    """A recipe, its weights or its training is wrong."""


def name_some(names: Sequence[str]) -> str:
    """Return the first names and the count of the others, for an error message."""
    shown = ", ".join(names[:MAX_NAMED])
    more = len(names) - MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def say_counts(counts: Mapping[str, int]) -> str:
    """Return "train 396, valid 84" of counts by name, without those of nothing."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n) or "none"


def did_you_mean(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> str:
    """Return " Did you mean 'X'?" with the nearest known names, or nothing where none is near."""
    near = difflib.get_close_matches(name, list(known), n, cutoff)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def run_stage(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage as a program: parse its arguments, log, time it, and end with one line on error.

    Parameters
    ----------
    main : callable
        The stage; takes one str for each name in `arguments`.
    *arguments : str
        Names of the positional arguments, for example ``"hospital"``.

    Notes
    -----
    Exit codes: 0 done, 1 a `PipelineError` or a failing disk, 2 wrong usage, 130 interrupted.
    Any other exception is a defect of ours and keeps its traceback. The duration goes to
    ``metrics/timing/``, apart from the metrics, which hold nothing that changes between runs.
    """
    stage = Path(sys.argv[0]).stem
    given = sys.argv[1:]
    if len(given) != len(arguments):
        usage = " ".join(["python -m stages." + stage, *(name.upper() for name in arguments)])
        _say(f"usage: {usage}" + " (a name without blanks)" * (len(given) > len(arguments)))
        sys.exit(2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    label = ":".join([stage, *given])
    start = time.perf_counter()
    try:
        main(*given)
        _write_timing("-".join([stage, *given]), time.perf_counter() - start)
    except PipelineError as error:
        _say(f"{label}: {error}")
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(
            f"{label}: {error.strerror or error}{where}. Nothing half-written was kept; "
            "mend the disk or the path and run the same command again."
        )
        sys.exit(1)
    except KeyboardInterrupt:
        _say(f"{label}: interrupted; run the same command again.")
        sys.exit(130)


def _say(text: str) -> None:
    sys.stderr.write(" ".join(text.split()) + "\n")


def _write_timing(name: str, seconds: float) -> None:
    folder = Path("metrics/timing")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"seconds": round(seconds, 2), "cores": os.cpu_count()}
    (folder / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
