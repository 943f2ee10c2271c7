"""Several models as one: averages, and Leukopy's cascade against its rule in plain words."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import ModelError
from stages.models import composites
from stages.models.recipes import CascadeRecipe, ClassifierRecipe, EnsembleRecipe

CLASSES = ["band", "blast", "lymphocyte", "metamyelocyte", "monocyte", "myelocyte", "segmented"]
GROUPS = {
    "neutrophil": ["band", "segmented"],
    "immature": ["metamyelocyte", "myelocyte"],
}
COARSE = sorted(set(composites.merge(CLASSES, GROUPS)))
FINE = sorted(set(composites.narrow(CLASSES, GROUPS)))


def shares(n):
    """A row of probabilities of few levels: zeros, certainties and draws come often."""
    levels = st.lists(st.sampled_from([0, 0, 1, 2, 5, 100]), min_size=n, max_size=n)
    return levels.filter(any).map(lambda row: np.array(row) / sum(row))


def tables(n_rows):
    ids = [f"h/{row}" for row in range(n_rows)]
    return st.tuples(
        st.lists(shares(len(COARSE)), min_size=n_rows, max_size=n_rows),
        st.lists(shares(len(FINE)), min_size=n_rows, max_size=n_rows),
    ).map(lambda two: (pd.DataFrame(two[0], ids, COARSE), pd.DataFrame(two[1], ids, FINE)))


def has_draw(row):
    return (row == row.max()).sum() > 1


def told_by_rule(first, second):
    """Leukopy's rule for one image; None where it leaves a draw."""
    if has_draw(first):
        return None
    said = first.idxmax()
    if said not in GROUPS:
        return said
    if has_draw(second):
        return None
    fine = second.idxmax()
    if fine != composites.OTHERS:
        return fine
    within = second[GROUPS[said]]
    return None if has_draw(within) else within.idxmax()


def test_coarse_and_fine_labels():
    """A group is one class of the first model; all outside of groups is one of the second."""
    assert composites.merge(["band", "blast", "segmented", "myelocyte"], GROUPS) == [
        "neutrophil", "blast", "neutrophil", "immature",
    ]  # fmt: skip
    assert composites.narrow(["band", "blast", "monocyte"], GROUPS) == ["band", "others", "others"]
    assert COARSE == ["blast", "immature", "lymphocyte", "monocyte", "neutrophil"]
    assert FINE == ["band", "metamyelocyte", "myelocyte", "others", "segmented"]


@settings(max_examples=25)
@given(tables(8))
def test_rows_sum_to_1(two):
    """Whatever the members say, zeros and certainties among it."""
    result = composites.cascade(*two, GROUPS, CLASSES)
    assert result.columns.tolist() == CLASSES
    assert (result.to_numpy() >= 0).all()
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-12)


@settings(max_examples=25)
@given(tables(8))
def test_the_likeliest_class_is_leukopys_answer(two):
    result = composites.cascade(*two, GROUPS, CLASSES)
    for image_id, row in result.iterrows():
        expected = told_by_rule(two[0].loc[image_id], two[1].loc[image_id])
        if expected is not None:
            assert row.idxmax() == expected
            assert not has_draw(row)


@pytest.mark.parametrize("said", COARSE)
@pytest.mark.parametrize("fine", FINE)
def test_certain_models_are_followed(said, fine):
    """Probabilities of 0 and 1, as neighbours and trees give them."""
    first = pd.DataFrame([[float(name == said) for name in COARSE]], ["h/1"], COARSE)
    second = pd.DataFrame([[float(name == fine) for name in FINE]], ["h/1"], FINE)
    row = composites.cascade(first, second, GROUPS, CLASSES).iloc[0]
    if said not in GROUPS:
        assert row[said] == 1.0
    elif fine != composites.OTHERS:
        assert row[fine] == 1.0
    else:  # the group stands, and nothing tells its classes apart
        assert row[GROUPS[said]].tolist() == [0.5, 0.5]


@settings(max_examples=25)
@given(tables(8))
def test_the_second_model_is_not_asked_outside_of_the_groups(two):
    """Its answer does not move the classes outside, and never becomes the call."""
    first, second = two
    not_asked = [not has_draw(row) and row.idxmax() not in GROUPS for _, row in first.iterrows()]
    outside = [name for name in CLASSES if name in COARSE]
    result = composites.cascade(first, second, GROUPS, CLASSES)[not_asked]
    np.testing.assert_allclose(result[outside], first.loc[not_asked, outside], rtol=1e-9)
    assert (result.idxmax(axis=1) == first[not_asked].idxmax(axis=1)).all()


def test_a_cascade_computed_by_hand():
    """First: 60 % neutrophil, 10 % immature. Second: band 2 to segmented 1 to myelocyte 1."""
    first = pd.DataFrame(
        [[0.2, 0.1, 0.05, 0.05, 0.6]], ["h/1"],
        ["blast", "immature", "lymphocyte", "monocyte", "neutrophil"],
    )  # fmt: skip
    second = pd.DataFrame(
        [[0.4, 0.0, 0.2, 0.2, 0.2]], ["h/1"],
        ["band", "metamyelocyte", "myelocyte", "others", "segmented"],
    )  # fmt: skip
    row = composites.cascade(first, second, GROUPS, CLASSES).iloc[0]
    expected = {
        "band": 0.35, "segmented": 0.175, "myelocyte": 0.175, "metamyelocyte": 0.0,
        "blast": 0.2, "lymphocyte": 0.05, "monocyte": 0.05,
    }  # fmt: skip
    assert row.to_dict() == pytest.approx(expected)


@pytest.mark.parametrize("order", [("neutrophil", "immature"), ("immature", "neutrophil")])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_rule_decides_whatever_the_names(order, swapped):
    """The group that stands is the first model's, however its name and its classes' names sort."""
    first = {"immature": 0.40, "neutrophil": 0.35, "lymphocyte": 0.25}
    second = {"metamyelocyte": 0.11, "myelocyte": 0.09, "band": 0.20, "others": 0.60}
    inside = ["band", "segmented", "metamyelocyte", "myelocyte"]
    for names in itertools.permutations(inside):
        new = dict(zip(inside, names, strict=True))
        if swapped:
            new |= {"immature": "neutrophil", "neutrophil": "immature"}
        groups = {new.get(group, group): [new[name] for name in GROUPS[group]] for group in order}
        one, other = (
            pd.DataFrame([{new.get(k, k): v for k, v in answer.items()}], ["h/1"])
            .reindex(columns=columns)
            .fillna(0.0)
            for answer, columns in ((first, COARSE), (second, FINE))
        )
        row = composites.cascade(one, other, groups, CLASSES).iloc[0]
        assert row.idxmax() == new["metamyelocyte"]


def test_many_drawn_answers_follow_the_rule():
    """Where others stands, no class of another group wins; nearly as likely groups tell it."""
    rng = np.random.default_rng(0)
    weights = [5.0 if name in GROUPS else 0.3 for name in COARSE]
    first = pd.DataFrame(rng.dirichlet(weights, 300), columns=COARSE)
    weights = [0.7 if name != composites.OTHERS else 4.0 for name in FINE]
    second = pd.DataFrame(rng.dirichlet(weights, 300), columns=FINE)
    called = composites.cascade(first, second, GROUPS, CLASSES).idxmax(axis=1)
    expected = [told_by_rule(first.loc[row], second.loc[row]) for row in first.index]
    assert called.tolist() == expected


@pytest.mark.parametrize("draw", ["band", "segmented", "myelocyte"])
def test_others_in_a_draw_leaves_the_first_models_answer(draw):
    """As of three neighbours; "band" sorts before "others", "segmented" after it."""
    first = pd.DataFrame([[0.2, 0.5, 0.0, 0.0, 0.3]], ["h/1"], COARSE)
    second = pd.DataFrame(0.0, ["h/1"], FINE)
    second[[draw, composites.OTHERS]] = 0.4
    second["metamyelocyte"] = 0.2
    row = composites.cascade(first, second, GROUPS, CLASSES).iloc[0]
    assert row.idxmax() == ("myelocyte" if draw == "myelocyte" else "metamyelocyte")


def test_rows_are_joined_by_image_not_by_place():
    first = pd.DataFrame(np.eye(5)[[4, 0]], ["h/1", "h/2"], COARSE)
    second = pd.DataFrame(np.eye(5)[[3, 4]], ["h/2", "h/1"], FINE)
    result = composites.cascade(first, second, GROUPS, CLASSES)
    assert result.idxmax(axis=1).to_dict() == {"h/1": "segmented", "h/2": "blast"}


def test_the_average_is_by_image_and_class():
    one = pd.DataFrame({"a": [0.2, 1.0], "b": [0.8, 0.0]}, ["h/1", "h/2"])
    other = pd.DataFrame({"b": [0.5, 0.4], "a": [0.5, 0.6]}, ["h/2", "h/1"])
    result = composites.average([one, other, one])
    assert result.columns.tolist() == ["a", "b"]
    np.testing.assert_allclose(result, [[(0.2 + 0.6 + 0.2) / 3, 2 / 3], [2.5 / 3, 0.5 / 3]])
    assert one.loc["h/1", "a"] == 0.2


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"neutrophil": ["band", "stab"]}, r"does not have: stab\. Classes: band, .*taxonomy"),
        ({"blast": ["band", "segmented"]}, r"a group 'blast', which is a class.*another name"),
        ({"x": CLASSES[:3], "y": CLASSES[3:]}, r"every class stands in one.*single model"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, told):
    with pytest.raises(ModelError, match=told):
        composites.require_groups(CLASSES, groups)


def test_a_class_may_not_have_the_second_models_word_for_the_rest():
    with pytest.raises(ModelError, match=r"a class 'others'.*another name in data/taxonomies.csv"):
        composites.require_groups(["a", "others", "c"], {"x": ["a", "others"]})


def test_groups_that_fit_are_taken():
    composites.require_groups(CLASSES, GROUPS)


def recipe_of(kind):
    one, other = (
        ClassifierRecipe(kind="classifier", vectors=vectors, classifier="knn")
        for vectors in ("grey", "measures")
    )
    if kind == "ensemble":
        return EnsembleRecipe(kind=kind, members={"b": one, "a": other})
    return CascadeRecipe(kind=kind, groups=GROUPS, first=one, second=other)


def test_members_learn_their_share_of_the_labels():
    """Of an ensemble all; of a cascade the coarse ones, and the fine ones with others."""
    labels = pd.Series(["band", "blast", "myelocyte"], ["h/1", "h/2", "h/3"])
    shares = composites.share_labels(recipe_of("ensemble"), labels, CLASSES)
    assert list(shares) == ["b", "a"]
    assert all(own.equals(labels) and classes == CLASSES for own, classes in shares.values())
    shares = composites.share_labels(recipe_of("cascade"), labels, CLASSES)
    assert {name: (own.to_dict(), classes) for name, (own, classes) in shares.items()} == {
        "first": ({"h/1": "neutrophil", "h/2": "blast", "h/3": "immature"}, COARSE),
        "second": ({"h/1": "band", "h/2": "others", "h/3": "myelocyte"}, FINE),
    }
    with pytest.raises(ModelError, match="does not have: band"):
        composites.share_labels(recipe_of("cascade"), labels, CLASSES[1:])


def test_answers_are_joined_as_the_recipe_says():
    """By name of the member, whatever the order."""
    first = pd.DataFrame(np.eye(5)[[4, 0]], ["h/1", "h/2"], COARSE)
    second = pd.DataFrame(np.eye(5)[[4, 3]], ["h/1", "h/2"], FINE)
    answers = {"second": second, "first": first}
    joined = composites.join(recipe_of("cascade"), answers, CLASSES)
    pd.testing.assert_frame_equal(joined, composites.cascade(first, second, GROUPS, CLASSES))
    one, other = (pd.DataFrame([[p, 1 - p]], ["h/1"], ["a", "b"]) for p in (0.2, 0.6))
    joined = composites.join(recipe_of("ensemble"), {"b": one, "a": other}, ["a", "b"])
    assert joined.loc["h/1"].tolist() == pytest.approx([0.4, 0.6])
