"""A stage ends with one line, the right exit code and no traceback."""

import errno
import logging
import pickle

import pytest

from stages.core.errors import ImageError, ParamsError, PipelineError, name_some, run_stage


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A project folder and a command line of the stage `split`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stages/split.py"])
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    return tmp_path


def ending(main, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_stage(main, *arguments)
    return stop.value.code, capsys.readouterr().err


def test_an_error_of_ours_is_one_line(at_work, capsys):
    def main():
        raise ParamsError("params.yaml, seed: got 'x';\n it should be a number.")

    assert ending(main, capsys) == (
        1, "split: params.yaml, seed: got 'x'; it should be a number.\n",
    )  # fmt: skip
    assert not (at_work / "metrics").exists()


def test_a_full_disk_is_one_line(at_work, capsys):
    def main():
        raise OSError(errno.ENOSPC, "No space left on device", "data/split.parquet")

    code, text = ending(main, capsys)
    assert code == 1
    assert text.startswith("split: No space left on device (data/split.parquet). Nothing half-")
    assert text.count("\n") == 1


def test_wrong_usage_is_exit_code_2(at_work, capsys, monkeypatch):
    code, text = ending(lambda hospital: None, capsys, "hospital")
    assert (code, text) == (2, "usage: python -m stages.split HOSPITAL\n")
    monkeypatch.setattr("sys.argv", ["stages/split.py", "my", "lab"])  # as DVC passes 'my lab'
    code, text = ending(lambda hospital: None, capsys, "hospital")
    assert (code, text) == (2, "usage: python -m stages.split HOSPITAL (a name without blanks)\n")


def test_an_interrupt_is_exit_code_130(at_work, capsys):
    def main():
        raise KeyboardInterrupt

    assert ending(main, capsys)[0] == 130


def test_a_defect_of_ours_keeps_its_traceback(at_work):
    def main():
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        run_stage(main)


def test_a_finished_stage_leaves_its_duration_apart_from_the_metrics(at_work):
    run_stage(lambda: None)
    assert [path.name for path in (at_work / "metrics").rglob("*.json")] == ["split.json"]
    assert (at_work / "metrics/timing/split.json").is_file()


def test_only_the_first_names_are_listed():
    assert name_some(list("abc")) == "a, b, c"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_an_image_error_carries_its_reason():
    error = ImageError("truncated", "ends after row 7")
    assert isinstance(error, PipelineError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.detail) == ("truncated", "ends after row 7")
    assert str(again) == str(error)
