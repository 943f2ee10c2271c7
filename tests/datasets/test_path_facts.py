"""Facts of a picture out of its path and tables: every published layout, and odd ones."""

import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from stages.core.errors import HospitalError
from stages.datasets import hospitals, path_facts
from stages.datasets.hospitals import FactTable, Layout
from stages.datasets.path_facts import Facts, PathReader

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
HOSPITALS = [
    "all_idb2", "barcelona", "barcelona224", "bccd", "bloodmnist", "chula", "cvb", "jhu",
    "jiangxi", "munich", "raabin", "raabin_krd",
]  # fmt: skip
on_real_images = pytest.mark.skipif(not SHARED.is_dir(), reason="real images are not here")

MASTER = b"Patient_ID,Diagnosis,Cohort,Age at Diagnosis,Gender\nPatient_00,APL,Discovery,29,F\n"
FIVE_CLASSES = b"image ID,class label\r\n1,2\r\n2,1\r\n"
BLOCK = {"title": "t", "licence": "l", "citation": "c", "folder": "mine"}

# Published labels and how many pictures carry each, in the parts that we may develop with.
REAL_LABELS = {
    "barcelona": {
        "BA": 109, "BNE": 87, "EO": 103, "ERB": 36, "IG": 1, "LY": 107, "MMY": 11, "MO": 110,
        "MY": 27, "NEUTROPHIL": 1, "PLATELET": 39, "PMY": 9, "SNE": 27,
    },
    "barcelona224": {
        "BA": 258, "BNE": 365, "EO": 716, "ERB": 361, "IG": 36, "LY": 258, "MMY": 240, "MO": 307,
        "MY": 265, "NEUTROPHIL": 12, "PLATELET": 552, "PMY": 139, "SNE": 387,
    },
    "bccd": {
        "basophil": 3, "eosinophil": 88, "lymphocyte": 33, "monocyte": 20, "neutrophil": 207,
    },
    "chula": {
        "basophil": 100, "eosinophil": 100, "lymphocyte": 110, "monocyte": 88, "neutrophil": 112,
    },
    "cvb": {"1": 16, "2": 18, "3": 8, "4": 6, "5": 2},
    "jhu": {
        "Arifact": 2, "Band neutrophils": 30, "Basophil": 14, "Blast, no lineage spec": 187,
        "Eosinophils": 13, "Erythroblast": 46, "Giant thrombocyte": 13, "Lymphocyte": 206,
        "Lymphocyte, variant": 43, "Metamyelocyte": 11, "Monocyte": 65, "Myelocyte": 26,
        "Plasma cells": 6, "Promonocyte": 3, "Promyelocyte": 38, "Segmented neutrophils": 134,
        "Smudge cells": 138, "Thrombocyte aggregation": 4, "Unidentified": 1,
        "Young Unidentified": 2, None: 49,
    },
    "jiangxi": {"1": 141, "2": 43, "3": 38, "4": 18, "5": 1},
    "munich": {
        "BAS": 9, "EBO": 7, "EOS": 9, "KSC": 3, "LYA": 3, "LYT": 10, "MMZ": 5, "MOB": 3, "MON": 10,
        "MYB": 6, "MYO": 7, "NGB": 8, "NGS": 10, "PMB": 3, "PMO": 6,
    },
    "raabin": {
        "Basophil": 62, "Eosinophil": 62, "Lymphocyte": 62, "Monocyte": 62, "Neutrophil": 62,
    },
    "raabin_krd": {"basophil": 117, "eosinophil": 178, "monocyte": 156},
}  # fmt: skip

# Sizes (width, height) that none of the cameras gives, in the same parts.
ODD_SIZES = {
    "barcelona": {(366, 369): 16, (360, 360): 1},
    "bccd": {},
    "chula": {},
    "cvb": {},
    "jhu": {(368, 384): 1, (2920, 2952): 1},
    "jiangxi": {},
    "munich": {},
    "raabin": {},
    "raabin_krd": {},
}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def read_layout(name, **tables):
    return PathReader(hospitals.load(name).layout, tables)


def members(name):
    """Paths of a hospital's real files, and the content of its tables."""
    folder = SHARED / name
    if name == "barcelona224":
        with zipfile.ZipFile(folder / "PBC_224px_part.zip") as archive:
            return archive.namelist(), {}
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    layout = hospitals.load(name).layout
    return paths, {
        path: (folder / path).read_bytes()
        for path in paths
        if path_facts.is_table_member(layout, path)
    }


@pytest.mark.parametrize(
    ("hospital", "path", "facts"),
    [
        (
            "munich",
            "PKG - AML-Cytomorphology_LMU/AML-Cytomorphology_LMU/BAS/BAS_0001.tiff",
            Facts("BAS/BAS_0001.tiff", label="BAS"),
        ),
        ("munich", "MYB/MYB_0003.tif", Facts("MYB/MYB_0003.tif", label="MYB")),
        (
            "barcelona",
            "snkd93bnjr-1/PBC_dataset_normal_DIB/ig/MMY_12.jpg",
            Facts("ig/MMY_12.jpg", label="MMY", diagnosis="healthy"),
        ),
        (
            "barcelona",
            "PBC_dataset_normal_DIB/neutrophil/NEUTROPHIL_7.jpg",
            Facts("neutrophil/NEUTROPHIL_7.jpg", label="NEUTROPHIL", diagnosis="healthy"),
        ),
        (
            "barcelona224",
            "BTech-Project-2025-3d75aa1d/dataset/test/basophil/BA_10387.jpg",
            Facts("basophil/BA_10387.jpg", label="BA", diagnosis="healthy"),
        ),
        (
            "raabin",
            "Train/Eosinophil/95-8-27-1_104_2.jpg",
            Facts(
                "Train/Eosinophil/95-8-27-1_104_2.jpg",
                label="Eosinophil",
                slide="95-8-27-1",
                field="104",
                official_part="Train",
            ),
        ),
        (
            "raabin",
            "TestA/Basophil/20190526_163735_0.jpg",
            Facts(
                "TestA/Basophil/20190526_163735_0.jpg",
                label="Basophil",
                slide="20190526",
                field="163735",
                official_part="TestA",
            ),
        ),
        (
            "raabin",
            "TestB/Lymphocyte/1149.jpg",
            Facts("TestB/Lymphocyte/1149.jpg", label="Lymphocyte", official_part="TestB"),
        ),
        (
            "chula",
            "cells/neutrophil/E-11_0631_1.jpg",
            Facts("neutrophil/E-11_0631_1.jpg", label="neutrophil", slide="11", field="0631"),
        ),
        (
            "chula",
            "monocyte/HF-M-8_0037_0.jpg",
            Facts("monocyte/HF-M-8_0037_0.jpg", label="monocyte", slide="8", field="0037"),
        ),
        (
            "bccd",
            "basophil/BloodImage_00008_1.jpg",
            Facts("basophil/BloodImage_00008_1.jpg", label="basophil", field="00008"),
        ),
        (
            "raabin_krd",
            "x/monocyte/image1001.jpg",
            Facts("monocyte/image1001.jpg", label="monocyte"),
        ),
        ("all_idb2", "img/Im001_1.tif", Facts("Im001_1.tif", label="1")),
        (
            "bloodmnist",
            "bloodmnist_224.npz/train/6/000042.png",
            Facts("train/6/000042.png", label="6", diagnosis="healthy", official_part="train"),
        ),
    ],
)
def test_reads_the_facts_that_a_path_tells(hospital, path, facts):
    """Label, slide and part come from the path; a wrapping folder changes nothing."""
    assert read_layout(hospital).read(path) == facts


@pytest.mark.parametrize("table", ["master.csv", "data/Images_metadata_table.csv"])
@pytest.mark.parametrize(
    ("path", "label", "slide"),
    [
        ("Signed slides/Blast, no lineage spec/BL_15336348.jpg", "Blast, no lineage spec", None),
        ("10024110838_p/Signed slides/Promyelocyte/PMO_1.jpg", "Promyelocyte", "10024110838_p"),
        ("Unsigned slides/10027563503_018.jpg", None, None),
    ],
)
def test_joins_the_diagnosis_of_a_patient(table, path, label, slide):
    """Johns Hopkins: the folder is the label; diagnosis and cohort are the patient's."""
    reader = read_layout("jhu", **{table: MASTER})
    assert reader.read(f"blood smear images_Patient00-105/Patient_00/{path}") == Facts(
        f"Patient_00/{path}",
        label=label,
        patient="Patient_00",
        slide=slide,
        diagnosis="APL",
        official_part="Discovery",
    )


def test_joins_the_label_of_a_numbered_picture():
    """The class table says 1 where the file says 001; a picture without a line has no label."""
    reader = read_layout("jiangxi", **{"x/Class Labels of Dataset 1.csv": FIVE_CLASSES})
    assert reader.read("x/Dataset 1/001.bmp") == Facts("Dataset 1/001.bmp", label="2")
    assert reader.read("x/Dataset 1/009.bmp") == Facts("Dataset 1/009.bmp")
    assert reader.read("x/Dataset 2/001.bmp") is None
    assert reader.read("x/Dataset 1/001.png") is None
    assert reader.mask_of("x/Dataset 1/001.png") == "Dataset 1/001"
    assert reader.mask_of("x/Dataset 1/001.bmp") is None


@pytest.mark.parametrize(
    ("hospital", "path"),
    [
        ("barcelona", "__MACOSX/PBC_dataset_normal_DIB/basophil/._BA_1.jpg"),
        ("barcelona", "__MACOSX/PBC_dataset_normal_DIB/basophil/BA_1.jpg"),
        ("barcelona", "PBC_dataset_normal_DIB/basophil/.ipynb_checkpoints/BA_1-checkpoint.jpg"),
        ("barcelona", "PBC_dataset_normal_DIB/basophil/.DS_Store"),
        ("barcelona", "PBC_dataset_normal_DIB/neutrophil/.DS_169665.jpg"),
        ("barcelona224", "ESRGAN_Model/LR/PLATELET_140656.jpg"),
        ("munich", "__MACOSX/AML-Cytomorphology_LMU/BAS/._BAS_0001.tiff"),
        ("munich", "AML-Cytomorphology_LMU/BAS/.ipynb_checkpoints/BAS_0001-checkpoint.tiff"),
        ("raabin", "__MACOSX/Train/Basophil/._20190526_163735_0.jpg"),
        ("raabin", "Train/.ipynb_checkpoints/95-8-27-1_104_2.jpg"),
        ("jhu", "Patient_22/Signed slides/Lymphocyte/Thumbs.db"),
        ("jhu", "Patient_22/Signed slides/.ipynb_checkpoints/LY_1.jpg"),
        ("cvb", "__MACOSX/Dataset 2/001.bmp"),
    ],
)
def test_what_a_system_leaves_behind_is_no_picture(hospital, path):
    """Resource forks, checkpoints, thumbnails and .DS_Store are not counted as cells."""
    tables = {"master.csv": MASTER, "Class Labels of Dataset 2.csv": b"image ID,class\n1,1\n"}
    assert read_layout(hospital, **tables).read(path) is None


def test_hidden_tables_and_masks_are_passed_over():
    """A macOS twin of a table or mask is neither."""
    layout = hospitals.load("cvb").layout
    assert not path_facts.is_table_member(layout, "__MACOSX/Class Labels of Dataset 2.csv")
    assert path_facts.is_table_member(layout, "a/Class Labels of Dataset 2.csv")
    tables = {
        "Class Labels of Dataset 2.csv": b"image ID,class\n1,1\n",
        "__MACOSX/Class Labels of Dataset 2.csv": b"\x00\x05\x16\x07",
    }
    reader = PathReader(layout, tables)
    assert reader.read("Dataset 2/001.bmp").label == "1"
    assert reader.mask_of("__MACOSX/Dataset 2/001.png") is None


def test_a_folder_of_class_folders_needs_no_rules():
    """The standard layout: the label is the last folder, and the picture keeps its whole path."""
    reader = PathReader(Layout(), {})
    assert reader.read("day 1/Neutrophil/a.JPG") == Facts("day 1/Neutrophil/a.JPG", "Neutrophil")
    assert reader.read("Neutrophil/a.jpg!d").label == "Neutrophil"  # the content decides
    assert reader.read("alone.png") is None
    strict = PathReader(Layout(image=r"(?P<label>[^/]+)/\d+\.jpg"), {})
    assert strict.differs_by_ending("A/1.jfif")
    assert not strict.differs_by_ending("A/one.jfif")


def test_constants_hold_where_a_path_says_nothing():
    """A path's own fact comes before the constant."""
    image = r"(?:(?P<patient>p\d)/)?(?P<label>[A-Z]+)_\d+\.png"
    reader = PathReader(Layout(image=image, constants={"patient": "all"}), {})
    assert reader.read("p1/BA_1.png").patient == "p1"
    assert reader.read("x/BA_1.png").patient == "all"


@pytest.mark.parametrize(
    ("sizes", "size", "odd"),
    [
        ([], (1, 1), False),
        (["360x363"], (360, 363), False),
        (["360x363"], (363, 360), True),
        (["360x363-365"], (360, 365), False),
        (["360x363-365"], (360, 366), True),
        (["575x575", "482-506x482-506"], (490, 500), False),
        (["575x575", "482-506x482-506"], (575, 490), True),
    ],
)
def test_odd_sizes(sizes, size, odd):
    """A size is odd where none of the camera's sizes, width x height, covers it."""
    assert PathReader(Layout(sizes=sizes), {}).is_odd_size(*size) is odd


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "no published file matches .*second archive"),
        ({"master.csv": b"Patient,Diagnosis,Cohort\n"}, "no column Patient_ID; it has Patient, "),
        ({"master.csv": b"Patient_ID;Diagnosis;Cohort\n"}, "no column Patient_ID, Diagnosis"),
        ({"master.csv": b"\xff\xfe\x00"}, "master.csv is no UTF-8 text"),
        (
            {"master.csv": MASTER + b"Patient_00,AML,Discovery,29,F\n"},
            "master.csv, line 3: Patient_ID 'Patient_00' has other values than",
        ),
    ],
)
def test_a_wrong_table_is_told(tables, message):
    """A table that is missing, in another form or that contradicts itself stops the run."""
    with pytest.raises(HospitalError, match=message):
        read_layout("jhu", **tables)


def test_a_table_may_tell_what_two_experts_said():
    """Each expert's label by image; an empty cell, or no line, is no label."""
    columns = {"expert_1": "first", "expert_2": "again"}
    rule = FactTable(member=r"opinions\.csv", key="image", match="name", columns=columns)
    layout = Layout(image=r"(?P<label>[A-Z]+)/(?P<name>[^/]+)\.tiff", tables=[rule])
    table = b"image,first,again\nMYO_1,MYO,MOB\nMYO_2,MYO,\n"
    reader = PathReader(layout, {"opinions.csv": table})
    found = [reader.read(f"MYO/MYO_{number}.tiff") for number in (1, 2, 3)]
    assert [(one.expert_1, one.expert_2) for one in found] == [
        ("MYO", "MOB"), ("MYO", None), (None, None),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"'expert_3' is no fact of a picture. Did you mean"):
        Layout(constants={"expert_3": "x"})


def test_tables_are_read_as_people_write_them():
    """A byte order mark, blanks, empty and short lines and repeated lines do no harm."""
    content = b"\xef\xbb\xbfPatient_ID, Diagnosis ,Cohort\nPatient_00 , APL ,\n\n,,\nPatient_01\n"
    reader = read_layout("jhu", **{"master.csv": content + b" Patient_00, APL ,\n"})
    facts = reader.read("Patient_00/Signed slides/Monocyte/MO_1.jpg")
    assert (facts.diagnosis, facts.official_part) == ("APL", None)
    assert reader.read("Patient_01/Signed slides/Monocyte/MO_1.jpg").diagnosis is None


PATIENTS = FactTable(
    member=r"patients\.csv", key="image", match="number", columns={"patient": "patient"}
)
NUMBERED = Layout(
    image=r"(?P<label>[^/]+)/(?:IMG_)?(?P<number>[^/]+)\.jpg",
    tables=[PATIENTS],
)


def joined(table, paths, layout=NUMBERED):
    """What a table of patients tells of some pictures."""
    reader = PathReader(layout, {"patients.csv": table.encode()})
    return path_facts.join_tables("porto", reader, paths), reader


def counts(n_images, n_matched, n_patient):
    found = {"n_images": n_images, "n_matched": n_matched, "n_patient": n_patient}
    return {"patients.csv by image": found}


def pictures(*numbers):
    return [f"monocytes/{number}.jpg" for number in numbers]


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        (["1.0", "2.0", "10.00"], ["1", "02", "10"]),
        (["1", "2", "10"], ["0001", "2.0", "10"]),
        (["\u00e9a", "b\u00a0c", "d"], ["e\u0301a", "b  c", " d "]),
        (["1.5", "1e3", "x.0"], ["1.5", "1e3", "x.0"]),
    ],
)
def test_a_key_is_met_however_a_spreadsheet_wrote_it(keys, numbers):
    """Whole numbers as 12, 012 or 12.0, accents in either form, blanks of any kind."""
    rows = "".join(f"{key},P{n}\n" for n, key in enumerate(keys))
    found, reader = joined("image,patient\n" + rows, pictures(*numbers))
    assert found == counts(3, 3, 3)
    told = [reader.read(path).patient for path in pictures(*numbers)]
    assert told == ["P0", "P1", "P2"]


@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1),
    st.lists(st.integers(0, 30), unique=True, min_size=1),
)
def test_every_picture_is_counted_with_each_table(in_table, on_disk):
    """Matched and not matched are all; none matched stops, and so do patients of a minority."""
    table = "image,patient\n" + "".join(f"{n}.0,P{n}\n" for n in in_table)
    both = len(set(in_table) & set(on_disk))
    if 2 * both < len(on_disk):
        with pytest.raises(HospitalError, match=r"patients\.csv"):
            joined(table, pictures(*on_disk))
        return
    found, _ = joined(table, pictures(*on_disk))
    assert found == counts(len(on_disk), both, both)


def test_a_table_that_meets_no_picture_shows_a_key_of_each_side():
    """The way out is seen at once: one has an ending, the other not."""
    table = "image,patient\nIMG_1.jpg,P1\nIMG_2.jpg,P1\n"
    told = (
        r"porto: table patients.csv meets none of the 2 pictures. Its image is 'IMG_1.jpg', "
        r"'IMG_2.jpg'; the number of monocytes/1.jpg is '1'. Correct key or match .*hospitals.yaml"
    )
    with pytest.raises(HospitalError, match=told):
        joined(table, pictures(1, 2))
    with pytest.raises(HospitalError, match=r"Its image is nothing; the number of"):
        joined("image,patient\n,P1\n", pictures(1, 2))


def test_a_table_whose_patients_are_empty_stops():
    """Every key is met and no patient told: the column is the wrong one."""
    with pytest.raises(HospitalError, match=r"patients.csv tells the patient of 0 of the 2"):
        joined("image,patient\n1,\n2,\n", pictures(1, 2))
    with pytest.raises(HospitalError, match=r"patient of 1 of the 3 pictures.*2.jpg.*3.jpg"):
        joined("image,patient\n1,P1\n2,\n", pictures(1, 2, 3))


def test_pictures_that_a_table_lacks_are_named(caplog):
    """Half may be missing; each is counted, and a first few are shown."""
    found, _ = joined("image,patient\n1,P1\n2,P1\n9,P1\n", pictures(1, 2, 3))
    assert found == counts(3, 2, 2)
    assert "patients.csv meets 2 of 3 pictures (patient 2), not monocytes/3.jpg" in caplog.text


def test_other_facts_may_be_told_of_a_few():
    """Second opinions exist of some pictures only; patients are what groups are made of."""
    rule = PATIENTS.model_copy(update={"columns": {"expert_1": "patient"}})
    layout = NUMBERED.model_copy(update={"tables": [rule]})
    found, _ = joined("image,patient\n1,MYB\n", pictures(*range(30)), layout)
    assert found["patients.csv by image"] == {"n_images": 30, "n_matched": 1, "n_expert_1": 1}
    with pytest.raises(HospitalError, match=r"tells the expert_1 of 0 of the 30 pictures"):
        joined("image,patient\n1,\n", pictures(*range(30)), layout)


@pytest.mark.parametrize(
    ("layout", "paths", "told"),
    [
        (
            Layout(image=r"(?:(?P<patient>p\d+)/)?(?P<label>[^/]+)/[^/]+\.jpg"),
            ["P1/monocytes/1.jpg"],
            "layout.image of porto names patient, and no path tells it",
        ),
        (
            Layout(),
            ["P1/monocytes/1.jpg", "P2/monocytes/1.jpg"],
            "class folders of porto lie in 2 others (P1, P2)",
        ),
        (Layout(), ["x/monocytes/1.jpg", "x/neutrophils/1.jpg"], None),
        (Layout(), ["monocytes/1.jpg", "neutrophils/1.jpg"], None),
        (Layout(image=r"(?P<slide>\d)/(?P<label>a)/\d\.jpg"), ["1/a/1.jpg", "2/a/1.jpg"], None),
    ],
)
def test_patients_that_the_layout_loses_are_warned_of(layout, paths, told, caplog):
    """An optional group that never matches, and folders above the classes that nothing names."""
    path_facts.warn_of_lost_groups("porto", layout, PathReader(layout, {}), paths)
    assert told in caplog.text if told else not caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('image,patient\n1,"P1\n2,P1\n', "line 2: a quote opens a cell"),
        ('image,patient\n1,P1\n2,"P2\n3,P3"\n', "line 3: a quoted cell goes on to line 4"),
        ("image,patient\n1,Doe, J.\n", "line 2: has 3 cells, the header 2"),
        ("image,patient,patient\n1,P1,P2\n", "line 1: the column patient stands twice"),
        ("image,patient\n1,P1\n1.0,P2\n", "line 3: image '1' has other values than in a line"),
    ],
)
def test_a_table_is_read_strictly(table, message):
    """What would shift, lose or choose between values stops with its line."""
    with pytest.raises(HospitalError, match=rf"patients\.csv, {message}"):
        PathReader(NUMBERED, {"patients.csv": table.encode()})


def test_two_lines_of_one_key_may_say_the_same():
    _, reader = joined("image,patient,,\n1,P1,,\n1.0,P1\n2,P2,,,,\n", pictures(1, 2))
    assert [reader.read(path).patient for path in pictures(1, 2)] == ["P1", "P2"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_text_of_disk_and_of_people_meets_in_either_form(form):
    """Pattern, folder, column, constant and part: each may be written decomposed, as on macOS."""

    def write(text):
        return unicodedata.normalize(form, text)

    layout = Layout(
        image=write(r"(?P<label>Éry[^/]+)/(?P<official_part>[^/]+)/(?P<number>\d+)\.jpg"),
        mask=write(r"Masqué/(?P<of>.+)\.png"),
        constants={"diagnosis": write(" é  x")},
        official_parts={write("Entraîné"): "train"},
        tables=[
            FactTable(
                member=write(r"tablé\.csv"), key=write("numéro"), match="number",
                columns={"patient": write("identité ")},
            )
        ],
    )  # fmt: skip
    for other in ("NFC", "NFD"):
        table = unicodedata.normalize(other, "numéro , identité\n1,P\u00a0é\n").encode()
        reader = PathReader(layout, {unicodedata.normalize(other, "tablé.csv"): table})
        path = unicodedata.normalize(other, "Érythroblastes /Entraîné/1.jpg")
        facts = reader.read(path)
        assert facts.image_path == "Érythroblastes /Entraîné/1.jpg"
        assert (facts.label, facts.patient, facts.diagnosis) == ("Érythroblastes", "P é", "é x")
        assert layout.official_parts[facts.official_part] == "train"
        mask = unicodedata.normalize(other, "Masqué/Érythroblastes /Entraîné/1.png")
        assert reader.mask_of(mask) == facts.image_path.removesuffix(".jpg")


@on_real_images
@pytest.mark.parametrize("name", sorted(REAL_LABELS))
def test_reads_every_real_path(name):
    """Each real picture is matched once, with the labels that were counted; so are the masks."""
    paths, tables = members(name)
    reader = PathReader(hospitals.load(name).layout, tables)
    found = [facts for facts in map(reader.read, paths) if facts]
    masks = [of for of in map(reader.mask_of, paths) if of]
    assert Counter(facts.label for facts in found) == REAL_LABELS[name]
    assert len({facts.image_path for facts in found}) == len(found)
    unread = len(paths) - len(found) - len(masks) - len(tables)
    assert unread == (2 if name == "jhu" else 0)  # two Thumbs.db
    stems = {facts.image_path.rsplit(".", 1)[0] for facts in found}
    assert set(masks) == (stems if name in ("cvb", "jiangxi", "raabin_krd") else set())


@on_real_images
def test_reads_patients_slides_and_parts_of_real_paths():
    """Johns Hopkins names patients, Raabin smears; 51 Raabin names were lost by their finder."""
    paths, tables = members("jhu")
    found = list(filter(None, map(read_layout("jhu", **tables).read, paths)))
    cohorts = {facts.patient: (facts.diagnosis, facts.official_part) for facts in found}
    assert Counter(cohorts.values()) == {
        ("AML", "Discovery"): 22,
        ("AML", "Validation"): 6,
        ("APL", "Discovery"): 10,
        ("APL", "Validation"): 6,
    }
    assert len({facts.slide for facts in found if facts.slide}) == 5
    raabin = list(filter(None, map(read_layout("raabin").read, members("raabin")[0])))
    assert Counter(facts.official_part for facts in raabin) == {"Train": 293, "split_unknown": 17}
    assert sum(facts.slide is None for facts in raabin) == 51
    assert len({facts.slide for facts in raabin if facts.slide}) == 30


@on_real_images
@pytest.mark.parametrize("name", sorted(ODD_SIZES))
def test_finds_the_odd_sizes_of_real_images(name):
    """Exactly the known odd ones are odd; three files of Johns Hopkins do not open."""
    paths, tables = members(name)
    reader = PathReader(hospitals.load(name).layout, tables)
    odd, broken = Counter(), 0
    for path in filter(reader.read, paths):
        try:
            with Image.open(SHARED / name / path) as picture:
                size = picture.size
        except UnidentifiedImageError:
            broken += 1
            continue
        odd[size] += reader.is_odd_size(*size)
    assert +odd == ODD_SIZES[name]
    assert broken == (3 if name == "jhu" else 0)
