"""The same results in the same order for any number of processes, with bounded memory."""

import pytest

from stages.core.errors import ParamsError
from stages.core.parallel import CHUNK, CHUNKS_AHEAD_PER_WORKER, count_workers, map_ordered


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


def test_each_process_computes_on_one_thread():
    """Sixteen processes of sixteen threads each would be slower than one."""
    assert set(map_ordered(count_threads, range(4), 2)) == {1}
