"""Label maps and taxonomies: nothing unknown, twice or lost passes without a line that mends it."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.core.errors import HospitalError
from stages.core.texts import clean
from stages.labels import taxonomy

ROOT = Path(__file__).resolve().parents[2]
HOSPITALS = [
    "all_idb2", "barcelona", "barcelona224", "bccd", "bloodmnist", "chula", "cvb", "jhu",
    "jiangxi", "mll23", "munich", "raabin", "raabin_krd",
]  # fmt: skip
HEADER = "published_label,cell_type,reason,expected,source\n"
TAXONOMIES = """taxonomy,by,value,label,only,note
cell_types,cell_type,neutrophil,neutrophil,,
cell_types,cell_type,monocyte,monocyte,,
cell_types,cell_type,smudge_cell,smudge_cell,,
two,cell_type,monocyte,mononuclear,,
two,cell_type,neutrophil,granulocyte,,
health,diagnosis,AML,sick,,
health_of_monocytes,diagnosis,AML,sick,monocyte  smudge_cell,
health_of_monocytes,diagnosis,healthy,healthy,,
"""
MAP = HEADER + (
    "Neutrophil,neutrophil,,10,us\n"
    "Monocyte,monocyte,,,us\n"
    '"Smudge, old",,no cell,3,us\n'
)  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the two tables of a small project of its own; its hospital is called clinic."""
    monkeypatch.chdir(tmp_path)

    def write(label_map=MAP, taxonomies=TAXONOMIES):
        (tmp_path / "data/labels").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/taxonomies.csv").write_text(taxonomies, encoding="utf-8")
        if label_map is not None:
            (tmp_path / "data/labels/clinic.csv").write_text(label_map, encoding="utf-8")

    return write


def test_reads_a_label_map(write):
    """Text stays text, counts are whole numbers or missing, nothing else changes."""
    write("\ufeff" + MAP.replace("\n", "\r\n") + "\r\n")
    found = taxonomy.read_label_map("clinic")
    assert found["published_label"].tolist() == ["Neutrophil", "Monocyte", "Smudge, old"]
    assert found["cell_type"].tolist() == ["neutrophil", "monocyte", ""]
    assert found["reason"].tolist() == ["", "", "no cell"]
    assert found["expected"].tolist() == [10, pd.NA, 3]
    assert str(found["expected"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Neutrophil,monocyte,,,", r"line 5: the published label 'Neutrophil' stands in line 2"),
        (
            "Mono,monocite,,,",
            r"line 5: the cell type 'monocite' is unknown. Did you mean 'monocyte",
        ),
        ("Zzz,zzz,,,", r"line 5: .* add 'cell_types,cell_type,zzz,zzz,,' to data/taxonomies.csv"),
        ("Blob,,,,", r"line 5: 'Blob' has no cell type, .* and no reason"),
        (",monocyte,,,", r"line 5: published_label is empty"),
        ("Blob,monocyte,,about 3,", r"line 5: expected is 'about 3'"),
        ("Blob,monocyte,,-3,", r"line 5: expected is '-3'"),
        ("Lymphocyte, variant,monocyte,,,", r"line 5: has 6 cells, not 5. .*double quotes"),
    ],
)
def test_a_wrong_line_of_a_label_map_is_named(write, line, message):
    """File, line, what is wrong, and the way out."""
    write(MAP + line + "\n")
    with pytest.raises(HospitalError, match=rf"data/labels/clinic.csv, {message}"):
        taxonomy.read_label_map("clinic")


def test_other_columns_are_refused(write):
    """A map saved with semicolons or renamed columns is not half read."""
    write(MAP.replace(",", ";"))
    with pytest.raises(HospitalError, match="line 1: the columns are published_label;cell_type"):
        taxonomy.read_label_map("clinic")


def test_a_map_in_another_encoding_is_refused(write, tmp_path):
    """Latin-1 from a spreadsheet is told, not guessed."""
    write()
    (tmp_path / "data/labels/clinic.csv").write_bytes(MAP.encode() + b"Prom\xe9,monocyte,,,\n")
    with pytest.raises(HospitalError, match=r"clinic.csv is no UTF-8 text .* Save it again"):
        taxonomy.read_label_map("clinic")


def test_a_missing_map_comes_with_its_lines(write, tmp_path):
    """The message holds the file to write: nearest cell types, or a reason to mend."""
    write(label_map=None)
    with pytest.raises(HospitalError, match=r"data/labels/clinic.csv is missing") as caught:
        taxonomy.read_label_map(
            "clinic", seen=["Monocytes", "Blob, big", "NEUTROPHIL", "Blob, big"]
        )
    lines = [part for part in str(caught.value).split("'") if "," in part and part[0] != ","][-4:]
    assert lines == [
        "published_label,cell_type,reason,expected,source",
        '"Blob, big",,no cell type of ours,,',
        "Monocytes,monocyte,,,",
        "NEUTROPHIL,neutrophil,,,",
    ]
    (tmp_path / "data/labels/clinic.csv").write_text("\n".join(lines), encoding="utf-8")
    assert taxonomy.read_label_map("clinic")["cell_type"].tolist() == ["", "monocyte", "neutrophil"]
    with pytest.raises(HospitalError, match="Neutrophil,neutrophil,,,who says so"):
        taxonomy.read_label_map("other")


def test_maps_labels_to_cell_types(write):
    """Dropped and unlabelled pictures have no cell type; the index stays."""
    write()
    published = pd.Series(["Smudge, old", None, "Monocyte"], index=[7, 3, 5])
    found = taxonomy.to_cell_type("clinic", published, taxonomy.read_label_map("clinic"))
    assert found.name == "cell_type"
    assert found.index.tolist() == [7, 3, 5]
    assert found.isna().tolist() == [True, True, False]
    assert found.loc[5] == "monocyte"


def test_maps_a_hospital_without_any_label(write):
    """A column of missing values is no special case."""
    write()
    published = pd.Series([None, None], dtype=object)
    found = taxonomy.to_cell_type("clinic", published, taxonomy.read_label_map("clinic"))
    assert found.isna().all()
    assert found.dtype == "str"


def test_an_unknown_label_comes_with_its_line(write):
    """Hospital, label, number of pictures and the very line to add."""
    write()
    published = pd.Series(["Smudge-Cell", "Smudge-Cell", "Monocyte", "A, b"])
    with pytest.raises(
        HospitalError, match=r"clinic.csv has no line for 2 .* of 'clinic'"
    ) as caught:
        taxonomy.to_cell_type("clinic", published, taxonomy.read_label_map("clinic"))
    assert "'A, b' (1 images), 'Smudge-Cell' (2 images)" in str(caught.value)
    assert "'Smudge-Cell,smudge_cell,,,'" in str(caught.value)
    assert "'\"A, b\",,no cell type of ours,,'" in str(caught.value)


def test_reads_a_taxonomy(write):
    """A value that is not listed is in no class."""
    write()
    found = taxonomy.read_taxonomy("two")
    assert (found.name, found.by) == ("two", "cell_type")
    assert found.classes == ["granulocyte", "mononuclear"]
    cells = pd.DataFrame({"cell_type": ["monocyte", "smudge_cell", None]})
    label = taxonomy.to_label(cells, found)
    assert label.name == "label"
    assert label.isna().tolist() == [False, True, True]
    assert label[0] == "mononuclear"
    health = taxonomy.read_taxonomy("health")
    assert health.by == "diagnosis"
    assert health.only == {}
    patients = pd.DataFrame({"diagnosis": ["AML", "healthy", None], "cell_type": [None, "x", "x"]})
    label = taxonomy.to_label(patients, health)
    assert label.isna().tolist() == [False, True, True]
    assert label[0] == "sick"


def test_a_diagnosis_may_be_restricted_to_cell_types(write):
    """A row with ``only`` takes images of these types, no others and no untyped ones."""
    write()
    found = taxonomy.read_taxonomy("health_of_monocytes")
    assert found.only == {"AML": {"monocyte", "smudge_cell"}}
    images = pd.DataFrame(
        [
            ("AML", "monocyte"), ("AML", "neutrophil"), ("AML", None), ("healthy", "neutrophil"),
            ("healthy", None), (None, "monocyte"), ("APL", "monocyte"),
        ],
        columns=["diagnosis", "cell_type"], dtype="str", index=range(7, 0, -1),
    )  # fmt: skip
    label = taxonomy.to_label(images, found)
    assert label.index.tolist() == images.index.tolist()
    assert (label.name, str(label.dtype)) == ("label", "str")
    assert label.fillna("-").tolist() == ["sick", "-", "-", "healthy", "healthy", "-", "-"]


def test_an_unknown_taxonomy_gets_the_nearest_name(monkeypatch):
    """The shipped names, and the one that was probably meant."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(HospitalError, match=r"'shared_5' is not in .* Did you mean 'shared5'"):
        taxonomy.read_taxonomy("shared_5")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("two,diagnosis,AML,sick,,", "line 10: by is 'diagnosis'.* in all lines of 'two'"),
        ("new,celltype,monocyte,m,,", "line 10: by is 'celltype'"),
        ("two,cell_type,monocyte,m,,", "line 10: 'monocyte' stands twice in 'two'"),
        ("two,cell_type,smudge_cells,m,,", "line 10: the cell type 'smudge_cells' is unknown. Did"),
        ("two,cell_type,smudge_cell,,,", "line 10: value and label must not be empty"),
        (
            "health,diagnosis,APL,sick,monocyte monocite,",
            "line 10, only: the cell type 'monocite' is unknown. Did you mean 'monocyte'",
        ),
        ("two,cell_type,smudge_cell,s,monocyte,", "line 10: only is 'monocyte'; it restricts a"),
    ],
)
def test_a_wrong_line_of_the_taxonomies_is_named(write, line, message):
    """File, line, what is wrong."""
    write(taxonomies=TAXONOMIES + line + "\n")
    with pytest.raises(HospitalError, match=rf"data/taxonomies.csv, {message}"):
        taxonomy.read_taxonomy(line.split(",")[0])


def test_no_taxonomies_at_all(tmp_path, monkeypatch):
    """Run elsewhere, the message says where to run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HospitalError, match=r"data/taxonomies.csv is not here. Run from"):
        taxonomy.read_taxonomy("two")


@pytest.mark.parametrize(
    ("observed", "partial", "message"),
    [
        ({"Neutrophil": 10, "Smudge, old": 3}, False, None),
        ({"Neutrophil": 10, "Smudge, old": 3, "Monocyte": 99}, False, None),
        ({"Neutrophil": 9}, True, None),
        ({}, True, None),
        (
            {"Neutrophil": 9, "Smudge, old": 3},
            False,
            r"Neutrophil: 9 here, 10 published\).* add 'clinic' to partial: in params.yaml",
        ),
        ({"Neutrophil": 10}, False, "Smudge, old: 0 here, 3 published"),
        ({"Neutrophil": 11, "Smudge, old": 3}, False, "Neutrophil: 11 here, 10 published"),
        ({"Neutrophil": 11}, True, "11 here, 10 published.*part cannot hold more than the whole"),
    ],
)
def test_counts_are_those_that_were_published(write, observed, partial, message):
    """Exact for a complete collection, at most for a part; labels of unknown number are free."""
    write()
    label_map = taxonomy.read_label_map("clinic")
    if message is None:
        taxonomy.check_counts("clinic", observed, label_map, partial=partial)
    else:
        with pytest.raises(HospitalError, match=f"clinic: the pictures are not .*{message}"):
            taxonomy.check_counts("clinic", observed, label_map, partial=partial)


def test_many_wrong_counts_are_not_all_listed(write):
    """The first five differences, and how many more."""
    write(HEADER + "".join(f"L{index},monocyte,,4,\n" for index in range(7)))
    with pytest.raises(HospitalError, match=r"L4: 0 here, 4 published and 2 more\)") as caught:
        taxonomy.check_counts("clinic", {}, taxonomy.read_label_map("clinic"), partial=False)
    assert "L5" not in str(caught.value)


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_shipped_label_maps_are_valid(hospital, monkeypatch):
    """Each map is readable, every line says who says so, and only all_idb2 lacks a count."""
    monkeypatch.chdir(ROOT)
    label_map = taxonomy.read_label_map(hospital)
    assert (label_map["source"] != "").all()
    assert label_map["expected"].isna().sum() == (1 if hospital == "all_idb2" else 0)


def test_shipped_taxonomies_are_valid(monkeypatch):
    """Each is readable, has two classes or more, and says in a note what it is."""
    monkeypatch.chdir(ROOT)
    rows = pd.read_csv(taxonomy.TAXONOMIES_FILE, dtype=str, keep_default_na=False)
    names = list(rows["taxonomy"].unique())
    n_classes = {name: len(taxonomy.read_taxonomy(name).classes) for name in names}
    assert min(n_classes.values()) > 1
    assert (
        n_classes.items()
        >= {
            "cell_types": 30,
            "cells10": 10,
            "cells11": 11,
            "cells11_leukopy_lenet": 11,
            "cells8_lenet": 8,
            "cells8_report_intro": 8,
            "cells8_svm": 8,
            "cells9_label3": 9,
            "cells10_label3": 10,
            "six_cascade": 6,
            "shared5": 5,
            "leukaemia3": 3,
            "leukaemia3_blast_only": 3,
            "leukaemia3_lymphocyte": 3,
            "leukaemia3_monocyte": 3,
            "leukaemia3_segmented_neutrophil": 3,
            "leukaemia3_erythroblast": 3,
            "leukaemia3_promyelocyte": 3,
            "aml_apl": 2,
            "bloodmnist8": 8,
            "mll18": 18,
            "munich15": 15,
        }.items()
    )
    assert (rows.groupby("taxonomy")["note"].first() != "").all()
    vocabulary = taxonomy.read_taxonomy("cell_types").class_of
    assert all(value == label for value, label in vocabulary.items())


def test_no_shipped_cell_type_is_without_a_use(monkeypatch):
    """The vocabulary holds what a label map or a taxonomy says, and nothing besides."""
    monkeypatch.chdir(ROOT)
    used = {
        cell_type
        for path in taxonomy.LABELS_FOLDER.glob("*.csv")
        for cell_type in taxonomy.read_label_map(path.stem)["cell_type"]
        if cell_type
    }
    assert used == set(taxonomy.read_taxonomy("cell_types").class_of)


def test_coarse_cell_types_are_of_the_vocabulary_and_finer_ones_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    vocabulary = set(taxonomy.read_taxonomy("cell_types").class_of)
    for coarse, finer in taxonomy.COARSE.items():
        assert {coarse, *finer} <= vocabulary
        assert len(finer) > 1
        assert coarse not in finer


def test_counts_labels_without_a_line(write):
    """None is no label; what has a line, dropped or not, is not counted."""
    write()
    published = pd.Series(["b", "Monocyte", "a", None, "b", "Smudge, old"], dtype="str")
    found = taxonomy.count_unmapped(published, taxonomy.read_label_map("clinic"))
    assert list(found.items()) == [("a", 1), ("b", 2)]


def test_looks_up_labels_that_may_have_no_line(write):
    """The same as to_cell_type where every label has one; missing where not."""
    write()
    label_map = taxonomy.read_label_map("clinic")
    published = pd.Series(["Monocyte", "Smudge, old", None, "Neutrophil"], index=[3, 1, 2, 0])
    found = taxonomy.look_up(published, label_map)
    pd.testing.assert_series_equal(found, taxonomy.to_cell_type("clinic", published, label_map))
    assert taxonomy.look_up(pd.Series(["Mono"]), label_map).isna().all()


def test_the_text_of_a_map_is_named_as_it_was_asked_for(write):
    """A version of another revision: its own name stands in the message."""
    write()
    found = taxonomy.parse_label_map("main:m.csv", MAP)
    pd.testing.assert_frame_equal(found, taxonomy.read_label_map("clinic"))
    with pytest.raises(HospitalError, match=r"main:m.csv, line 2: .*'monocite' is unknown"):
        taxonomy.parse_label_map("main:m.csv", HEADER + "Mono,monocite,,,\n")


def test_an_unknown_taxonomy_says_who_asked(write):
    write()
    with pytest.raises(HospitalError, match=r"params.yaml, taxonomy: 'tow' is not in .*'two'"):
        taxonomy.read_taxonomy("tow")
    with pytest.raises(HospitalError, match=r"^diff: 'tow' is not in"):
        taxonomy.read_taxonomy("tow", "diff")


@given(st.lists(st.sampled_from(["monocyte", "neutrophil", "smudge_cell", None]), max_size=20))
def test_harmonising_does_not_depend_on_order(values):
    """Each picture's class depends on itself alone."""
    two = taxonomy.Taxonomy("two", "cell_type", {"monocyte": "m", "neutrophil": "n"})
    forward, backward = (
        taxonomy.to_label(pd.DataFrame({"cell_type": pd.Series(order, dtype=object)}), two)
        for order in (values, values[::-1])
    )
    pd.testing.assert_series_equal(forward, backward[::-1].reset_index(drop=True))
    assert all(
        (None if pd.isna(label) else label) == two.class_of.get(value)
        for value, label in zip(values, forward, strict=True)
    )


@given(st.text(min_size=1).filter(clean))
@example("monocytes ")
@example("\u00c9rythroblastes")
@example("E\u0301rythroblastes")
@example('sa"y, "q"')
@example("# no note")
def test_the_line_that_a_message_suggests_helps(folder):
    """Whatever a folder is called: its label, the message as shown, the line added, no error."""
    published = pd.Series([clean(folder)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with pytest.raises(HospitalError, match="has no line for 1 published label") as fault:
            taxonomy.to_cell_type("clinic", published, taxonomy.parse_label_map("m", HEADER))
        shown = " ".join(str(fault.value).split())  # as a stage prints it
        line = shown.split("Add '", 1)[1].rsplit("', with the right cell type", 1)[0]
        for written in (line, unicodedata.normalize("NFD", line)):
            label_map = taxonomy.parse_label_map("m", f"{HEADER}{written}\n")
            assert taxonomy.count_unmapped(published, label_map) == {}
            assert bool(label_map["cell_type"][0]) != bool(label_map["reason"][0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"Smudge,monocyte,,,', "line 5: a quote opens a cell and nothing closes it"),
        ('"Smudge,monocyte,,,\nMono,"monocyte",,,', "line 5: a quote closes before its cell ends"),
        ('"Sm,monocyte,,,\nMono,monocyte,,,us",,,,', "line 5: a quoted cell goes on to line 6"),
        ("Neutrophil\u00a0,monocyte,,,", "line 5: the published label 'Neutrophil' stands"),
    ],
)
def test_a_label_map_is_read_strictly(write, line, message):
    """Lines are not swallowed by a quote, and labels that look the same are the same."""
    write(MAP + line + "\n")
    with pytest.raises(HospitalError, match=rf"data/labels/clinic.csv, {message}"):
        taxonomy.read_label_map("clinic")
