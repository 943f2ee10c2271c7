"""choose: of equally accurate experiments, the one that misses the fewest sick.

python -m stages.tools.choose TOLERANCE A B [C ...]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from scipy.stats import fisher_exact

from stages.core.errors import PipelineError, run_stage
from stages.core.store import metrics_path
from stages.tools import revisions

PART = "test"
CHANCE = 0.05
MISSED = "sick called healthy"
ALARMS = "healthy called sick"
FLATTERED = (
    "The images that chose an experiment flatter it: report its score on images that chose "
    "nothing, such as unseen hospitals or another fold."
)


@dataclass(frozen=True)
class Candidate:
    """What the rule knows of one experiment: counts of its test images.

    Attributes
    ----------
    name : str
        Of the experiment.
    n, n_sick : int
        Test images, and those of them that are sick.
    correct : int
        Images whose very class is right.
    missed, alarms : int
        Sick called healthy; healthy called sick.
    leaky : str
        What the split leaks, in words; empty: it keeps groups on one side.
    """

    name: str
    n: int
    n_sick: int
    correct: int
    missed: int
    alarms: int
    leaky: str = ""

    @property
    def accuracy(self) -> float:
        """Share of images whose very class is right, 0..1."""
        return self.correct / self.n


@dataclass(frozen=True)
class Choice:
    """What `choose` found.

    Attributes
    ----------
    chosen, best : Candidate
        The one to take, and the one of highest accuracy.
    equivalent : tuple of Candidate
        Those within the tolerance of the best, the chosen first.
    p_values : dict of str to float
        For each other equivalent one: how probable so great a difference in misses, or a greater
        one, is by chance (Fisher's exact test, two-sided).
    """

    chosen: Candidate
    best: Candidate
    equivalent: tuple[Candidate, ...]
    p_values: dict[str, float]


def read_candidate(name: str, text: str) -> Candidate:
    """Read the counts of an experiment from the text of its metrics/evaluate.json.

    Raises
    ------
    PipelineError
        The text is not what stage evaluate writes, or has no screening of test images.
    """
    try:
        content = json.loads(text)
        screening = content.get("screening")
        block = (screening or {}).get(PART)
        if block is None:
            reason = content.get("screening_reason") or content.get("in_domain_reason")
            raise PipelineError(
                f"{name}: metrics/evaluate.json has no screening of test images"
                f"{f' ({reason})' if reason else ''}. Choose among experiments that have the "
                "class healthy, another class, and test images, for example taxonomy leukaemia3."
            )
        return Candidate(
            name=name,
            n=int(block["n"]),
            n_sick=int(block["n_sick"]),
            correct=int(block["correct"]),
            missed=int(block["sick_called_healthy"]),
            alarms=int(block["healthy_called_sick"]),
            leaky=block.get("leaky", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{name}: metrics/evaluate.json is not as stage evaluate writes it "
            f"({type(error).__name__}: {error}). Run 'uv run dvc repro' there."
        ) from None


def choose(candidates: Sequence[Candidate], tolerance: float) -> Choice:
    """Choose by the rule of PyCell: accuracy first; among equals, the fewest sick missed.

    Parameters
    ----------
    candidates : sequence of Candidate
        At least one; all judged on the same test images.
    tolerance : float
        Points of accuracy, 0..100: who is no further below the best is its equal.

    Returns
    -------
    Choice
        Ties in misses go to the higher accuracy, then to the first by name; the order of the
        candidates does not matter.

    Raises
    ------
    PipelineError
        The candidates differ in the number of their test images, or of the sick among them, or
        bear one name.

    Notes
    -----
    The report that the rule comes from gives no tolerance; its choice needs at least 0.51 points,
    and one of 0 would have chosen otherwise. So the tolerance is to be said.

    Fisher's test takes each image for itself. Images of one patient are alike, so a difference
    that it calls chance is chance, and one that it does not may still be.
    """
    _require_comparable(candidates)
    best = min(candidates, key=_by_accuracy)
    # Whole numbers and fractions: 0.51 points of 6,874 images must not hang on a last bit.
    allowed = Fraction(str(tolerance)) * best.n / 100
    equal = [one for one in candidates if best.correct - one.correct <= allowed]
    chosen, *others = sorted(equal, key=lambda one: (one.missed, *_by_accuracy(one)))
    p_values = {one.name: _compare_misses(chosen, one) for one in others}
    return Choice(chosen, best, (chosen, *others), p_values)


def lay_out(candidates: Sequence[Candidate], choice: Choice, tolerance: float) -> str:
    """Lay the experiments out as a table, and say which is chosen and why.

    Returns
    -------
    str
        Several lines, the last without a line end.
    """
    width = max(len("experiment"), *(len(one.name) for one in candidates))
    lines = [f"{'experiment':<{width}} {'images':>7} {'accuracy':>8} {MISSED:>19} {ALARMS:>19}"]
    for one in sorted(candidates, key=_by_accuracy):
        missed, alarms = f"{one.missed} of {one.n_sick}", f"{one.alarms} of {one.n - one.n_sick}"
        lines.append(
            f"{one.name:<{width}} {one.n:>7} {one.accuracy:>8.4f} {missed:>19} {alarms:>19}"
        )
        lines += [f"  {one.leaky}"] if one.leaky else []
    return "\n".join([*lines, "", *_explain(choice, tolerance), FLATTERED])


def _compare_misses(*pair: Candidate) -> float:
    return float(fisher_exact([[one.missed, one.n_sick - one.missed] for one in pair]).pvalue)


def _explain(choice: Choice, tolerance: float) -> list[str]:
    chosen, best = choice.chosen, choice.best
    names = ", ".join(sorted(one.name for one in choice.equivalent))
    lines = [f"Within {tolerance:g} points of the best accuracy ({best.name}): {names}."]
    if not choice.p_values:
        return [*lines, f"Chosen: {chosen.name}; no other comes so near."]
    lines.append(f"Chosen: {chosen.name}, {_say_why(choice)}.")
    for other in choice.equivalent[1:]:
        p_value = choice.p_values[other.name]
        verdict = "within chance" if p_value >= CHANCE else "more than chance"
        lines.append(
            f"{chosen.name} misses {chosen.missed}, {other.name} {other.missed}: {verdict} "
            f"(Fisher's exact test, p = {p_value:.2g})."
        )
    return lines


def _say_why(choice: Choice) -> str:
    chosen = choice.chosen
    tied = [one for one in choice.equivalent[1:] if one.missed == chosen.missed]
    if not tied:
        return f"which calls the fewest sick healthy ({chosen.missed})"
    by = "accuracy" if chosen.correct > max(one.correct for one in tied) else "name"
    others = ", ".join(one.name for one in tied)
    return f"as {others} calls as few sick healthy ({chosen.missed}): first by {by}"


def _require_comparable(candidates: Sequence[Candidate]) -> None:
    first, *others = candidates
    names = [one.name for one in candidates]
    for other in others:
        if names.count(other.name) > 1:
            raise PipelineError(f"{other.name} is named twice. Name each experiment once.")
        if (other.n, other.n_sick) != (first.n, first.n_sick):
            raise PipelineError(
                f"{first.name} has {first.n} test images ({first.n_sick} sick), {other.name} "
                f"{other.n} ({other.n_sick} sick): these are not the same. Compare experiments of "
                "the same hospitals, taxonomy, split and seed."
            )


def _by_accuracy(one: Candidate) -> tuple[int, str]:
    return (-one.correct, one.name)


HERE = "."


def main(tolerance: float, names: Sequence[str]) -> None:
    """Print the experiments and the choice; `tolerance` is in points of accuracy."""
    candidates = [read_candidate(name, _read_evaluation(name)) for name in names]
    choice = choose(candidates, tolerance)
    sys.stdout.write(lay_out(candidates, choice, tolerance) + "\n")


def _read_evaluation(name: str) -> str:
    path = metrics_path("evaluate")
    if name != HERE:
        return revisions.read_at(f"{name}:{path.as_posix()}")
    if not path.is_file():
        raise PipelineError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    return path.read_text(encoding="utf-8")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m stages.tools.choose",
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
