"""Rows by recipe: each kind gets what it learns from and is judged on."""

import numpy as np
import pytest

from stages.inputs.augmentation import Augmentation
from stages.models import rows
from stages.models.recipes import ClassifierRecipe, HeadRecipe, NetworkRecipe, Step
from tests.inputs.test_reading import RULE, project, write_features, write_pictures  # noqa: F401

HEAD = HeadRecipe(
    kind="head", hidden=[], dropout=0.0, l2=0.0, learning_rate=0.1, epochs=1, batch=1, patience=1,
    class_weights="none",
)  # fmt: skip


def network(**augment):
    return NetworkRecipe(
        kind="network", network="lenet", size=40, augment=Augmentation(**augment), steps=[Step()]
    )


def classifier(vectors):
    return ClassifierRecipe(kind="classifier", vectors=vectors, size=36, classifier="knn")


@pytest.mark.parametrize(
    ("recipe", "learns", "judges", "margin"),
    [
        (HEAD, (2, 3), (1, 3), 0),
        (classifier("features"), (1, 3), (1, 3), 0),
        (classifier("grey"), (2, 36, 36, 3), (2, 36, 36, 3), 0),
        (classifier("measures"), (2, 36, 36, 3), (2, 36, 36, 3), 0),
        (network(), (2, 40, 40, 3), (2, 40, 40, 3), 0),
        (network(flips=True), (1, 60, 60, 3), (2, 40, 40, 3), 10),
    ],
)
def test_a_recipe_gets_what_it_learns_from(recipe, learns, judges, margin):
    """Heads get views of features, networks pixels; only what is augmented has surroundings."""
    write_features("munich", ["a.png"])
    write_pictures("munich", ["a.png"])
    wanted = ["munich/a.png"]
    learnt, judged = (
        rows.read(recipe, ["munich"], wanted, RULE, plain_only) for plain_only in (False, True)
    )
    assert (learnt.x.shape, learnt.margin, learnt.hidden) == (learns, margin, None)
    assert (judged.x.shape, judged.margin, judged.hidden) == (judges, 0, None)


def test_hidden_rows_are_read_for_a_recipe_that_shows_them():
    """A share of views that hide the surroundings needs the same rows with them hidden."""
    write_pictures("munich", ["a.png"])
    found = rows.read(network(hide=0.4), ["munich"], ["munich/a.png"], RULE, plain_only=False)
    assert found.hidden.shape == found.x.shape
    assert found.hidden.dtype == np.uint8
    assert not np.array_equal(found.hidden, found.x)
