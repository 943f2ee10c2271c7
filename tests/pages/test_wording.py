"""Plain words for recipes, inputs, scores, sizes and licences."""

import pytest
import yaml

from stages.core import params
from stages.models import recipes
from stages.pages import wording
from tests.projects import ROOT

RULE = {"crop": "cell", "scale": "hospital", "half_side": 1.5, "hide": "nothing"}


def test_every_recipe_of_the_project_can_be_said(content):
    """None is overlooked by a new kind of classifier, whatever it is made of."""
    rule = params.parse(content)
    for recipe in recipes.read_all(rule.models, rule.features).values():
        lines = wording.say_recipe(recipe.model_dump())
        assert len(lines) == 1 + (len(recipe.singles) if recipe.kind in recipes.OF_OTHERS else 0)
        assert all(line[:1].isupper() or ": " in line for line in lines)


def test_what_a_model_sees():
    assert wording.say_inputs(RULE | {"white_balance": ["none"]}) == (
        "a square of 3 cell radii (the hospital's median cell) around the cell, as photographed"
    )
    two = RULE | {"white_balance": ["none", "white_point"], "crop": "whole", "hide": "cell"}
    assert wording.say_inputs(two) == (
        "the whole picture, the cell hidden, and answers with the mean over several views "
        "(as photographed; with the background made white)"
    )


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ({"value": 0.94, "low": 0.9112, "high": 0.9668}, "0.940 (0.911 to 0.967)"),
        ({"value": 1, "low": 0.9, "high": 1, "interval_note": "x"}, "1.000 (0.900 to 1.000)*"),
        ({"value": 0.5, "low": None, "high": None}, "0.500 (no interval)"),
        ({"value": None, "low": None, "high": None, "reason": "no cell"}, "none: no cell"),
        ({"value": None, "low": None, "high": None}, "none: too few pictures"),
    ],
)
def test_a_score_is_never_said_without_what_it_is_worth(score, said):
    assert wording.say_score(score) == said


def test_sizes_shares_and_the_class_that_is_found_least():
    assert wording.say_size(1204, 11, "patient") == "1,204 pictures of 11 patients"
    assert wording.say_size(7, 7, "image") == "7 single pictures"
    assert wording.say_size(9, 5, "image + slide") == "9 pictures in 5 groups"
    assert [wording.say_percent(x) for x in (0, 0.07, 0.1234)] == ["0 %", "7 %", "12.3 %"]
    found = {"a": {"recall": 0.5, "n": 8}, "b": {"recall": 0.25, "n": 4}, "c": {"n": 0}}
    assert wording.say_worst(found) == "b 0.25 of 4"
    assert wording.say_worst({"a": {"recall": 1.0, "n": 8}}) == "none is missed"
    flags = {"x": {"flagged": {"blank": {"value": 0.25}}}, "y": {}}
    assert wording.say_flagged(flags, "blank") == "0.25 to 0.25"
    assert wording.say_flagged({"y": {}}, "blank") == "no such picture"


@pytest.mark.parametrize(
    ("licence", "is_open"),
    [
        ("CC BY 4.0", True), ("CC-BY-SA 4.0", True), ("CC0 1.0", True), ("public domain", True),
        ("MIT, made by this project", True),
        ("not published", False), ("not established (the GitHub copy holds a MIT file)", False),
        ("CC BY-NC 4.0", False), ("CC BY-ND 4.0", False), ("none", False), ("", False),
        ("MIT, non-commercial use", False), ("CC BY 4.0; no sharing", False),
        ("unknown", False), ("all rights reserved", False), ("SUBMIT to us", False),
    ],
)  # fmt: skip
def test_a_licence_counts_as_open_only_where_it_is_known_to_be(licence, is_open):
    assert wording.is_open(licence) == is_open


def test_the_licences_of_all_shipped_hospitals():
    """Those that say that nothing is established, and no other ones."""
    blocks = yaml.safe_load((ROOT / "data/hospitals.yaml").read_text(encoding="utf-8"))
    for block in blocks.values():
        assert wording.is_open(block["licence"]) == ("not established" not in block["licence"])
