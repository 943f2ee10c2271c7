"""Batches for training: rows in the order of an epoch, each augmented anew, a few at a time."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from stages.core import backend, parallel
from stages.inputs import augmentation
from stages.inputs.reading import Examples
from stages.models.recipes import NetworkRecipe

PREFETCH = 2  # batches: one is augmented while the network learns from another
# Last words of the seeds, so that no two kinds of draws share a generator. None is 0: NumPy takes
# a seed that ends in zeros for the one without them.
ORDER, CLASS_ORDER, VIEW, STORED_VIEW, HOSPITAL_ORDER = 1, 2, 3, 4, 5

View = tuple[int, list[int] | None]  # row, and seed of its changes; None: the plain view


def make_dataset(
    rows: Examples,
    targets: np.ndarray,
    weights: np.ndarray,
    recipe: NetworkRecipe,
    grey_share: float,
    seed: int | None,
    first_epoch: int = 0,
) -> Any:
    """Return the batches of one epoch after the other.

    Parameters
    ----------
    rows : Examples
        Pixels, with or without surroundings.
    targets : numpy.ndarray of float32, shape (n_rows, n_classes)
        Where each row's class stands.
    weights : numpy.ndarray of float32, shape (n_rows,)
        How much each row counts.
    recipe : NetworkRecipe
        Batch, sampling and augmentation.
    grey_share : float
        Share of the augmented views that end with grey world, as in ``inputs.white_balance``.
    seed : int, optional
        Of orders and views; each iteration over the dataset is the next epoch. Without a seed
        the rows come plain and in their order, as for watching a validation loss.
    first_epoch : int
        Number of the first iteration's epoch: 0, or where a stopped training goes on.

    Returns
    -------
    dataset : tf.data.Dataset
        Of (pixels uint8 (b, size, size, 3), targets, weights), with known cardinality. An epoch
        has as many rows as `rows`.

    Notes
    -----
    A view depends on the seed, its epoch and its place in it, not on the batch, the number of
    threads or what else is drawn. Only a few batches are in memory at a time.
    """
    _, tf = backend.load_tensorflow()
    epochs = itertools.count(first_epoch)
    size = rows.x.shape[1] - 2 * rows.margin

    def draw() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        views: Iterator[View] = ((row, None) for row in range(len(rows.x)))
        if seed is not None:
            epoch = next(epochs)
            order = draw_order(targets, rows.image_ids, recipe.sampling, seed, epoch)
            views = ((row, [seed, epoch, place, VIEW]) for place, row in enumerate(order))
        for batch, pixels in _cut_batches(rows, views, recipe, grey_share):
            yield pixels, targets[batch], weights[batch]

    signature = (
        tf.TensorSpec((None, size, size, 3), tf.uint8),
        tf.TensorSpec((None, targets.shape[1]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(draw, output_signature=signature)
    n_batches = -(-len(rows.x) // recipe.batch)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(PREFETCH)


def stream_views(
    rows: Examples, recipe: NetworkRecipe, grey_share: float, n_views: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some views of every row, for frozen layers that run once.

    Parameters
    ----------
    rows, recipe, grey_share
        As `make_dataset` takes them.
    n_views : int
        Views of each row: the plain one, and ``n_views - 1`` augmented ones.
    seed : int
        Of the augmented views.

    Yields
    ------
    indices : numpy.ndarray of int, shape (b,)
        Row of each view: all rows in order for the plain view, then again for each further one.
    pixels : numpy.ndarray of uint8, shape (b, size, size, 3)

    Notes
    -----
    More views, or another batch, do not change those that there were.
    """
    views: Iterator[View] = (
        (row, [seed, number, row, STORED_VIEW] if number else None)
        for number in range(n_views)
        for row in range(len(rows.x))
    )
    return _cut_batches(rows, views, recipe, grey_share)


def draw_order(
    targets: np.ndarray, image_ids: Sequence[str], sampling: str, seed: int, epoch: int
) -> np.ndarray:
    """Draw the rows of an epoch in their order.

    Parameters
    ----------
    targets : numpy.ndarray of float32, shape (n_rows, n_classes)
        Where each row's class stands.
    image_ids : sequence of str, length n_rows
        Of which the first part is the hospital.
    sampling : {"shuffled", "balanced", "balanced_by_hospital"}
        Each row once; or each class as often, up to one, and inside a class each row once before
        any comes again; or inside a class also each hospital as often, up to one, and inside of
        both each row once before any comes again.
    seed, epoch : int

    Returns
    -------
    numpy.ndarray of int, shape (n_rows,)
        The same for any order of the classes and any names of the hospitals: both are known by
        their first rows.
    """
    rng = np.random.default_rng([seed, epoch, ORDER])
    n_rows = len(targets)
    if sampling == "shuffled":
        return rng.permutation(n_rows)
    codes = targets.argmax(axis=1)
    hospitals = np.array([image_id.split("/")[0] for image_id in image_ids])
    order = np.empty(n_rows, np.int64)
    for first_row, places in _take_turns(codes, n_rows, rng):
        members = np.flatnonzero(codes == codes[first_row])
        if sampling == "balanced":
            order[places] = _draw_rounds(members, len(places), seed, epoch)
            continue
        own = np.random.default_rng([seed, epoch, first_row, HOSPITAL_ORDER])
        for first, turns in _take_turns(hospitals[members], len(places), own):
            rows = members[hospitals[members] == hospitals[members[first]]]
            order[places[turns]] = _draw_rounds(rows, len(turns), seed, epoch)
    return order


def _take_turns(
    codes: np.ndarray, n_draws: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield for each code its first row and the draws that are its own, as many up to one."""
    first_rows = np.sort(np.unique(codes, return_index=True)[1])
    n_each = np.full(len(first_rows), n_draws // len(first_rows))
    n_each[rng.permutation(len(first_rows))[: n_draws % len(first_rows)]] += 1
    turns = rng.permutation(np.repeat(first_rows, n_each))
    for first_row in first_rows:
        yield int(first_row), np.flatnonzero(turns == first_row)


def _draw_rounds(members: np.ndarray, n_draws: int, seed: int, epoch: int) -> np.ndarray:
    """Draw some rows, each once before any comes again."""
    rng = np.random.default_rng([seed, epoch, members[0], CLASS_ORDER])
    rounds = [rng.permutation(members) for _ in range(-(-n_draws // len(members)))]
    return np.concatenate([members[:0], *rounds])[:n_draws]


def _cut_batches(
    rows: Examples, views: Iterator[View], recipe: NetworkRecipe, grey_share: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows and pixels of each batch of views."""
    size = rows.x.shape[1] - 2 * rows.margin
    middle = slice(rows.margin, rows.margin + size)

    def cut(view: View) -> np.ndarray:
        row, seed = view
        if seed is None or recipe.augment.is_empty:
            return rows.x[row, middle, middle]
        hidden = None if rows.hidden is None else rows.hidden[row]
        rng = np.random.default_rng(seed)
        return augmentation.augment(
            rows.x[row], hidden, rows.margin, recipe.augment, grey_share, rng
        )

    def fill(pixels: np.ndarray, batch: list[View]) -> None:
        for place, view in enumerate(batch):
            pixels[place] = cut(view)

    # OpenCV and NumPy let other threads run while they compute.
    n_workers = parallel.count_workers()
    with ThreadPoolExecutor(n_workers) as pool:
        while batch := list(islice(views, recipe.batch)):
            pixels = np.empty((len(batch), size, size, 3), np.uint8)
            parts = [
                pool.submit(fill, pixels[first::n_workers], batch[first::n_workers])
                for first in range(n_workers)
            ]
            for part in parts:
                part.result()
            yield np.array([row for row, _ in batch]), pixels
