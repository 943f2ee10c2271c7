import json
import sys

import pytest

from stages import summarise
from stages.core import errors, store
from tests import results
from tests.stages.cohort import write_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder as the stages before leave it: two training hospitals, one unseen."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, ("north", "south", "east"))
    store.write_metrics("evaluate", results.evaluation(("east",)))
    store.write_metrics("split", results.split())
    store.write_metrics("probe", results.probe())
    store.write_metrics("bias", results.bias())
    experts = {"n_images": 50, "agreement": {"value": 0.9}, "kappa": {"value": 0.8}}
    opinions = {"north": None, "south": experts, "east": None}
    by_hospital = {
        name: {"experts": one, "simulated": name == "north"} for name, one in opinions.items()
    }
    store.write_metrics("harmonise", {"by_hospital": by_hospital})
    return tmp_path


def test_summary_and_table_are_written(project, capsys):
    """The JSON holds the numbers, the table each hospital, and drawn ones are warned of."""
    summarise.main()
    written = json.loads((project / "metrics/summary.json").read_text())
    evaluation = json.loads((project / "metrics/evaluate.json").read_text())
    assert written["in_domain"]["macro_f1"] == evaluation["mean_in_domain"]["metrics"]["macro_f1"]
    assert written["unseen_worst"]["hospital"] == "east"
    assert written["leaks"]["twin_in_train"] == 0.0
    assert written["shortcut"]["balanced_accuracy"]["value"] == 0.61
    assert written["simulated"] == ["north"]
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("north", "south", "east"))
    assert "Two experts at south agree on 0.900" in shown
    assert "not evidence of accuracy on real cells (north)" in shown


def test_the_same_metrics_give_the_same_bytes(project):
    summarise.main()
    first = (project / "metrics/summary.json").read_bytes()
    summarise.main()
    assert (project / "metrics/summary.json").read_bytes() == first


@pytest.mark.parametrize("missing", ["evaluate", "probe", "bias", "split", "harmonise"])
def test_without_a_stage_before_it_ends_with_one_line(project, monkeypatch, capsys, missing):
    (project / f"metrics/{missing}.json").unlink()
    monkeypatch.setattr(sys, "argv", ["stages/summarise.py"])
    with pytest.raises(SystemExit) as end:
        errors.run_stage(summarise.main)
    assert end.value.code == 1
    assert f"metrics/{missing}.json" in capsys.readouterr().err
    assert not (project / "metrics/summary.json").exists()
