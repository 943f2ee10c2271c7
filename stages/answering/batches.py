"""Pictures that a person asks about in one go, and all that a page shows of them."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.answering import answers, pictures, uploads, writing
from stages.answering.differential import Counts
from stages.answering.model import Answer, AnsweringModel
from stages.answering.pictures import Asked, Ready, Rule
from stages.answering.writing import Journal
from stages.datasets import archives, filtering
from stages.images import contact_sheets, decoding
from stages.pages import drawing

SCALE = "each picture's own cell"
SIDE = 480  # px, of the picture that is looked at
ONE_AT_A_TIME = threading.RLock()  # windows of a browser share the models


@dataclass(frozen=True)
class Drawn:
    """Where the evidence for a class lies.

    Attributes
    ----------
    label : str
    map : str, optional
        As an address; None where no network of the model knows the class.
    is_empty : bool
        Nothing in the picture speaks for the class.
    """

    label: str
    map: str | None
    is_empty: bool


@dataclass(frozen=True)
class Detail:
    """What is shown of a picture when it is looked at alone; pictures as addresses.

    Attributes
    ----------
    picture : str
        As sent, its longer side 480 px.
    pixel_sha256 : str
        As in ``tables.IMAGES``.
    ready : list of Ready
        For each model.
    maps : list of list of Drawn
        For each model, of the three most probable classes.
    """

    picture: str
    pixel_sha256: str
    ready: list[Ready]
    maps: list[list[Drawn]]


@dataclass(frozen=True)
class Batch:
    """Pictures with the answers of one model or two.

    Attributes
    ----------
    models : list of AnsweringModel
    asked : list of Asked
    answers : list of list of Answer
        For each model, in the order of `asked`.
    tiles : list of str or None
        Small copies with outlines, as addresses; None where a file was not read.
    folder : pathlib.Path
        Temporary.
    """

    models: Sequence[AnsweringModel]
    asked: list[Asked]
    answers: list[list[Answer]]
    tiles: list[str | None]
    folder: Path
    _details: dict[int, Detail] = field(default_factory=dict)

    def differs(self, number: int) -> bool:
        """Whether the models call a picture by classes that share no cell type."""
        named = []
        for model, own in zip(self.models, self.answers, strict=True):
            call = own[number].call or ""
            named.append(set(model.about.cell_types.get(call) or [call]))
        return not set.intersection(*named)

    def look(self, number: int) -> Detail:
        """Return what is shown of a picture that was read."""
        with ONE_AT_A_TIME:
            if number not in self._details:
                self._details[number] = self._look(number)
        return self._details[number]

    def count(self, place: int, together: bool = False) -> dict[str, Any]:
        """Return the verdicts, and the differential count of each folder, by one model.

        With `together` all pictures are counted as one folder.
        """
        told, counts = self.models[place].about, Counts()
        for one in self.answers[place]:
            counts.add(replace(one, folder=".") if together else one)
        return writing.tabulate(counts, told.cell_types, told.reference)

    def write(self, place: int, kind: str) -> bytes:
        """Return the answers of one model as the file that ``smearflow predict`` writes.

        Parameters
        ----------
        place : int
            Of the model.
        kind : {"csv", "json", "html"}
        """
        model = self.models[place]
        told = {**model.trace, "scale": SCALE}
        journal = Journal(self.folder / f"{place}.partial", writing.sign(told))
        try:
            for number in range(journal.n_done, len(self.asked)):
                tile = self.tiles[number]
                journal.add(self.answers[place][number], {} if tile is None else {"tile": tile})
            path = self.folder / f"{place}.{kind}"
            if kind == "csv":
                writing.write_csv(path, journal, model.card.classes, told)
            elif kind == "json":
                writing.write_json(path, journal, self.count(place), told)
            else:
                counts = self.count(place)
                writing.write_page(path, journal, counts, told, model.about.confidence)
        finally:
            journal.close()
        return path.read_bytes()

    def _look(self, number: int) -> Detail:
        asked = self.asked[number]
        assert asked.member is not None
        rgb = decoding.decode(archives.read_member(asked.member)).rgb
        ready, maps = [], []
        for model, own in zip(self.models, self.answers, strict=True):
            rule = Rule(model.card.inputs, model.about.filter, model.recipes)
            one = pictures.make_ready(asked, rule)
            ready.append(one)
            maps.append(_draw_maps(model, one, [name for name, _ in own[number].likeliest]))
        picture = drawing.embed(contact_sheets.shrink(rgb, SIDE))
        return Detail(picture, filtering.hash_pixels(rgb), ready, maps)


@contextmanager
def answer(
    files: Iterable[tuple[str, bytes]],
    models: Sequence[AnsweringModel],
    tell: Callable[[int, int], None],
) -> Iterator[Batch]:
    """Answer files of a person; what is kept of them goes when the block ends.

    Parameters
    ----------
    files : iterable of (str, bytes)
        As `uploads.keep` takes them.
    models : sequence of AnsweringModel
    tell : callable
        Is told before each picture is read the number of this one, and how many there will be.
    """
    with uploads.keep(files) as asked, tempfile.TemporaryDirectory(prefix="smearflow-") as folder:
        batch = Batch(models, asked, [[] for _ in models], [], Path(folder))
        n_all = len(asked) * len(models)
        with ONE_AT_A_TIME:
            for place, model in enumerate(models):
                taken = _count(asked, place * len(asked), lambda done: tell(done, n_all))
                for ready, one in answers.stream(model, taken, with_tiles=place == 0):
                    batch.answers[place].append(one)
                    if place == 0:
                        tile = None if ready.tile is None else drawing.embed(ready.tile)
                        batch.tiles.append(tile)
        yield batch


def _count(asked: Sequence[Asked], n: int, tell: Callable[[int], None]) -> Iterator[Asked]:
    """Tell of each picture as it is taken: they are answered many at a time, read one by one."""
    for number, one in enumerate(asked, n + 1):
        tell(number)
        yield one


def _draw_maps(model: AnsweringModel, ready: Ready, classes: Sequence[str]) -> list[Drawn]:
    drawn = []
    seen = ready.pixels[max(ready.pixels)][0]
    for name, values in zip(classes, model.explain(ready, classes), strict=True):
        if values is None:
            drawn.append(Drawn(name, None, True))
        else:
            heat = drawing.embed(contact_sheets.lay_over(values, seen))
            drawn.append(Drawn(name, heat, not values.any()))
    return drawn
