"""Recipes and replays in words: the lines that `stages.models` prints, and a page's table."""

import re
import shlex
import textwrap
from collections.abc import Sequence

from stages.core.catalogue import Counted, Replay, base_command
from stages.core.recipes import (
    AnyRecipe,
    Augmentation,
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    HeadRecipe,
    NetworkRecipe,
)

WIDTH = 100
INDENT = "  "
HEADINGS = ("recipe", "input", "classes", "weights", "of which learn, step by step")


def describe(recipe: AnyRecipe) -> str:
    """Say in words what a recipe is."""
    if isinstance(recipe, CascadeRecipe):
        groups = "; ".join(f"{name}: {', '.join(inner)}" for name, inner in recipe.groups.items())
        return (
            f"cascade: the second model is asked where the first one says a group ({groups}); "
            f"both: {describe(recipe.first)}"
            if recipe.first == recipe.second
            else f"cascade ({groups}); first: {describe(recipe.first)}; "
            f"second: {describe(recipe.second)}"
        )
    if isinstance(recipe, EnsembleRecipe):
        inner = "; ".join(f"{name}: {describe(one)}" for name, one in recipe.members.items())
        return f"mean of {len(recipe.members)} models; {inner}"
    if isinstance(recipe, ClassifierRecipe):
        side = "" if recipe.vectors == "features" else f" of {recipe.size} px"
        return f"{_describe_classifier(recipe)} of {recipe.vectors}{side}, no network"
    if isinstance(recipe, HeadRecipe):
        return f"head on stored features{_describe_layers(recipe.hidden)}"
    return _describe_network(recipe)


def _describe_network(recipe: NetworkRecipe) -> str:
    start = "ImageNet weights" if recipe.weights == "imagenet" else "from scratch"
    activation = f" ({recipe.activation})" if recipe.hidden or recipe.network == "lenet" else ""
    pieces = [f"{recipe.network}, {start}{_describe_layers(recipe.hidden)}{activation}"]
    pieces.append(f"{recipe.optimiser}, batch {recipe.batch}")
    pieces.append(f"augmented by {_describe_augmentation(recipe.augment)}")
    if recipe.class_weights != "none":
        pieces.append(f"class weights {recipe.class_weights}")
    if recipe.then is not None:
        pieces.append(f"then {_describe_classifier(recipe.then)} of the first hidden layer")
    return "; ".join(pieces)


def _describe_layers(hidden: Sequence[int]) -> str:
    return f", dense {', '.join(map(str, hidden))}" if hidden else ""


def _describe_augmentation(augment: Augmentation) -> str:
    done = augment.model_dump(exclude_defaults=True)
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
        side = "" if isinstance(part.recipe, HeadRecipe) else f"{part.recipe.size} px"
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
