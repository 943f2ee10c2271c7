"""evaluate: known answers get known scores, from tables alone."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import evaluate
from stages.core.errors import ModelError, SplitError, TableError
from stages.core.store import write_metrics
from stages.core.tables import ADAPTED, IMAGES, LABELS, PREDICTIONS, SPLIT
from tests.stages.cohort import ROOT, picture_rows, write_project, write_split

HOSPITALS = ("north", "east")
CLASSES = ["basophil", "eosinophil", "monocyte"]
# hospital, part, truth, what the model said, patient
PICTURES = [
    *[("north", "train", "eosinophil", "eosinophil", f"t{i}") for i in range(3)],
    ("north", "train", "basophil", "basophil", "t9"),
    ("north", "valid", "basophil", "basophil", "v0"),
    *[("north", "test", "basophil", "basophil", f"p{i}") for i in range(4)],
    *[("north", "test", "eosinophil", "eosinophil", f"p{i}") for i in range(3)],
    ("north", "test", "eosinophil", "monocyte", "p3"),
    *[("east", "unseen", "eosinophil", "eosinophil", f"q{i}") for i in range(3)],
    *[("east", "unseen", "basophil", "eosinophil", f"q{i}") for i in range(3)],
    ("east", "left_out", "basophil", "basophil", "q9"),
]


def probabilities(says, classes):
    """A clear answer, of which the mean over two views is known."""
    odds = np.array([np.exp([k * (says == one) for one in classes]) for k in (2, 3)])
    return (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder as predict leaves it, with known answers."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, HOSPITALS, evaluate={"bootstrap": 200, "error": 0.3})
    frame = pd.DataFrame(PICTURES, columns=["hospital", "part", "label", "says", "patient"])
    units = frame["hospital"].map({"north": "patient", "east": "slide"})
    write_cohort(frame.assign(unit=units, official_part=None), CLASSES)
    return tmp_path


def write_cohort(frame, classes):
    """Write the tables that evaluate reads, one row of `frame` an image."""
    frame["image_id"] = [f"{name}/{i:03d}.png" for i, name in enumerate(frame["hospital"])]
    known = frame["patient"].notna()
    frame["group"] = (frame["hospital"] + "/" + frame["patient"]).where(known, frame["image_id"])
    frame["twin_group"] = frame["image_id"]
    frame["left_out_reason"] = frame["part"].where(frame["part"] == "left_out", None)
    write_split(frame)
    labels = frame.assign(
        published_label=frame["label"],
        cell_type=frame["label"],
        slide=None,
        official_side=None,
        keep=True,
        drop_reason=None,
    )
    LABELS.write(labels[LABELS.schema.names])
    answer(frame, classes)
    for hospital, rows in frame.groupby("hospital"):
        adapt(str(hospital), rows)
        IMAGES.write(picture_rows(str(hospital), 1, 1), hospital)  # their place alone is read


def answer(frame, classes):
    """Write the table of predictions of each hospital, as predict does."""
    for hospital, rows in frame.groupby("hospital"):
        own = rows[rows["part"].isin(["valid", "test", "unseen"])]
        table = own[["image_id", "hospital", "part"]].assign(predicted=own["says"])
        p = np.array([probabilities(one, classes) for one in own["says"]]).reshape(-1, len(classes))
        for place, name in enumerate(classes):
            table[f"p_{name}"] = p[:, place]
        PREDICTIONS.write(table, hospital)


def adapt(hospital, own):
    """What adapt leaves: at an unseen hospital every image called rightly, by no label."""
    unseen = own[own["part"] == "unseen"]
    table = unseen[["image_id", "hospital"]].assign(method="calibrated", predicted=unseen["label"])
    ADAPTED.write(table, hospital)
    content = {"methods": {"calibrated": {}}} if len(unseen) else {"reason": "it trains"}
    write_metrics("adapt", content, hospital)


def read_metrics(project):
    return json.loads((project / "metrics/evaluate.json").read_text())


def test_each_hospital_gets_the_scores_of_its_known_answers(project):
    """North: 7 of 8 right; east: all called eosinophil, so half is right."""
    evaluate.main()
    content = read_metrics(project)
    north, east = content["by_hospital"]["north"], content["by_hospital"]["east"]
    assert (north["part"], north["n_images"], north["n_groups"]) == ("test", 8, 4)
    assert (east["part"], east["n_images"], east["n_groups"]) == ("unseen", 6, 3)
    assert (north["unit"], east["unit"]) == ("patient", "slide")
    assert north["metrics"]["accuracy"]["value"] == 7 / 8
    assert east["metrics"]["accuracy"]["value"] == 0.5
    assert east["metrics"]["balanced_accuracy"] == {"value": 0.5, "low": None, "high": None}
    assert east["interval_reason"] == "fewer than 6 groups at east"
    assert east["metrics"]["macro_f1"]["value"] == pytest.approx((0 + 2 / 3) / 2, abs=1e-6)
    assert north["per_class"]["monocyte"]["recall"] is None
    assert north["n_by_class"] == {"basophil": 4, "eosinophil": 4, "monocyte": 0}
    assert content["worst_unseen"]["hospital"] == "east"
    assert content["drop"]["metrics"]["accuracy"]["value"] == 0.375
    assert content["not_scored"] == []


def test_baseline_calls_everything_the_commonest_training_class(project):
    """Three of four training pictures are eosinophils; the test labels are not looked at."""
    evaluate.main()
    content = read_metrics(project)
    assert content["by_hospital"]["east"]["baseline_class"] == "eosinophil"
    assert content["by_hospital"]["north"]["baseline"] == {
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": 0.333333,
        "kappa": 0.0,
    }


def test_on_site_stands_beside_the_scores(project):
    """East is all right once calibrated, half was before; north trains."""
    evaluate.main()
    content = read_metrics(project)
    north, east = content["by_hospital"]["north"], content["by_hospital"]["east"]
    assert (north["on_site"], north["on_site_reason"]) == (None, "it trains")
    block = east["on_site"]["calibrated"]
    assert block["metrics"]["macro_f1"]["value"] == 1.0
    assert block["gain"]["accuracy"] == {"value": 0.5, "low": None, "high": None}


def test_doubt_stands_beside_the_scores(project):
    """One image validates, rightly: the promise of home; no other hospital is unseen but east."""
    evaluate.main()
    north, east = (read_metrics(project)["by_hospital"][name]["doubt"] for name in HOSPITALS)
    assert (north["error"]["value"], east["error"]["value"]) == (0.125, 0.5)
    assert (north["home"]["n_images"], north["home"]["wished_error"]) == (1, 0.3)
    assert (north["home"]["accepted"]["value"], east["home"]["accepted"]["value"]) == (1.0, 1.0)
    assert (north["elsewhere_reason"], east["elsewhere_reason"]) == (
        "it trains: home tells", "no other place is unseen",
    )  # fmt: skip
    rewrite_split(lambda frame: frame[frame["part"] != "valid"])
    evaluate.main()
    home = read_metrics(project)["by_hospital"]["north"]["doubt"]["home"]
    assert (home["temperature"], home["reason"]) == (1.0, "no image to learn it from")


def test_validation_images_without_an_answer_stop(project):
    north = PREDICTIONS.read("north")
    PREDICTIONS.write(north[north["part"] != "valid"], "north")
    with pytest.raises(TableError, match=r"no row of 1 images \(north/004.png\).*dvc repro"):
        evaluate.main()
    assert not (project / "metrics/evaluate.json").exists()


def test_plots_get_their_tables(project):
    """Confusion: one row a picture; scores: one row a hospital and class, empty where unknown."""
    evaluate.main()
    listed = pd.read_csv(project / "metrics/evaluate/confusion.csv")
    assert list(listed.columns) == ["hospital", "part", "actual", "predicted"]
    assert len(listed) == 14
    east = listed[listed["hospital"] == "east"]
    assert pd.crosstab(east["actual"], east["predicted"]).to_numpy().tolist() == [[3], [3]]
    scores = pd.read_csv(project / "metrics/evaluate/scores.csv").set_index(["hospital", "class"])
    assert scores.loc[("north", "basophil"), "f1"] == 1.0
    assert np.isnan(scores.loc[("north", "monocyte"), "f1"])
    assert scores.loc[("north", "eosinophil"), "n"] == 4
    risk = pd.read_csv(project / "metrics/evaluate/risk.csv")
    assert risk[risk["coverage"] == 1].set_index("hospital")["error"].to_dict() == {
        "east": 0.5, "north": 0.125,
    }  # fmt: skip
    reliability = pd.read_csv(project / "metrics/evaluate/reliability.csv")
    assert reliability.groupby("hospital")["n"].sum().to_dict() == {"east": 6, "north": 8}


def test_the_same_input_gives_the_same_bytes(project):
    names = [
        "metrics/evaluate.json",
        "metrics/evaluate/confusion.csv",
        "metrics/evaluate/scores.csv",
        "metrics/evaluate/reliability.csv",
        "metrics/evaluate/risk.csv",
    ]
    evaluate.main()
    first = [(project / name).read_bytes() for name in names]
    evaluate.main()
    assert [(project / name).read_bytes() for name in names] == first


def test_a_hospital_that_is_nowhere_stops(project):
    """Its absence from the means would go unnoticed."""
    SPLIT.write(SPLIT.read("east").iloc[:0], "east")
    with pytest.raises(SplitError, match=r"test or unseen image of east.*take it out"):
        evaluate.main()
    assert not Path("metrics/evaluate.json").exists()


def test_a_class_that_the_model_never_learnt_stops(project):
    """The classes are those of the tables of predictions."""
    frame = pd.concat([PREDICTIONS.read(name) for name in HOSPITALS])
    frame["says"] = frame["predicted"].replace("basophil", "monocyte")
    answer(frame, ["eosinophil", "monocyte"])
    with pytest.raises(ModelError, match=r"data/split holds basophil, which.*dvc repro"):
        evaluate.main()
    assert not (project / "metrics/evaluate.json").exists()


def test_tables_of_two_models_stop(project):
    """One hospital was predicted before the model was trained again."""
    frame = PREDICTIONS.read("north")
    PREDICTIONS.write(frame.rename(columns={"p_monocyte": "p_platelet"}), "north")
    with pytest.raises(TableError, match=r"north.parquet has other classes than .*east.*dvc repro"):
        evaluate.main()
    PREDICTIONS.at("north").unlink()
    with pytest.raises(TableError, match=r"predictions/north.parquet is missing.*dvc repro"):
        evaluate.main()
    assert not Path("metrics/evaluate.json").exists()


def test_an_image_without_a_prediction_stops(project):
    """Or with one that was made while it stood in another part."""
    frame = PREDICTIONS.read("east")
    for broken in (frame.iloc[1:], frame.assign(part=["test", *["unseen"] * (len(frame) - 1)])):
        PREDICTIONS.write(broken, "east")
        with pytest.raises(TableError, match=r"no row of 1 images \(east/\d+.png\).*dvc repro"):
            evaluate.main()
    assert not Path("metrics/evaluate.json").exists()


def test_a_prediction_of_an_image_that_is_not_scored_is_of_no_account(project):
    evaluate.main()
    first = Path("metrics/evaluate.json").read_bytes()
    frame = PREDICTIONS.read("east")
    more = frame.iloc[[0]].assign(image_id="east/900.png", predicted="monocyte")
    PREDICTIONS.write(pd.concat([frame, more]), "east")
    evaluate.main()
    assert Path("metrics/evaluate.json").read_bytes() == first


def test_tables_alone_are_read(project):
    """A metric that changes loads no TensorFlow, and neither model nor pixels need be there."""
    code = """
import sys
from stages import evaluate
evaluate.main()
print(sorted({"tensorflow", "keras", "cv2", "stages.models.trained"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    assert Path("metrics/evaluate.json").is_file()
    assert sorted(path.name for path in Path("data").iterdir()) == [
        "adapted", "images", "labels", "labels.parquet", "predictions", "reviews.csv", "split",
        "taxonomies.csv",
    ]  # fmt: skip


def rewrite_split(change):
    write_split(change(SPLIT.read_all(HOSPITALS)), HOSPITALS)


def set_method(project, method):
    path = project / "params.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["split"]["method"] = method
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def test_without_test_images_at_home_the_unseen_hospitals_are_scored(project):
    """As leave_hospitals_out splits: no in-domain mean, no drop, and the reason."""
    set_method(project, "leave_hospitals_out")
    rewrite_split(lambda frame: frame[frame["part"] != "test"])
    north = PREDICTIONS.read("north")
    PREDICTIONS.write(north[north["part"] == "valid"], "north")
    evaluate.main()
    content = read_metrics(project)
    assert list(content["by_hospital"]) == ["east"]
    assert content["mean_in_domain"] is content["drop"] is None
    assert "leave_hospitals_out" in content["in_domain_reason"]
    assert content["mean_unseen"]["metrics"]["accuracy"]["value"] == 0.5
    assert content["not_scored"] == ["north"]


def test_each_hospital_has_what_the_split_leaks(project):
    """A sound split has the shares, all 0, and no warning."""
    evaluate.main()
    content = read_metrics(project)
    north = content["by_hospital"]["north"]["leaks"]
    assert north["patient_in_train"]["value"] == north["twin_in_train"]["value"] == 0.0
    assert north["patient_in_train"]["n"] == north["n_tested"] == 8
    assert north["slide_in_train"] is None
    assert "leaky" not in (project / "metrics/evaluate.json").read_text()


@pytest.mark.parametrize("method", ["random", "official"])
def test_a_leaky_split_is_told_beside_every_score(project, caplog, method):
    """Planted: half of north's test images show patients that trained, one of eight has a twin."""
    set_method(project, method)
    labels = LABELS.read()
    hidden = labels["patient"].isin(["p0", "p1"])
    LABELS.write(labels.assign(patient=labels["patient"].mask(hidden, "t0")))
    train, test = (SPLIT.read("north").query("part == @part").iloc[0] for part in ("train", "test"))
    twins = {test["image_id"]: train["twin_group"]}
    rewrite_split(
        lambda frame: frame.assign(
            twin_group=frame["image_id"].map(twins).fillna(frame["twin_group"])
        )
    )
    with caplog.at_level(logging.INFO):
        evaluate.main()
    content = read_metrics(project)
    north, east = content["by_hospital"]["north"], content["by_hospital"]["east"]
    assert north["leaks"]["patient_in_train"]["value"] == 0.5
    assert north["leaky"] == content["mean_in_domain"]["leaky"]
    assert "12.5 % of test images have a twin" in north["leaky"]
    assert "50.0 % share a slide or patient" in north["leaky"]
    assert east["leaky"] == content["mean_unseen"]["leaky"] == content["worst_unseen"]["leaky"]
    assert "0.0 % of test images have a twin" in east["leaky"]
    assert "leaky" in content["drop"]
    assert f"north (test) macro F1 {north['metrics']['macro_f1']['value']:.3f}" in caplog.text
    assert north["leaky"] in caplog.text


def test_cells_have_no_screening_no_patients_and_no_parts_and_say_why(project):
    evaluate.main()
    content = read_metrics(project)
    assert content["screening"] is None
    assert "basophil, eosinophil, monocyte" in content["screening_reason"]
    for name, patients in (("north", 4), ("east", 3)):
        block = content["by_hospital"][name]
        assert block["per_patient"] is block["by_official_part"] is None
        assert f"{patients} of {patients} patients" in block["per_patient_reason"]
        assert "no official part" in block["by_official_part_reason"]


# hospital, part, diagnosis, what the model said, patient, official part
LEUKAEMIA = [
    *[("jhu", "train", name, name, f"t{name}", "Discovery") for name in ("AML", "APL")],
    ("home", "train", "healthy", "healthy", None, None),
    *[("jhu", "test", "AML", says, "a1", "Validation") for says in ("AML", "AML", "healthy")],
    *[("jhu", "test", "AML", says, "a2", "Validation") for says in ("healthy", "healthy", "AML")],
    *[("jhu", "test", "APL", says, "b1", "Discovery") for says in ("APL", "AML", "APL")],
    *[("home", "test", "healthy", says, None, None) for says in ("healthy", "healthy", "AML")],
    *[("away", "unseen", "healthy", "healthy", "h1", None)] * 2,
]


@pytest.fixture
def leukaemia(tmp_path, monkeypatch):
    """PyCell's task: the diagnosis of the patient, sick and healthy from different hospitals."""
    monkeypatch.chdir(tmp_path)
    hospitals = ("home", "jhu", "away")
    write_project(
        tmp_path, hospitals, evaluate={"bootstrap": 200, "error": 0.3}, taxonomy="leukaemia3"
    )
    columns = ["hospital", "part", "label", "says", "patient", "official_part"]
    frame = pd.DataFrame(LEUKAEMIA, columns=columns)
    units = np.where(frame["patient"].notna(), "patient", "image")
    write_cohort(frame.assign(unit=units), ["AML", "APL", "healthy"])
    return tmp_path


def test_diagnoses_are_scored_by_patient_too(leukaemia):
    """Of jhu's three patients a2 is missed, by the mean of its probabilities; home has none."""
    evaluate.main()
    blocks = read_metrics(leukaemia)["by_hospital"]
    own = blocks["jhu"]["per_patient"]
    assert (own["n_patients"], own["n_images"]) == (3, 9)
    assert own["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert own["confusion"]["AML"] == {"AML": 1, "APL": 0, "healthy": 1}
    parts = own["by_official_part"]
    assert {name: block["accuracy"]["value"] for name, block in parts.items()} == {
        "Discovery": 1.0,
        "Validation": 0.5,
    }
    assert blocks["home"]["per_patient"] is None
    assert "no patient" in blocks["home"]["per_patient_reason"]


def test_official_parts_of_a_hospital_are_scored_apart(leukaemia):
    evaluate.main()
    blocks = read_metrics(leukaemia)["by_hospital"]
    parts = blocks["jhu"]["by_official_part"]
    assert {name: block["n_images"] for name, block in parts.items()} == {
        "Discovery": 3,
        "Validation": 6,
    }
    assert parts["Validation"]["metrics"]["accuracy"]["value"] == 0.5
    assert parts["Validation"]["n_by_class"] == {"AML": 6, "APL": 0, "healthy": 0}
    assert blocks["home"]["by_official_part"] is None


def test_screening_joins_the_hospitals_of_a_part(leukaemia):
    """Three of nine sick images missed, one of three healthy ones called sick; and by patient."""
    evaluate.main()
    screening = read_metrics(leukaemia)["screening"]
    test = screening["test"]
    assert (test["n"], test["correct"]) == (12, 7)
    assert (test["n_sick"], test["sick_called_healthy"]) == (9, 3)
    assert (test["n_healthy"], test["healthy_called_sick"]) == (3, 1)
    assert test["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert test["by_disease"] == {"AML": {"n": 6, "missed": 3}, "APL": {"n": 3, "missed": 0}}
    own = test["per_patient"]
    assert (own["n_patients"], own["n_sick"], own["sick_called_healthy"]) == (3, 3, 1)
    assert (own["n_healthy"], own["healthy_called_sick"]) == (3, 1)
    assert own["n_reason"].startswith("3 images without a published patient")
    unseen = screening["unseen"]
    assert unseen["sensitivity"]["value"] is None
    assert unseen["per_patient"]["n_patients"] == 1


def test_screening_of_a_leaky_split_says_so(leukaemia):
    set_method(leukaemia, "random")
    evaluate.main()
    screening = read_metrics(leukaemia)["screening"]
    assert all(screening[part]["leaky"].startswith("leaky: ") for part in ("test", "unseen"))
