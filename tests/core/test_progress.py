"""What a killed run leaves: whole lines of the same inputs, and nothing else."""

import pytest

from stages.core import progress


def work(path, items, inputs=(b"model", b"seed"), stop_before=None):
    """Return what was worked out anew."""
    worked = []
    with progress.keep(path, *inputs) as done:
        for item in items:
            if item == stop_before:
                raise KeyboardInterrupt
            if item not in done.known:
                worked.append(item)
                done.add(item, {"value": 0.1 + len(item), "none": None})
            assert done.known[item] == {"value": 0.1 + len(item), "none": None}
    return worked


def stop(path, **changes):
    with pytest.raises(KeyboardInterrupt):
        work(path, "abcdef", stop_before="d", **changes)


def test_a_run_goes_on_after_each_kill(tmp_path):
    path = tmp_path / "data/partial"
    stop(path)
    stop(path)
    assert work(path, "abcdef") == ["d", "e", "f"]
    assert not path.exists()
    assert work(path, "ab") == ["a", "b"]


@pytest.mark.parametrize("inputs", [(b"other", b"seed"), (b"mode", b"lseed"), (b"model",)])
def test_nothing_is_taken_from_other_inputs(tmp_path, inputs):
    stop(tmp_path / "partial")
    assert work(tmp_path / "partial", "abcd", inputs) == list("abcd")


def test_wherever_a_kill_cuts_the_file_whole_lines_are_taken(tmp_path):
    path = tmp_path / "partial"
    stop(path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        n_whole = max(0, content[:size].count(b"\n") - 1)
        assert work(path, "abc") == list("abc")[n_whole:]


def test_a_kill_before_the_first_new_item_loses_nothing(tmp_path):
    """What an earlier run left stays on disk while it is read."""
    path = tmp_path / "partial"
    stop(path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), progress.keep(path, b"model", b"seed") as done:
        assert path.read_bytes() == before
        assert set(done.known) == {"a", "b", "c"}
        raise KeyboardInterrupt
    assert path.read_bytes() == before
