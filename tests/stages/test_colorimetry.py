"""colorimetry: planted hospitals and pictures in tables; what drop leaves out; its page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import colorimetry, harmonise, split
from stages.core.errors import SplitError
from stages.core.store import write_csv
from stages.core.tables import QUALITY, SPLIT
from stages.images import outliers
from tests.made.shipped import demo_params
from tests.stages.cohort import picture_rows, write_pictures, write_project

N_PATIENTS = 6
STAINS = ("nucleus_blue", "nucleus_eosin", "cytoplasm_blue", "cytoplasm_eosin")
PALE = 30.0  # levels by which hospital c is brighter
PLANTED = "a/p00/0.jpg"


def quality_rows(image_ids, lift=0.0):
    """Measures of a hospital whose pictures are so much brighter, and paler in stain."""
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"image_id": list(image_ids)})
    for field in QUALITY.schema:
        if field.name not in table:
            table[field.name] = None if field.nullable else rng.uniform(99, 101, len(table))
    for channel in "rgb":
        table[f"mean_{channel}"] = 150 + lift + rng.uniform(-2, 2, len(table))
    for name in STAINS:
        table[name] = 0.5 - lift / 100 + rng.uniform(-0.05, 0.05, len(table))
    table["cell_radius"] = rng.uniform(19, 21, len(table))
    table["nucleus_radius"] = rng.uniform(9, 11, len(table))
    table["n_cells"] = 1
    table["stained_around"] = rng.uniform(0.1, 0.2, len(table))
    table["thumbnail"] = bytes([int(150 + lift)]) * (40 * 40 * 3)
    table["profile"] = [[0.5] * 24 for _ in range(len(table))]
    flags = [[] for _ in range(len(table))]
    return table.assign(hospital=table["image_id"].str[0], has_cell=True, flags=flags)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Hospitals a and b alike, c pale; the first picture of a is dark, with another cell."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    write_pictures(pd.concat([picture_rows(name, N_PATIENTS) for name in "abc"], ignore_index=True))
    harmonise.main()
    for name in "abc":
        own = quality_rows(picture_rows(name, N_PATIENTS)["image_id"], PALE if name == "c" else 0.0)
        is_planted = own["image_id"] == PLANTED
        own.loc[is_planted, ["mean_r", "mean_g", "mean_b", "n_cells"]] = [90, 90, 90, 2]
        QUALITY.write(own.astype({"nucleus_lobes": "Int32"}), name)
        folder = Path("metrics/quality") / name
        write_csv(folder / "colour.csv", outliers.colour_shares(name, np.ones((3, 32), np.int64)))
        write_csv(folder / "sharpness.csv", outliers.sharpness_shares(name, own["sharpness"]))
    return tmp_path


def ask(folder, **changes):
    """Choose how pictures unlike a hospital are treated, and run both stages."""
    write_project(folder, quality=demo_params()["quality"] | changes)
    split.main()
    colorimetry.main()
    return json.loads(Path("metrics/colorimetry.json").read_text())


def results():
    paths = sorted(Path("metrics/colorimetry").iterdir())
    return {path.name: path.read_bytes() for path in [Path("metrics/colorimetry.json"), *paths]}


def test_a_pale_hospital_is_far_and_a_dark_picture_has_its_reason(project):
    """The measures say so, the page too; the bytes are the same once more, and refer nowhere."""
    found = ask(project)
    own = found["by_hospital"]
    assert own["c"]["drift"]["mean"] > 3 * own["b"]["drift"]["mean"]
    assert found["distances"]["a"]["c"] > 3 * found["distances"]["a"]["b"]
    assert own["a"]["n_dark_by_reason"] == {
        "several cells": 1, "large nucleus": 0, "many red cells": 0, "other": 0,
    }  # fmt: skip
    assert pd.read_csv("metrics/colorimetry/outliers.csv")["image_id"].tolist() == [PLANTED]
    assert own["c"]["similar"]["n_similar"] == 0
    assert own["a"]["similar"]["n_similar"] == own["a"]["n_images"] - 1
    first = results()
    colorimetry.main()
    assert results() == first
    page = first["index.html"].decode()
    assert "Furthest from the hospitals that train lies c" in page
    assert "://" not in page


def test_flag_lists_what_is_unlike_and_moves_nothing(project):
    """The split has the bytes that it has without a reference."""
    ask(project)
    before = [SPLIT.at(name).read_bytes() for name in "abc"]
    assert pd.read_csv("metrics/colorimetry/unlike.csv").empty
    ask(project, similar_to="b", similar="flag")
    assert [SPLIT.at(name).read_bytes() for name in "abc"] == before
    listed = pd.read_csv("metrics/colorimetry/unlike.csv")
    assert set(listed["image_id"]) == {PLANTED, *picture_rows("c", N_PATIENTS)["image_id"]}


def test_drop_leaves_out_exactly_what_is_unlike_with_a_reason_that_is_counted(project):
    """Its row stays, so that in is kept plus dropped; what else is there has a part."""
    own = QUALITY.read("c")
    pale = own["image_id"].iloc[3:]
    own.loc[:2, ["mean_r", "mean_g", "mean_b"]] = 150.0
    QUALITY.write(own.astype({"nucleus_lobes": "Int32"}), "c")
    ask(project, similar_to="b", similar="drop")
    parts = SPLIT.read_all("abc").set_index("image_id")
    gone = parts[parts["part"] == "left_out"]
    assert set(gone.index) == {PLANTED, *pale}
    assert len(parts) == 3 * len(picture_rows("a", N_PATIENTS))
    reason = "colours unlike those of b"
    counted = json.loads(Path("metrics/split.json").read_text())["n_left_out_by_reason"]
    assert counted == {reason: len(gone)}
    assert set(gone["left_out_reason"]) == {reason}
    assert (gone["twin_group"] == gone.index).all()
    assert set(pd.read_csv("metrics/colorimetry/unlike.csv")["image_id"]) == set(gone.index)


def test_a_hospital_of_which_nothing_is_left_ends_in_one_line(project):
    with pytest.raises(SplitError, match=r"drop leaves none of c's 36 pictures.*Raise quality"):
        ask(project, similar_to="b", similar="drop")
