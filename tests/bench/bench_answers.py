"""Print the rate of answers beside the bare model's, and memory.

python -m tests.bench.bench_answers

The rate is that of data/export, the shipped demo's model, on pictures of demo_west; the bare
network and the bare model answer the same pictures, prepared before. Memory is that of a small
network made by hand, for 1,000 and for 20,000 names of the same pictures; each in a process of
its own, the workers' memory beside it.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from stages.answering import answers, pictures
from stages.answering.model import BATCH, AnsweringModel
from stages.answering.pictures import Rule
from stages.core.tables import IMAGES
from stages.tools import answer
from tests.made import answering

N_PICTURES = 256
N_RATE = 1024  # names of these pictures
N_WARM = 256  # of them, answered before the time counts: libraries are loaded meanwhile
NUMBERS = (1_000, 20_000)
ROUNDS = 2


def write_pictures(folder: Path) -> None:
    rows = IMAGES.stream("demo_west", ["image_id", "bytes"])
    for number, row in enumerate(islice(rows, N_PICTURES)):
        for turn in range(N_RATE // N_PICTURES):
            (folder / f"{turn}_{number:04d}.jpg").write_bytes(row["bytes"])


def prepare(folder: Path, model: AnsweringModel) -> list[pictures.Ready]:
    """Make the first pictures ready, in this process."""
    rule = Rule(model.card.inputs, model.about.filter, model.recipes)
    with pictures.find([str(folder)]) as asked:
        return [pictures.make_ready(one, rule) for one in asked[:N_WARM]]


def rate_answers(folder: Path) -> float:
    """Return pictures a second."""
    model = AnsweringModel(answers.MODEL)
    with pictures.find([str(folder)]) as asked:
        stream = answers.stream(model, asked)
        n_warm = sum(1 for _ in islice(stream, N_WARM))
        start = time.perf_counter()
        n_rest = sum(1 for _ in stream)
    assert (n_warm, n_rest) == (N_WARM, N_RATE - N_WARM)
    return n_rest / (time.perf_counter() - start)


def rate_bare(folder: Path, with_trees: bool) -> float:
    """Return pictures a second of what is prepared before."""
    model = AnsweringModel(answers.MODEL)
    ready = prepare(folder, model)
    times = []
    for _ in range(2):  # the first one builds the networks' graphs
        start = time.perf_counter()
        for first in range(0, len(ready), BATCH):
            batch = ready[first : first + BATCH]
            if with_trees:
                model.answer(batch)
                continue
            for part in model._parts.values():
                if part.network is not None:
                    part.predict(np.concatenate([one.pixels[part.recipe.side] for one in batch]))
        times.append(time.perf_counter() - start)
    return len(ready) / times[-1]


def peak(n: int) -> tuple[float, float]:
    """Return the largest memory of the process and of its largest worker, MiB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        [cell] = answering.write_cells(folder / "one", "monocyte", 1)
        many = folder / "many"
        many.mkdir()
        for number in range(n):
            os.link(cell, many / f"{number:06d}.png")
        model = answering.write_export(folder / "export")
        answer.main([str(many), "--model", str(model), "--csv", str(folder / "a.csv")])
    return tuple(  # type: ignore[return-value]
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def main() -> None:
    def apart(function: Callable[..., object], *given: object) -> object:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, *given).result()

    with tempfile.TemporaryDirectory() as place:
        write_pictures(Path(place))
        for _ in range(ROUNDS):
            for what, function, given in (
                ("bare networks", rate_bare, (False,)),
                ("bare model", rate_bare, (True,)),
                ("answers", rate_answers, ()),
            ):
                found = apart(function, Path(place), *given)
                sys.stdout.write(f"{what:14}  {found:.1f} pictures a second\n")
                sys.stdout.flush()
    for n in NUMBERS:
        found = apart(peak, n)
        sys.stdout.write(f"{n:6} pictures: MiB of the process, of a worker: {found}\n")


if __name__ == "__main__":
    main()
