"""list_recipes: every recipe with its weights, and the systems that it replays.

python -m stages.tools.list_recipes [RECIPE]
"""

import argparse
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from functools import partial, singledispatch

from stages.core import params
from stages.core.errors import ModelError, did_you_mean, run_stage
from stages.labels import taxonomy
from stages.models import recipes
from stages.models.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    NetworkRecipe,
)
from stages.tools import replays
from stages.tools.replays import Counted, Replay, base_command

WIDTH = 100
INDENT = "  "
HEADINGS = ("recipe", "input", "classes", "weights", "of which learn, step by step")


@singledispatch
def describe(recipe: AnyRecipe) -> str:
    """Say in words what a recipe is."""
    raise NotImplementedError(type(recipe))


@describe.register
def _(recipe: CascadeRecipe) -> str:
    groups = "; ".join(f"{name}: {', '.join(inner)}" for name, inner in recipe.groups.items())
    if recipe.first == recipe.second:
        return (
            f"cascade: the second model is asked where the first one says a group ({groups}); "
            f"both: {describe(recipe.first)}"
        )
    first, second = describe(recipe.first), describe(recipe.second)
    return f"cascade ({groups}); first: {first}; second: {second}"


@describe.register
def _(recipe: EnsembleRecipe) -> str:
    inner = "; ".join(f"{name}: {describe(one)}" for name, one in recipe.members.items())
    return f"mean of {len(recipe.members)} models; {inner}"


@describe.register
def _(recipe: ClassifierRecipe) -> str:
    what = _describe_classifier(recipe)
    if recipe.features is not None:
        return f"{what} of the features of a frozen {recipe.features.backbone}"
    return f"{what} of {recipe.vectors} of {recipe.size} px, no network"


@describe.register
def _(recipe: NetworkRecipe) -> str:
    start = "ImageNet weights" if recipe.weights == "imagenet" else "from scratch"
    activation = f" ({recipe.activation})" if recipe.hidden or recipe.network == "lenet" else ""
    pieces = [f"{recipe.network}, {start}{_describe_layers(recipe.hidden)}{activation}"]
    pieces.append(f"{recipe.optimiser}, batch {recipe.batch}")
    pieces.append(f"augmented by {_describe_augmentation(recipe)}")
    if recipe.class_weights != "none":
        pieces.append(f"class weights {recipe.class_weights}")
    if recipe.then is not None:
        pieces.append(f"then {_describe_classifier(recipe.then)} of the first hidden layer")
    return "; ".join(pieces)


def _describe_layers(hidden: Sequence[int]) -> str:
    return f", dense {', '.join(map(str, hidden))}" if hidden else ""


def _describe_augmentation(recipe: NetworkRecipe) -> str:
    done = recipe.augment.model_dump(exclude_defaults=True)
    told = [name if value is True else f"{name} {_plain(value)}" for name, value in done.items()]
    return ", ".join(told) or "nothing"


def _plain(value: float | list[float]) -> str:
    return " to ".join(f"{one:g}" for one in (value if isinstance(value, list) else [value]))


def _describe_classifier(settings: ClassifierSettings) -> str:
    names = {
        "svm": "SVM",
        "knn": f"{settings.neighbours} nearest neighbours",
        "logistic": f"logistic regression ({settings.penalty})",
        "forest": f"random forest ({settings.trees} trees)",
        "extra_trees": f"extra trees ({settings.trees})",
    }
    reduced = {
        "none": "",
        "pca": f" on PCA ({settings.components})",
        "umap": f" on UMAP ({settings.components})",
        "umap_supervised": f" on supervised UMAP ({settings.components})",
    }
    return names[settings.classifier] + reduced[settings.reduce]


def head_lines() -> list[str]:
    """Return the heading of the table of recipes, and the rule below it."""
    return [_columns(*HEADINGS), "-" * WIDTH]


def recipe_lines(
    name: str, recipe: AnyRecipe, counted: Sequence[Counted], rows: Sequence[str]
) -> list[str]:
    """Lay out one recipe: its networks and their weights, what it is, whom it replays, command.

    Parameters
    ----------
    name, recipe : str, AnyRecipe
        An entry of ``models:``.
    counted : sequence of (Part, sequence of Count)
        Its parts, and the weights of each.
    rows : sequence of str
        Names of the replays that use it.
    """
    lines = [] if counted[0][0].name == "" else [name]
    for part, counts in counted:
        title = f"{INDENT}{part.name}" if part.name else name
        side = f"{part.recipe.side} px"
        steps = [f"{c.learning:>11,}  {c.step}, {c.epochs} epochs" for c in counts] or [""]
        total = f"{counts[0].total:,}" if counts else "none"
        lines.append(_columns(title, side, str(part.n_classes), total, steps[0]))
        lines += [_columns("", "", "", "", step) for step in steps[1:]]
    lines += _wrap(describe(recipe))
    if rows:
        lines += _wrap(f"replays: {', '.join(rows)}")
    command = f"uv run dvc exp run -n {name.replace('_', '-')} -S model={name}"
    return [*lines, INDENT + command]


def replay_lines(replay: Replay, counted: Sequence[Counted] = ()) -> list[str]:
    """Lay out one replay: the system, both scores, what was meant, its weights, the command.

    Parameters
    ----------
    replay : Replay
        As `read` gives it.
    counted : sequence of (Part, sequence of Count)
        Its parts, and the weights of each; none: they are not told.
    """
    lines = textwrap.wrap(f"{replay.row}: {replay.system} ({replay.source})", WIDTH)
    lines += _wrap(f"paper {_say_paper(replay)}; ours {_say_ours(replay)}{_of(replay.n)}")
    remark = _remark(replay)
    lines += _wrap(remark) if remark else []
    for part, counts in counted:
        steps = ", then ".join(f"{c.learning:,} ({c.step})" for c in counts)
        told = f"{counts[0].total:,}, of which learn {steps}" if counts else "none"
        lines += _wrap(f"weights{part.name and f' of {part.name}'}: {told}")
    return [*lines, *_wrap_command(replay.command)]


def readme_table(replays: Sequence[Replay]) -> str:
    """Return the section of all replays in metrics/README.md: by protocol a command and a table.

    Parameters
    ----------
    replays : sequence of Replay
        As `read` gives them.
    """
    pieces = []
    for protocol in dict.fromkeys(replay.protocol for replay in replays):
        own = [replay for replay in replays if replay.protocol == protocol]
        table = [
            "| system | add to the command | paper (images) | ours (95 % interval) "
            "| images tested | remark |",
            "|---|---|---|---|---|---|",
            *(_readme_row(replay) for replay in own),
        ]
        command = " ".join(base_command(protocol))
        text = textwrap.fill(f"**{protocol.title}.** {protocol.note}", WIDTH)
        pieces.append("\n".join([text, "", "```bash", command, "```", "", *table]))
    return "\n\n".join(pieces) + "\n"


def _readme_row(replay: Replay) -> str:
    source = replay.source.removeprefix(replay.project).strip()
    tested = f"{replay.n:,}" if replay.n is not None else "-"
    addition = " ".join(map(shlex.quote, replay.addition))
    cells = [
        f"{replay.system} ({source})", f"`{addition}`", _say_paper(replay), _say_ours(replay),
        tested, _remark(replay),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _say_paper(replay: Replay) -> str:
    return f"{replay.paper} ({replay.paper_n:,})" if replay.paper_n is not None else replay.paper


def _say_ours(replay: Replay) -> str:
    if replay.ours is None or replay.low is None or replay.high is None:
        return "not run" if replay.not_run else "none yet"
    return f"{_share(replay.ours)} ({_share(replay.low)} to {_share(replay.high)})"


def _remark(replay: Replay) -> str:
    reduced = f"ours reduced: {replay.reduced}" if replay.reduced else ""
    return "; ".join(filter(None, [replay.meant, reduced, replay.not_run]))


def _of(n: int | None) -> str:
    return f" of {n:,}" if n is not None else ""


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _columns(name: str, side: str, classes: str, total: str, learning: str) -> str:
    return f"{name:<27} {side:>7} {classes:>7} {total:>12}  {learning}".rstrip()


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )


def _wrap_command(words: Sequence[str]) -> list[str]:
    """Break a command between its words, so that the lines can be pasted into a shell as one."""
    lines = [INDENT]
    for piece in re.findall(r"-[nS] \S+|\S+", " ".join(words)):
        # Three columns are left: a space before the piece, and the backslash.
        if len(lines[-1]) + len(piece) + 3 > WIDTH:
            lines.append(2 * INDENT)
        lines[-1] += ("" if lines[-1].isspace() else " ") + piece
    return [f"{line} \\" for line in lines[:-1]] + [lines[-1]]


def main(asked: str | None) -> None:
    """Print all recipes and replays; or one recipe, and its replays each with its weights.

    Row by row: the largest networks take seconds to build for their count.
    """
    rule = params.load("taxonomy", "features", "models")
    rows = replays.read()
    models = recipes.read_all(rule.models, rule.features)
    names = list(models) if asked is None else [_find(asked, list(models))]
    known: list[replays.Counted] = []

    def count(recipe: recipes.AnyRecipe, taxonomy_name: str) -> list[replays.Counted]:
        found = []
        classes = taxonomy.read_taxonomy(taxonomy_name).classes
        for part in replays.list_parts(recipe, classes):
            counts = next((counts for other, counts in known if other == part), None)
            if counts is None:
                counts = replays.count(part)
                known.append((part, counts))
            found.append((part, counts))
        return found

    _say(head_lines())
    for name in names:
        using = [replay for replay in rows if replay.recipe == name]
        counted = count(models[name], using[0].changed.taxonomy if using else rule.taxonomy)
        names_of_rows = [replay.row for replay in using]
        _say(recipe_lines(name, models[name], counted, names_of_rows))
    for replay in rows:
        if replay.recipe in names:
            counted = count(replay.built, replay.changed.taxonomy) if asked else []
            _say(["", *replay_lines(replay, counted)])


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
    parser = argparse.ArgumentParser("python -m stages.tools.list_recipes", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="a name under models:")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments
    run_stage(partial(main, asked.recipe))
