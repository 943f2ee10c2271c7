"""predict: what the model says of pictures, folders and archives.

smearflow predict PICTURE|FOLDER|ARCHIVE ... [--csv FILE] [--json FILE] [--html FILE]
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from stages.answering import answers, pictures, writing
from stages.answering.differential import Counts
from stages.answering.model import NOT_READ, Answer, AnsweringModel
from stages.answering.pictures import Asked, Ready
from stages.answering.writing import Journal
from stages.core import formats, parallel
from stages.core.errors import PipelineError
from stages.images import contact_sheets
from stages.pages import drawing

PR_SET_PDEATHSIG = 1
PARTIAL = ".partial"  # of a file's name: answers while they are asked
OWN_SCALE = (
    "predict: each picture's own cell is its scale. Where these pictures are of one place, "
    "--hospital FOLDER with them makes more calls right (README, Ask about pictures).\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer pictures; return the exit code: 0, or 1 where a picture could not be read.

    2 is for wrong usage, 130 for an interrupt.
    """
    asked = _parse(arguments)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_end_with_parent)
    try:
        return _answer(asked)
    except PipelineError as error:
        return _fail(str(error))
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}. Mend it, and run the same command again.")
    except KeyboardInterrupt:
        goes_on = ", which goes on" if _targets(asked) else ""
        return _fail(f"interrupted; run the same command again{goes_on}.", 130)


def _end_with_parent() -> None:
    """Leave Ctrl-C, which reaches every process, to the parent; end where it is killed (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(AttributeError, TypeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(asked: argparse.Namespace) -> int:
    files = _targets(asked)
    for one in files:
        _require_writable(one, asked.pictures)
    parallel.count_workers()  # a wrong number is told before a file is begun
    model = AnsweringModel(asked.model)
    radius = answers.find_scale(asked.hospital, model) if asked.hospital else None
    about = {**model.trace, "scale": "hospital" if radius else "each picture's own cell"}
    with pictures.find(asked.pictures) as everything:
        own = {Path(f"{one.resolve()}{end}") for one in files for end in ("", PARTIAL, ".tmp")}
        found = [one for one in everything if not _is_one_of(one, own)]
        if len(found) >= answers.MIN_CELLS and radius is None:
            sys.stderr.write(OWN_SCALE)
        if not files:
            return _print_all(model, found, radius)
        path = files[0].with_name(files[0].name + PARTIAL)
        names = [one.name for one in found]
        told = model.about.model_dump(mode="json")  # a new promise makes other answers too
        signature = writing.sign(about, told, radius, asked.explain, bool(asked.html), names)
        journal = Journal(path, signature)
        try:
            _fill(journal, model, found, radius, asked)
            counts = _write(journal, model, about, asked)
            journal.remove()
        finally:
            journal.close()
    _say_counts(counts)
    sys.stdout.write("".join(f"wrote {one}\n" for one in files))
    return int(counts.verdicts[NOT_READ] > 0)


def _print_all(model: AnsweringModel, found: Sequence[Asked], radius: float | None) -> int:
    counts = Counts()
    for _, answer in answers.stream(model, found, radius):
        counts.add(answer)
        sys.stdout.write(_describe(answer) + "\n")
        sys.stdout.flush()
    _say_counts(counts)
    return int(counts.verdicts[NOT_READ] > 0)


def _fill(
    journal: Journal,
    model: AnsweringModel,
    found: Sequence[Asked],
    radius: float | None,
    asked: argparse.Namespace,
) -> None:
    """Answer what the journal does not hold yet."""
    if journal.n_done:
        sys.stderr.write(f"predict: goes on after {journal.n_done} of {len(found)} pictures\n")
    rest = islice(found, journal.n_done, None)
    with_tiles = asked.html is not None
    stream = answers.stream(model, rest, radius, with_tiles)
    bar = parallel.show_progress(stream, len(found) - journal.n_done, "predict")
    for place, (ready, answer) in enumerate(bar, journal.n_done):
        shown = with_tiles and place < writing.N_SHOWN
        journal.add(answer, _show(model, ready, answer, asked.explain) if shown else {})


def _show(model: AnsweringModel, ready: Ready, answer: Answer, explains: bool) -> dict[str, Any]:
    """Return the picture, and a map for each of its likeliest classes, as addresses."""
    if ready.tile is None:
        return {}
    shown: dict[str, Any] = {"tile": drawing.embed(ready.tile), "maps": []}
    if explains:
        classes = [name for name, _ in answer.likeliest]
        side = max(ready.pixels)
        for name, values in zip(classes, model.explain(ready, classes), strict=True):
            if values is not None:
                heat = contact_sheets.lay_over(values, ready.pixels[side][0])
                shown["maps"].append([name, drawing.embed(heat)])
    return shown


def _write(
    journal: Journal,
    model: AnsweringModel,
    about: dict[str, Any],
    asked: argparse.Namespace,
) -> Counts:
    counts = Counts()
    for answer, _ in journal.read():
        counts.add(answer)
    told = writing.tabulate(counts, model.about.cell_types, model.about.reference)
    if asked.csv:
        writing.write_csv(asked.csv, journal, model.card.classes, about)
    if asked.json:
        writing.write_json(asked.json, journal, told, about)
    if asked.html:
        writing.write_page(asked.html, journal, told, about, model.about.confidence)
    return counts


def _describe(answer: Answer) -> str:
    if answer.problem is not None:
        return f"{answer.picture}: {answer.verdict}: {answer.problem}"
    told = ", ".join(f"{name} {100 * p:.1f} %" for name, p in answer.likeliest)
    flags = f" ({', '.join(answer.flags)})" if answer.flags else ""
    return f"{answer.picture}: {answer.verdict}: {told}{flags}"


def _say_counts(counts: Counts) -> None:
    told = ", ".join(f"{name} {n:,}" for name, n in sorted(counts.verdicts.items()))
    sys.stdout.write(f"{sum(counts.verdicts.values()):,} pictures: {told}\n")


def _targets(asked: argparse.Namespace) -> list[Path]:
    return [one for one in (asked.csv, asked.json, asked.html) if one]


def _require_writable(path: Path, named: Sequence[str]) -> None:
    """Refuse a place that is not free for answers; above all, a picture is never overwritten."""
    folder = next(one for one in path.absolute().parents if os.path.lexists(one))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = f"{folder} is no folder, or not yours"
    elif path.exists() and not path.is_file():
        problem = "it is there, and no file"
    elif path.exists() and (os.path.realpath(path) in map(os.path.realpath, named)
                            or _holds_pictures(path)):  # fmt: skip
        problem = "it is a picture or an archive, or you ask about it"
    else:
        return
    raise PipelineError(f"{path} cannot be written: {problem}. Name another file.")


def _holds_pictures(path: Path) -> bool:
    with path.open("rb") as file:
        found = formats.recognise(file.read(formats.HEAD), path.name)
    return found is not None and found.kind != "other"


def _is_one_of(asked: Asked, own: Collection[Path]) -> bool:
    """Tell whether a file was written by an earlier run, into the folder that is asked about."""
    return asked.member is not None and asked.member.source.resolve() in own


def _fail(text: str, code: int = 1) -> int:
    sys.stderr.write("predict: " + " ".join(text.split()) + "\n")
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "smearflow predict",
        description="Say of each picture the three most probable classes, and whether to look "
        "again. Research use only.",
        epilog="Write a name that begins with - as ./-name.",
    )
    add = parser.add_argument
    add("pictures", metavar="PICTURE|FOLDER|ARCHIVE", nargs="+")
    texts = {
        "model": ("DIR", Path, "folder of a model that answers (default: data/export)"),
        "hospital": ("FOLDER", str, "pictures of the same place, whose usual cell is the scale"),
        "csv": ("FILE", Path, "a row for each picture"),
        "json": ("FILE", Path, "the same, with counts by folder"),
        "html": ("FILE", Path, "a page with the pictures and counts by folder"),
    }
    for name, (shown, kind, text) in texts.items():
        default = answers.MODEL if name == "model" else None
        add(f"--{name}", metavar=shown, type=kind, default=default, help=text)
    add("--explain", action="store_true", help="maps for each of the three classes, on the page")
    asked = parser.parse_intermixed_args(arguments)  # pictures may follow --csv FILE
    if asked.explain and asked.html is None:
        parser.error("--explain draws on the page: name it by --html FILE")
    files = [one.resolve() for one in _targets(asked)]
    if len(set(files)) < len(files):
        parser.error("--csv, --json and --html name the same file")
    return asked


if __name__ == "__main__":
    sys.exit(main())
