"""Each view of a picture is its own: no other view, and no other picture, can change it."""

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import quality
from stages.core import params, views
from stages.core.tables import IMAGES
from tests.stages.test_quality import ROOT, draw_cell, image_row


@pytest.fixture(autouse=True)
def hospital(tmp_path, monkeypatch):
    """One drawn cell, to be prepared with three augmented views."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["features"] |= {"size": 40, "augmented_views": 3}
    content["inputs"]["white_balance"] = ["white_point", "grey_world"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    IMAGES.write(pd.DataFrame([image_row(0, draw_cell(0)[0])]), "here")
    quality.main("here")


def test_views_do_not_depend_on_each_other():
    """With one augmented view instead of three, that view is the same as before."""
    rule = params.load("inputs", "features", "seed")
    fewer = rule.model_copy(
        update={"features": rule.features.model_copy(update={"augmented_views": 1})}
    )
    picture = next(views.read_pictures("here", rule.inputs))
    many = dict(views.prepare_views(picture, rule)[1])
    few = dict(views.prepare_views(picture, fewer)[1])
    assert set(few) == {"grey_world", "white_point", "white_point/augmented_1"}
    assert all(np.array_equal(few[name], many[name]) for name in few)
    assert not np.array_equal(many["white_point"], many["white_point/augmented_1"])


def test_seed_moves_augmented_views_only():
    """Another seed changes augmented views and leaves plain ones."""
    rule = params.load("inputs", "features", "seed")
    other = rule.model_copy(update={"seed": rule.seed + 1})
    picture = next(views.read_pictures("here", rule.inputs))
    first = dict(views.prepare_views(picture, rule)[1])
    second = dict(views.prepare_views(picture, other)[1])
    assert {name for name in first if np.array_equal(first[name], second[name])} == {
        "grey_world",
        "white_point",
    }
