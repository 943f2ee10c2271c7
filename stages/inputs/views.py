"""The views of each picture that a frozen network looks at: plain ones, and augmented ones."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from stages.core import parallel
from stages.core.errors import TableError
from stages.core.params import InputsParams, Params
from stages.core.settings import seed_for
from stages.core.tables import IMAGES, QUALITY
from stages.images import decoding
from stages.inputs import augmentation, preparation

BATCH = 24  # views, at most: fast on one core, little memory, and the same on any machine
BATCHES_AHEAD = 3  # of the one that is waited for, for each worker
Picture = tuple[str, bytes, preparation.Geometry]
Views = list[tuple[str, np.ndarray]]
Vectors = list[tuple[str, str, np.ndarray]]


def count_views(rule: Params) -> int:
    """Return how many views each picture has."""
    return len(rule.inputs.white_balance) + rule.features.augmented_views


def prepare_views(picture: Picture, rule: Params) -> tuple[str, Views]:
    """Return all views of a picture by name, sorted.

    Plain views are named by their white balance, augmented ones ``<balance>/augmented_<n>``, and
    go through the balances in turn. Each draws from a generator of its own name, so that a view
    never depends on which others there are.
    """
    image_id, content, geometry = picture
    rgb = decoding.decode(content).rgb
    size, balances = rule.features.size, rule.inputs.white_balance
    views: Views = [
        (balance, preparation.prepare(rgb, geometry, rule.inputs, size, balance))
        for balance in balances
    ]
    for number in range(1, rule.features.augmented_views + 1):
        balance = balances[(number - 1) % len(balances)]
        name = f"{balance}/augmented_{number}"
        rng = np.random.default_rng(seed_for(rule.seed, image_id, name))
        hide = rule.inputs.hide
        if augmentation.wants_mask(augmentation.STRONG, rng) and hide == "nothing":
            hide = "background"
        masked: InputsParams = rule.inputs.model_copy(update={"hide": hide})
        turn = augmentation.random_transform(augmentation.STRONG, rng)
        view = preparation.prepare(rgb, geometry, masked, size, balance, turn)
        views.append((name, augmentation.change_colours(view, augmentation.STRONG, rng)))
    return image_id, sorted(views, key=lambda view: view[0])


def embed_pictures(
    network: Any, hospital: str, rule: Params
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Prepare and embed the pictures of a hospital, several batches at once.

    Parameters
    ----------
    network : keras.Model
        As `backbones.load_extractor` gives it.
    hospital : str
    rule : Params
        With inputs, features and seed.

    Yields
    ------
    image_id, view : str
    vector : numpy.ndarray of float32, shape (n_features,)
        In the order of the images table, the views of a picture sorted: the same for any number
        of threads.

    Raises
    ------
    TableError
        The quality table lacks a picture.

    Notes
    -----
    Each thread prepares whole batches and asks the network itself. Where the network's operations
    use one thread each (`backend.use_one_thread_an_operation`), no core waits for another:
    measured by ``python -m tests.bench.bench_features``.
    """
    pictures = read_pictures(hospital, rule.inputs)
    n_pictures = max(1, BATCH // count_views(rule))
    batches = iter(lambda: list(islice(pictures, n_pictures)), [])
    work = partial(_embed_batch, network=network, rule=rule)
    n_workers = parallel.count_workers()
    waiting: deque[Future[Vectors]] = deque()
    with ThreadPoolExecutor(n_workers) as pool:
        try:
            for batch in islice(batches, 1):  # alone: threads would all trace the graph at once
                yield from work(batch)
            waiting.extend(pool.submit(work, b) for b in islice(batches, n_workers * BATCHES_AHEAD))
            while waiting:
                yield from waiting.popleft().result()
                waiting.extend(pool.submit(work, batch) for batch in islice(batches, 1))
        finally:
            for future in waiting:
                future.cancel()


def _embed_batch(batch: list[Picture], network: Any, rule: Params) -> Vectors:
    views = [
        (image_id, name, pixels)
        for picture in batch
        for image_id, many in [prepare_views(picture, rule)]
        for name, pixels in many
    ]
    vectors = embed(network, np.stack([pixels for _, _, pixels in views]))
    return [(*view[:2], vector) for view, vector in zip(views, vectors, strict=True)]


def read_pictures(hospital: str, rule: InputsParams) -> Iterator[Picture]:
    """Yield id, file and geometry of each usable picture of a hospital.

    Raises
    ------
    TableError
        The quality table lacks a picture.
    """
    geometries = preparation.geometries(QUALITY.read(hospital), rule)
    for row in IMAGES.stream(hospital, ["image_id", "bytes"]):
        image_id = row["image_id"]
        if image_id not in geometries:
            raise TableError(
                f"{QUALITY.at(hospital)} has no row for {image_id}, a picture of "
                f"{IMAGES.at(hospital)}. Run 'uv run dvc repro', which brings the tables into step."
            )
        yield image_id, row["bytes"], geometries[image_id]


def embed(network: Any, pixels: np.ndarray) -> np.ndarray:
    """Return the network's vectors, shape (n_views, n_features), float32."""
    parts = [
        network.predict_on_batch(pixels[start : start + BATCH])
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)
