"""The views of each picture that a frozen network looks at: plain ones, and augmented ones."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from stages.core import augmentation, decoding, inputs, parallel
from stages.core.errors import TableError
from stages.core.params import InputsParams, Params, seed_for
from stages.core.tables import IMAGES, QUALITY, ROW_GROUP

BATCH = 32  # views: enough to keep the cores busy, and a fixed number: the same for any machine
VIEWS_AHEAD = 2 * ROW_GROUP  # one group is prepared while the network works on another
Picture = tuple[str, bytes, inputs.Geometry]
Views = list[tuple[str, np.ndarray]]


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
        (balance, inputs.prepare(rgb, geometry, rule.inputs, size, balance)) for balance in balances
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
        view = inputs.prepare(rgb, geometry, masked, size, balance, turn)
        views.append((name, augmentation.change_colours(view, augmentation.STRONG, rng)))
    return image_id, sorted(views, key=lambda view: view[0])


def prepare_ahead(hospital: str, rule: Params) -> Iterator[tuple[str, Views]]:
    """Prepare pictures on threads while the network works on earlier ones; keep their order."""
    pictures = read_pictures(hospital, rule.inputs)
    prepare = partial(prepare_views, rule=rule)
    n_ahead = max(1, VIEWS_AHEAD // count_views(rule))
    waiting: deque[Future[tuple[str, Views]]] = deque()
    with ThreadPoolExecutor(parallel.count_workers()) as pool:
        waiting.extend(pool.submit(prepare, picture) for picture in islice(pictures, n_ahead))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(prepare, picture) for picture in islice(pictures, 1))
        finally:
            for future in waiting:
                future.cancel()


def read_pictures(hospital: str, rule: InputsParams) -> Iterator[Picture]:
    """Yield id, file and geometry of each usable picture of a hospital.

    Raises
    ------
    TableError
        The quality table lacks a picture.
    """
    geometries = inputs.geometries(QUALITY.read(hospital), rule)
    for row in IMAGES.stream(hospital, ["image_id", "bytes"]):
        image_id = row["image_id"]
        if image_id not in geometries:
            raise TableError(
                f"{QUALITY.at(hospital)} has no row for {image_id}, a picture of "
                f"{IMAGES.at(hospital)}. Run 'uv run dvc repro', which brings the tables into step."
            )
        yield image_id, row["bytes"], geometries[image_id]


def gather(
    pictures: Iterator[tuple[str, Views]],
) -> Iterator[tuple[list[str], list[str], np.ndarray]]:
    """Yield image ids, view names and pixels of one row group of views at a time."""
    views = ((image_id, name, pixels) for image_id, many in pictures for name, pixels in many)
    while batch := list(islice(views, ROW_GROUP)):
        image_ids, names, pixels = zip(*batch, strict=True)
        yield list(image_ids), list(names), np.stack(pixels)


def embed(network: Any, pixels: np.ndarray) -> np.ndarray:
    """Return the network's vectors, shape (n_views, n_features), float32."""
    parts = [
        network.predict_on_batch(pixels[start : start + BATCH])
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)
