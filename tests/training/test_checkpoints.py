"""The state of a training: taken up by the very same one, and by no other."""

import json

import numpy as np
import pytest

from stages.training import checkpoints
from stages.training.checkpoints import Progress

ROWS = np.arange(4000, dtype=np.float32).reshape(1000, 4)


def key_of(settings="a", labels=("x", "y"), rows=ROWS):
    return checkpoints.fingerprint(settings, list(labels), [rows])


def written(folder, key="k"):
    """The state after two epochs of step 2."""
    state = Progress(
        folder, key, 2, True,
        [{"step": 1.0, "loss": 0.1 + 0.2}, {"step": 2.0, "loss": float("nan")}], 0.1,
        {"conv/kernel": np.arange(3.0), "conv/bias": np.zeros(2, np.float32)},
        [np.ones((2, 2)), np.array(7, np.int64)], [np.array(0.5, np.float32)] * 11,
    )  # fmt: skip
    state.save()
    return state


def test_everything_comes_back(tmp_path):
    """Numbers bit by bit, in their order: also more than ten of them."""
    state = written(tmp_path / "state")
    state.optimiser = [np.array(float(n)) for n in range(120)]
    state.save()
    back = Progress.start(tmp_path / "state", "k")
    assert (back.step, back.is_over, back.best) == (2, True, 0.1)
    assert back.history[0] == {"step": 1.0, "loss": 0.1 + 0.2}
    assert np.isnan(back.history[1]["loss"])
    assert sorted(back.kept) == ["conv/bias", "conv/kernel"]
    assert back.kept["conv/bias"].dtype == np.float32
    assert back.variables[1] == 7
    assert [float(one) for one in back.optimiser] == list(range(120))
    assert len(back.epochs_of(2)) == 1


def test_a_new_step_forgets_what_belongs_to_the_last(tmp_path):
    state = written(tmp_path / "state")
    state.next_step(2)
    assert state.is_over
    assert state.kept
    state.next_step(3)
    assert (state.step, state.is_over, state.best, state.kept) == (3, False, None, {})
    assert state.variables == state.optimiser == []
    assert len(state.history) == 2


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / checkpoints.STATE).unlink(),
    lambda folder: (folder / checkpoints.STATE).write_text("{"),
    lambda folder: (folder / checkpoints.STATE).write_text("[]"),
    lambda folder: (folder / checkpoints.STATE).write_bytes(b"\xff\xfe"),
    lambda folder: (folder / checkpoints.ARRAYS).unlink(),
    lambda folder: (folder / checkpoints.ARRAYS).write_bytes(b""),
    lambda folder: (folder / checkpoints.ARRAYS).write_bytes(b"PK\x03\x04 no archive"),
    lambda folder: cut_short(folder / checkpoints.ARRAYS),
    lambda folder: flip_a_byte(folder / checkpoints.ARRAYS),
    lambda folder: pickle_into(folder / checkpoints.ARRAYS),
])  # fmt: skip
def test_a_damaged_state_is_not_taken_up(tmp_path, spoil):
    written(tmp_path / "state")
    spoil(tmp_path / "state")
    back = Progress.start(tmp_path / "state", "k")
    assert (back.step, back.history, back.kept, back.variables) == (1, [], {}, [])
    assert back.folder == tmp_path / "state"
    back.save()  # and is replaced
    assert json.loads((tmp_path / "state" / checkpoints.STATE).read_text())["history"] == []


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip_a_byte(path):
    """Of a number in the middle of the first array."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\x93NUMPY") + 130] ^= 1
    path.write_bytes(bytes(content))


def pickle_into(path):
    np.savez(path, allow_pickle=True, **{"kept/a": np.array([{}], dtype=object)})


def test_the_state_of_another_training_is_not_taken_up(tmp_path):
    written(tmp_path / "state")
    assert Progress.start(tmp_path / "state", "other").history == []
    assert Progress.start(tmp_path / "nowhere", "k").history == []
    assert Progress.start(None, "k").history == []


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(None)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_writing_leaves_the_last_state(tmp_path, monkeypatch):
    state = written(tmp_path / "state")
    state.history.append({"step": 2.0, "loss": 1.0})

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        state.save()
    assert len(Progress.start(tmp_path / "state", "k").history) == 2


def test_the_fingerprint_tells_settings_labels_and_rows_apart():
    others = [ROWS.copy() for _ in range(3)]
    for row, other in zip((0, 517, -1), others, strict=True):
        other[row, -1] += 1
    found = [
        key_of(), key_of("b"), key_of(labels=("y", "x")), key_of(labels=("x", "x")),
        *(key_of(rows=other) for other in others), key_of(rows=ROWS[:-1]),
        key_of(rows=ROWS.astype(np.float64)), key_of(rows=np.zeros((0, 4), np.float32)),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert key_of() == key_of(rows=ROWS.copy())


def test_one_other_validation_row_is_another_training():
    """Which epoch is kept depends on them."""
    valid = ROWS[:10]
    other = valid.copy()
    other[5, 0] += 1
    first, second = (checkpoints.fingerprint("a", ["x"], [ROWS, one]) for one in (valid, other))
    assert first != second


def test_the_fingerprint_follows_our_code(tmp_path, monkeypatch):
    """A state of older code would give a mixture of both."""
    before = key_of()
    (tmp_path / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(checkpoints, "__file__", str(tmp_path / "progress.py"))
    first = key_of()
    (tmp_path / "one.py").write_text("x = 2\n")
    assert len({before, first, key_of()}) == 3
