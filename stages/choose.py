"""choose: of equally accurate experiments, the one that misses the fewest sick.

python -m stages.choose TOLERANCE A B [C ...]
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from stages.core import revisions, selection
from stages.core.errors import PipelineError, run_stage
from stages.core.store import metrics_path

HERE = "."


def main(tolerance: float, names: Sequence[str]) -> None:
    """Print the experiments and the choice; `tolerance` is in points of accuracy."""
    candidates = [selection.read_candidate(name, _read_evaluation(name)) for name in names]
    choice = selection.choose(candidates, tolerance)
    sys.stdout.write(selection.lay_out(candidates, choice, tolerance) + "\n")


def _read_evaluation(name: str) -> str:
    path = metrics_path("evaluate")
    if name != HERE:
        return revisions.read_at(f"{name}:{path.as_posix()}")
    if not path.is_file():
        raise PipelineError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    return path.read_text(encoding="utf-8")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m stages.choose",
        description="Of equally accurate experiments, take the one that misses the fewest sick.",
    )
    parser.add_argument("tolerance", metavar="TOLERANCE", type=_points, help="points, 0 to 100")
    parser.add_argument("first", metavar="A", help="Git revision, branch, DVC experiment, or .")
    parser.add_argument("others", metavar="B", nargs="+", help="the same; one at least")
    return parser.parse_args()


def _points(text: str) -> float:
    points = float(text) if text.replace(".", "", 1).isdigit() else -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of points from 0 to 100")
    return points


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments; a branch's name has slashes
    run_stage(partial(main, asked.tolerance, [asked.first, *asked.others]))
