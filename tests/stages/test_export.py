"""The export stage: the model beside what it was told of itself, and its cards."""

import shutil

import pytest

from stages import export
from stages.answering import about, answers
from stages.answering.model import AnsweringModel
from stages.core.errors import ModelError, ParamsError
from stages.core.store import read_metrics, write_metrics
from stages.models import networks, trained
from tests.made.answering import INPUTS
from tests.made.lenets import LENET
from tests.made.shipped import demo_params
from tests.pages import test_cards
from tests.stages.cohort import write_project

STRANGER = {"temperature": 1.5, "threshold": 0.7, "wished_error": 0.1, "n_images": 30,
            "reason": None, "learnt_from": "unseen", "hospitals": ["east"]}  # fmt: skip
ENERGY = {"threshold": 2.5, "spread": {"model": [-1.0, 2.0]}, "learnt_from": "unseen",
          "n_images": 9}  # fmt: skip


demo = test_cards.demo  # the fixture


@pytest.fixture
def project(demo, monkeypatch):
    """The shipped metrics, with a stranger's doubt of ours, and a network of their classes."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    write_project(demo, tuple(demo_params()["hospitals"]))
    classes = read_metrics("harmonise")["classes"]
    shutil.rmtree(export.MODEL)
    network = networks.build(LENET, (32, 32, 3), len(classes))
    trained.save(trained.SingleModel(classes, LENET, INPUTS, (32, 32, 3), network), export.MODEL)
    for stage, block in (("evaluate", STRANGER), ("novelty", ENERGY)):
        write_metrics(stage, read_metrics(stage) | {"stranger": block})
    return demo


def test_what_the_metrics_say_stands_beside_the_model(project):
    """The same bytes each time; types of the classes by the taxonomy; no commit, no path."""
    export.main()
    first = (export.EXPORT / about.FILE).read_bytes()
    export.main()
    assert (export.EXPORT / about.FILE).read_bytes() == first
    told = AnsweringModel(export.EXPORT).about
    assert told.confidence.model_dump() == STRANGER
    assert (told.novelty.threshold, told.novelty.spread) == (2.5, {"model": (-1.0, 2.0)})
    assert told.cell_types["basophil"] == ["basophil"]
    assert set(told.cell_types) == set(trained.read_card(export.MODEL).classes)
    assert told.commit is None
    assert told.filter.model_dump() == demo_params()["filter"]
    assert told.reference["basophil"] == tuple(demo_params()["export"]["reference"]["basophil"])
    assert str(project) not in first.decode()
    assert "Research use only" in (export.EXPORT / "MODEL_CARD.md").read_text()
    assert "demo_west" in (export.EXPORT / "DATA_CARD.md").read_text()


def test_before_the_pipeline_ran_there_is_a_way_out(project):
    """A line that names the command."""
    with pytest.raises(ModelError, match="dvc repro"):
        list(answers.ask(["x.png"]))


def test_a_range_whose_ends_are_exchanged_is_refused(project):
    """Of a reference, in params.yaml."""
    write_project(
        project,
        ("demo_north", "demo_east", "demo_west"),
        export={"reference": {"monocyte": [10, 2]}},
    )
    with pytest.raises(ParamsError, match="exchange them"):
        export.main()
