"""What the sections on the model say, on the demo's metrics with planted numbers."""

import json

import pandas as pd
import pytest

from stages.pages import model_sections
from tests.projects import ROOT


def read(name):
    return json.loads((ROOT / f"metrics/{name}.json").read_text(encoding="utf-8"))


def tables(told):
    found = [*told.blocks, *(inner for one in told.blocks if one.kind == "folded"
                             for inner in one.blocks)]  # fmt: skip
    return {block.title: block for block in found if block.kind == "table"}


@pytest.mark.parametrize(
    ("low", "says"),
    [(0.1, "no more than chance"), (0.3, "more than chance: the class"), (None, "no interval")],
)
def test_a_shortcut_is_judged_by_the_low_end(low, says):
    found = read("probe")
    found["shortcut_score"]["balanced_accuracy"] |= {"value": 0.4, "low": low, "high": 0.5}
    found["shortcut_score"]["baseline"]["balanced_accuracy"] = 0.2
    assert f": {says}" in model_sections.probe(found).lead


def test_training_tells_the_gap_and_draws_steps_of_several_epochs():
    found = read("train")
    found["accuracy"] = {"train": 0.95, "valid": 0.9}
    history = pd.read_csv(ROOT / "metrics/train/history.csv")
    told = model_sections.train(found, history)
    assert told.lead.endswith("It is 5.0 points better on what it has learnt.")
    charts = next(block for block in told.blocks if block.kind == "charts")
    assert [name for name, _ in charts.charts] == [
        "lite0_finetuned, step 1: accuracy", "lite0_finetuned, step 1: loss",
    ]  # fmt: skip


def test_scores_tell_who_is_no_better_than_one_answer():
    found = read("evaluate")
    found["by_hospital"]["demo_west"]["metrics"]["macro_f1"] |= {"low": 0.01}
    told = model_sections.score(found)
    assert "beaten at 2 of 3 hospitals (demo_east, demo_north)." in told.lead
    rows = tables(told)["Scores by hospital, with 95 % intervals"].rows
    assert [row[0] for row in rows] == ["demo_east", "demo_north", "demo_west", "mean"]
    found["mean_unseen"] = None
    assert model_sections.score(found).lead.startswith("No hospital is unseen")


def test_a_class_that_is_not_held_has_no_score():
    rows = tables(model_sections.score(read("evaluate")))[
        "F1 by class and hospital, of so many pictures"
    ].rows
    shown = {row[0]: row[3] for row in rows}
    assert shown["platelet"] == "not held"
    assert shown["erythroblast"].endswith(" of 28")


def test_confusion_names_the_commonest_error_and_counts_every_picture():
    pairs = [("a", "a")] * 4 + [("a", "b")] * 3 + [("b", "a")] * 1
    calls = pd.DataFrame(pairs, columns=["actual", "predicted"]).assign(hospital="h", part="test")
    told = model_sections.confuse(calls)
    assert told.lead == ("4 of 8 pictures are called wrongly; most often a is called b: 3 of 7.")
    assert [block.title for block in told.blocks] == ["h (in domain): 4 of 8 wrong"]
    table = told.blocks[0].blocks[0]
    assert [row[-1] for row in table.rows] == ["7", "1"]
    assert "<b>4</b>" in table.rows[0][1]
    assert "--share:43%" in table.rows[0][2]
    right = model_sections.confuse(calls[calls["actual"] == calls["predicted"]])
    assert right.lead == "None of 4 pictures is called wrongly."


def test_promises_are_counted_and_a_broken_one_is_loud():
    found = read("evaluate")
    for name, verdict in (("demo_east", "kept"), ("demo_north", "broken"), ("demo_west", None)):
        found["by_hospital"][name]["doubt"]["home"]["promise"] = verdict
    plots = [pd.read_csv(ROOT / f"metrics/evaluate/{name}.csv") for name in ("reliability", "risk")]
    told = model_sections.doubt(found, *plots)
    assert "kept at 1 of 3 hospitals (demo_east) and broken at 1 of 3 hospitals" in told.lead
    assert told.lead.endswith("at 1 hospital these pictures are too few to tell.")
    rows = tables(told)["Which calls may be accepted alone"].rows
    assert [row[-1] for row in rows if row[1] == "at home"] == [
        "kept", "BROKEN", "none: too few groups",
    ]  # fmt: skip


def test_a_method_that_shows_nothing_is_named():
    found = read("explain")
    found["methods"]["lime"]["useless"] = True
    found["methods"]["lime"]["all"]["in_cell"] |= {"value": 0.3, "low": 0.2, "high": 0.4}
    told = model_sections.explain(found, None)
    assert "By 3 of 4 methods (grad_cam, grad_cam_pp, occlusion)" in told.lead
    assert "lime: a network of chance draws nearly the same map" in told.lead
    none = found | {"methods": {}, "not_made": {"lime": "no network"}}
    assert model_sections.explain(none, None).lead == (
        "No map was drawn (lime: no network): where a call comes from is not known."
    )


def test_the_worst_change_is_told_and_what_was_not_judged_has_its_reason():
    found = read("bias")
    found["tests"]["grey"]["all"]["keeps_call"] |= {"value": 0.125, "low": 0.1, "high": 0.2}
    found["tests"]["blur"] |= {
        "flagged": None, "flagged_reason": "no hospital is judged",
        "not_judged": {"demo_west": "no cell"},
    }  # fmt: skip
    found["tests"]["blur"]["all"] = {"keeps_call": None}
    told = model_sections.change(found, None)
    assert "most calls are lost when the picture is grey: 87.5 %" in told.lead
    rows = {row[0].partition(":")[0]: row for row in told.blocks[0].rows}
    assert rows["blur"][2] == "none: no cell"
    assert rows["blur"][-1] == "not known: no hospital is judged"


def test_strangers_are_told_by_the_best_score_or_not_known():
    found = read("novelty")
    told = model_sections.meet_strangers(found, None)
    assert told.lead.startswith("No hospital has enough pictures of unknown types")
    found["scores"]["softmax"]["mean_auc"]["unseen"] = {"n_hospitals": 2, "value": 0.75}
    assert "(at unseen hospitals) with an AUC of 0.750 at best, by softmax" in (
        model_sections.meet_strangers(found, None).lead
    )


def test_attributes_beat_the_class_or_were_not_asked():
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    one = {"n_images": 10, "kappa": interval, "kappa_of_class": interval | {"value": 0.3}}
    other = one | {"kappa_of_class": interval | {"value": 0.45}}
    found = {"network": "n", "attributes": {"cell_size": one, "cell_shape": other}}
    assert model_sections.see_attributes(found).lead.startswith("1 of 2 attributes (cell_size) can")
    told = model_sections.see_attributes({"reason": "no table"})
    assert told.lead == "Not asked: no table."


def test_gaps_have_the_reasons_of_the_stages():
    """No simple model, no validation, no network, no variety."""
    probed = read("probe") | {"shortcut_score": None, "shortcut_score_reason": "why a"}
    probed |= {"hospital_told": None, "hospital_told_reason": "why b"}
    told = model_sections.probe(probed)
    assert told.lead == "No shortcut score can be given: why a."
    assert told.blocks[-1].text.endswith("not known, as why b.")

    trained = read("train")
    trained["accuracy"] = {"train": 1.0, "valid": None, "valid_reason": "why c"}
    history = pd.read_csv(ROOT / "metrics/train/history.csv").assign(val_loss=None)
    told = model_sections.train(trained, history)
    assert told.lead.endswith("; what it did not learn from was not asked, as why c.")
    assert "nan" not in str(told)

    strange = read("novelty")
    strange["scores"] = {name: {"says": "s", "reason": "why d"} for name in strange["scores"]}
    rows = tables(model_sections.meet_strangers(strange, None))
    assert rows["How well unknown types are told from known ones (AUC)"].rows[0][2:] == [
        "none: why d", "none: why d",
    ]  # fmt: skip

    gone = {"value": None, "low": None, "high": None, "value_reason": "why e"}
    one = {"n_images": 9, "kappa": gone, "kappa_of_class": gone}
    found = {"network": "n", "attributes": {"a": one, "b": {"n_images": 1, "reason": "why f"}}}
    told = model_sections.see_attributes(found)
    assert [row[2] for row in told.blocks[0].rows] == ["none: why e", "none: why f"]
    assert told.lead.startswith("0 of 2 attributes can")
