"""What a recipe learns from and is judged on, by the kind of recipe."""

from collections.abc import Collection, Sequence
from typing import Any

from stages.core.params import InputsParams
from stages.inputs import reading
from stages.models.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    HeadRecipe,
)


def read(
    recipe: AnyRecipe,
    hospitals: Sequence[str],
    image_ids: Collection[str],
    rule: InputsParams,
    plain_only: bool,
) -> Any:
    """Read what a recipe learns from, by the functions of ``inputs.reading``.

    With `plain_only`, rows that judge a model. Otherwise rows to learn from: a head gets the
    augmented views of the features too, an augmented network the pictures with surroundings. A
    cascade or ensemble gets a dict of the examples of each member.
    """
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        return {
            name: read(member, hospitals, image_ids, rule, plain_only)
            for name, member in recipe.members.items()
        }
    if isinstance(recipe, HeadRecipe):
        return reading.read_features(hospitals, image_ids, plain_only)
    if isinstance(recipe, ClassifierRecipe) and recipe.vectors == "features":
        return reading.read_features(hospitals, image_ids, plain_only=True)
    if isinstance(recipe, ClassifierRecipe) or plain_only or recipe.augment.is_empty:
        return reading.read_pixels(hospitals, image_ids, rule, recipe.size)
    return reading.read_wide(hospitals, image_ids, rule, recipe.size, recipe.augment.hide > 0)
