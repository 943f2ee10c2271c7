"""Print the rate of answers beside the bare model's, and memory.

python -m tests.bench.bench_answers

The rates are those of two models on pictures of demo_west: data/export, the shipped demo's (a
network of 112 px and trees on measures), and the network of 224 px that ``lite0_finetuned_gpu``
trains, here with drawn weights. The bare network and the bare model answer the same pictures,
prepared before. Memory is that of a small network made by hand, for 1,000 and for 20,000 names of
the same pictures; each in a process of its own, the workers' memory beside it.
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
from typing import Any

import numpy as np

from stages.answering import about, answers, pictures
from stages.answering.model import BATCH, AnsweringModel
from stages.answering.pictures import Rule
from stages.core.tables import IMAGES
from stages.models import networks, trained
from stages.models.recipes import NetworkRecipe, Step
from stages.tools import answer
from tests.made import answering
from tests.made.lenets import CLASSES

N_PICTURES = 128
N_RATE = 512  # names of these pictures
N_WARM = 128  # of them, answered before the time counts: libraries are loaded meanwhile
NUMBERS = (1_000, 20_000)
ROUNDS = 2


def write_pictures(folder: Path) -> None:
    rows = IMAGES.stream("demo_west", ["image_id", "bytes"])
    for number, row in enumerate(islice(rows, N_PICTURES)):
        for turn in range(N_RATE // N_PICTURES):
            (folder / f"{turn}_{number:04d}.jpg").write_bytes(row["bytes"])


def write_larger(folder: Path) -> Path:
    """Write a model whose network costs four times as much, and which measures nothing."""
    recipe = NetworkRecipe(
        kind="network", network="efficientnet_lite0", size=224, flips_at_test=True, steps=[Step()]
    )
    card = trained.read_card(answers.MODEL / about.MODEL)
    shape = (recipe.side, recipe.side, 3)
    network = networks.build(recipe, shape, len(CLASSES))
    model = trained.SingleModel(CLASSES, recipe, card.inputs, shape, network)
    return answering.write_export(folder, model)


def prepare(folder: Path, model: AnsweringModel) -> list[pictures.Ready]:
    """Make the first pictures ready, in this process."""
    rule = Rule(model.card.inputs, model.about.filter, model.recipes)
    with pictures.find([str(folder)]) as asked:
        return [pictures.make_ready(one, rule) for one in asked[:N_WARM]]


def rate_answers(folder: Path, place: Path) -> float:
    """Return pictures a second."""
    model = AnsweringModel(place)
    with pictures.find([str(folder)]) as asked:
        stream = answers.stream(model, asked)
        n_warm = sum(1 for _ in islice(stream, N_WARM))
        start = time.perf_counter()
        n_rest = sum(1 for _ in stream)
    assert (n_warm, n_rest) == (N_WARM, N_RATE - N_WARM)
    return n_rest / (time.perf_counter() - start)


def rate_bare(folder: Path, place: Path, with_trees: bool) -> float:
    """Return pictures a second of what is prepared before."""
    model = AnsweringModel(place)
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
    def apart(function: Callable[..., Any], *given: object) -> Any:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, *given).result()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        write_pictures(folder)
        larger = Path(scratch) / "larger"
        apart(write_larger, larger)
        for what, place in ("the demo's model", answers.MODEL), ("a network of 224 px", larger):
            for _ in range(ROUNDS):
                networks_alone = apart(rate_bare, folder, place, False)
                model_alone = apart(rate_bare, folder, place, True)
                whole = apart(rate_answers, folder, place)
                sys.stdout.write(
                    f"{what}: bare networks {networks_alone:.1f} pictures a second, bare model "
                    f"{model_alone:.1f}, answers {whole:.1f}: {whole / networks_alone:.2f} of the "
                    f"networks' rate, {whole / model_alone:.2f} of the model's\n"
                )
                sys.stdout.flush()
    for n in NUMBERS:
        found = apart(peak, n)
        sys.stdout.write(f"{n:6} pictures: MiB of the process, of a worker: {found}\n")


if __name__ == "__main__":
    main()
