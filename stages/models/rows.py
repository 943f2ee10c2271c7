"""What a recipe learns from and is judged on: rows of pixels, of a composite by member."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from stages.core.params import InputsParams
from stages.inputs import reading
from stages.inputs.reading import Changed, Examples, Picture
from stages.models.recipes import AnyRecipe, ClassifierRecipe, NetworkRecipe, Single

Rows: TypeAlias = Examples | dict[str, Examples]


def read(
    recipe: AnyRecipe,
    stream: Callable[[], Iterable[Picture]] | Callable[[], Iterable[Changed]],
    rule: InputsParams,
    plain_only: bool,
) -> Rows:
    """Read what a recipe learns from, by the functions of ``inputs.reading``.

    Parameters
    ----------
    recipe : recipe
    stream : callable
        Gives the pictures anew at each call; changed ones for rows that judge alone.
    rule : InputsParams
        How a picture becomes an array.
    plain_only : bool
        Rows that judge a model. Otherwise rows to learn from: what is augmented gets the
        pictures with surroundings.

    Returns
    -------
    Examples, or dict of str to Examples
        Of a cascade or ensemble by member; members that take the same pixels share them.
    """
    if isinstance(recipe, NetworkRecipe | ClassifierRecipe):
        return _read(recipe, stream, rule, plain_only)
    known: dict[tuple[int, bool, bool], Examples] = {}
    found = {}
    for name, member in recipe.members.items():
        needs = _say_needs(member, plain_only)
        if needs not in known:
            known[needs] = _read(member, stream, rule, plain_only)
        found[name] = known[needs]
    return found


def apply(function: Callable[[Examples], Examples], rows: Rows) -> Rows:
    """Apply a function to the rows, or to those of each member."""
    if isinstance(rows, dict):
        return {name: function(one) for name, one in rows.items()}
    return function(rows)


def _say_needs(recipe: Single, plain_only: bool) -> tuple[int, bool, bool]:
    wide = recipe.learns_wide and not plain_only
    return recipe.side, wide, wide and recipe.learns_hidden


def _read(
    recipe: Single,
    stream: Callable[[], Iterable[Any]],
    rule: InputsParams,
    plain_only: bool,
) -> Examples:
    side, wide, hidden = _say_needs(recipe, plain_only)
    if wide:
        return reading.read_wide(stream(), rule, side, hidden)
    return reading.read_pixels(stream(), rule, side)
