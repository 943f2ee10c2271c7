import json
import sys

import pytest
import yaml

from stages import summarise
from stages.core import errors, store
from tests.stages.cohort import write_project

BLOCK = {"title": "t", "licence": "l", "citation": "c"}
SCORE = {"value": 0.9, "low": 0.8, "high": 0.95}
LOW = {"value": 0.6123456789, "low": 0.5, "high": 0.7}


def scores(score, **more):
    return {
        "unit": "patient",
        "n_images": 30,
        "n_groups": 6,
        "baseline_class": "basophil",
        "baseline": {"accuracy": 0.2, "balanced_accuracy": 0.1, "macro_f1": 0.03},
        "metrics": {"accuracy": score, "balanced_accuracy": score, "macro_f1": score},
        **more,
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder as evaluate leaves it: one training and one unseen hospital."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, ("north", "east"))
    blocks = {"north": {**BLOCK, "simulated": {}}, "east": {**BLOCK, "folder": "pictures"}}
    (tmp_path / "data/hospitals.yaml").write_text(yaml.safe_dump(blocks))
    store.write_metrics(
        "evaluate",
        {
            "by_hospital": {
                "north": scores(SCORE, part="test"),
                "east": scores(LOW, part="unseen"),
            },
            "mean_in_domain": scores(SCORE),
            "mean_unseen": scores(LOW),
            "worst_unseen": scores(LOW, hospital="east"),
            "drop": {"metrics": {"macro_f1": {"value": 0.2876543, "low": 0.1, "high": 0.4}}},
        },
    )
    store.write_metrics("split", {"leaks": {"share_of_test_with_twin_in_train": 0.25}})
    return tmp_path


def test_summary_and_table_are_written(project, capsys):
    """The JSON holds the ten numbers, the table each hospital, and drawn ones are warned of."""
    summarise.main()
    written = json.loads((project / "metrics/summary.json").read_text())
    assert written["in_domain"]["macro_f1"] == SCORE
    assert written["unseen_worst"]["hospital"] == "east"
    assert written["unseen_mean"]["accuracy"]["value"] == 0.612346
    assert written["drop"]["value"] == 0.287654
    assert written["leak_share"] == 0.25
    assert written["simulated"] == ["north"]
    shown = capsys.readouterr().out
    assert "north" in shown
    assert "east" in shown
    assert shown.endswith("not evidence of accuracy on real cells (north).\n")


def test_the_same_metrics_give_the_same_bytes(project):
    summarise.main()
    first = (project / "metrics/summary.json").read_bytes()
    summarise.main()
    assert (project / "metrics/summary.json").read_bytes() == first


def test_without_evaluate_the_stage_ends_with_one_line(project, monkeypatch, capsys):
    (project / "metrics/evaluate.json").unlink()
    monkeypatch.setattr(sys, "argv", ["stages/summarise.py"])
    with pytest.raises(SystemExit) as end:
        errors.run_stage(summarise.main)
    assert end.value.code == 1
    assert "metrics/evaluate.json" in capsys.readouterr().err
