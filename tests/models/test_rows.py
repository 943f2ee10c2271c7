"""Rows by recipe: each gets what it learns from and is judged on; members share what they can."""

import numpy as np
import pytest

from stages.core.params import FeaturesParams
from stages.inputs import reading
from stages.inputs.augmentation import Augmentation
from stages.models import rows
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    NetworkRecipe,
    Step,
)
from tests.inputs.test_reading import RULE, project, stream, write_pictures  # noqa: F401

FEATURES = FeaturesParams(backbone="efficientnet_lite0", size=44, layers=["head"])


def network(size=40, **augment):
    return NetworkRecipe(
        kind="network", network="lenet", size=size, augment=Augmentation(**augment), steps=[Step()]
    )


def classifier(vectors, size=36):
    features = FEATURES if vectors == "features" else None
    return ClassifierRecipe(
        kind="classifier", vectors=vectors, size=size, classifier="knn", features=features
    )


def read(recipe, plain_only=False):
    write_pictures("munich", ["a.png"])
    return rows.read(recipe, lambda: stream("munich"), RULE, plain_only)


@pytest.mark.parametrize(
    ("recipe", "learns", "judges", "margin"),
    [
        (classifier("features"), (2, 44, 44, 3), (2, 44, 44, 3), 0),
        (classifier("grey"), (2, 36, 36, 3), (2, 36, 36, 3), 0),
        (classifier("measures"), (2, 36, 36, 3), (2, 36, 36, 3), 0),
        (network(), (2, 40, 40, 3), (2, 40, 40, 3), 0),
        (network(flips=True), (1, 60, 60, 3), (2, 40, 40, 3), 10),
    ],
)
def test_a_recipe_gets_what_it_learns_from(recipe, learns, judges, margin):
    """Pixels of its own size; only what is augmented has surroundings."""
    learnt, judged = (read(recipe, plain_only) for plain_only in (False, True))
    assert (learnt.x.shape, learnt.margin, learnt.hidden) == (learns, margin, None)
    assert (judged.x.shape, judged.margin, judged.hidden) == (judges, 0, None)


def test_hidden_rows_are_read_for_a_recipe_that_shows_them():
    """A share of views that hide the surroundings needs the same rows with them hidden."""
    found = read(network(hide=0.4))
    assert found.hidden.shape == found.x.shape
    assert found.hidden.dtype == np.uint8
    assert not np.array_equal(found.hidden, found.x)


def test_members_that_take_the_same_pixels_share_them(monkeypatch):
    """One preparation for each need, not for each member: size, surroundings and what is hidden."""
    prepared = []
    for name in ("read_pixels", "read_wide"):
        real = getattr(reading, name)

        def note(*given, name=name, real=real):
            prepared.append((name, *given[2:]))
            return real(*given)

        monkeypatch.setattr(reading, name, note)
    members = {
        "plain": network(), "grey": classifier("grey", 40), "small": classifier("measures", 36),
        "turned": network(flips=True), "mirrored": network(rotation=90),
        "hidden": network(flips=True, hide=0.5),
    }  # fmt: skip
    recipe = EnsembleRecipe(kind="ensemble", members=members)
    found = read(recipe)
    assert list(found) == list(members)
    assert found["plain"] is found["grey"]
    assert found["turned"] is found["mirrored"]
    assert found["hidden"] is not found["turned"]
    assert prepared == [
        ("read_pixels", 40), ("read_pixels", 36), ("read_wide", 40, False), ("read_wide", 40, True),
    ]  # fmt: skip
    prepared.clear()
    judged = read(recipe, plain_only=True)
    assert prepared == [("read_pixels", 40), ("read_pixels", 36)]
    assert judged["hidden"] is judged["turned"] is judged["plain"]
    for name, member in members.items():
        np.testing.assert_array_equal(read(member).x, found[name].x)


def test_a_cascade_gets_rows_by_member():
    """Its two models, by their names; a function is applied to each of them."""
    recipe = CascadeRecipe(
        kind="cascade", groups={"g": ["a", "b"]}, first=network(flips=True),
        second=classifier("grey"),
    )  # fmt: skip
    found = read(recipe)
    assert {name: one.x.shape for name, one in found.items()} == {
        "first": (1, 60, 60, 3), "second": (2, 36, 36, 3),
    }  # fmt: skip
    plain = rows.apply(reading.plain, found)
    assert {name: one.x.shape for name, one in plain.items()} == {
        "first": (1, 40, 40, 3), "second": (2, 36, 36, 3),
    }  # fmt: skip
    assert rows.apply(reading.plain, found["first"]).x.shape == (1, 40, 40, 3)
