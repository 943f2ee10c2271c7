"""The plain views of each picture through a frozen network."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core import parallel
from stages.core.params import InputsParams
from stages.images import decoding
from stages.inputs import preparation, reading
from stages.inputs.reading import Picture

BATCH = 24  # views, at most: fast on one core, little memory, and the same on any machine
BATCHES_AHEAD = 3  # of the one that is waited for, for each worker
Vectors = list[tuple[str, str, np.ndarray]]


def embed_pictures(
    network: Any, hospital: str, rule: InputsParams, size: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Prepare and embed the pictures of a hospital, several batches at once.

    Parameters
    ----------
    network : keras.Model
        As `backbones.load_extractor` gives it.
    hospital : str
    rule : InputsParams
        Each entry of ``white_balance`` is a view.
    size : int
        Side of a view, px.

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
    pictures = reading.stream_pictures(hospital, rule)
    n_pictures = max(1, BATCH // len(rule.white_balance))
    batches = iter(lambda: list(islice(pictures, n_pictures)), [])
    work = partial(_embed_batch, network=network, rule=rule, size=size)
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


def average(image_ids: Sequence[str], x: NDArray[np.float32]) -> pd.DataFrame:
    """Return the mean vector of each image.

    Parameters
    ----------
    image_ids : sequence of str, length n_rows
        The image of each row.
    x : numpy.ndarray of float32, shape (n_rows, n_features)
        A row for each view.

    Returns
    -------
    pandas.DataFrame of float64, shape (n_images, n_features)
        Index image_id, sorted.
    """
    codes, names = pd.factorize(np.asarray(image_ids, dtype=object), sort=True)
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, codes, x)
    counts = np.bincount(codes, minlength=len(names))
    return pd.DataFrame(sums / counts[:, None], index=pd.Index(names, name="image_id"))


def _embed_batch(batch: list[Picture], network: Any, rule: InputsParams, size: int) -> Vectors:
    names: list[tuple[str, str]] = []
    views = []
    for image_id, content, geometry in batch:
        rgb = decoding.decode(content).rgb
        for balance in sorted(rule.white_balance):
            names.append((image_id, balance))
            views.append(preparation.prepare(rgb, geometry, rule, size, balance))
    vectors = np.concatenate(
        [
            network.predict_on_batch(np.stack(views[start : start + BATCH]))
            for start in range(0, len(views), BATCH)
        ]
    ).astype(np.float32, copy=False)
    return [(*name, vector) for name, vector in zip(names, vectors, strict=True)]
