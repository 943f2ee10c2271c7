"""Neighbours of one's own class and hospital: planted clouds give what was planted."""

import numpy as np
import pandas as pd
import pytest

from stages.evaluation import bootstrap, mixing
from stages.evaluation.mixing import K, measure

N = 60  # pictures of each cloud


def clouds(hospitals, labels, groups=None):
    """Pictures with a group each, unless told otherwise."""
    names = [str(number) for number in range(len(labels))]
    images = pd.DataFrame({"hospital": hospitals, "label": labels, "group": names})
    images["twin_group"] = images["group"]
    return images if groups is None else images.assign(group=groups)


def spread(middles, width=0.1):
    """A cloud of so many points around each middle."""
    rng = np.random.default_rng(3)
    return np.repeat(np.asarray(middles, float), N, axis=0) + rng.normal(
        0, width, (N * len(middles), 2)
    )


def two_by_two():
    return clouds(np.repeat(["a", "a", "b", "b"], N), np.repeat(["x", "y", "x", "y"], N))


def test_clouds_by_class_are_pure_in_class_and_mixed_in_hospital():
    """Two islands, one a class, each of both hospitals: 1 for the class, chance for the other."""
    found = measure(spread([(0, 0), (9, 9), (0, 0), (9, 9)]), two_by_two(), 1)["all"]
    assert found["class"]["value"] == 1
    assert found["class"]["low"] < 1 == found["class"]["high"]
    assert found["class"]["chance"] == pytest.approx((2 * N - 1) / (4 * N - 1))
    hospital = found["hospital"]
    assert hospital["chance"] == pytest.approx((2 * N - 1) / (4 * N - 1))
    assert hospital["value"] == pytest.approx(hospital["chance"], abs=0.05)
    assert hospital["low"] < hospital["value"] < hospital["high"]
    assert (hospital["n"], hospital["n_groups"]) == (4 * N, 4 * N)


def test_a_planted_share_of_strangers_is_found():
    """Of an island's pictures a quarter is of another hospital, at random: .625 are alike."""
    hospitals = np.where(np.arange(400) % 4 == 0, "b", "a")
    x = np.random.default_rng(5).normal(0, 1, (400, 2))
    found = measure(x, clouds(hospitals, ["x"] * 400), 1)
    assert found["all"]["hospital"]["value"] == pytest.approx(0.75**2 + 0.25**2, abs=0.03)
    assert found["by_hospital"]["b"]["hospital"]["value"] == pytest.approx(0.25, abs=0.06)
    assert found["by_hospital"]["b"]["hospital"]["chance"] == pytest.approx(99 / 399)
    assert found["by_hospital"]["b"]["hospital"]["n"] == 100


@pytest.mark.parametrize("column", ["group", "twin_group"])
def test_own_patients_and_twins_are_no_neighbours(column):
    """Pairs at one place, pairs of one class among another: only the partner is alike."""
    labels = [f"pair {number // 2}" for number in range(40)]
    x = np.repeat(np.random.default_rng(0).normal(size=(20, 2)), 2, axis=0)
    images = clouds(["a"] * 40, labels)
    alike = measure(x, images, 1)["all"]["class"]
    assert alike["value"] == pytest.approx(1 / K)
    apart = measure(x, images.assign(**{column: labels}), 1)["all"]["class"]
    assert (apart["value"], apart["chance"]) == (0, 0)


def test_the_interval_knows_groups():
    """Patients in pairs at one place, of one class or of two: right or wrong together."""
    patients = np.repeat(np.arange(20), 12)
    rng = np.random.default_rng(0)
    x = np.column_stack([patients // 2 * 10, rng.normal(size=240)])
    labels = np.where(patients % 4 == 1, "y", "x")
    images = clouds(["a"] * 240, labels).assign(twin_group=patients.astype(str))
    alone = measure(x, images, 1)["all"]["class"]
    grouped = measure(x, images.assign(group=images["twin_group"]), 1)["all"]["class"]
    assert (alone["value"], alone["n_groups"]) == (0.5, 240)
    assert (grouped["value"], grouped["n_groups"]) == (0.5, 20)
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])
    few = measure(x, images.assign(group=images["label"]), 1)["all"]["class"]
    assert few["low"] is None
    assert few["interval_reason"] == bootstrap.too_few(2)


def test_too_few_to_tell_is_none_with_a_reason():
    """All of one patient, or eight pictures: nothing is told, and nothing is 0."""
    for images in (clouds(["a"] * 40, ["x"] * 40, ["p"] * 40), clouds(["a"] * 8, ["x"] * 8)):
        x = np.random.default_rng(0).normal(size=(len(images), 2))
        found = measure(x, images, 1)["by_hospital"]["a"]["class"]
        assert (found["value"], found["low"], found["n"]) == (None, None, 0)
        assert found["reason"] == mixing.TOO_FEW


def test_blocks_change_nothing(monkeypatch):
    """Distances are computed for some pictures at a time; which ones must not matter."""
    x, images = spread([(0, 0), (1, 0), (0, 0), (1, 0)], 1.0), two_by_two()
    whole = measure(x, images, 1)
    monkeypatch.setattr(mixing, "BLOCK", 7)
    assert measure(x, images, 1) == whole
