"""compare: whether experiments differ on the same images, hospital by hospital.

python -m stages.tools.compare A B [C ...]
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from stages.core.errors import PipelineError, run_stage
from stages.evaluation import paired
from stages.evaluation.paired import Comparison
from stages.tools import experiments, revisions
from stages.tools.experiments import Experiment, require_same_truth


@dataclass(frozen=True)
class Line:
    """Two experiments at one hospital.

    Attributes
    ----------
    first, other, hospital : str
        Names.
    accuracies : tuple of float
        Of the first and the other on the images that both were tested on, 0..1.
    found : Comparison
        Of what is called rightly.
    """

    first: str
    other: str
    hospital: str
    accuracies: tuple[float, float]
    found: Comparison


def compare(first: Experiment, others: Sequence[Experiment]) -> list[Line]:
    """Compare the accuracy of experiments with that of the first.

    Parameters
    ----------
    first : Experiment
    others : sequence of Experiment
        One at least.

    Returns
    -------
    list of Line
        For each other, by hospital, over the images that both experiments were tested on.

    Raises
    ------
    PipelineError
        Two have no tested image in common, give an image different labels, or bear one name.
    """
    names = [first.name, *(one.name for one in others)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PipelineError(f"{twice} is named twice. Name each experiment once.")
    return [line for other in others for line in _compare_pair(first, other)]


def lay_out(lines: Sequence[Line]) -> str:
    """Lay the lines out as a table, with p-values corrected for their number.

    Returns
    -------
    str
        Several lines, the last without a line end.
    """
    corrected = paired.correct([line.found.p_value for line in lines])
    first = lines[0].first
    rows = [[f"{first} -", "hospital", "images", "groups", first, "other", "difference", "p", ""]]
    for line, p_value in zip(lines, corrected, strict=True):
        rows.append(
            [
                line.other,
                line.hospital,
                f"{line.found.n:,}",
                f"{line.found.n_groups:,}",
                *(f"{accuracy:.3f}" for accuracy in line.accuracies),
                f"{line.found.difference:+.3f}",
                f"{p_value:.2g}",
                paired.judge(line.found, p_value),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    note = f"Accuracy on the images that both were tested on; {paired.METHOD}."
    return "\n".join([*table, "", note])


def _compare_pair(first: Experiment, other: Experiment) -> list[Line]:
    require_same_truth(first, other)
    common = first.images.index.intersection(other.images.index)
    if common.empty:
        raise PipelineError(
            f"{first.name} and {other.name} were tested on no image in common. Compare "
            "experiments that share a hospital, with one split and seed if it trained."
        )
    images = first.images.loc[common]
    hits = pd.DataFrame(
        {
            number: one.images.loc[common, "predicted"] == images["label"]
            for number, one in enumerate((first, other))
        }
    )
    lines = []
    for hospital, own in images.groupby("hospital", sort=True):
        hit = hits.loc[own.index]
        found = paired.compare(hit[0], hit[1], own["group"])
        accuracies = (float(hit[0].mean()), float(hit[1].mean()))
        lines.append(Line(first.name, other.name, str(hospital), accuracies, found))
    return lines


def main(names: Sequence[str]) -> None:
    """Print the comparison of the first experiment with each other."""
    first, *others = [experiments.read(name) for name in names]
    sys.stdout.write(lay_out(compare(first, others)) + "\n")


if __name__ == "__main__":
    names = revisions.ask_for_names(
        "compare",
        "Tell whether experiments differ by more than chance on the same images; . is the working "
        "tree.",
    )
    run_stage(partial(main, names))
