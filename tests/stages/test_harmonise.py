"""harmonise: all pictures come out, with a class or a reason, counts and groups."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from stages import evaluate, harmonise, split
from stages import filter as filter_stage
from stages.core.errors import HospitalError, ParamsError, TableError
from stages.core.settings import parse_yaml
from stages.core.tables import IMAGES, LABELS, REJECTED, SPLIT
from stages.datasets import path_facts
from stages.datasets.hospitals import Layout
from tests.stages.cohort import (
    CODES,
    picture_rows,
    write_contents,
    write_label_map,
    write_pictures,
    write_project,
    write_reviews,
)
from tests.stages.test_evaluate import adapt, answer
from tests.stages.test_filter import cell, encode


@pytest.fixture(autouse=True)
def at_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    write_pictures(pd.concat([picture_rows(name) for name in "abc"]))


def test_in_is_kept_plus_dropped():
    write_label_map(Path(), "b", CODES | {"MO": ""})
    text = Path("data/labels/b.csv").read_text()
    Path("data/labels/b.csv").write_text(text.replace("MO,,,,", "MO,,blurred by scanner,,"))
    harmonise.main()
    labels = LABELS.read()
    metrics = json.loads(Path("metrics/harmonise.json").read_text())
    assert len(labels) == 3 * 72 == metrics["n_kept"] + metrics["n_dropped"]
    assert metrics["by_hospital"]["b"]["n_by_drop_reason"] == {"blurred by scanner": 24}
    assert metrics["classes"] == ["lymphocyte", "monocyte", "segmented_neutrophil"]


@pytest.mark.parametrize("has_map", [True, False])
@pytest.mark.parametrize(
    ("paths", "image"),
    [
        (
            ["lymphocytes/P01/1.jpg", "lymphocytes/P02/2.jpg", "monocytes/P01/3.jpg"],
            r"(?P<label>[^/]+)/(?P<patient>[^/]+)/[^/]+\.\w+",
        ),
        (
            ["x/Lymphocyte/P01/a/1.jpg", "x/Lymphocyte/P02/b/2.jpg", "x/Monocyte/P02/a/3.jpg"],
            r"(?P<label>[^/]+)/(?P<patient>[^/]+)/(?P<slide>[^/]+)/[^/]+\.\w+",
        ),
        (
            ["limfosit/7/1.jpg", "limfosit/8/2.jpg", "monosit/7/3.jpg"],
            r"(?P<label>[^/]+)/(?P<patient>[^/]+)/[^/]+\.\w+",
        ),
    ],
)
def test_folders_of_patients_below_classes_are_not_dropped(paths, image, has_map):
    """The layout to write comes before lines for the map, and no line drops a patient."""
    if not has_map:
        Path("data/labels/b.csv").unlink()
    write_pictures(pictures_at("b", paths))
    with pytest.raises(HospitalError, match=r"folder right above a picture") as fault:
        harmonise.main()
    advised = str(fault.value).split("hospitals.yaml ")[1].split(". If")[0]
    assert parse_yaml(advised) == {"layout": {"image": image}}
    assert "no cell type of ours" not in str(fault.value)
    reader = path_facts.PathReader(Layout(image=image), {})
    told = [reader.read(path) for path in paths]
    assert [one.label for one in told] == [path.removeprefix("x/").split("/")[0] for path in paths]
    assert all(one.patient for one in told)


@pytest.mark.parametrize("paths", [["day1/Zz/1.jpg", "day1/Zz/2.jpg"], ["Zz/1.jpg", "LY/2.jpg"]])
def test_a_class_folder_is_no_patient(paths):
    """Below one folder for all, or below none, a strange folder is a class without a line."""
    write_pictures(pictures_at("b", paths))
    with pytest.raises(HospitalError, match=r"no line for 1.*'Zz,,no cell type") as fault:
        harmonise.main()
    assert "layout" not in str(fault.value)


def pictures_at(hospital, paths):
    """Rows of pictures whose labels are the folders right above them."""
    rows = picture_rows(hospital).head(len(paths)).copy()
    rows["path"] = paths
    rows["image_id"] = rows["twin_group"] = [f"{hospital}/{path}" for path in paths]
    rows["published_label"] = [path.split("/")[-2] for path in paths]
    return rows


def test_a_map_that_git_does_not_know_is_told_in_a_queued_experiment(monkeypatch):
    """The copy that DVC makes lacks it, the project has it: the way out is git add."""
    project = Path.cwd()
    copy = project / ".dvc/tmp/exps/standalone/x1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    write_project(copy)
    write_pictures(pd.concat([picture_rows(name) for name in "abc"]))
    Path("data/labels/b.csv").unlink()
    told = r"b.csv is in your project and not in Git.*'git add data/labels/b.csv' and start"
    with pytest.raises(HospitalError, match=told):
        harmonise.main()
    (project / "data/labels/b.csv").unlink()
    with pytest.raises(HospitalError, match=r"b.csv is missing: nobody has said"):
        harmonise.main()


def test_a_patient_is_one_group_and_the_unit_says_so():
    harmonise.main()
    labels = LABELS.read()
    assert labels["group"].nunique() == 36
    assert set(labels["unit"]) == {"patient"}


def test_what_is_drawn_is_told_and_the_publisher_s_side_is_carried_on():
    """What split and summarise know of a hospital, they know from here."""
    pictures = picture_rows("b").assign(simulated=True, official_part="learn")
    pictures["official_side"] = "train"
    pictures.loc[0, ["official_part", "official_side"]] = "spare", None
    write_pictures(pictures)
    harmonise.main()
    assert [block(name)["simulated"] for name in "abc"] == [False, True, False]
    own = LABELS.read().query("hospital == 'b'")
    assert own["official_side"].fillna("none").tolist() == ["none"] + ["train"] * 71


def test_a_second_run_gives_the_same_bytes():
    harmonise.main()
    first = Path("data/labels.parquet").read_bytes()
    harmonise.main()
    assert Path("data/labels.parquet").read_bytes() == first


def test_a_wrong_count_stops_unless_the_collection_is_declared_partial():
    write_label_map(Path(), "a", CODES, expected="25")
    with pytest.raises(HospitalError, match=r"a.*partial"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()
    write_project(Path(), partial=["a"])
    write_label_map(Path(), "a", CODES, expected="25")
    harmonise.main()
    write_label_map(Path(), "a", CODES, expected="23")
    with pytest.raises(HospitalError, match=r"24"):
        harmonise.main()


def test_a_label_outside_the_map_names_the_line_to_add():
    write_label_map(Path(), "c", {"SNE": "segmented_neutrophil", "LY": "lymphocyte"})
    with pytest.raises(HospitalError, match=r"data/labels/c.csv has no line for 1 .*'MO' \(24 im"):
        harmonise.main()


def test_a_rejected_copy_joins_two_patients():
    """The copy of p00's picture under p01 was rejected; its patient still belongs to p00's."""
    kept = picture_rows("a").iloc[0]
    copy = {
        "image_id": "a/p01/copy.jpg", "hospital": "a", "path": "p01/copy.jpg",
        "published_label": kept["published_label"], "patient": "p01", "slide": None,
        "pixel_sha256": kept["pixel_sha256"], "reason": "duplicate", "detail": "the same pixels",
    }  # fmt: skip
    REJECTED.write(pd.DataFrame([copy]), "a")
    harmonise.main()
    labels = LABELS.read().query("hospital == 'a'")
    assert labels["group"].nunique() == 11
    assert labels[labels["patient"].isin(["p00", "p01"])]["group"].nunique() == 1


def block(hospital):
    return json.loads(Path("metrics/harmonise.json").read_text())["by_hospital"][hospital]


def test_a_row_of_the_map_without_an_image_is_listed():
    """No error where no number was published; a rejected image counts as one that bears it."""
    write_label_map(Path(), "a", CODES | {"EO": "eosinophil", "BA": "basophil"})
    rejected = {
        "image_id": "a/x", "hospital": "a", "path": "x", "published_label": "BA", "patient": None,
        "slide": None, "pixel_sha256": None, "reason": "truncated", "detail": "d",
    }  # fmt: skip
    REJECTED.write(pd.DataFrame([rejected]), "a")
    harmonise.main()
    assert block("a")["unused_map_rows"] == ["EO"]
    assert block("b")["unused_map_rows"] == []


def test_a_row_with_a_published_number_needs_its_images():
    """Unless the hospital is a part; then the row is listed."""
    codes = CODES | {"EO": "eosinophil"}
    write_label_map(Path(), "a", codes, expected="24")
    with pytest.raises(HospitalError, match=r"EO: 0 here, 24 published"):
        harmonise.main()
    write_project(Path(), partial=["a"])
    write_label_map(Path(), "a", codes, expected="24")
    harmonise.main()
    assert block("a")["unused_map_rows"] == ["EO"]


def test_two_lines_of_one_label_are_refused():
    path = Path("data/labels/b.csv")
    path.write_text(path.read_text() + "SNE,band_neutrophil,,,made\n", encoding="utf-8")
    with pytest.raises(HospitalError, match=r"b.csv, line 5: .*'SNE' stands in line 2 already"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()


def test_a_part_that_is_not_in_the_experiment_is_refused():
    write_project(Path(), partial=["a", "d"])
    with pytest.raises(ParamsError, match=r"partial: 'd' is not in hospitals"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()


def test_coarse_labels_are_counted_beside_the_finer_classes():
    write_label_map(Path(), "c", CODES | {"SNE": "neutrophil"})
    harmonise.main()
    finer = ["band_neutrophil", "segmented_neutrophil"]
    assert block("c")["coarse"] == {
        "neutrophil": {"n_images": 24, "label": None, "finer_labels": finer}
    }
    assert block("c")["n_by_drop_reason"] == {"no class for neutrophil": 24}
    assert block("a")["coarse"] == {}


def write_diagnoses(diagnoses, taxonomy):
    """The patients of hospital a get these diagnoses in turn, those of b and c none but healthy."""
    pictures = pd.concat([picture_rows(name) for name in "abc"], ignore_index=True)
    patients = pictures["patient"].str[1:].astype(int)
    own = [diagnoses[number % len(diagnoses)] for number in patients]
    pictures["diagnosis"] = pd.Series(own, dtype=object).where(pictures["hospital"] == "a", None)
    pictures.loc[pictures["hospital"] == "b", "diagnosis"] = "healthy"
    write_project(Path(), taxonomy=taxonomy)
    write_pictures(pictures)


def test_an_image_without_a_diagnosis_is_dropped_and_counted():
    write_diagnoses(["AML", None, "CML"], "leukaemia3")
    harmonise.main()
    assert block("a")["n_by_drop_reason"] == {
        "diagnosis CML is in no class": 24, "no diagnosis published": 24,
    }  # fmt: skip
    assert block("b")["n_by_drop_reason"] == {}
    assert block("c")["n_by_drop_reason"] == {"no diagnosis published": 72}


def test_a_diagnosis_on_one_cell_type_drops_the_others_by_name():
    write_diagnoses(["AML", "APL"], "leukaemia3_monocyte")
    harmonise.main()
    assert block("a")["n_by_class"] == {"AML": 12, "APL": 12}
    assert block("b")["n_by_class"] == {"healthy": 24}
    assert block("b")["n_by_drop_reason"] == {
        "only: leukaemia3_monocyte takes no lymphocyte of healthy": 24,
        "only: leukaemia3_monocyte takes no segmented_neutrophil of healthy": 24,
    }


def test_no_diagnosis_at_all_is_no_task():
    write_project(Path(), taxonomy="aml_apl")
    with pytest.raises(TableError, match=r"'aml_apl' leaves the classes \[\]"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()


# Number, folder, first and second expert; an empty cell is no label, UFO stands in no map.
OPINIONS = [
    (0, "SNE", "SNE", "SNE"), (1, "SNE", "SNE", "BNE"), (2, "SNE", "BNE", "BNE"),
    (3, "LY", "LY", "LY"), (4, "LY", "LY", "LY"), (5, "LY", "LY", "SNE"), (6, "LY", "ART", "LY"),
    (7, "LY", "UFO", "LY"), (8, "SNE", "SNE", ""), (9, "SNE", "", ""), (10, "SNE", "SNE", "SNE"),
]  # fmt: skip


def publish_opinions():
    """A hospital whose archive holds a table of two experts; image 11 has no line in it."""
    layout = {
        "image": r"(?P<label>[A-Z]+)/(?P<number>\d+)\.jpg",
        "tables": [
            {
                "member": r"experts\.csv", "key": "image", "match": "number",
                "columns": {"expert_1": "first", "expert_2": "second"},
            }
        ],
    }  # fmt: skip
    folder = write_contents("e", **layout)
    lines = ["image,first,second", *(f"{n:03d},{one},{two}" for n, _, one, two in OPINIONS)]
    with zipfile.ZipFile(folder / "e.zip", "w") as archive:
        archive.writestr("experts.csv", "\n".join(lines))
        for number, folder in [*((n, folder) for n, folder, *_ in OPINIONS), (11, "LY")]:
            archive.writestr(f"{folder}/{number}.jpg", encode(cell(number)))


def test_two_experts_are_compared_from_a_published_table(monkeypatch):
    """Through filter and harmonise: kappa in the classes of the experiment, all else counted."""
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    write_project(Path(), hospitals=("e",))
    codes = {"SNE": "segmented_neutrophil", "BNE": "band_neutrophil", "LY": "lymphocyte"}
    write_label_map(Path(), "e", codes)
    path = Path("data/labels/e.csv")
    path.write_text(path.read_text() + "ART,,not a cell,,made\n", encoding="utf-8")
    publish_opinions()
    filter_stage.main("e")
    assert IMAGES.read("e", ["expert_1", "expert_2"]).notna().sum().tolist() == [10, 9]
    harmonise.main()
    found = block("e")["experts"]
    compared = [(one, two) for _, _, one, two in OPINIONS if {one, two} <= set(codes)]
    assert found["n_images"] == len(compared) == 7
    assert (found["n_both_labelled"], found["n_left_out"]) == (9, 2)
    assert found["n_by_unknown_label"] == {"UFO": 1}
    assert found["agreement"]["value"] == pytest.approx(5 / 7, abs=1e-6)
    expected = cohen_kappa_score(*zip(*compared, strict=True))
    assert found["kappa"]["value"] == pytest.approx(expected, abs=1e-6)
    assert found["kappa"]["low"] < expected < found["kappa"]["high"]
    assert set(found["by_class"]) == set(codes.values())
    assert block("e")["unused_map_rows"] == ["ART", "BNE"]
    assert "expert_1" not in LABELS.read().columns


def test_without_a_second_opinion_the_reason_stands_in_its_place():
    harmonise.main()
    assert block("a")["experts"] is None
    assert block("a")["experts_reason"] == "no image bears the labels of two experts"


def tables():
    """The bytes of what harmonise and split write."""
    paths = [Path("data/labels.parquet"), *sorted(Path("data/split").iterdir())]
    return [path.read_bytes() for path in paths]


def run_to_scores(says=None):
    """Harmonise, split and evaluate; the model says what the published labels say."""
    harmonise.main()
    split.main()
    frame = SPLIT.read_all("abc")
    frame["says"] = frame["label"] if says is None else frame["image_id"].map(says)
    answer(frame, sorted(CODES.values()))
    for hospital, own in frame.groupby("hospital"):
        adapt(str(hospital), own)
    evaluate.main()
    content = json.loads(Path("metrics/evaluate.json").read_text())
    return frame, content["by_hospital"]["c"]["metrics"]["accuracy"]["value"]


def test_a_review_is_seen_in_labels_split_and_score_and_goes_without_a_trace():
    """Of two unseen images one is corrected and one dropped; without these lines: the old bytes."""
    write_project(Path(), evaluate={"bootstrap": 100, "error": 0.3})
    frame, accuracy = run_to_scores()
    says = dict(zip(frame["image_id"], frame["label"], strict=True))
    before = tables()
    assert accuracy == 1
    pixels = picture_rows("c").set_index("image_id")["pixel_sha256"]
    write_reviews(
        Path(), f"c/p00/0.jpg,monocyte,{pixels['c/p00/0.jpg']},Berg,", "c/p00/1.jpg,,,Berg,burst"
    )
    frame, accuracy = run_to_scores(says)
    labels = LABELS.read().set_index("image_id")
    assert labels.loc["c/p00/0.jpg", ["published_label", "cell_type", "label"]].tolist() == [
        "SNE", "monocyte", "monocyte",
    ]  # fmt: skip
    assert labels.loc["c/p00/1.jpg", "drop_reason"] == "review"
    assert frame.set_index("image_id")["label"]["c/p00/0.jpg"] == "monocyte"
    assert "c/p00/1.jpg" not in set(frame["image_id"])
    assert accuracy == pytest.approx(70 / 71)
    counts = json.loads(Path("metrics/harmonise.json").read_text())
    assert counts["by_hospital"]["c"]["n_by_drop_reason"] == {"review": 1}
    assert counts["reviews"]["changes"] == {
        "lymphocyte": {"none": 1}, "segmented_neutrophil": {"monocyte": 1},
    }  # fmt: skip
    write_reviews(Path())
    _, accuracy = run_to_scores(says)
    assert accuracy == 1
    assert tables() == before


def test_a_review_is_of_its_own_image_and_split_tells_of_the_twin():
    """A near twin keeps its published label: two classes that look alike are listed, as ever."""
    pictures = pd.concat([picture_rows(name) for name in "abc"], ignore_index=True)
    first, second = pictures.index[pictures["image_id"].isin(["a/p00/0.jpg", "a/p00/3.jpg"])]
    pictures.loc[second, "phash"] = pictures.loc[first, "phash"]
    pictures.loc[second, "twin_group"] = "a/p00/0.jpg"
    write_pictures(pictures)
    write_reviews(Path(), "a/p00/0.jpg,monocyte,,Berg,")
    harmonise.main()
    split.main()
    told = json.loads(Path("metrics/split.json").read_text())["conflicting_twins"]
    assert told["pairs"] == ["a/p00/0.jpg (monocyte) and a/p00/3.jpg (segmented_neutrophil)"]


def test_published_counts_are_compared_before_reviews():
    """Whoever corrects a label has lost no picture."""
    write_label_map(Path(), "a", CODES, expected="24")
    write_reviews(Path(), "a/p00/0.jpg,monocyte,,Berg,", "a/p00/1.jpg,,,Berg,")
    harmonise.main()
    assert block("a")["n_by_cell_type"]["monocyte"] == 25


def test_a_reviewed_label_is_no_longer_too_coarse():
    write_label_map(Path(), "c", CODES | {"SNE": "neutrophil"})
    write_reviews(Path(), "c/p00/0.jpg,band_neutrophil,,Berg,")
    harmonise.main()
    assert block("c")["coarse"]["neutrophil"]["n_images"] == 23


def test_a_review_that_is_not_applied_is_listed_and_told(caplog):
    """Also one of an image that filter rejected; of another hospital it is counted alone."""
    rejected = {
        "image_id": "a/x.jpg", "hospital": "a", "path": "x", "published_label": "LY",
        "patient": None, "slide": None, "pixel_sha256": None, "reason": "blank", "detail": "white",
    }  # fmt: skip
    REJECTED.write(pd.DataFrame([rejected]), "a")
    write_reviews(
        Path(), "a/x.jpg,monocyte,,,", "b/gone.jpg,monocyte,,,", "porto/1.jpg,monocyte,,,"
    )
    caplog.set_level("INFO")
    harmonise.main()
    found = json.loads(Path("metrics/harmonise.json").read_text())["reviews"]
    assert found["not_applied"] == [
        {"image_id": "a/x.jpg", "reason": "left out by filter: blank, white"},
        {"image_id": "b/gone.jpg", "reason": "no such picture"},
    ]
    assert found["n_elsewhere"] == {"porto": 1}
    assert "harmonise: reviews not applied (2): a/x.jpg (left out by filter" in caplog.text


def test_a_wrong_review_stops_and_writes_nothing():
    write_reviews(Path(), "a/p00/0.jpg,monocite,,,")
    with pytest.raises(HospitalError, match=r"data/reviews.csv, line 2: .* Did you mean 'mono"):
        harmonise.main()
    assert not Path("data/labels.parquet").exists()
