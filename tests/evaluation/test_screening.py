"""Screening: the misses of three published matrices, and patients apart from images."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from stages.core.shares import describe_share
from stages.evaluation import screening

CLASSES = ["AML", "APL", "healthy"]
# PyCell's report of 2021: rows truth, columns prediction.
PYCELL = {
    "B0": [[2014, 107, 3], [197, 1786, 5], [3, 2, 2757]],
    "B1": [[1975, 148, 1], [190, 1798, 0], [8, 5, 2749]],
    "R101": [[1967, 156, 1], [214, 1773, 1], [4, 4, 2754]],
}
# correct, missed (AML, APL), false alarms, sensitivity, specificity; in percent.
KNOWN = {
    "B0": (6557, (3, 5), 5, 99.805, 99.819),
    "B1": (6522, (1, 0), 13, 99.976, 99.529),
    "R101": (6494, (1, 1), 8, 99.951, 99.710),
}


def report(images, people, classes=CLASSES, n_draws=2000):
    return screening.report(images, people, classes, n_draws, 1)


def rows(pairs, part="test", **more):
    """One row an image: truth and call, each of a patient of its own."""
    frame = pd.DataFrame(pairs, columns=["label", "predicted"]).assign(part=part, unit="patient")
    frame["group"] = [f"{part}/{i}" for i in range(len(frame))]
    return frame.assign(**more)


def expand(matrix):
    cells = zip(matrix, CLASSES, strict=True)
    return [
        (truth, called)
        for row, truth in cells
        for count, called in zip(row, CLASSES, strict=True)
        for _ in range(count)
    ]


def people(pairs, is_patient=True, part="test"):
    return rows(pairs, part).assign(is_patient=is_patient, n_labels=1)


def nobody(images):
    """Each image for itself: no patient is published."""
    return images.assign(is_patient=False, n_labels=1)


@pytest.mark.parametrize("model", PYCELL)
def test_published_matrices_give_the_recomputed_misses(model):
    """Misses 8, 1, 2 and false alarms 5, 13, 8, sensitivity, specificity; Jeffreys' interval."""
    images = rows(expand(PYCELL[model]))
    block = report(images, nobody(images))["screening"]["test"]
    correct, missed, alarms, sensitivity, specificity = KNOWN[model]
    assert (block["n"], block["n_sick"], block["n_healthy"]) == (6874, 4112, 2762)
    assert (block["correct"], block["healthy_called_sick"]) == (correct, alarms)
    assert block["sick_called_healthy"] == sum(missed)
    assert block["by_disease"] == {
        "AML": {"n": 2124, "missed": missed[0]},
        "APL": {"n": 1988, "missed": missed[1]},
    }
    assert 100 * block["sensitivity"]["value"] == pytest.approx(sensitivity, abs=5.1e-4)
    assert block["sensitivity"]["n"] == block["sensitivity"]["n_groups"] == 4112
    low, high = beta.ppf([0.025, 0.975], 4112 - sum(missed) + 0.5, sum(missed) + 0.5)
    assert block["sensitivity"]["low"] == pytest.approx(low, abs=3e-4)
    assert block["sensitivity"]["high"] == pytest.approx(high, abs=3e-4)
    assert 100 * block["specificity"]["value"] == pytest.approx(specificity, abs=5.1e-4)
    assert block["specificity"]["n"] == 2762


def test_each_part_is_counted_over_its_hospitals_alone():
    images = pd.concat(
        [
            rows([("AML", "healthy"), ("healthy", "healthy")], "test"),
            rows([("APL", "AML"), ("healthy", "AML"), ("AML", "AML")], "unseen"),
        ]
    )
    found = report(images, nobody(images))["screening"]
    assert list(found) == ["test", "unseen"]
    assert (found["test"]["sick_called_healthy"], found["test"]["healthy_called_sick"]) == (1, 0)
    unseen = found["unseen"]
    assert (unseen["sick_called_healthy"], unseen["healthy_called_sick"]) == (0, 1)
    assert (unseen["n"], unseen["correct"], unseen["n_sick"]) == (3, 1, 2)


def test_patients_are_counted_apart_from_images():
    """The patients' calls may be right where those of most images are not."""
    images = rows([("AML", "healthy")] * 9)
    patients = people([("AML", "AML"), ("AML", "healthy"), ("APL", "AML")])
    block = report(images, patients)["screening"]["test"]
    assert block["sick_called_healthy"] == 9
    own = block["per_patient"]
    assert (own["n"], own["n_patients"], own["correct"]) == (3, 3, 1)
    assert (own["n_sick"], own["sick_called_healthy"]) == (3, 1)
    assert own["by_disease"] == {"AML": {"n": 2, "missed": 1}, "APL": {"n": 1, "missed": 0}}
    assert own["sensitivity"] == describe_share(2, 3)
    assert "n_reason" not in own


def test_healthy_images_without_a_patient_count_one_by_one_and_it_is_said():
    """As Barcelona's, whose donors are not published."""
    images = rows([("AML", "AML"), ("healthy", "healthy"), ("healthy", "AML")])
    everyone = pd.concat(
        [people([("AML", "AML")]), people([("healthy", "healthy"), ("healthy", "AML")], False)]
    )
    own = report(images, everyone)["screening"]["test"]["per_patient"]
    assert (own["n"], own["n_patients"], own["n_healthy"]) == (3, 1, 2)
    assert own["healthy_called_sick"] == 1
    assert own["n_reason"].startswith("2 images without a published patient (2 of them healthy)")


def test_without_patients_or_with_mixed_ones_there_is_none_with_a_reason():
    images = rows([("AML", "AML"), ("healthy", "AML")])
    block = report(images, nobody(images))["screening"]["test"]
    assert block["per_patient"] is None
    assert block["per_patient_reason"] == "no patient is published"
    mixed = people([("AML", "AML"), ("APL", "AML")])
    mixed.loc[0, "n_labels"] = 2
    block = report(images, mixed)["screening"]["test"]
    assert block["per_patient"] is None
    assert block["per_patient_reason"].startswith("the images of 1 of 2 patients")


def test_patients_of_another_part_do_not_count():
    images = rows([("AML", "AML")])
    everyone = pd.concat([people([("AML", "AML")]), people([("AML", "healthy")] * 2, True, "x")])
    own = report(images, everyone)["screening"]["test"]["per_patient"]
    assert (own["n"], own["sick_called_healthy"]) == (1, 0)


def test_a_part_of_sick_alone_has_no_specificity_and_says_so():
    """A hospital of leukaemias tells nothing of healthy people: null, not 1."""
    images = rows([("AML", "AML"), ("AML", "healthy")])
    block = report(images, nobody(images))["screening"]["test"]
    assert block["specificity"]["value"] is block["specificity"]["low"] is None
    assert (block["specificity"]["n"], block["specificity"]["n_groups"]) == (0, 0)
    assert block["specificity_reason"] == "nobody is healthy"
    assert "sensitivity_reason" not in block
    images = rows([("healthy", "AML")])
    block = report(images, nobody(images))["screening"]["test"]
    assert block["sensitivity_reason"] == "nobody is sick"
    assert "specificity_reason" not in block


@pytest.mark.parametrize("classes", [["basophil", "monocyte"], ["healthy"]])
def test_other_taxonomies_have_no_screening_and_say_so(classes):
    images = rows([(classes[0], classes[0])])
    found = report(images, nobody(images), classes)
    assert found["screening"] is None
    assert ", ".join(classes) in found["screening_reason"]


def test_images_of_one_patient_are_no_independent_proof():
    """Ten patients of fifty images, two of them always missed: as sure as of 8 in 10."""
    missed = np.arange(500) < 100
    pairs = [("AML", "healthy" if one else "AML") for one in missed]
    images = rows(pairs, group=[f"p{i // 50}" for i in range(500)])
    share = report(images, nobody(images))["screening"]["test"]["sensitivity"]
    assert (share["value"], share["n"], share["n_groups"]) == (0.8, 500, 10)
    low, high = beta.ppf([0.025, 0.975], 8.5, 2.5)
    assert share["low"] == pytest.approx(low, abs=0.12)
    assert share["high"] == pytest.approx(high, abs=0.06)
    assert "interval_note" not in share


def test_sick_and_healthy_have_each_their_own_groups():
    """Five sick patients are too few, whoever is healthy; healthy images of nobody are narrow."""
    sick = rows([("AML", "AML")] * 10, group=[f"p{i % 5}" for i in range(10)])
    healthy = rows([("healthy", "healthy")] * 9 + [("healthy", "AML")], unit="image")
    images = pd.concat([sick, healthy])
    block = report(images, nobody(images))["screening"]["test"]
    assert block["sensitivity"]["interval_reason"] == "too few groups: 5; 6 are needed"
    assert block["sensitivity"]["low"] is None
    assert block["specificity"]["low"] < 0.9 < block["specificity"]["high"]
    assert "too narrow" in block["specificity"]["interval_note"]
