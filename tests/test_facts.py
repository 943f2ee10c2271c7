"""The published counts against the shipped label maps, taxonomies and layouts: no image needed."""

import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from stages.datasets import filtering, hospitals, path_facts
from stages.labels import taxonomy

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# Folder and prefixes of the Barcelona collection, exactly as found.
BARCELONA_FOLDERS = {
    "basophil": (1218, {"BA": 1218}),
    "eosinophil": (3117, {"EO": 3117}),
    "erythroblast": (1551, {"ERB": 1551}),
    "immature_granulocyte": (2895, {"MMY": 1015, "MY": 1137, "PMY": 592, "IG": 151}),
    "lymphocyte": (1214, {"LY": 1214}),
    "monocyte": (1420, {"MO": 1420}),
    "neutrophil": (3329, {"BNE": 1633, "SNE": 1646, "NEUTROPHIL": 50}),
    "platelet": (2348, {"PLATELET": 2348}),
}
# Its pairs of identical images, the last of two labels.
BARCELONA_COPIES = [
    ("MO_997225", "MO_145357"), ("BA_20201", "BA_809918"), ("BA_225540", "BA_786369"),
    ("BA_858229", "BA_435917"), ("BA_80990", "BA_381452"), ("BA_251042", "BA_988506"),
    ("BA_685720", "BA_546746"), ("EO_621854", "EO_728356"), ("EO_738445", "EO_284748"),
    ("EO_941266", "EO_994040"), ("EO_918881", "EO_890163"), ("EO_873756", "EO_65638"),
    ("EO_433229", "EO_220125"), ("PMY_225787", "PMY_187173"), ("PMY_538541", "PMY_753076"),
    ("PMY_497134", "PMY_586364"), ("BNE_191112", "EO_225902"),
]  # fmt: skip
MUNICH = {
    "BAS": 79, "EBO": 78, "EOS": 424, "KSC": 15, "LYA": 11, "LYT": 3937, "MMZ": 15, "MOB": 26,
    "MON": 1789, "MYB": 42, "MYO": 3268, "NGB": 109, "NGS": 8484, "PMB": 18, "PMO": 70,
}  # fmt: skip
# Readable signed images of Johns Hopkins by folder, and those that are truncated.
HOPKINS = {
    "Lymphocyte": 3434, "Blast, no lineage spec": 3307, "Smudge cells": 2928,
    "Segmented neutrophils": 2092, "Monocyte": 1319, "Promyelocyte": 688, "Erythroblast": 521,
    "Lymphocyte, variant": 471, "Myelocyte": 181, "Band neutrophils": 171, "Eosinophils": 108,
    "Metamyelocyte": 78, "Promonocyte": 71, "Giant thrombocyte": 66, "Plasma cells": 58,
    "Basophil": 53, "Arifact": 25, "Unidentified": 24, "Thrombocyte aggregation": 22,
    "Young Unidentified": 7, "Prolymphocyte": 1,
}  # fmt: skip
HOPKINS_TRUNCATED = {"Smudge cells": 3, "Blast, no lineage spec": 3, "Lymphocyte": 1}
# The merged index of three hospitals in eleven classes.
MERGED = pd.DataFrame(
    {
        "basophil": [1218, 79, 301],
        "band_neutrophil": [1633, 109, 0],
        "eosinophil": [3117, 424, 1066],
        "erythroblast": [1551, 78, 0],
        "lymphocyte": [1214, 3937, 3609],
        "metamyelocyte": [1015, 15, 0],
        "monocyte": [1420, 1789, 795],
        "myelocyte": [1137, 42, 0],
        "platelet": [2348, 0, 0],
        "promyelocyte": [592, 70, 0],
        "segmented_neutrophil": [1646, 8484, 0],
    },
    index=["barcelona", "munich", "raabin"],
)
# Height, width and number of its files: all that are not 363 x 360 tell something of the label.
BARCELONA_SIZES = [
    (363, 360, 16_639), (369, 366, 250), (360, 360, 198), (361, 360, 2), (360, 359, 1),
    (360, 361, 1), (360, 362, 1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def expected(hospital):
    label_map = taxonomy.read_label_map(hospital).set_index("published_label")
    return label_map["expected"].dropna().astype(int).to_dict()


def count_classes(hospital, name):
    """Number of pictures of each class, and of all that are dropped, of a complete collection."""
    label_map = taxonomy.read_label_map(hospital)
    label = taxonomy.to_label(label_map[["cell_type"]], taxonomy.read_taxonomy(name))
    counts = label_map["expected"].groupby(label).sum().astype(int).to_dict()
    return counts, int(label_map.loc[label.isna(), "expected"].sum())


@pytest.mark.parametrize("hospital", ["barcelona", "barcelona224"])
def test_barcelona_has_17092_files_in_eight_folders(hospital):
    """The prefixes add up to the folders, and the folders to the classes of BloodMNIST."""
    counts = expected(hospital)
    assert sum(counts.values()) == 17_092
    for total, prefixes in BARCELONA_FOLDERS.values():
        assert sum(prefixes.values()) == total
        assert {prefix: counts.pop(prefix) for prefix in prefixes} == prefixes
    assert not counts
    folders = {name: total for name, (total, _) in BARCELONA_FOLDERS.items()}
    assert count_classes(hospital, "bloodmnist8") == (folders, 0)


def test_bloodmnist_is_barcelona_in_eight_classes():
    """Numbers 0 to 7 are the folders, and train, val and test add up to them."""
    assert count_classes("bloodmnist", "bloodmnist8") == count_classes("barcelona", "bloodmnist8")
    assert sum(expected("bloodmnist").values()) == 11_959 + 1_712 + 3_421


def test_453_files_of_barcelona_are_of_odd_size():
    """Sizes are width x height here, height x width in the count."""
    reader = path_facts.PathReader(hospitals.load("barcelona").layout, {})
    assert sum(n for *_, n in BARCELONA_SIZES) == 17_092
    odd = [n for height, width, n in BARCELONA_SIZES if reader.is_odd_size(width, height)]
    assert sum(odd) == 453


def list_barcelona():
    """Paths of 17 092 files: the known copies, and numbers that stand under several prefixes."""
    copied = {name for pair in BARCELONA_COPIES for name in pair}
    paths = []
    for folder, (_, prefixes) in BARCELONA_FOLDERS.items():
        for prefix, n in prefixes.items():
            own = sorted(name for name in copied if name.split("_")[0] == prefix)
            names = own + [f"{prefix}_{number}" for number in range(n - len(own))]
            folder = "ig" if folder == "immature_granulocyte" else folder
            paths += [f"PBC_dataset_normal_DIB/{folder}/{name}.jpg" for name in names]
    return paths


def see(path, shared):
    """What decoding a file would show; only copies share their pixels."""
    pixels = shared.get(Path(path).stem, path)
    return filtering.Seen("s", pixels, 360, 363, "jpeg", "RGB", bytes(32))


def test_barcelona_has_17074_unique_images_of_one_label():
    """Of 17 pairs of copies 16 leave one image; the pair of two labels leaves none."""
    layout = hospitals.load("barcelona").layout
    paths = list_barcelona()
    random.Random(3).shuffle(paths)
    reader = path_facts.PathReader(layout, {})
    # Every name ends as a picture's does, so that no content is looked at.
    heaps = filtering.sort_members("barcelona", paths, layout, reader, recognise={}.__getitem__)
    assert len(heaps.candidates) == len(paths) == 17_092
    shared = {name: str(pair) for pair in BARCELONA_COPIES for name in pair}
    kept, rejected = filtering.judge(heaps, [see(one.path, shared) for one in heaps.candidates])
    assert len(BARCELONA_COPIES) == 17
    assert len(kept) == 17_074
    assert Counter(one.reason for one in rejected) == {"duplicate": 16, "conflicting_labels": 2}
    conflicting = {one.path for one in rejected if one.reason == "conflicting_labels"}
    assert {Path(path).stem for path in conflicting} == {"BNE_191112", "EO_225902"}
    observed = Counter(candidate.facts.label for candidate, _ in kept)
    observed.update(one.published_label for one in rejected)
    label_map = taxonomy.read_label_map("barcelona")
    taxonomy.check_counts("barcelona", observed, label_map, partial=False)


def test_munich_has_18365_pictures_under_15_codes():
    """15 027 of them are in eleven classes; MYO, MOB, PMB, KSC and LYA are not."""
    counts = expected("munich")
    assert counts == MUNICH
    assert (len(counts), sum(counts.values())) == (15, 18_365)
    kept, n_dropped = count_classes("munich", "cells11")
    assert (sum(kept.values()), n_dropped) == (15_027, 3_338)
    assert n_dropped == sum(counts[code] for code in ("MYO", "MOB", "PMB", "KSC", "LYA"))
    assert "platelet" not in kept
    assert count_classes("munich", "munich15")[1] == 0


def test_munich_codes_that_were_once_mixed_up():
    """MYB is the myelocyte, MYO the myeloblast; PMO a promyelocyte; LYT the usual lymphocyte."""
    label_map = taxonomy.read_label_map("munich").set_index("published_label")["cell_type"]
    assert label_map[["MYB", "MYO", "PMO", "PMB", "LYT", "LYA"]].tolist() == [
        "myelocyte",
        "myeloblast",
        "promyelocyte",
        "bilobed_promyelocyte",
        "lymphocyte",
        "atypical_lymphocyte",
    ]


def test_the_munich_leukemia_laboratory_has_41621_pictures_in_18_classes():
    """The authors' table of counts; no class of ours takes two of theirs, and none is dropped."""
    counts = expected("mll23")
    assert (len(counts), sum(counts.values())) == (18, 41_621)
    assert [counts[name] for name in ("myeloblast", "hairy_cell", "lymphocyte_reactive")] == [
        8606, 3265, 33,
    ]  # fmt: skip
    kept, n_dropped = count_classes("mll23", "mll18")
    assert (sorted(kept.values()), n_dropped) == (sorted(counts.values()), 0)
    archives = {file.name for file in hospitals.load("mll23").archives}
    assert archives == {f"{name}.zip" for name in counts}


def test_raabin_has_16633_pictures_in_five_classes():
    """Train, Test-A and Test-B together; without the neutrophils 5 771 are in eleven classes."""
    totals = {
        "Basophil": 301, "Eosinophil": 1066, "Lymphocyte": 3609, "Monocyte": 795,
        "Neutrophil": 10_862,
    }  # fmt: skip
    assert expected("raabin") == totals
    assert sum(totals.values()) == 10_175 + 4_339 + 2_119 == 16_633
    assert count_classes("raabin", "cells11")[1] == 10_862
    assert count_classes("raabin", "shared5")[1] == 0


def test_the_merged_index_of_three_hospitals_has_37689_pictures():
    """16 891 of Barcelona, 15 027 of Munich, 5 771 of Raabin in eleven classes."""
    for hospital, counts in MERGED.iterrows():
        assert count_classes(hospital, "cells11")[0] == counts[counts > 0].to_dict()
    assert MERGED.sum(axis=1).to_list() == [16_891, 15_027, 5_771]
    assert MERGED.to_numpy().sum() == 37_689


@pytest.mark.parametrize(
    ("name", "n_kept", "some"),
    [
        ("cells11", 16_891, {"segmented_neutrophil": 1646, "platelet": 2348}),
        ("cells11_leukopy_lenet", 16_941, {"segmented_neutrophil": 1696, "band_neutrophil": 1633}),
        ("cells8_lenet", 16_941, {"neutrophil": 3329, "immature_granulocyte": 2744}),
        (
            "cells8_report_intro",
            16_941,
            {"segmented_neutrophil": 1696, "immature_granulocyte": 4377},
        ),
        ("cells8_svm", 17_092, {"neutrophil": 3329, "immature_granulocyte": 2895}),
        ("cells9_label3", 16_891, {"band_neutrophil": 1633, "immature_granulocyte": 2744}),
        ("six_cascade", 16_891, {"other": 10_868, "band_neutrophil": 1633, "myelocyte": 1137}),
        ("shared5", 10_298, {"neutrophil": 3329, "basophil": 1218}),
    ],
)
def test_eight_classes_have_three_meanings(name, n_kept, some):
    """The same 17 092 files of Barcelona in each published scheme."""
    kept, n_dropped = count_classes("barcelona", name)
    assert (sum(kept.values()), n_dropped) == (n_kept, 17_092 - n_kept)
    assert some.items() <= kept.items()


def test_bilobed_promyelocytes_are_in_the_svm_scheme_alone():
    """PMB: dropped from eleven classes, an immature granulocyte for the SVM."""
    schemes = ["cells11", "cells8_lenet", "cells8_report_intro", "cells8_svm", "bloodmnist8"]
    holding = [
        name for name in schemes if "bilobed_promyelocyte" in taxonomy.read_taxonomy(name).class_of
    ]
    assert holding == ["cells8_svm"]


@pytest.mark.parametrize(
    ("hospital", "counts"), [("cvb", [33, 37, 15, 12, 3]), ("jiangxi", [176, 53, 48, 22, 1])]
)
def test_numbered_classes_keep_the_official_order(hospital, counts):
    """1 neutrophil, 2 lymphocyte, 3 monocyte, 4 eosinophil, 5 basophil: not shifted by one."""
    label_map = taxonomy.read_label_map(hospital)
    assert label_map["published_label"].tolist() == ["1", "2", "3", "4", "5"]
    assert label_map["cell_type"].tolist() == [
        "neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil",
    ]  # fmt: skip
    assert label_map["expected"].tolist() == counts


def test_johns_hopkins_has_15632_signed_cells():
    """15 625 can be read; a blast belongs to no class of the eleven."""
    counts = expected("jhu")
    assert counts == Counter(HOPKINS) + Counter(HOPKINS_TRUNCATED)
    assert sum(counts.values()) == 15_632
    assert sum(HOPKINS.values()) == 15_632 - 7 == 15_625 == 9_963 + 5_662
    assert not {"blast", "promonocyte"} & set(taxonomy.read_taxonomy("cells11").class_of)


def test_leukaemia_is_read_from_the_patient():
    """Healthy, AML and APL are diagnoses, whatever the cell is."""
    leukaemia = taxonomy.read_taxonomy("leukaemia3")
    assert leukaemia.by == "diagnosis"
    assert leukaemia.classes == ["AML", "APL", "healthy"]
    assert hospitals.load("barcelona").layout.constants == {"diagnosis": "healthy"}


def test_a_code_means_what_its_hospital_says():
    """PMO: promyelocyte in Munich; promonocytes of Johns Hopkins are told by their folder."""
    means = {
        hospital: taxonomy.read_label_map(hospital).set_index("published_label")["cell_type"]
        for hospital in ("munich", "jhu", "barcelona")
    }
    assert means["munich"]["PMO"] == means["jhu"]["Promyelocyte"] == "promyelocyte"
    assert means["jhu"]["Promonocyte"] == "promonocyte"
    assert means["barcelona"]["PLATELET"] == "platelet"
    assert "PLT" not in means["barcelona"].index


def test_the_patients_of_johns_hopkins():
    """106 patients: 72 with AML, 34 with APL; 82 for discovery, 24 for validation."""
    table = SHARED / "jhu/master.csv"
    if not table.is_file():
        pytest.skip("the published table of patients is not here")
    layout = hospitals.load("jhu").layout
    reader = path_facts.PathReader(layout, {"master.csv": table.read_bytes()})
    paths = [f"Patient_{number:02d}/Signed slides/Monocyte/MO_1.jpg" for number in range(106)]
    facts = [reader.read(path) for path in paths]
    assert reader.read(paths[0].replace("Patient_00", "Patient_106")).diagnosis is None
    assert Counter((one.diagnosis, one.official_part) for one in facts) == {
        ("AML", "Discovery"): 60, ("APL", "Discovery"): 22,
        ("AML", "Validation"): 12, ("APL", "Validation"): 12,
    }  # fmt: skip
    assert Counter(layout.official_parts[one.official_part] for one in facts) == {
        "train": 82, "test": 24,
    }  # fmt: skip


def count_shared(cell_type):
    """Images of a cell type at Barcelona and at Johns Hopkins, as published."""
    counts = []
    for hospital in ("barcelona", "jhu"):
        label_map = taxonomy.read_label_map(hospital)
        counts.append(int(label_map.loc[label_map["cell_type"] == cell_type, "expected"].sum()))
    return counts


def test_one_type_variants_are_of_types_with_500_images_at_both_hospitals():
    """Each shared cell type of 500 images or more has its variant, and no other has."""
    rows = pd.read_csv(taxonomy.TAXONOMIES_FILE, dtype=str, keep_default_na=False)
    variants = {}
    for name in rows["taxonomy"].unique():
        chosen = taxonomy.read_taxonomy(name)
        if len(set(chosen.only.values())) == 1 and set(chosen.only) == set(chosen.classes):
            ((cell_type,),) = set(chosen.only.values())
            variants[cell_type] = name
    assert variants == {
        cell_type: f"leukaemia3_{cell_type}"
        for cell_type in taxonomy.read_taxonomy("cell_types").classes
        if min(count_shared(cell_type)) >= 500
    }
    assert len(variants) == 5


def test_leukaemia_by_blasts_takes_the_same_cell_types_of_both_leukaemias():
    """Else the cell type would tell AML from APL; all cells of the healthy stay."""
    chosen = taxonomy.read_taxonomy("leukaemia3_blast_only")
    assert set(chosen.only) == {"AML", "APL"}
    assert chosen.only["AML"] == chosen.only["APL"] >= {"blast", "promyelocyte"}
    assert "lymphoblast" not in chosen.only["AML"]
    assert taxonomy.read_taxonomy("aml_apl").classes == ["AML", "APL"]
