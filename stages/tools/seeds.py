"""seeds: how far the scores of one experiment differ from seed to seed, beside their intervals.

python -m stages.tools.seeds A B [C ...]
"""

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.core.errors import PipelineError, run_stage
from stages.core.params import PARAMS_FILE
from stages.core.store import metrics_path
from stages.tools import revisions

SCORES = {
    "in domain, accuracy": ("in_domain", "accuracy"),
    "in domain, macro F1": ("in_domain", "macro_f1"),
    "mean unseen, accuracy": ("unseen_mean", "accuracy"),
    "mean unseen, macro F1": ("unseen_mean", "macro_f1"),
    "worst unseen, macro F1": ("unseen_worst", "macro_f1"),
    "drop in macro F1": ("drop",),
    "calls without the cell": ("covered",),
}
SEED = re.compile(r"^seed:\s*(\d+)\b")
MEANING = (
    "An interval is of one training: it tells what other patients would change. The spread is of\n"
    "trainings: a seed changes the split of the training hospitals, so in domain the tested\n"
    "images too, and all that is drawn in training. A difference within either is none."
)


@dataclass(frozen=True)
class Run:
    """One experiment: its name, its seed, its other parameters line by line, its summary."""

    name: str
    seed: int
    others: tuple[str, ...]
    summary: Mapping[str, Any]


def read_run(name: str, params: str, summary: str) -> Run:
    """Read an experiment from the texts of its params.yaml and its metrics/summary.json.

    Raises
    ------
    PipelineError
        One of them is not as DVC and stage summarise write it.
    """
    lines = params.splitlines()
    seeds = [found[1] for line in lines if (found := SEED.match(line))]
    if len(seeds) != 1:
        raise PipelineError(f"{name}: {PARAMS_FILE} has no line 'seed: <whole number>'.")
    others = tuple(line for line in lines if not SEED.match(line))
    try:
        content = json.loads(summary)
        for keys in SCORES.values():
            find(content, keys)
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{name}: {metrics_path('summary')} is not as stage summarise writes it "
            f"({type(error).__name__}: {error}). Run 'uv run dvc repro' there."
        ) from None
    return Run(name, int(seeds[0]), others, content)


def find(summary: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the score under some keys of a summary; None where it could not be computed."""
    block: Any = summary
    for key in keys:
        block = None if block is None else block[key]
    return None if block is None or block["value"] is None else block


def require_seeds_alone(runs: Sequence[Run]) -> None:
    """Raise a PipelineError where the runs differ in more than the seed, or in less."""
    first, *others = runs
    known = {first.seed: first.name}
    for run in others:
        if run.seed in known:
            raise PipelineError(
                f"{known[run.seed]} and {run.name} have the same seed, {run.seed}: their spread "
                "tells nothing. Name experiments of different seeds."
            )
        known[run.seed] = run.name
        if run.others != first.others:
            other = next((line for line in run.others if line not in first.others), "fewer lines")
            raise PipelineError(
                f"{first.name} and {run.name} differ in more than the seed: {PARAMS_FILE} of "
                f"{run.name} has '{other.strip()}'. Name experiments of one setting, as "
                "'dvc exp run --queue -S seed=1,2,3' makes them."
            )


def lay_out(runs: Sequence[Run]) -> str:
    """Lay the scores out as a table: over the seeds, and beside it the interval of one.

    Returns
    -------
    str
        Several lines, the last without a line end. The interval is the middle one of the seeds,
        by width.
    """
    lines = [
        f"{len(runs)} seeds: {', '.join(str(run.seed) for run in runs)}",
        "",
        f"{'score':<22} {'seeds':>5} {'mean':>7} {'sd':>6}  {'least to most':<16} "
        f"{'width':>6} {'width of interval':>18}",
    ]
    for title, keys in SCORES.items():
        found = [score for run in runs if (score := find(run.summary, keys))]
        if len(found) > 1:
            lines.append(_row(title, found))
    return "\n".join([*lines, "", MEANING])


def _row(title: str, scores: Sequence[Mapping[str, Any]]) -> str:
    values = [score["value"] for score in scores]
    least, most = min(values), max(values)
    widths = [score["high"] - score["low"] for score in scores if score["low"] is not None]
    width = f"{statistics.median(widths):.3f}" if widths else "none"
    return (
        f"{title:<22} {len(values):>5} {statistics.mean(values):>7.3f} "
        f"{statistics.stdev(values):>6.3f}  {f'{least:.3f} to {most:.3f}':<16} "
        f"{most - least:>6.3f} {width:>18}"
    )


def main(names: Sequence[str]) -> None:
    """Print the scores of experiments that differ in their seed alone."""
    files = (PARAMS_FILE.as_posix(), metrics_path("summary").as_posix())
    runs = [
        read_run(name, *(revisions.read_at(f"{name}:{path}") for path in files)) for name in names
    ]
    require_seeds_alone(runs)
    sys.stdout.write(lay_out(runs) + "\n")


if __name__ == "__main__":
    names = revisions.ask_for_names(
        "seeds", "Tell how far the scores of one experiment differ from seed to seed."
    )
    run_stage(partial(main, names))
