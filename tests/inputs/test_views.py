"""Each view of a picture is its own: no other view, and no other picture, can change it."""

import cv2
import numpy as np
import pytest

from stages.core import params
from stages.inputs import augmentation, views
from stages.inputs.preparation import Geometry
from tests.stages.test_quality import draw_cell, encode, write_cells


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


def load_rule(hide):
    """The rule of the drawn hospital with something hidden, or with nothing."""
    rule = params.load("inputs", "features", "seed")
    return rule.model_copy(update={"inputs": rule.inputs.model_copy(update={"hide": hide})})


def prepare_with(rule, picture, monkeypatch, wants_mask):
    """Prepare as if every draw, or none, asked to hide the cell's neighbours."""
    drawn = augmentation.wants_mask

    def ask(strong, rng):
        drawn(strong, rng)  # the draws that follow stay the same
        return wants_mask

    with monkeypatch.context() as patch:
        patch.setattr(augmentation, "wants_mask", ask)
        return dict(views.prepare_views(picture, rule)[1])


def smear_with(radius, colour):
    """A drawn smear with a cell of another size and colour, not larger than the disc over it."""
    rgb = cv2.GaussianBlur(draw_cell(0)[0], (3, 3), 0)
    rgb[:8] -= 40
    cv2.circle(rgb, (60, 60), 30, (236, 226, 208), -1)
    cv2.circle(rgb, (60, 60), radius, colour, -1)
    return encode(rgb)


def test_no_augmented_view_shows_a_hidden_cell():
    """Two smears that differ in their cell alone: the same views, plain and augmented."""
    rule = load_rule("cell")
    place = Geometry((60.0, 60.0), 27.0, (236.0, 226.0, 208.0))
    first, second = (
        dict(views.prepare_views(("here/x.png", content, place), rule)[1])
        for content in (smear_with(16, (90, 50, 130)), smear_with(29, (150, 90, 120)))
    )
    assert len(first) == 5
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("hide", ["cell", "background"])
def test_what_the_rule_hides_no_draw_shows_again(hide, monkeypatch):
    """The draw that hides neighbours in some views changes nothing where something is hidden."""
    picture = next(views.read_pictures("here", load_rule(hide).inputs))
    asked = prepare_with(load_rule(hide), picture, monkeypatch, wants_mask=True)
    left = prepare_with(load_rule(hide), picture, monkeypatch, wants_mask=False)
    shown = prepare_with(load_rule("nothing"), picture, monkeypatch, wants_mask=False)
    assert all(np.array_equal(asked[name], left[name]) for name in asked)
    assert not any(np.array_equal(asked[name], shown[name]) for name in asked)


def test_a_draw_hides_the_neighbours_in_augmented_views_alone(monkeypatch):
    """Where nothing is hidden, the same draw gives the views of ``hide: background``."""
    picture = next(views.read_pictures("here", load_rule("nothing").inputs))
    asked = prepare_with(load_rule("nothing"), picture, monkeypatch, wants_mask=True)
    hidden = prepare_with(load_rule("background"), picture, monkeypatch, wants_mask=True)
    same = {name for name in asked if np.array_equal(asked[name], hidden[name])}
    assert same == {name for name in asked if "augmented" in name}
