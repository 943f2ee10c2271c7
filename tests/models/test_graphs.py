"""The rule of a cascade inside a graph, against the same rule on tables."""

import numpy as np
from hypothesis import given

from stages.core import backend
from stages.models import composites, graphs
from stages.models.recipes import CascadeRecipe, ClassifierRecipe
from tests.models.test_composites import CLASSES, GROUPS, tables

GREY = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn")
RECIPE = CascadeRecipe(kind="cascade", groups=GROUPS, first=GREY, second=GREY)


def columns(table):
    tf = backend.load_tensorflow()[1]
    return {name: tf.constant(table[name].to_numpy(np.float32)) for name in table}


@given(tables(6))
def test_a_cascade_in_a_graph_follows_the_rule(two):
    """Draws, zeros and certainties too: the same call, the same probabilities."""
    first, second = (table.astype(np.float32).astype(np.float64) for table in two)
    expected = composites.cascade(first, second, GROUPS, CLASSES)
    found = graphs._cascade(columns(first), columns(second), RECIPE, CLASSES).numpy()
    np.testing.assert_allclose(found, expected.to_numpy(), atol=1e-6)
