"""summary.json holds numbers of other metrics, and every warning that they must not hide."""

import pytest

from stages.evaluation import summary
from tests import results


def picked(evaluation=None, simulated=(), probe=None, bias=None):
    return summary.summarise(
        evaluation or results.evaluation(),
        results.split(),
        probe or results.probe(),
        bias or results.bias(),
        list(simulated),
    )


def test_summary_picks_its_numbers_from_evaluate():
    """Nothing is computed twice: each number is the one of metrics/evaluate.json."""
    content = results.evaluation()
    found = picked(content, ["north"])
    for ours, theirs in (
        ("in_domain", "mean_in_domain"),
        ("unseen_mean", "mean_unseen"),
        ("unseen_worst", "worst_unseen"),
    ):
        assert found[ours]["macro_f1"] == content[theirs]["metrics"]["macro_f1"]
        assert found[ours]["accuracy"] == content[theirs]["metrics"]["accuracy"]
        assert found[ours]["n_images"] == content[theirs]["n_images"]
        assert found[ours]["n_groups"] == content[theirs]["n_groups"]
        assert found[ours]["baseline_macro_f1"] == content[theirs]["baseline"]["macro_f1"]
    assert found["unseen_worst"]["hospital"] == results.UNKNOWN
    assert found["drop"]["value"] == pytest.approx(
        found["in_domain"]["macro_f1"]["value"] - found["unseen_mean"]["macro_f1"]["value"]
    )
    assert found["simulated"] == ["north"]
    assert not [key for key in found if key.endswith("_reason")]


def test_leaks_and_shortcuts_stand_beside_the_scores():
    found = picked()
    assert found["leaks"] == {"twin_in_train": 0.0, "slide_or_patient_in_train": 0.0}
    assert found["shortcut"]["balanced_accuracy"]["value"] == 0.61
    assert found["shortcut"]["chance"] == 0.5
    assert found["hospital_told"] == 0.61
    assert found["covered"] == results.SHARE
    assert found["warnings"] == []


def test_what_cannot_be_told_is_null_with_a_reason():
    probe = results.probe(hospital_told=None, hospital_told_reason="one hospital only")
    hidden = {"keeps_confident_call": None, "keeps_confident_call_reason": "none confident"}
    found = picked(results.evaluation(unseen=()), probe=probe, bias=results.bias(all=hidden))
    assert found["unseen_mean"] is found["unseen_worst"] is found["drop"] is None
    assert "train_hospitals" in found["unseen_reason"]
    assert found["hospital_told"] is found["covered"] is None
    assert found["hospital_told_reason"] == "one hospital only"
    assert found["covered_reason"] == "none confident"


def test_every_warning_is_kept():
    """Leaks, shortcuts, calls that survive a hidden cell, drawn images: each has its sentence."""
    content = results.evaluation()
    for name in ("mean_in_domain", "mean_unseen"):
        content[name]["leaky"] = "leaky: 12.0 % of test images have a twin in train"
    probe = results.probe(warnings=["Class basophil comes from north only."])
    bias = results.bias(flagged=["south"], not_judged={"east": "3 calls", "west": "4 calls"})
    bias["tests"]["blur"] = {
        "says": "the picture is out of focus", "bad": "lost", "flagged": ["east", "south"],
        "not_judged": {"west": "4 calls"},
    }  # fmt: skip
    warnings = picked(content, ["north"], probe, bias)["warnings"]
    leak, shortcut, covered, blurred, unjudged, drawn = warnings
    assert unjudged.endswith("not judged at some hospitals; east: 3 calls; west: 4 calls.")
    assert "12.0 % of test images" in leak
    assert shortcut == "Class basophil comes from north only."
    assert covered == "At south most confident calls survive when the cell is hidden."
    assert blurred == "At east, south most calls are lost when the picture is out of focus."
    assert "not evidence of accuracy on real cells (north)" in drawn


def test_without_the_test_that_hides_cells_that_is_said():
    """params.yaml may name other tests alone."""
    found = picked(bias={"tests": {}})
    assert (found["covered"], found["covered_reason"]) == (None, "bias.tests lacks hide")
    assert not any("judged" in warning for warning in found["warnings"])


def test_missed_patients_are_kept_where_there_is_a_healthy_class():
    content = results.evaluation()
    block = {"sick_called_healthy": 2, "n_sick": 90, "n_healthy": 40}
    content["screening"] = {"test": block, "unseen": None}
    assert picked(content)["screening"] == {"test": {"sick_called_healthy": 2, "n_sick": 90}}
    assert "screening" not in picked()


def test_where_preparation_hides_the_background_the_hospital_is_not_told():
    """The files may still tell it; the network gets nothing of them."""
    reason = "preparation leaves nothing around the cell to see"
    told = {"published": {"all": {"balanced_accuracy": {"value": 0.9}}}}
    probe = results.probe(shortcut_score=None, shortcut_score_reason=reason, hospital_told=told)
    found = picked(probe=probe)
    assert found["hospital_told"] is found["shortcut"] is None
    assert found["hospital_told_reason"] == found["shortcut_reason"] == reason


def test_a_null_interval_bears_its_reason_and_a_narrow_one_its_note():
    """And the drop says over how many classes it goes."""
    content = results.evaluation(("east",), n=4)
    found = picked(content)
    assert found["drop"]["n_classes"] == len(content["drop"]["classes"])
    for name in ("in_domain", "unseen_mean", "unseen_worst", "drop"):
        assert found[name]["interval_reason"].startswith("fewer than 6 groups at ")
    content["mean_unseen"]["interval_note"] = "too narrow"
    assert picked(content)["unseen_mean"]["interval_note"] == "too narrow"


def test_hospitals_of_no_common_class_have_a_reason_for_no_drop():
    content = results.evaluation() | {"drop": None, "drop_reason": "no class"}
    found = picked(content)
    assert (found["drop"], found["drop_reason"]) == (None, "no class")
