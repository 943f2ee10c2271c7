"""summarise: the ten numbers a person compares. metrics/*.json -> metrics/summary.json."""

import sys

from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import read_metrics, write_metrics
from stages.evaluation import scoreboard, summary


def main() -> None:
    """Write metrics/summary.json and show the table of all hospitals."""
    rule = params.load("hospitals")
    evaluation, probe = read_metrics("evaluate"), read_metrics("probe")
    labels = read_metrics("harmonise")["by_hospital"]
    simulated = [name for name in rule.hospitals if labels[name]["simulated"]]
    picked = summary.summarise(
        evaluation, read_metrics("split"), probe, read_metrics("bias"), simulated
    )
    write_metrics("summary", picked)
    experts = {name: block["experts"] for name, block in labels.items() if block["experts"]}
    sys.stdout.write(scoreboard.lay_out(evaluation, picked, probe, experts) + "\n")


if __name__ == "__main__":
    run_stage(main)
