"""The contract beside a written model: enough for a stranger, and true to the recipe."""

import json
from itertools import product

import numpy as np
import pytest

from stages.images import morphology
from stages.inputs import preparation
from stages.models import contracts
from stages.models.recipes import ClassifierRecipe
from stages.models.trained import SingleModel
from tests.made.made_training import CLASSES, INPUTS


def model_of(vectors="measures", **changes):
    recipe = ClassifierRecipe(kind="classifier", vectors=vectors, size=32, classifier="knn")
    inputs = INPUTS.model_copy(update=changes)
    return SingleModel(CLASSES, recipe, inputs, (32, 32, 3))


def steps_of(**changes):
    return " ".join(contracts.describe(model_of(**changes))["preparation"]["steps"])


def test_order_of_classes_views_and_measures():
    """Classes as the model has them, measures as they are computed, views as rows are read."""
    told = contracts.describe(model_of(white_balance=["white_point", "none", "grey_world"]))
    assert told["output"]["classes"] == CLASSES
    assert [view["name"] for view in told["views"]] == ["grey_world", "none", "white_point"]
    (measures,) = told["inputs"]
    assert measures["name"] == "measures_32"
    assert measures["measures"] == list(morphology.NAMES)
    assert measures["shape"] == ["n_images", 3, len(morphology.NAMES)]
    assert json.loads(json.dumps(told)) == told


def test_the_formula_of_the_white_point_is_the_one_that_is_used():
    """The contract's words, computed, give the pixels of the preparation."""
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    white = (231.0, 220.0, 204.0)
    geometry = preparation.Geometry(None, None, white)
    rule = INPUTS.model_copy(update={"crop": "whole"})
    seen = preparation.prepare(rgb, geometry, rule, 16, "white_point")
    text = contracts.describe(model_of())["views"][0]["colours"]
    assert "242 (I + 4) / (B + 4) - 2, where" in text
    expected = 242 * (rgb.astype(float) + 4) / (np.array(white) + 4) - 2
    np.testing.assert_array_equal(seen, np.clip(np.rint(expected), 0, 255))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "around the cell's centre; its side is 3 radii"),
        ({"crop": "centre", "half_side": 2.0}, "around the middle of the picture; its side is 4"),
        ({"crop": "whole"}, "stretched to a square"),
        ({"scale": "image"}, "radius is the picture's own"),
        ({"hide": "cell"}, "with background"),
        ({"hide": "background"}, "the level 240"),
    ],
)
def test_each_choice_of_inputs_has_its_step(changes, said):
    """Words that no other choice has; what is not chosen is not told."""
    assert said in steps_of(**changes)
    if changes:
        assert said not in steps_of()


def test_no_two_choices_read_alike():
    """Crop, scale and what is hidden: every combination that prepares otherwise reads otherwise."""
    crops, scales = ("cell", "centre", "whole"), ("hospital", "image")
    told = {
        steps_of(crop=crop, scale=scale, hide=hide)
        for crop, scale, hide in product(crops, scales, ("nothing", "background", "cell"))
    }
    # The scale moves nothing in a whole picture, nor where the cell is hidden.
    assert len(told) == 2 * 2 * 2 + 2 + 3
