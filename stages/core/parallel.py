"""Per-image work on all cores: results in order, memory bounded, the same for any worker count."""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from stages.core import cluster
from stages.core.errors import ParamsError, PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16
CHUNKS_AHEAD_PER_WORKER = 3
KEPT = {-1: 1 << 30, -3: 1 << 25}  # bytes; glibc's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (its highest)


def count_workers() -> int:
    """Return ``SMEARFLOW_WORKERS``, or the number of cores that this process may use.

    Raises
    ------
    ParamsError
        The variable is not a whole number of at least 1.
    """
    text = os.environ.get("SMEARFLOW_WORKERS")
    if text is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not text.isdigit() or int(text) < 1:
        raise ParamsError(
            f"SMEARFLOW_WORKERS is {text!r}; it takes a whole number of processes, 1 or more. "
            "Unset it to use every core."
        )
    return int(text)


def show_progress(results: Iterable[Result], n: int, what: str) -> Iterator[Result]:
    """Pass `n` results on under a bar with the time that is left; on a terminal only."""
    from tqdm import tqdm

    bar = tqdm(results, what, n, leave=False, unit=" pictures", disable=not sys.stderr.isatty())
    yield from bar


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Apply `function` to each item on several processes; yield the results in item order.

    Parameters
    ----------
    function : callable
        A module-level function (it travels to other processes).
    items : iterable
        Read lazily: only a few chunks of items and results are in memory at a time.
    workers : int, optional
        Number of processes on this machine. 1 runs in this process. Where not given, the workers
        of the Dask scheduler that ``DASK_SCHEDULER_ADDRESS`` names (`cluster`), or else
        `count_workers`.

    Yields
    ------
    object
        ``function(item)``, in the order of `items` whatever the number of workers.
    """
    if workers is None and (address := os.environ.get(cluster.ADDRESS)):
        with cluster.connect(address) as far:
            yield from _map_ahead(
                lambda chunk: far.submit(_apply_settled, function, chunk), items, far.count_workers
            )
        return
    n = workers or count_workers()
    if n == 1:
        with _one_thread():  # more of them only wait for each other over one picture
            yield from map(function, items)
        return
    with _one_thread(), ProcessPoolExecutor(n, None, _settle) as pool:
        yield from _map_ahead(lambda chunk: pool.submit(_apply, function, chunk), items, lambda: n)


def _map_ahead(
    submit: Callable[[list[Item]], Any], items: Iterable[Item], count: Callable[[], int]
) -> Iterator[Any]:
    """Keep some chunks ahead for each of the workers that `count` finds; yield in order."""
    source = iter(items)
    waiting: deque[Any] = deque()  # futures, or `cluster.Sent`, which waits and is cancelled alike
    try:
        while True:
            ahead = max(1, count()) * CHUNKS_AHEAD_PER_WORKER
            while len(waiting) < ahead and (chunk := list(islice(source, CHUNK))):
                waiting.append(submit(chunk))
            if not waiting:
                return
            yield from _result(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _result(future: Any) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        raise PipelineError(
            "a worker process was killed, most likely because memory ran out. Close other "
            "programs or set SMEARFLOW_WORKERS to fewer processes, and run the same command again."
        ) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Stop the threads of OpenCV and of BLAS; processes that are forked then inherit it.

    Notes
    -----
    By default each process would start a thread for each core. It has to be set before the fork:
    a forked process has a copy of the pool without its threads, and waits for them for ever.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def _settle() -> None:
    """Limit the threads of a process that has inherited no limit, and let it keep its memory.

    Notes
    -----
    Arrays of a picture come and go; glibc hands large ones back each time, and the system clears
    every page anew. Measuring 40 drawn crops took 1.4 times as long so, in one run on a virtual
    machine. Elsewhere nothing is set.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    with suppress(AttributeError, TypeError):  # another C library
        for option, n_bytes in KEPT.items():
            ctypes.CDLL(None).mallopt(option, n_bytes)


def _apply(function: Callable[[Any], Any], chunk: list[Any]) -> list[Any]:
    return [function(item) for item in chunk]


_settle_once = lru_cache(maxsize=1)(_settle)


def _apply_settled(function: Callable[[Any], Any], chunk: list[Any]) -> list[Any]:
    """Work in a process that somebody else has started."""
    _settle_once()
    return _apply(function, chunk)
