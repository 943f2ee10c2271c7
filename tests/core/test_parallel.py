"""The same results in the same order for any number of processes, with bounded memory."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import ParamsError, PipelineError
from stages.core.parallel import CHUNK, CHUNKS_AHEAD_PER_WORKER, count_workers, map_ordered

ROOT = Path(__file__).resolve().parents[2]


def square(number):
    return number * number


def refuse(number):
    if number == 40:
        raise ParamsError("forty is refused; take another")
    return number


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order(workers):
    assert list(map_ordered(square, range(100), workers)) == [n * n for n in range(100)]


def test_an_error_of_one_item_reaches_the_caller():
    with pytest.raises(ParamsError, match="forty is refused"):
        list(map_ordered(refuse, range(100), 2))


def test_items_are_read_only_a_little_ahead():
    """A generator of a million images is never read whole."""
    read = []

    def source():
        for number in range(10_000):
            read.append(number)
            yield number

    results = map_ordered(square, source(), 2)
    assert next(results) == 0
    assert len(read) <= 2 * CHUNKS_AHEAD_PER_WORKER * CHUNK
    results.close()


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_a_wrong_number_of_workers_is_named(monkeypatch, text):
    monkeypatch.setenv("SMEARFLOW_WORKERS", text)
    with pytest.raises(ParamsError, match=r"SMEARFLOW_WORKERS is .*Unset it"):
        count_workers()


def test_the_number_of_workers_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SMEARFLOW_WORKERS", "3")
    assert count_workers() == 3
    monkeypatch.delenv("SMEARFLOW_WORKERS")
    assert count_workers() >= 1


def count_threads(_):
    import cv2

    return cv2.getNumThreads()


def knows_tensorflow(_):
    return "tensorflow" in sys.modules


def test_each_process_computes_on_one_thread():
    """Sixteen processes of sixteen threads each would be slower than one."""
    assert set(map_ordered(count_threads, range(4), 2)) == {1}


def count_cleared_pages(_):
    """Pages that the system clears while 100 MB of arrays come and go for the second time."""
    import resource

    import numpy as np

    counts = []
    for _ in range(2):
        [np.ones(125_000) for _ in range(100)]
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[1] - counts[0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_a_process_keeps_the_memory_of_its_arrays():
    """Where it is handed back, the system clears 25,000 pages again, which takes its time."""
    assert max(map_ordered(count_cleared_pages, range(2), 2)) < 2_500


def test_nothing_is_forked_once_tensorflow_runs():
    """Its threads do not survive a fork; processes that start anew know nothing of it."""
    code = (
        "import sys\n"
        "from stages.core.parallel import map_ordered\n"
        "from stages.core import backend\n"
        "from tests.core.test_parallel import count_threads, knows_tensorflow\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = sys\n"
        "print(set(map_ordered(knows_tensorflow, range(40), 2)))\n"
        "backend.load_tensorflow()\n"
        "print(set(map_ordered(knows_tensorflow, range(40), 2)),"
        " set(map_ordered(count_threads, range(40), 2)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    assert done.stdout == "{True}\n{False} {1}\n"


def test_threads_that_opencv_had_started_do_not_stop_the_processes():
    """The parent has used all its threads before; the processes end, and its threads come back."""
    code = (
        "import cv2, numpy as np\n"
        "from stages.core.parallel import map_ordered\n"
        "from tests.core.test_parallel import count_threads\n"
        "before = cv2.getNumThreads()\n"
        "cv2.GaussianBlur(np.zeros((4000, 4000, 3), np.uint8), (31, 31), 0)\n"
        "assert set(map_ordered(count_threads, range(40), 2)) == {1}\n"
        "assert cv2.getNumThreads() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_told_in_one_line():
    """What the system does to a process when memory runs out."""
    with pytest.raises(PipelineError, match=r"a worker process was killed.*SMEARFLOW_WORKERS"):
        list(map_ordered(die, range(4), 2))
