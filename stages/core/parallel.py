"""Per-image work on all cores: results in order, memory bounded, the same for any worker count."""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

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
        Number of processes; `count_workers` where not given. 1 runs in this process.

    Yields
    ------
    object
        ``function(item)``, in the order of `items` whatever the number of workers.
    """
    workers = workers or count_workers()
    if workers == 1:
        yield from map(function, items)
        return
    source = iter(items)
    with _one_thread(), ProcessPoolExecutor(workers, None, _settle) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        try:
            while True:
                while len(waiting) < workers * CHUNKS_AHEAD_PER_WORKER and (
                    chunk := list(islice(source, CHUNK))
                ):
                    waiting.append(pool.submit(_apply, function, chunk))
                if not waiting:
                    return
                yield from _result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()


def _result(future: Future[list[Result]]) -> list[Result]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise PipelineError(
            "a worker process was killed, most likely because memory ran out. Close other "
            "programs or set SMEARFLOW_WORKERS to fewer processes, and run the same command again."
        ) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Stop the threads of OpenCV and of BLAS before processes are forked; they inherit it.

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


def _apply(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]
