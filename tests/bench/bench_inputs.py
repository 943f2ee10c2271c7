"""Print how fast training is fed beside Keras' generator: python -m tests.bench.bench_inputs.

Both turn by up to 90 degrees and mirror drawn cells, from files of 360 px to batches of 256 px.
Then the strong augmentation at the size of the shipped recipe, on one core and on all.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from stages.core import backend, parallel
from stages.core.params import InputsParams
from stages.images import decoding
from stages.inputs import augmentation, preparation
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples
from stages.models.recipes import NetworkRecipe, Step
from stages.simulation.cells import CELL_TYPES, bank
from stages.simulation.pictures import Look, Style, draw, encode
from stages.training import batches
from tests.made.strong import STRONG

N_IMAGES, N_TIMES, BATCH = 256, 3, 32
RULE = InputsParams(
    crop="whole", scale="image", half_side=1.5, white_balance=["none"], hide="nothing"
)
NOWHERE = preparation.Geometry(None, None, (240.0, 240.0, 240.0))


def make_recipe(size: int, augment: Augmentation) -> NetworkRecipe:
    """A network recipe of which only the size, the batch and the augmentation matter here."""
    return NetworkRecipe(
        kind="network", network="lenet", size=size, batch=BATCH, augment=augment, steps=[Step()]
    )


def draw_files(folder: Path) -> list[Path]:
    """Write drawn cells as JPEG files."""
    style, look = Style(width=360, height=360), Look()
    parts = bank(1, style.px_per_um, style.camera.noise)
    paths = []
    for number in range(N_IMAGES):
        kind = CELL_TYPES[number % len(CELL_TYPES)]
        content = encode(draw(style, kind, [1, 2, number], look, parts).rgb, 90)
        paths.append(folder / f"{number:04d}.jpg")
        paths[-1].write_bytes(content)
    return paths


def prepare(path: Path, size: int) -> np.ndarray:
    """Decode a file and prepare it with surroundings, as `reading.read_wide` does."""
    side = size + 2 * round(size / 4)
    outward = np.diag([side / size, side / size, 1.0])
    rgb = decoding.decode(path.read_bytes()).rgb
    return preparation.prepare(rgb, NOWHERE, RULE, side, "none", outward)


def read_once(paths: list[Path], size: int, file: Any) -> Examples:
    """Write the prepared pictures to a file and map it."""
    for path in paths:
        file.write(prepare(path, size).tobytes())
    file.flush()
    margin = round(size / 4)
    side = size + 2 * margin
    x = np.memmap(file, np.uint8, "r", shape=(len(paths), side, side, 3))
    return Examples([path.name for path in paths], x, margin)


def make_dataset(rows: Examples, recipe: NetworkRecipe, grey_share: float) -> Any:
    """The dataset that training iterates over."""
    targets = np.eye(2, dtype=np.float32)[np.arange(len(rows.x)) % 2]
    weights = np.ones(len(rows.x), np.float32)
    return batches.make_dataset(rows, targets, weights, recipe, grey_share, 1)


def rate(epoch: Callable[[], Iterator[Any]]) -> float:
    """Return the images a second of the best of some epochs, after one to warm up."""
    best = 0.0
    for _ in range(N_TIMES + 1):
        start, n_images = time.perf_counter(), 0
        for batch in epoch():
            n_images += len(batch[0])
        best = max(best, n_images / (time.perf_counter() - start))
    return best


def make_keras_epoch(folder: Path, paths: list[Path]) -> Callable[[], Iterator[Any]]:
    """Keras' generator over the same files, as the second project had it, on as many threads."""
    backend.load_tensorflow()
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    frame = pd.DataFrame(
        {
            "filename": [path.name for path in paths],
            "class": ["ab"[number % 2] for number in range(len(paths))],
        }
    )
    generator = ImageDataGenerator(rotation_range=90, horizontal_flip=True, vertical_flip=True)
    flow = generator.flow_from_dataframe(
        frame, str(folder), target_size=(256, 256), batch_size=BATCH, class_mode="categorical"
    )

    def epoch() -> Iterator[Any]:
        with ThreadPoolExecutor(parallel.count_workers()) as pool:
            yield from pool.map(flow.__getitem__, range(len(flow)))

    return epoch


def main() -> None:
    """Draw files, feed epochs of them both ways in one run; print rates and their ratio."""
    print(f"cores: {parallel.count_workers()}; load before: {os.getloadavg()[0]:.2f}")
    light = make_recipe(256, Augmentation(rotation=90, flips=True))
    strong = make_recipe(112, STRONG)
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as file:
        folder = Path(name)
        paths = draw_files(folder)
        start = time.perf_counter()
        rows = read_once(paths, 256, file)
        once = N_IMAGES / (time.perf_counter() - start)
        print(f"once: decoded and prepared with surroundings, one core: {once:.0f} images/s")
        theirs = rate(make_keras_epoch(folder, paths))
        dataset = make_dataset(rows, light, False)
        ours = rate(lambda: iter(dataset))
        print(f"256 px, rotation 90 and flips: Keras {theirs:.0f} images/s, ours {ours:.0f}")
        print(f"ratio {ours / theirs:.1f}; promised: 3")
        with tempfile.TemporaryFile() as small:
            rows = read_once(paths, 112, small)
            dataset = make_dataset(rows, strong, True)
            everything = rate(lambda: iter(dataset))
            cv2.setNumThreads(1)
            views = list(range(N_IMAGES)) * 2
            start = time.perf_counter()
            for place, row in enumerate(views):
                rng = np.random.default_rng([1, place])
                augmentation.augment(rows.x[row], rows.x[row], 28, strong.augment, True, rng)
            milliseconds = 1000 * (time.perf_counter() - start) / len(views)
        print(f"112 px, strong: {everything:.0f} images/s; {milliseconds:.2f} ms a view, one core")
    print(f"load after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
