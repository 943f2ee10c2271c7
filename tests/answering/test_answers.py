"""The Python function: answers one by one, again in a program that has asked before."""

import pytest

from stages.answering import answers
from stages.core.errors import ModelError
from tests.made.answering import write_cells, write_export


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("answers") / "export")


def test_a_second_question_starts_no_processes(made, tmp_path, monkeypatch):
    """By then TensorFlow is loaded, and a new process would run the caller's program again."""
    cells = [str(path) for path in write_cells(tmp_path, "monocyte", 3)]
    first = list(answers.ask(cells, made))
    monkeypatch.setenv("SMEARFLOW_WORKERS", "4")

    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr("stages.core.parallel.ProcessPoolExecutor", refuse)
    assert list(answers.ask(cells, made)) == first
    assert [one.call for one in first] == ["monocyte"] * 3


def test_an_answer_is_there_before_the_last_picture_is_read(made, tmp_path, monkeypatch):
    """A stream: with a thousand pictures asked, a hundred or so are looked at."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    [cell] = write_cells(tmp_path / "one", "monocyte", 1)
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / f"many/{number:03d}.png").hardlink_to(cell)
    looked = []
    real = answers.pictures.make_ready
    monkeypatch.setattr(
        answers.pictures, "make_ready", lambda one, rule: looked.append(one) or real(one, rule)
    )
    stream = answers.ask([str(tmp_path / "many")], made)
    next(stream)
    assert len(looked) <= 100
    stream.close()


def test_a_usual_cell_is_the_median_of_sure_outlines(made, tmp_path, monkeypatch):
    """Where none is sure, of all; files without a cell do not count."""
    model = answers.AnsweringModel(made)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    write_cells(tmp_path, "monocyte", 24)
    radii = iter([(10.0, True)] * 11 + [(30.0, False)] * 12 + [None])
    monkeypatch.setattr(answers.pictures, "measure_radius", lambda one, rule: next(radii))
    assert answers.find_scale(str(tmp_path), model) == 10.0
    radii = iter([(20.0, False)] * 12 + [(30.0, False)] * 12)
    assert answers.find_scale(str(tmp_path), model) == 25.0
    radii = iter([None] * 5 + [(20.0, True)] * 19)
    with pytest.raises(ModelError, match="19 of 24"):
        answers.find_scale(str(tmp_path), model)
