"""summarise: the ten numbers a person compares. metrics/evaluate.json -> metrics/summary.json."""

import sys

from stages.core import hospitals, params, summary
from stages.core.errors import run_stage
from stages.core.store import read_metrics, write_metrics


def main() -> None:
    """Write metrics/summary.json and show the table of all hospitals."""
    rule = params.load("hospitals")
    evaluation = read_metrics("evaluate")
    simulated = [name for name in rule.hospitals if hospitals.load(name).simulated is not None]
    write_metrics("summary", summary.summarise(evaluation, read_metrics("split"), simulated))
    sys.stdout.write(summary.lay_out(evaluation, simulated) + "\n")


if __name__ == "__main__":
    run_stage(main)
