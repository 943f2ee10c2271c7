"""protocol: what several seeds and folds of one setting say of hospitals never seen.

python -m stages.tools.protocol A [B ...]
"""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from ruamel.yaml.error import YAMLError

from stages.core import revisions
from stages.core.errors import PipelineError, name_some, run_stage
from stages.core.params import PARAMS_FILE
from stages.core.settings import parse_yaml, read_yaml
from stages.core.store import metrics_path
from stages.datasets import hospitals
from stages.evaluation import several_runs
from stages.evaluation.several_runs import LEAST_IMAGES, RANKED_BY, SCORES, Run

WIDTH = 100
NAME_WIDTH, SCORE_WIDTH, CLASS_WIDTH = 13, 14, 20
VARIED = ("seed", "split.fold")
MEANING = (
    "Each number is a mean over seeds, with its standard deviation from seed to seed. The interval "
    "(95 %, Student's t) takes the places for a sample of hospitals to come; copies of one "
    f"hospital are one place. F1 of {LEAST_IMAGES}+: macro F1 over the classes of which the "
    f"hospital has {LEAST_IMAGES} tested images or more."
)
SPREAD = (
    "An interval is of one training: it tells what other patients would change. The spread is of "
    "trainings: a seed changes the split of the training hospitals, so in domain the tested "
    "images too, and all that is drawn in training. A difference within either is none."
)


def read_run(name: str, params: str, evaluation: str, summary: str) -> tuple[Run, dict[str, Any]]:
    """Read an experiment from the texts of its params.yaml, evaluate.json and summary.json.

    Returns
    -------
    Run, dict
        The run; and its parameters, by dotted key.

    Raises
    ------
    PipelineError
        One of them is not as DVC and the stages write it.
    """
    try:
        settings = flatten(parse_yaml(params))
    except (YAMLError, ValueError):
        settings = {}
    seed, fold = settings.get("seed"), settings.get("split.fold")
    if not isinstance(seed, int) or not isinstance(fold, int | None):
        raise PipelineError(
            f"{name}: {PARAMS_FILE} has no seed and split.fold as an experiment has them. "
            "Name experiments of this project."
        )
    scores = _parse(name, "evaluate", "evaluate", evaluation)
    run = Run(name, seed, fold, scores, _parse(name, "summarise", "summary", summary))
    return run, settings


def _parse(name: str, stage: str, file: str, text: str) -> dict[str, Any]:
    """Read a metrics file, and whatever will be read of it."""
    try:
        content: dict[str, Any] = json.loads(text)
        run = Run(name, 0, None, content, content)
        if stage == "evaluate":
            several_runs.list_scores([run])
            several_runs.list_classes([run])
        else:
            several_runs.spread_seeds([run])
            list(content["simulated"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{name}: {metrics_path(file)} is not as stage {stage} writes it "
            f"({type(error).__name__}: {error}). Run 'uv run dvc repro' there."
        ) from None
    return content


def flatten(content: Any, above: str = "") -> dict[str, Any]:
    """Return the values of nested groups by dotted key; a list is a value."""
    if not isinstance(content, dict):
        return {above.removesuffix("."): content}
    return {
        key: value
        for name, inner in content.items()
        for key, value in flatten(inner, f"{above}{name}.").items()
    }


def require_one_setting(read: Sequence[tuple[Run, Mapping[str, Any]]]) -> None:
    """Raise a PipelineError where runs differ in more than seed and fold, or in less."""
    first, wanted = read[0]
    known: dict[tuple[int, int | None], str] = {}
    for run, settings in read:
        twin = known.setdefault((run.seed, run.fold), run.name)
        if twin != run.name:
            fold = "" if run.fold is None else f" and fold {run.fold}"
            raise PipelineError(
                f"{twin} and {run.name} have the same seed {run.seed}{fold}: they are one run. "
                "Name experiments of different seeds or folds."
            )
        for key in sorted((wanted.keys() | settings.keys()) - set(VARIED)):
            theirs, ours = settings.get(key), wanted.get(key)
            if theirs != ours:
                raise PipelineError(
                    f"{first.name} and {run.name} differ in more than seed and fold: {key} is "
                    f"{ours} and {theirs}. Name experiments of one setting, as "
                    "'dvc exp run --queue -S seed=1,2,3' makes them."
                )
        if (run.fold is None) != (first.fold is None):
            raise PipelineError(
                f"of {first.name} and {run.name} only one is a fold (split.fold). Name either "
                "folds or whole experiments."
            )


def find_places(names: Sequence[str]) -> dict[str, str]:
    """Return the place of each hospital, by today's data/hospitals.yaml."""
    known = read_yaml(hospitals.HOSPITALS_FILE)
    return {name: hospitals.load(name).same_as or name for name in names if name in known}


def lay_out(runs: Sequence[Run], folds: int, places: Mapping[str, str]) -> str:
    """Lay out what the runs say, at most 100 columns wide.

    Parameters
    ----------
    runs : sequence of Run
        Of one setting, in any order.
    folds : int
        Its ``split.folds``.
    places : mapping of str to str
        By hospital its place; `several_runs.average_places`.

    Returns
    -------
    str
        Several lines, the last without a line end.
    """
    missing = several_runs.list_missing(runs, folds)
    lines = [*textwrap.wrap(_say_what_ran(runs, folds), WIDTH), *_say_missing(missing), ""]
    rows = several_runs.list_scores(runs)
    if rows.empty:
        lines.append("No hospital is unseen in these runs.")
    else:
        by_hospital = several_runs.average_seeds(rows, ["hospital"])
        classes = several_runs.average_seeds(several_runs.list_classes(runs), ["hospital", "class"])
        lines += _lay_out_hospitals(by_hospital, classes, places)
        lines += ["", *_lay_out_classes(classes, places), "", *textwrap.wrap(MEANING, WIDTH)]
    incomplete = {seed for seed, _ in missing}
    spread = several_runs.spread_seeds([run for run in runs if run.seed not in incomplete])
    if len(spread):
        lines += ["", *_lay_out_spread(spread), "", *textwrap.wrap(SPREAD, WIDTH)]
    drawn = sorted({name for run in runs for name in run.summary["simulated"]})
    if drawn:
        text = f"Simulated, no evidence of accuracy on real cells: {name_some(drawn)}."
        lines += ["", *textwrap.wrap(text, WIDTH)]
    return "\n".join(lines)


def _say_what_ran(runs: Sequence[Run], folds: int) -> str:
    seeds = sorted({run.seed for run in runs})
    n_folds = len({run.fold for run in runs} - {None})
    told = f"{len(runs)} run{'s' * (len(runs) > 1)}; seeds: {', '.join(map(str, seeds))}"
    return f"{told}; {n_folds} of {folds} folds" if n_folds else told


def _say_missing(missing: Sequence[tuple[int, int]]) -> list[str]:
    by_seed: dict[int, list[str]] = {}
    for seed, fold in missing:
        by_seed.setdefault(seed, []).append(str(fold))
    return [
        line
        for seed, folds in by_seed.items()
        for line in textwrap.wrap(f"missing: seed {seed}, fold {', '.join(folds)}", WIDTH)
    ]


def _lay_out_hospitals(
    by_hospital: pd.DataFrame, classes: pd.DataFrame, places: Mapping[str, str]
) -> list[str]:
    titles = [f"{title:>8}    sd" for title in SCORES.values()]
    lines = [_row("unseen", "seeds", "images", titles, "weakest class, F1"), "-" * WIDTH]
    for hospital, row in by_hospital.iterrows():
        cells = [_score(row[name], row[f"{name}_sd"]) for name in SCORES]
        f1 = classes.loc[hospital]["f1"]
        weakest = f"{f1.idxmin()} {f1.min():.2f}"
        lines.append(
            _row(str(hospital), f"{row['n_seeds']:.0f}", f"{row['n_images']:,.0f}", cells, weakest)
        )
    means = several_runs.average_places(by_hospital, places, list(SCORES))
    n_places = int(means.loc[RANKED_BY, "n_places"])
    total = f"{by_hospital['n_images'].sum():,.0f}"
    worst = by_hospital[RANKED_BY].idxmin()
    by_class = several_runs.average_classes(classes, places)["f1"]
    return [
        *lines,
        "-" * WIDTH,
        _row(f"mean of {n_places}", "", total, [_score(value) for value in means["mean"]], ""),
        _row("  interval", "", "", [_span(row) for _, row in means.iterrows()], ""),
        "",
        f"Worst hospital: {worst}, macro F1 {by_hospital[RANKED_BY].min():.3f}. "
        f"Weakest class: {by_class.idxmin()}, F1 {by_class.min():.3f}.",
    ]


def _row(name: str, seeds: str, images: str, cells: Sequence[str], weakest: str) -> str:
    name = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 2] + ".."
    scores = " ".join(cell.ljust(SCORE_WIDTH) for cell in cells)
    return f"{name:<{NAME_WIDTH}} {seeds:>5} {images:>6} {scores}  {weakest}".rstrip()


def _score(value: float, sd: float = float("nan")) -> str:
    return f"{_say(value):>8}" + ("" if pd.isna(sd) else f" {sd:.3f}")


def _say(value: float) -> str:
    return "none" if pd.isna(value) else f"{value:.3f}"


def _span(row: pd.Series) -> str:
    text = "too few" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
    return text.rjust(8)


def _lay_out_classes(classes: pd.DataFrame, places: Mapping[str, str]) -> list[str]:
    """Lay out the classes, and below each other as many columns of hospitals as fit."""
    over = several_runs.average_classes(classes, places)
    head = f"{'class':<{CLASS_WIDTH}} {'images':>6} {'F1':>5} {'recall':>6}  recall at "
    told = {
        name: f"{name:<{CLASS_WIDTH}} {row['n']:>6,.0f} {row['f1']:>5.2f} {row['recall']:>6.2f}"
        for name, row in over.iterrows()
    }
    recalls = classes.pivot_table("recall", "class", "hospital")
    blocks: list[list[str]] = [[]]
    for name in recalls.columns:
        used = sum(max(5, len(one)) + 1 for one in [*blocks[-1], name])
        if len(head) + used > WIDTH and blocks[-1]:
            blocks.append([])
        blocks[-1].append(name)
    lines = []
    for block in blocks:
        widths = [max(5, len(name)) for name in block]
        columns = [f"{name:>{width}}" for name, width in zip(block, widths, strict=True)]
        lines += [head + " ".join(columns)]
        for name, text in told.items():
            values = [recalls.loc[name, hospital] for hospital in block]
            cells = [
                f"{'-' if pd.isna(value) else f'{value:.2f}':>{width}}"
                for value, width in zip(values, widths, strict=True)
            ]
            lines.append(f"{text:<{len(head)}}" + " ".join(cells))
    return lines


def _lay_out_spread(spread: pd.DataFrame) -> list[str]:
    lines = [
        f"{'score':<22} {'seeds':>5} {'mean':>7} {'sd':>6}  {'least to most':<16} "
        f"{'width':>6} {'width of interval':>18}"
    ]
    for title, row in spread.iterrows():
        least, most, width = row["least"], row["most"], row["interval"]
        lines.append(
            f"{title:<22} {row['n_seeds']:>5.0f} {row['mean']:>7.3f} {_say(row['sd']):>6}  "
            f"{f'{least:.3f} to {most:.3f}':<16} {most - least:>6.3f} {_say(width):>18}"
        )
    return lines


def main(names: Sequence[str]) -> None:
    """Print what experiments that differ in seed and fold alone say together."""
    files = [PARAMS_FILE, metrics_path("evaluate"), metrics_path("summary")]
    read = [
        read_run(name, *(revisions.read_at(f"{name}:{path.as_posix()}") for path in files))
        for name in revisions.expand(names)
    ]
    require_one_setting(read)
    runs = sorted((run for run, _ in read), key=lambda run: (run.seed, run.fold or 0))
    unseen = several_runs.list_scores(runs)["hospital"].unique()
    folds = int(read[0][1].get("split.folds") or 0)
    sys.stdout.write(lay_out(runs, folds, find_places(unseen)) + "\n")


if __name__ == "__main__":
    names = revisions.ask_for_names(
        "protocol",
        "Tell what several seeds and folds of one setting say of hospitals never seen; 'loho-*' "
        "stands for all experiments whose names begin so.",
        least=1,
    )
    run_stage(partial(main, names))
