"""Leaks that are planted are measured as they are, and where none is, none is reported.

Simulated hospitals go through download, filter, harmonise and split; what the split then says is
held against a count of our own over what the generator knows of every image it drew.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import download, filter, harmonise, split
from stages.core.tables import IMAGES, SPLIT
from stages.simulation.cohorts import SmearSpec, truth
from tests.stages.cohort import write_label_map, write_project

HOSPITALS = ("north", "east", "west")  # the last is unseen
CLASSES = ("segmented_neutrophil", "lymphocyte", "eosinophil")
PATH = (
    r"smears/(?P<official_part>train|test)/(?P<patient>P\d+)/(?P<slide>S\d+)/"
    r"(?P<label>\w+)_\d+\.jpg"
)
VALID, TEST = 0.0, 0.3
LINKS = {
    "twin": ["cluster"],
    "patient": ["hospital", "patient"],
    "slide": ["hospital", "patient", "slide"],
}


def make_spec(seed, **planted):
    return {
        "seed": seed,
        "n_images": 160,
        "n_patients": 9,
        "layout": "patients",
        "style": {"width": 80, "height": 80, "px_per_um": 3.5},
        "classes": dict.fromkeys(CLASSES, 1),
        "official_parts": True,
        **planted,
    }


def make_specs(planted):
    """North has patients in both parts and near twins; the others hold copies of its images."""
    if not planted:
        return {name: make_spec(seed) for seed, name in enumerate(HOSPITALS)}
    north = make_spec(0, shared_patients=3, defects={"twin": 30})
    return {
        "north": north,
        "east": make_spec(1, twins_of={"north": {"n": 40, "spec": north}}),
        "west": make_spec(2, twins_of={"north": {"n": 30, "spec": north}}),
    }


@dataclass(frozen=True)
class Cohort:
    """Hospitals in a folder of their own, and what the generator knows of their images."""

    folder: Path
    known: pd.DataFrame

    def divide(self, method):
        """Split by a method; metrics, and the table of the generator with each image's part."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text())
        content["split"] |= {"method": method, "valid": VALID, "test": TEST}
        path.write_text(yaml.safe_dump(content))
        with contextlib.chdir(self.folder):
            split.main()
            parts = SPLIT.read_all(HOSPITALS).set_index("image_id")["part"]
        metrics = json.loads((self.folder / "metrics/split.json").read_text())
        return metrics, self.known.assign(part=self.known["image_id"].map(parts))


def make_cohort(folder, planted):
    write_project(folder, HOSPITALS)
    specs = make_specs(planted)
    parts = {"train": "train", "test": "test"}
    blocks = {
        name: {
            "title": name, "licence": "none", "citation": "none", "simulated": spec,
            "layout": {"image": PATH, "official_parts": parts},
        }
        for name, spec in specs.items()
    }  # fmt: skip
    (folder / "data/hospitals.yaml").write_text(yaml.safe_dump(blocks))
    rows = []
    with contextlib.chdir(folder):
        for name, spec in specs.items():
            write_label_map(folder, name, {label: label for label in CLASSES})
            download.main(name)
            filter.main(name)
            rows.append(truth(SmearSpec.model_validate(spec), name).assign(hospital=name))
            kept = IMAGES.read(name, ["image_id"])["image_id"]
            assert sorted(rows[-1]["image_id"]) == sorted(kept)
        harmonise.main()
    return Cohort(folder, name_clusters(pd.concat(rows, ignore_index=True)))


def name_clusters(known):
    """Give each image the name of the one that it repeats, or its own."""
    inside = known["hospital"] + "/" + known["copy_of"]
    original = known["copy_of"].where(known["defect"].str.startswith("twin_of"), inside)
    cluster = original.where(known["copy_of"] != "", known["image_id"])
    # The original of a copy may be a copy itself.
    return known.assign(cluster=cluster.map(dict(zip(known["image_id"], cluster, strict=True))))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("planted"), planted=True)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("honest"), planted=False)


def count_relatives(known, link, image):
    """How many other images of the two training hospitals share the link with an image."""
    same = np.logical_and.reduce([known[column] == image[column] for column in LINKS[link]])
    others = known[same & (known["image_id"] != image["image_id"])]
    return others[others["hospital"] != "west"]


def share_by_hand(known, hospital, link):
    """The share of the hospital's tested images with a relative in train, and their number."""
    tested = known[(known["hospital"] == hospital) & known["part"].isin(["test", "unseen"])]
    hits = [
        (count_relatives(known, link, image)["part"] == "train").any()
        for _, image in tested.iterrows()
    ]
    return np.mean(hits), len(hits)


def share_expected(known, hospital, link):
    """The mean chance of the hospital's images to have a relative in train, drawn one by one."""
    own = known[known["hospital"] == hospital]
    chances = [
        1 - (VALID + TEST) ** len(count_relatives(known, link, image))
        for _, image in own.iterrows()
    ]
    return np.mean(chances)


@pytest.mark.parametrize("method", ["official", "random"])
@pytest.mark.parametrize("hospital", HOSPITALS)
def test_a_leaky_split_measures_what_was_planted(planted, method, hospital):
    """The share is the one that counting over the generator's own table gives; none is left out."""
    metrics, known = planted.divide(method)
    assert metrics["n_left_out"] == 0
    block = metrics["leaks"]["by_hospital"][hospital]
    for link in LINKS:
        measured = block[f"{link}_in_train"]
        value, n = share_by_hand(known, hospital, link)
        assert (measured["value"], measured["n"]) == (pytest.approx(value, abs=1e-6), n)
        if method == "official":
            expected = known.assign(
                part=known["official_part"].where(known["hospital"] != "west", "unseen")
            )
            planted_share, _ = share_by_hand(expected, hospital, link)
        else:
            planted_share = share_expected(known, hospital, link)
        assert measured["low"] <= planted_share <= measured["high"]
    assert block["twin_in_train"]["value"] > 0
    is_home_leaky = hospital == "north" or (method == "random" and hospital == "east")
    assert (block["patient_in_train"]["value"] > 0) == is_home_leaky


def test_official_parts_are_the_publishers_own(planted):
    """And the three patients of both parts are counted, with their slides."""
    metrics, known = planted.divide("official")
    home = known[known["hospital"] != "west"]
    assert (home["part"] == home["official_part"]).all()
    n_sides = home.groupby(["hospital", "patient"])["part"].nunique()
    assert metrics["on_two_sides"]["patients"] == {"n": 18, "n_on_two_sides": 3}
    assert (n_sides > 1).sum() == 3
    n_sides = home.groupby(["hospital", "patient", "slide"])["part"].nunique()
    assert metrics["on_two_sides"]["slides"]["n_on_two_sides"] == (n_sides > 1).sum() > 0


@pytest.mark.parametrize("method", ["grouped", "cohort", "leave_hospitals_out"])
def test_methods_that_are_not_leaky_let_nothing_planted_through(planted, method):
    """Every leak is 0, and what had to be left out for it is exactly what could have leaked."""
    metrics, known = planted.divide(method)
    for block in [metrics["leaks"]["all"], *metrics["leaks"]["by_hospital"].values()]:
        for name, share in block.items():
            assert name == "n_tested" or share["value"] == 0, name
    assert all(count["n_on_two_sides"] == 0 for count in metrics["on_two_sides"].values())
    left = known[known["part"] == "left_out"]
    used = known[known["part"] != "left_out"]
    assert used.groupby("cluster")["part"].nunique().max() == 1
    assert metrics["n_left_out"] == len(left) > 0
    is_copied = known.groupby("cluster")["hospital"].transform("nunique") > 1
    is_shared = (known["hospital"] == "north") & known["patient"].isin(["P001", "P002", "P003"])
    assert set(left["image_id"]) <= set(known.loc[is_copied | is_shared, "image_id"])


@pytest.mark.parametrize("method", ["grouped", "cohort", "official"])
def test_where_nothing_is_planted_nothing_is_found(honest, method):
    """No leak, nothing left out, nothing listed: a clean publisher's own parts are clean."""
    metrics, _ = honest.divide(method)
    for block in metrics["leaks"]["by_hospital"].values():
        for name, share in block.items():
            assert name == "n_tested" or share["value"] == 0, name
    assert metrics["n_left_out"] == 0
    assert metrics["n_left_out_by_reason"] == {}
    assert metrics["absent"] == metrics["single_group_classes"] == []
    assert metrics["conflicting_twins"] == {"n_clusters": 0, "pairs": []}
    assert metrics["on_two_sides"] == {
        "patients": {"n": 18, "n_on_two_sides": 0},
        "slides": {"n": 36, "n_on_two_sides": 0},
        "twin_clusters": {"n": 0, "n_on_two_sides": 0},
    }
