"""Answering a stream of pictures: on all cores, in little memory, and on again after a kill."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from stages.answering import pictures
from stages.answering.model import BATCH, Answer, AnsweringModel
from stages.answering.pictures import Asked, Ready, Rule
from stages.core import parallel
from stages.core.errors import ModelError

MODEL = Path("data/export")
MIN_CELLS = 20  # of a folder, before their median is a usual cell


def ask(
    arguments: Sequence[str], model: str | Path = MODEL, hospital: str | None = None
) -> Iterator[Answer]:
    """Answer pictures, folders and archives from Python.

    Parameters
    ----------
    arguments : sequence of str
    model : str or pathlib.Path
        ``data/export``, or a copy of it.
    hospital : str, optional
        Folder or archive of the same place, whose usual cell is the scale; None: each picture's
        own cell.

    Yields
    ------
    Answer
        One for each file, also for those that cannot be read, in the order of the arguments.

    Examples
    --------
    >>> for answer in ask(["smears/1.png"]):  # doctest: +SKIP
    ...     print(answer.picture, answer.verdict, answer.likeliest)
    """
    answering = AnsweringModel(Path(model))
    radius = find_scale(hospital, answering) if hospital else None
    with pictures.find(arguments) as asked:
        for _, answer in stream(answering, asked, radius):
            yield answer


def stream(
    model: AnsweringModel,
    asked: Iterable[Asked],
    radius: float | None = None,
    with_tiles: bool = False,
) -> Iterator[tuple[Ready, Answer]]:
    """Yield each picture, made ready, with its answer; some hundred are in memory at a time."""
    rule = Rule(model.card.inputs, model.about.filter, model.recipes, radius, with_tiles)
    # The first pictures are asked for before TensorFlow is loaded.
    ready = parallel.map_ordered(partial(pictures.make_ready, rule=rule), asked, _limit_workers())
    while batch := list(islice(ready, BATCH)):
        yield from zip(batch, model.answer(batch), strict=True)


def find_scale(place: str, model: AnsweringModel) -> float:
    """Return the radius of a usual cell of a place, px: as for a hospital that trains.

    Raises
    ------
    ModelError
        Fewer than 20 of its pictures show a cell.
    """
    with pictures.find([place]) as asked:
        measure = partial(pictures.measure_radius, rule=model.about.filter)
        measured = parallel.map_ordered(measure, asked, _limit_workers())
        shown = parallel.show_progress(measured, len(asked), "scale")
        cells = [one for one in shown if one is not None]
    if len(cells) < MIN_CELLS:
        raise ModelError(
            f"--hospital {place}: {len(cells)} of {len(asked)} files show a cell; a usual cell "
            f"takes {MIN_CELLS}. Give a folder with more pictures of the place, or leave "
            "--hospital out: then each picture's own cell is its scale."
        )
    return median([radius for radius, is_sure in cells if is_sure] or [one for one, _ in cells])


def _limit_workers() -> int | None:
    """Return 1 where TensorFlow is loaded, as in a notebook's second call; else no limit.

    Until then processes are forked; afterwards they would import the caller's program.
    """
    return 1 if "tensorflow" in sys.modules else None
