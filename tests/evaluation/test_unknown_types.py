"""Images of unknown types: which they are, and how they are judged."""

import numpy as np
import pandas as pd
import pytest

from stages.evaluation import unknown_types


@pytest.mark.parametrize(
    ("kept", "dropped", "unknown"),
    [
        (["lymphocyte"], ["blast", "smudge_cell", None], ["blast", "smudge_cell"]),
        (["band_neutrophil"], ["neutrophil", "blast"], ["blast"]),  # it may be a band
        (["immature_granulocyte"], ["myelocyte", "erythroblast"], ["erythroblast"]),
        (["blast"], ["blast"], []),  # dropped for another reason: the patient's diagnosis
    ],
)  # fmt: skip
def test_unknown_is_a_type_that_no_kept_image_could_have(kept, dropped, unknown):
    labels = pd.DataFrame(
        {"cell_type": [*kept, *dropped], "keep": [True] * len(kept) + [False] * len(dropped)}
    )
    found = unknown_types.find_unknown(labels)
    assert found["cell_type"].tolist() == unknown
    assert not found["keep"].any()


def make_images(shift=0.0):
    """Twenty of each kind; unknown ones are 2 stranger, and at a strange hospital all by shift."""
    levels = np.linspace(0, 1, 20)
    pieces = [pd.DataFrame({"score": levels, "kind": "valid", "hospital": "home", "part": "valid"})]
    for hospital, part, more in (("home", "test", 0.0), ("away", "unseen", shift)):
        for kind, higher in (("known", 0.0), ("unknown", 2.0), ("blank", -2.0)):
            own = pd.DataFrame({"score": levels + higher + more, "kind": kind})
            own["cell_type"] = (["blast"] * 5 + ["smudge_cell"] * 15) if kind == "unknown" else None
            pieces.append(own.assign(hospital=hospital, part=part))
    images = pd.concat(pieces, ignore_index=True)
    return images.assign(group=images.index.astype(str))


def test_a_strange_hospital_is_no_merit():
    """All its images are above the threshold of home, and its known ones are compared with them."""
    content = unknown_types.report(make_images(shift=5), "score", 0.9, seed=1)
    assert content["threshold"] == pytest.approx(0.9)
    home, away = (content["by_hospital"][name] for name in ("home", "away"))
    assert (home["part"], away["part"]) == ("test", "unseen")
    assert home["auc"]["value"] == away["auc"]["value"] == 1
    assert home["auc_of_blank"]["value"] == away["auc_of_blank"]["value"] == 0
    shares = {name: {kind: one["value"] for kind, one in block["flagged"].items()}
              for name, block in content["by_hospital"].items()}  # fmt: skip
    assert shares["home"] == {"known": 0.1, "unknown": 1, "blank": 0}
    assert shares["away"] == {"known": 1, "unknown": 1, "blank": 1}
    assert {name: one["n"] for name, one in away["flagged_by_type"].items()} == {
        "blast": 5, "smudge_cell": 15,
    }  # fmt: skip
    assert content["mean_auc"] == {
        "in_domain": {"value": 1, "n_hospitals": 1}, "unseen": {"value": 1, "n_hospitals": 1},
    }  # fmt: skip


def test_without_validation_images_nothing_is_flagged_but_areas_are_told():
    images = make_images()
    content = unknown_types.report(images[images["kind"] != "valid"], "score", 0.9, seed=1)
    assert content["threshold"] is None
    assert content["threshold_reason"] == "no validation image to take the threshold from"
    assert content["by_hospital"]["away"]["auc"]["value"] == 1
    assert "flagged" not in content["by_hospital"]["away"]


def test_hospitals_with_few_images_of_unknown_types_are_not_in_the_mean():
    images = make_images()
    few = images[(images["kind"] != "unknown") | (images.index % 20 < 9)]
    content = unknown_types.report(few, "score", 0.9, seed=1)
    assert content["by_hospital"]["home"]["auc"]["n_positive"] == 9
    assert content["mean_auc"]["in_domain"] == {"value": None, "n_hospitals": 0}


def test_what_is_strange_at_a_new_place_is_told_by_unseen_hospitals():
    """Their known images alone; without them validation images; without a network nothing."""
    images = make_images(shift=5).rename(columns={"score": "energy"})
    found = unknown_types.describe_stranger(images, {"network": (1.0, 2.0)}, 0.9)
    assert found["threshold"] == pytest.approx(5.9)
    assert (found["learnt_from"], found["n_images"]) == ("unseen", 20)
    assert found["spread"] == {"network": (1.0, 2.0)}
    at_home = images[images["part"] != "unseen"]
    found = unknown_types.describe_stranger(at_home, {"network": (1.0, 2.0)}, 0.9)
    assert found["threshold"] == pytest.approx(0.9)
    assert found["learnt_from"] == "valid"
    tested = at_home[at_home["kind"] != "valid"]
    for spread, rows in (({}, images), ({"network": (1.0, 2.0)}, tested)):
        found = unknown_types.describe_stranger(rows, spread, 0.9)
        assert (found["threshold"], found["learnt_from"]) == (None, "nothing")
        assert found["reason"]
