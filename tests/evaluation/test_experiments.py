"""Reading an experiment of the working tree, and comparing two: the same images alone; refusals.

Branches and experiments are read in test_choose_command.py.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import PipelineError
from stages.core.tables import PREDICTIONS, SPLIT
from stages.evaluation import experiments
from stages.evaluation.experiments import Experiment


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Two hospitals: one trained and tested, one unseen; predictions of what is scored."""
    monkeypatch.chdir(tmp_path)
    parts = {"lisbon": ["train", "test", "test"], "porto": ["unseen", "unseen", "left_out"]}
    for hospital, own in parts.items():
        ids = [f"{hospital}/{place}" for place in range(3)]
        images = pd.DataFrame({"image_id": ids, "hospital": hospital, "part": own})
        split = images.assign(
            label=["a", "b", "a"], group=["g", "g", "h"], twin_group=ids, left_out_reason=None
        )
        SPLIT.write(split, hospital)
        scored = images[images["part"].isin(["test", "unseen"])]
        PREDICTIONS.write(scored.assign(predicted="b", p_b=1.0), hospital)
    Path("metrics").mkdir()
    content = {"by_hospital": {hospital: {} for hospital in parts}}
    Path("metrics/evaluate.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("tables")
def test_scored_images_come_with_truth_and_group():
    images = experiments.read(".").images
    assert images.reset_index().to_dict("list") == {
        "image_id": ["lisbon/1", "lisbon/2", "porto/0", "porto/1"],
        "hospital": ["lisbon", "lisbon", "porto", "porto"],
        "part": ["test", "test", "unseen", "unseen"],
        "label": ["b", "a", "a", "b"],
        "predicted": ["b"] * 4,
        "group": ["g", "h", "g", "g"],
    }


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"by_hospital": 3}'])
def test_what_stage_evaluate_did_not_write_is_refused(tables, text):
    (tables / "metrics/evaluate.json").write_text(text)
    with pytest.raises(PipelineError, match=r"^\.: .*not as stage evaluate writes it.*dvc repro"):
        experiments.read(".")


def test_missing_scores_and_predictions_are_told(tables):
    PREDICTIONS.write(PREDICTIONS.read("porto").iloc[1:], "porto")
    with pytest.raises(PipelineError, match=r"no row of 1 images \(porto/0\).*dvc repro"):
        experiments.read(".")
    PREDICTIONS.at("porto").unlink()
    with pytest.raises(PipelineError, match=r"^data/predictions/porto.parquet is missing"):
        experiments.read(".")
    (tables / "metrics/evaluate.json").unlink()
    with pytest.raises(PipelineError, match=r"^metrics/evaluate.json is missing.*dvc repro"):
        experiments.read(".")


def experiment(name, wrong, hospital="lisbon", n=100, start=0, group=None, label="lymphocyte"):
    """An experiment that errs on the first `wrong` of the images from `start` on."""
    ids = [f"{hospital}/{place:03d}" for place in range(start, start + n)]
    predicted = np.where(np.arange(n) < wrong, "other", label)
    columns = {"hospital": hospital, "part": "test", "label": label, "predicted": predicted}
    return Experiment(name, {}, pd.DataFrame(columns | {"group": group or ids}, index=ids))


def test_only_images_that_both_were_tested_on_count():
    """The one that is seen by the first alone, and erred on, is not its fault here."""
    line = experiments.compare(experiment("a", 30), [experiment("b", 0, start=30)])[0]
    assert (line.found.n, line.accuracies, line.found.p_value) == (70, (1.0, 1.0), 1)


def test_what_cannot_be_compared_is_refused():
    """Nothing in common, other labels, one name twice: one line each that says what to do."""
    first = experiment("a", 2)
    with pytest.raises(PipelineError, match=r"^a and b were tested on no image in common\. Comp"):
        experiments.compare(first, [experiment("b", 2, "porto")])
    with pytest.raises(
        PipelineError, match=r"^a and b give 100 images different labels \(lisbon/000.*95 more"
    ):
        experiments.compare(first, [experiment("b", 2, label="monocyte")])
    with pytest.raises(PipelineError, match=r"^a is named twice"):
        experiments.compare(first, [experiment("b", 2), first])
