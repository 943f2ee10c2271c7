"""models: every recipe with its weights, and every system of the two projects that it replays.

python -m stages.models [RECIPE]
"""

import argparse
import sys
from functools import partial

from stages.core import catalogue, listing, params, recipes, taxonomy
from stages.core.errors import ModelError, did_you_mean, run_stage


def main(asked: str | None) -> None:
    """Print all recipes and replays; or one recipe, and its replays each with its weights.

    Row by row: the largest networks take seconds to build for their count.
    """
    rule = params.load("taxonomy", "features", "weights_dir", "models")
    replays = catalogue.read()
    models = recipes.read_all(rule.models)
    names = list(models) if asked is None else [_find(asked, list(models))]
    known: list[catalogue.Counted] = []

    def count(recipe: recipes.AnyRecipe, taxonomy_name: str) -> list[catalogue.Counted]:
        found = []
        classes = taxonomy.read_taxonomy(taxonomy_name).classes
        for part in catalogue.list_parts(recipe, classes):
            counts = next((counts for other, counts in known if other == part), None)
            if counts is None:
                counts = catalogue.count(part, rule.features, rule.weights_dir)
                known.append((part, counts))
            found.append((part, counts))
        return found

    _say(listing.head_lines())
    for name in names:
        using = [replay for replay in replays if replay.recipe == name]
        counted = count(models[name], using[0].changed.taxonomy if using else rule.taxonomy)
        rows = [replay.row for replay in using]
        _say(listing.recipe_lines(name, models[name], counted, rows))
    for replay in replays:
        if replay.recipe in names:
            counted = count(replay.built, replay.changed.taxonomy) if asked else []
            _say(["", *listing.replay_lines(replay, counted)])


def _find(name: str, known: list[str]) -> str:
    if name not in known:
        hint = did_you_mean(name, known)
        raise ModelError(
            f"{name!r} is not under models: in params.yaml.{hint} Known: {', '.join(known)}."
        )
    return name


def _say(lines: list[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stages.models", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="a name under models:")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments
    run_stage(partial(main, asked.recipe))
