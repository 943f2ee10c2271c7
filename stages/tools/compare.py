"""compare: whether experiments differ on the same images, hospital by hospital.

python -m stages.tools.compare A B [C ...]
"""

import sys
from collections.abc import Sequence
from functools import partial

from stages.core import revisions
from stages.core.errors import run_stage
from stages.evaluation import experiments, paired
from stages.evaluation.experiments import Line, compare


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
