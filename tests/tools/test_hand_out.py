"""A model that is handed out answers the same, in each format."""

import json
import shutil

import numpy as np
import pytest
from scipy.special import softmax

from stages.answering import answers, pictures
from stages.answering.model import AnsweringModel
from stages.answering.pictures import Rule
from stages.core.errors import PipelineError
from stages.models import portable
from stages.tools import hand_out
from tests.made.answering import write_cells, write_export


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    (write_export(tmp_path / "data/export", temperature=1.7) / "MODEL_CARD.md").write_text("card")
    return tmp_path


def test_a_folder_answers_the_same_without_the_project(made, monkeypatch):
    """With its card, and its own trace."""
    (made / "data/export/DATA_CARD.md").write_text("data")
    trace = AnsweringModel.trace.fget
    monkeypatch.setattr(
        AnsweringModel, "trace", property(lambda self: {**trace(self), "commit": "abc"})
    )
    (made / "away").mkdir()  # empty: it may be used
    hand_out.main("folder", made / "away")
    monkeypatch.undo()
    monkeypatch.chdir(made)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    assert AnsweringModel(made / "away").trace["commit"] == "abc"
    assert (made / "away/DATA_CARD.md").read_text() == "data"
    cells = [str(one) for one in write_cells(made / "smear", "monocyte", 2)]
    here = list(answers.ask(cells))
    shutil.rmtree("data")
    assert list(answers.ask(cells, made / "away")) == here
    assert here[0].call == "monocyte"
    assert (made / "away/MODEL_CARD.md").read_text() == "card"


@pytest.mark.parametrize("kind", ["onnx", "litert", "savedmodel"])
def test_another_program_gets_the_same_probabilities(made, kind):
    """From the contract, the prepared picture, and the temperature in about.json."""
    hand_out.main(kind, made / "away")
    cells = [str(one) for one in write_cells(made / "smear", "monocyte", 3)]
    expected = list(answers.ask(cells))
    model = AnsweringModel(made / "data/export")
    rule = Rule(model.card.inputs, model.about.filter, model.recipes)
    with pictures.find(cells) as asked:
        pixels = np.stack([pictures.make_ready(one, rule).pixels[32] for one in asked])
    contract = json.loads((made / "away/contract.json").read_text())
    assert f"{1e-9:g}" in contract["afterwards"]
    [name] = [one["name"] for one in contract["inputs"]]
    run = portable.load(kind, made / "away")
    plain = run({name: pixels})
    cold = json.loads((made / "away/about.json").read_text())["confidence"]["temperature"]
    corrected = softmax(np.log(np.clip(plain, 1e-9, None)) / cold, axis=1)
    for row, one in zip(corrected, expected, strict=True):
        found = dict(zip(contract["output"]["classes"], row, strict=True))
        assert found == pytest.approx(dict(one.chances), abs=1e-4)


def test_nothing_of_a_persons_is_overwritten(made):
    """A folder that holds something is refused, and stays as it is."""
    (made / "away").mkdir()
    (made / "away/mine.txt").write_text("mine")
    with pytest.raises(PipelineError, match="is there already"):
        hand_out.main("folder", made / "away")
    assert [one.name for one in (made / "away").iterdir()] == ["mine.txt"]
