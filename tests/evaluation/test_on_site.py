"""On site: known answers on the images that test, gains against the plain model, reasons."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import TableError
from stages.evaluation import on_site, scoring

CLASSES = ["a", "b", "c"]
COUNTS = {"n_labelled": {"a": 2, "b": 2}}
METHODS = {"methods": {"calibrated": {}, "labels_2": COUNTS}}


def make_scored(n_groups=10, per_group=4):
    """A hospital of classes a and b, all called a, and one that trained."""
    n = n_groups * per_group
    scored = pd.DataFrame(
        {
            "image_id": [f"away/{i:03d}" for i in range(n)], "hospital": "away", "part": "unseen",
            "label": [CLASSES[i % 2] for i in range(n)], "predicted": "a",
            "group": [f"p{i // per_group}" for i in range(n)], "unit": "patient",
        }
    )  # fmt: skip
    home = scored.iloc[:4].assign(hospital="home", part="test")
    return pd.concat([scored, home.assign(image_id=[f"home/{i}" for i in range(4)])])


def adapt(rows, method, **changes):
    table = rows[["image_id", "hospital", "predicted"]].assign(method=method)
    return table.assign(**changes)


def run(scored, adapted, methods=METHODS):
    told = {"away": methods, "home": {"reason": "it trains"}}
    constants = {"away": "a", "home": "a"}
    return on_site.score(scored, adapted, told, CLASSES, constants, 400, 7)


def make_adapted(scored):
    """Calibrated changes nothing; tuned on the first two patients it is right on the other ones."""
    away = scored[scored["hospital"] == "away"]
    rest = away[~away["group"].isin(["p0", "p1"])]
    return pd.concat([adapt(away, "calibrated"), adapt(rest, "labels_2", predicted=rest["label"])])


def test_scores_are_those_of_the_images_that_test():
    """Forty by calibration, thirty-two by labels; plain and gain are of the very same images."""
    scored = make_scored()
    found = run(scored, make_adapted(scored))["away"]["on_site"]
    calibrated, tuned = found["calibrated"], found["labels_2"]
    assert (calibrated["n_images"], tuned["n_images"], tuned["n_groups"]) == (40, 32, 8)
    assert tuned["metrics"]["macro_f1"]["value"] == 1.0
    assert tuned["n_labelled"] == {"a": 2, "b": 2}
    assert tuned["plain"] == {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    assert tuned["gain"]["accuracy"]["value"] == 0.5
    assert tuned["gain"]["macro_f1"]["value"] == pytest.approx(2 / 3)
    assert calibrated["metrics"]["accuracy"]["value"] == 0.5
    assert calibrated["gain"]["macro_f1"]["value"] == 0.0
    for block in (calibrated, tuned):
        for gain in block["gain"].values():
            assert gain["low"] <= gain["value"] <= gain["high"]
    assert tuned["gain"]["macro_f1"]["low"] > 0.3
    assert calibrated["gain"]["macro_f1"]["low"] < 0 < calibrated["gain"]["macro_f1"]["high"]


def test_a_method_is_described_as_a_hospital_is():
    """Value and interval are those of `scoring.score_hospitals` for the same answers and seed."""
    scored = make_scored()
    adapted = make_adapted(scored)
    block = run(scored, adapted)["away"]["on_site"]["labels_2"]
    rows = scored[scored["image_id"].isin(adapted.query("method == 'labels_2'")["image_id"])]
    seed = on_site.seed_for(7, "evaluate", "away", "labels_2")
    known = scoring.describe_images(rows.assign(predicted=rows["label"]), CLASSES, "a", 400, seed)
    assert {name: block[name] for name in known} == known


def test_models_that_err_together_have_a_narrow_gain():
    """Paired: where patients differ and the models do not, the gain is surer than the scores."""
    rng = np.random.default_rng(1)
    scored = make_scored(40, 6)
    away = scored["hospital"] == "away"
    is_hard = scored["group"].map(
        dict(zip(scored["group"].unique(), rng.random(40) < 0.5, strict=True))
    )
    other = scored["label"].map({"a": "b", "b": "a"})
    scored["predicted"] = scored["label"].where(~is_hard, other)
    better = scored["predicted"].where(rng.random(len(scored)) > 0.1, scored["label"])
    adapted = adapt(scored[away], "calibrated", predicted=better[away])
    found = run(scored, adapted, {"methods": {"calibrated": {}}})["away"]["on_site"]["calibrated"]
    gain, value = found["gain"]["accuracy"], found["metrics"]["accuracy"]
    assert gain["low"] > 0
    assert 2 * (gain["high"] - gain["low"]) < value["high"] - value["low"]


def test_what_has_no_answer_has_a_reason():
    """A method, and a hospital; few groups give values without ends."""
    scored = make_scored(4)
    adapted = adapt(scored[scored["hospital"] == "away"], "calibrated")
    methods = {"methods": {"calibrated": {}, "labels_2": {"reason": "one class"}}}
    found = run(scored, adapted, methods)
    assert found["home"] == {"on_site": None, "on_site_reason": "it trains"}
    assert found["away"]["on_site"]["labels_2"] == {"metrics": None, "reason": "one class"}
    block = found["away"]["on_site"]["calibrated"]
    assert block["gain"]["macro_f1"] == {"value": 0.0, "low": None, "high": None}
    assert block["interval_reason"] == "fewer than 6 groups at away"


def test_a_note_is_passed_on():
    scored = make_scored()
    methods = {"methods": {"labels_2": COUNTS | {"note": "fewer than 2 of c"}}}
    found = run(scored, make_adapted(scored), methods)["away"]["on_site"]
    assert found["labels_2"]["note"] == "fewer than 2 of c"


def test_tables_out_of_step_stop():
    """An adapted image that is not scored, or a method that is told and has no row."""
    scored = make_scored()
    adapted = make_adapted(scored)
    with pytest.raises(TableError, match=r"no image for the method labels_2 at away.*dvc repro"):
        run(scored, adapted[adapted["method"] == "calibrated"])
    adapted["image_id"] = adapted["image_id"].replace("away/030", "away/999")
    with pytest.raises(TableError, match=r"not scored \(away/999\).*calibrated.*dvc repro"):
        run(scored, adapted)
