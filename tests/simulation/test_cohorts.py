"""A simulated hospital holds exactly the pictures and the planted faults that were asked for."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.core.errors import HospitalError
from stages.datasets import hospitals, path_facts
from stages.labels import taxonomy
from stages.simulation.cells import CELL_TYPES
from stages.simulation.cohorts import ADDING, SPOILING, Defects, SmearSpec, publish, truth
from stages.simulation.pictures import Camera, Style

SMALL = Style(width=96, height=90, px_per_um=4.0, camera=Camera(jpeg_quality=90))
DEFECTS = Defects(
    truncated=2,
    empty=1,
    wrong_type=2,
    odd_size=2,
    oversized=1,
    blank=1,
    mislabelled=3,
    duplicate=3,
    conflicting=2,
    twin=3,
)
CODES = {"segmented_neutrophil": "SNE", "band_neutrophil": "BNE", "lymphocyte": "LY"}
BY_CLASS = SmearSpec(
    seed=5, n_images=60, style=SMALL, defects=DEFECTS, masks=True, oversized_side=1400
)
BY_PATIENT = BY_CLASS.model_copy(
    update={"layout": "patients", "official_parts": True, "labels": CODES, "folder": "smears of E"}
)
PATTERNS = {
    "class_folders": r"(?P<label>[^/]+)/(?P<patient>P\d+)_(?P<slide>S\d+)_\d+\.jpg",
    "patients": (
        r"(?P<official_part>train|test)/(?P<patient>P\d+)/(?P<slide>S\d+)/(?P<label>\w+)_\d+\.jpg"
    ),
}


@pytest.fixture(scope="module", params=[BY_CLASS, BY_PATIENT], ids=["by_class", "by_patient"])
def published(request, tmp_path_factory):
    target = tmp_path_factory.mktemp("mirror") / "made.zip"
    publish(request.param, "made", target)
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    return request.param, truth(request.param, "made"), content


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def bytes_of(spec, path, name="made"):
    publish(spec, name, path)
    return path.read_bytes()


def with_defect(rows, name):
    return rows[rows["defect"] == name]


def test_truth_lists_every_member_once_and_in_order(published):
    _, rows, content = published
    assert rows["path"].tolist() == sorted(content)
    assert rows["path"].is_unique
    assert (rows["image_id"] == "made/" + rows["path"]).all()


def test_every_planted_fault_is_there_as_often_as_asked(published):
    spec, rows, _ = published
    found = Counter(rows[rows["kind"] == "picture"]["defect"])
    asked = spec.defects.model_dump()
    assert {name: found[name] for name in asked} == asked
    assert found[""] == spec.n_images - sum(asked[name] for name in SPOILING)
    assert found.total() == spec.n_images + sum(asked[name] for name in ADDING)
    assert (rows["kind"] == "other").sum() == 1


def test_sound_pictures_are_whole_and_of_the_cameras_size(published):
    _, rows, content = published
    sound = rows[(rows["kind"] == "picture") & rows["defect"].isin(["", "mislabelled", *ADDING])]
    for path in sound["path"]:
        assert content[path].endswith(b"\xff\xd9")
        assert decode(content[path]).shape == (90, 96, 3)


def test_spoilt_pictures_are_spoilt_as_named(published):
    spec, rows, content = published
    for path in with_defect(rows, "truncated")["path"]:
        assert content[path][:2] == b"\xff\xd8"
        assert not content[path].endswith(b"\xff\xd9")
    for path in with_defect(rows, "empty")["path"]:
        assert content[path] == b""
    for path in with_defect(rows, "wrong_type")["path"]:
        assert path.endswith("/Thumbs.db") or content[path].isascii()
        assert decode(content[path]) is None
    for path in with_defect(rows, "odd_size")["path"]:
        assert decode(content[path]).shape == (96, 102, 3)
    for path in with_defect(rows, "oversized")["path"]:
        assert decode(content[path]).shape == (1400, 1400, 3)
    for path in with_defect(rows, "blank")["path"]:
        picture = decode(content[path])
        assert (picture == picture[0, 0]).all()
    for row in with_defect(rows, "mislabelled").itertuples():
        assert row.published_label != spec.label_of(row.cell_type)
        assert row.published_label in {spec.label_of(name) for name in CELL_TYPES}


def test_copies_repeat_the_picture_that_truth_names(published):
    _, rows, content = published
    label = dict(zip(rows["path"], rows["published_label"], strict=True))
    patient = dict(zip(rows["path"], rows["patient"], strict=True))
    for row in rows[rows["defect"].isin(ADDING) & (rows["kind"] == "picture")].itertuples():
        assert patient[row.copy_of] == row.patient
        assert (label[row.copy_of] == row.published_label) == (row.defect != "conflicting")
        same_bytes = content[row.copy_of] == content[row.path]
        assert same_bytes == (row.defect != "twin")
        brighter = decode(content[row.path]).astype(int) - decode(content[row.copy_of])
        assert brighter.mean() == pytest.approx(float(row.defect == "twin"), abs=0.4)
        assert np.abs(brighter).mean() < 3


def test_only_planted_copies_have_the_same_bytes(published):
    _, rows, content = published
    pictures = rows[(rows["kind"] == "picture") & ~rows["defect"].isin(["empty", "blank"])]
    times = Counter(content[path] for path in pictures["path"])
    planted = rows[(rows["kind"] == "picture") & rows["defect"].isin(["duplicate", "conflicting"])]
    assert sum(n - 1 for n in times.values()) == len(planted)


def test_a_copy_of_the_same_label_comes_after_its_first(published):
    """So that a reader who keeps the first by path rejects exactly the planted one."""
    _, rows, _ = published
    copies = with_defect(rows[rows["kind"] == "picture"], "duplicate")
    assert (copies["path"] > copies["copy_of"]).all()


def test_paths_tell_label_patient_slide_and_part(published):
    spec, rows, _ = published
    layout = hospitals.Layout(image=PATTERNS[spec.layout], mask=r"(?P<of>.+)_mask\.png")
    reader = path_facts.PathReader(layout, {})
    for row in rows.itertuples():
        facts = reader.read(row.path)
        if row.kind == "picture":
            assert (facts.label, facts.patient, facts.slide, facts.official_part or "") == (
                row.published_label,
                row.patient,
                row.slide,
                row.official_part,
            )
        else:
            assert facts is None
            assert (reader.mask_of(row.path) is not None) == (row.kind == "mask")


def test_each_mask_fits_its_picture_and_holds_three_levels(published):
    _, rows, content = published
    pictures = rows[rows["kind"] == "picture"].set_index("path")
    masks = rows[rows["kind"] == "mask"]
    assert len(masks) == len(pictures[~pictures["defect"].isin(["empty", "wrong_type", "blank"])])
    for row in masks.itertuples():
        of = row.path.replace("_mask.png", ".jpg")
        mask = cv2.imdecode(np.frombuffer(content[row.path], np.uint8), cv2.IMREAD_UNCHANGED)
        levels = {0, 128} if row.cell_type == "platelet" else {0, 128, 255}
        assert set(np.unique(mask)) == levels
        if pictures.at[of, "defect"] != "truncated":
            assert mask.shape == decode(content[of]).shape[:2]


def test_one_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path, monkeypatch):
    few = Defects(truncated=1, twin=1, mislabelled=1)
    spec = BY_CLASS.model_copy(update={"n_images": 36, "defects": few})
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    alone = bytes_of(spec, tmp_path / "a.zip")
    monkeypatch.setenv("SMEARFLOW_WORKERS", "2")
    assert bytes_of(spec, tmp_path / "b.zip") == alone
    assert bytes_of(spec.model_copy(update={"seed": 6}), tmp_path / "c.zip") != alone


def test_planting_copies_and_masks_leaves_the_other_pictures_as_they_are(tmp_path):
    plain = SmearSpec(seed=5, n_images=12, style=SMALL)
    planted = plain.model_copy(update={"defects": Defects(duplicate=2, twin=1), "masks": True})
    first = zipfile.ZipFile(io.BytesIO(bytes_of(plain, tmp_path / "a.zip")))
    second = zipfile.ZipFile(io.BytesIO(bytes_of(planted, tmp_path / "b.zip")))
    for name in first.namelist():
        assert first.read(name) == second.read(name)


@given(
    n_images=st.integers(1, 200),
    weights=st.dictionaries(st.sampled_from(CELL_TYPES), st.floats(0.1, 10), max_size=11),
)
@settings(max_examples=40, deadline=None)
def test_proportions_of_the_classes_are_exact(n_images, weights):
    """Each class is within one picture of its share, and all pictures have a class."""
    spec = SmearSpec(n_images=n_images, classes=weights)
    found = Counter(truth(spec, "made")["cell_type"])
    assert found.total() == n_images
    shares = weights or dict.fromkeys(CELL_TYPES, 1.0)
    for name in CELL_TYPES:
        share = n_images * shares.get(name, 0.0) / sum(shares.values())
        assert abs(found[name] - share) <= 1.0


@given(n_patients=st.integers(2, 30), data=st.data())
@settings(max_examples=25, deadline=None)
def test_exactly_the_asked_patients_stand_in_both_official_parts(n_patients, data):
    shared = data.draw(st.integers(0, n_patients))
    spec = SmearSpec(
        n_images=4 * n_patients,
        n_patients=n_patients,
        official_parts=True,
        shared_patients=shared,
        defects=Defects(duplicate=2),
    )
    rows = truth(spec, "made")
    assert set(rows["official_part"]) == {"train", "test"}
    parts = rows.groupby("patient")["official_part"].nunique()
    assert len(parts) == n_patients
    assert (parts == 2).sum() == shared


def test_a_colour_shortcut_makes_the_background_tell_the_class(tmp_path):
    def spread(strength):
        spec = SmearSpec(seed=2, n_images=44, style=SMALL, colour_shortcut=strength)
        archive = zipfile.ZipFile(io.BytesIO(bytes_of(spec, tmp_path / "made.zip")))
        rows = truth(spec, "made")
        rows["bright"] = [
            np.percentile(decode(archive.read(path)).reshape(-1, 3), 90, axis=0)
            for path in rows["path"]
        ]
        classes = rows.groupby("cell_type")["bright"]
        means = [np.stack(part.tolist()).mean(axis=0) for _, part in classes]
        assert len(means) == 11
        return np.std(np.stack(means), axis=0).max()

    assert spread(1.0) > 3 * spread(0.0)


def test_twins_of_another_hospital_are_its_pictures_encoded_anew(tmp_path):
    south = SmearSpec(seed=8, n_images=30, style=SMALL, defects=Defects(truncated=2))
    north = SmearSpec.model_validate(
        {
            "seed": 9,
            "n_images": 20,
            "style": {"width": 120, "height": 120, "px_per_um": 5.0},
            "labels": {"monocyte": "MO"},
            "twins_of": {"south": {"n": 6, "spec": south.model_dump()}},
        }
    )
    ours = zipfile.ZipFile(io.BytesIO(bytes_of(north, tmp_path / "n.zip", "north")))
    theirs = zipfile.ZipFile(io.BytesIO(bytes_of(south, tmp_path / "s.zip", "south")))
    twins = with_defect(truth(north, "north"), "twin_of_south")
    assert len(twins) == 6
    known = truth(south, "south").set_index("image_id")
    for row in twins.itertuples():
        first = known.loc[row.copy_of]
        assert first["defect"] == ""
        assert first["cell_type"] == row.cell_type
        assert row.published_label == north.label_of(row.cell_type)
        expected = cv2.resize(decode(theirs.read(first["path"])), (120, 120)).astype(int)
        assert np.abs(decode(ours.read(row.path)) - expected).mean() < 4


def test_asking_for_more_twins_than_there_are_is_refused():
    spec = SmearSpec.model_validate({"twins_of": {"south": {"n": 9, "spec": {"n_images": 4}}}})
    with pytest.raises(HospitalError, match=r"twins_of\.south: asks for 9 pictures.*Lower n"):
        truth(spec, "made")


def test_more_copies_than_sound_pictures_are_refused(tmp_path):
    spec = SmearSpec(n_images=3, defects=Defects(truncated=2, duplicate=2))
    with pytest.raises(HospitalError, match="has 1 sound pictures and cannot copy 2"):
        publish(spec, "made", tmp_path / "made.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ({"n_images": 2, "defects": {"blank": 3}}, "more spoilt pictures than n_images"),
        ({"shared_patients": 1}, "needs official_parts"),
        ({"official_parts": True, "n_patients": 2, "shared_patients": 3}, "must not exceed"),
        ({"classes": {"lymphocite": 1.0}}, "'lymphocite' is no cell type; known: band_neutrophil"),
        ({"labels": {"neutrophil": "N"}}, "'neutrophil' is no cell type"),
        ({"classes": {"monocyte": 1.0}, "defects": {"mislabelled": 1}}, "two published labels"),
        ({"style": {"width": 2000}}, "less than or equal to 632"),
        ({"colour_shortcut": 1.5}, "less than or equal to 1"),
        ({"layout": "folders"}, "class_folders"),
        ({"stain": {}}, "not permitted"),
    ],
)
def test_an_impossible_hospital_is_refused(block, fault):
    with pytest.raises(ValidationError, match=fault):
        SmearSpec.model_validate(block)


@pytest.mark.parametrize("hospital", ["demo_north", "demo_east", "demo_west"])
def test_the_demo_publishes_what_its_label_map_expects(hospital, monkeypatch):
    """Its rules read every path, and every label stands in the map with its exact count."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    block = hospitals.load(hospital)
    spec = SmearSpec.model_validate(block.simulated)
    rows = truth(spec, hospital)
    pictures = rows[rows["kind"] == "picture"]
    reader = path_facts.PathReader(block.layout, {})
    read = [reader.read(path) for path in pictures["path"]]
    assert [facts.label for facts in read] == pictures["published_label"].tolist()
    assert [facts.patient for facts in read] == pictures["patient"].tolist()
    assert [facts.slide for facts in read] == pictures["slide"].tolist()
    label_map = taxonomy.read_label_map(hospital)
    expected = dict(zip(label_map["published_label"], label_map["expected"], strict=True))
    assert expected == Counter(pictures["published_label"])
    sound = pictures[pictures["defect"] == ""]
    ours = dict(zip(label_map["published_label"], label_map["cell_type"], strict=True))
    for cell_type, label in set(zip(sound["cell_type"], sound["published_label"], strict=True)):
        assert ours[label] in {cell_type, "immature_granulocyte"}
    assert block.layout.sizes == [f"{spec.style.width}x{spec.style.height}"]
    assert block.um_per_px == pytest.approx(1 / spec.style.px_per_um, rel=0.01)
