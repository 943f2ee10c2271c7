"""The published counts against the shipped label maps, taxonomies and layouts: no image needed."""

from pathlib import Path

import pytest

from stages.core import hospitals, taxonomy

ROOT = Path(__file__).resolve().parents[1]

# Folder and prefixes of the Barcelona collection, exactly as found.
BARCELONA_FOLDERS = {
    "basophil": (1218, ["BA"]),
    "eosinophil": (3117, ["EO"]),
    "erythroblast": (1551, ["ERB"]),
    "immature_granulocyte": (2895, ["MMY", "MY", "PMY", "IG"]),
    "lymphocyte": (1214, ["LY"]),
    "monocyte": (1420, ["MO"]),
    "neutrophil": (3329, ["BNE", "SNE", "NEUTROPHIL"]),
    "platelet": (2348, ["PLATELET"]),
}
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
    label = taxonomy.to_label(label_map["cell_type"], taxonomy.read_taxonomy(name))
    counts = label_map["expected"].groupby(label).sum().astype(int).to_dict()
    return counts, int(label_map.loc[label.isna(), "expected"].sum())


@pytest.mark.parametrize("hospital", ["barcelona", "barcelona224"])
def test_barcelona_has_17092_files_in_eight_folders(hospital):
    """The prefixes add up to the folders, and the folders to the classes of BloodMNIST."""
    counts = expected(hospital)
    assert sum(counts.values()) == 17_092
    for total, prefixes in BARCELONA_FOLDERS.values():
        assert sum(counts.pop(prefix) for prefix in prefixes) == total
    assert not counts
    folders = {name: total for name, (total, _) in BARCELONA_FOLDERS.items()}
    assert count_classes(hospital, "bloodmnist8") == (folders, 0)


def test_bloodmnist_is_barcelona_in_eight_classes():
    """Numbers 0 to 7 are the folders, and train, val and test add up to them."""
    assert count_classes("bloodmnist", "bloodmnist8") == count_classes("barcelona", "bloodmnist8")
    assert sum(expected("bloodmnist").values()) == 11_959 + 1_712 + 3_421


def test_453_files_of_barcelona_are_of_odd_size():
    """Sizes are width x height here, height x width in the count."""
    reader = hospitals.PathReader(hospitals.load("barcelona").layout, {})
    assert sum(n for *_, n in BARCELONA_SIZES) == 17_092
    odd = [n for height, width, n in BARCELONA_SIZES if reader.is_odd_size(width, height)]
    assert sum(odd) == 453


def test_munich_has_18365_pictures_under_15_codes():
    """15 027 of them are in eleven classes; MYO, MOB, PMB, KSC and LYA are not."""
    counts = expected("munich")
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
    kept = [
        sum(count_classes(hospital, "cells11")[0].values())
        for hospital in ("barcelona", "munich", "raabin")
    ]
    assert kept == [16_891, 15_027, 5_771]
    assert sum(kept) == 37_689


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
    assert sum(counts.values()) == 15_632
    assert sum(counts.values()) - 7 == 9_963 + 5_662
    assert not {"blast", "promonocyte"} & set(taxonomy.read_taxonomy("cells11").class_of)


def test_leukaemia_is_read_from_the_patient():
    """Healthy, AML and APL are diagnoses, whatever the cell is."""
    leukaemia = taxonomy.read_taxonomy("leukaemia3")
    assert leukaemia.by == "diagnosis"
    assert leukaemia.classes == ["AML", "APL", "healthy"]
    assert hospitals.load("barcelona").layout.constants == {"diagnosis": "healthy"}
