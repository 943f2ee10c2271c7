"""recipe: the chosen entry of models:, with its members and defaults. params -> recipe.json."""

import logging
from pathlib import Path

from stages.core import params
from stages.core.errors import run_stage
from stages.models import backbones, recipes

RECIPE = Path("data/recipe.json")

log = logging.getLogger(__name__)


def main() -> None:
    """Check all recipes and write data/recipe.json.

    Training depends on that file: an entry that is edited but not chosen trains nothing, and one
    that is a member of the chosen one does.
    """
    chosen = params.load("model", "models", "features")
    backbones.require_known(chosen.features.backbone, "features.backbone")
    recipes.write(recipes.choose(chosen.model, chosen.models, chosen.features), RECIPE)
    log.info("recipe: %s", chosen.model)


if __name__ == "__main__":
    run_stage(main)
