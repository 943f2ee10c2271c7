"""Each view of a picture is its own: no other view, and no other picture, can change it."""

import numpy as np
import pytest

from stages.core import params, views
from tests.stages.test_quality import write_cells


@pytest.fixture(autouse=True)
def hospital(tmp_path, monkeypatch):
    """One drawn cell, to be prepared with three augmented views."""
    write_cells(tmp_path, monkeypatch, 1)


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
    # Both of one balance: only what was drawn for them can tell them apart.
    assert not np.array_equal(many["white_point/augmented_1"], many["white_point/augmented_3"])


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
