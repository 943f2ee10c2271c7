"""choose: of equally accurate experiments, the one that misses the fewest sick.

python -m stages.tools.choose TOLERANCE A B [C ...]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import pandas as pd

from stages.core.errors import PipelineError, name_some, run_stage
from stages.evaluation import experiments, paired
from stages.evaluation.experiments import Experiment, require_same_truth
from stages.evaluation.paired import Comparison
from stages.evaluation.screening import HEALTHY

PART = "test"
MISSED = "sick called healthy"
ALARMS = "healthy called sick"
FLATTERED = (
    "The images that chose an experiment flatter it: report its score on images that chose "
    "nothing, such as unseen hospitals or another fold."
)


class Candidate(Experiment):
    """What the rule knows of one experiment: its test images."""

    @property
    def leaky(self) -> str:
        """What the split leaks, in words; empty: it keeps groups on one side."""
        return str(self.evaluation["screening"][PART].get("leaky", ""))

    @property
    def sick(self) -> pd.DataFrame:
        """Images of the sick."""
        return self.images[self.images["label"] != HEALTHY]

    @property
    def n(self) -> int:
        """Number of test images."""
        return len(self.images)

    @property
    def n_sick(self) -> int:
        """Number of those that are sick."""
        return len(self.sick)

    @property
    def correct(self) -> int:
        """Number of images whose very class is right."""
        return int((self.images["label"] == self.images["predicted"]).sum())

    @property
    def missed(self) -> int:
        """Number of sick that are called healthy."""
        return int((self.sick["predicted"] == HEALTHY).sum())

    @property
    def alarms(self) -> int:
        """Number of healthy that are called sick."""
        return int((self.images["predicted"] != HEALTHY).sum()) - self.n_sick + self.missed

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
    differences : dict of str to Comparison
        For each other equivalent one: what `paired.compare` finds in the misses.
    p_values : dict of str to float
        The p-values of these, corrected for their number.
    """

    chosen: Candidate
    best: Candidate
    equivalent: tuple[Candidate, ...]
    differences: dict[str, Comparison]
    p_values: dict[str, float]


def take(experiment: Experiment) -> Candidate:
    """Take the test images of an experiment.

    Raises
    ------
    PipelineError
        It has no screening of test images.
    """
    screening = experiment.evaluation.get("screening")
    block = (screening or {}).get(PART)
    if block is None:
        reason = experiment.evaluation.get("screening_reason") or experiment.evaluation.get(
            "in_domain_reason"
        )
        raise PipelineError(
            f"{experiment.name}: metrics/evaluate.json has no screening of test images"
            f"{f' ({reason})' if reason else ''}. Choose among experiments that have the "
            "class healthy, another class, and test images, for example taxonomy leukaemia3."
        )
    images = experiment.images[experiment.images["part"] == PART]
    return Candidate(experiment.name, experiment.evaluation, images)


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
        The candidates differ in their test images or labels, or bear one name.

    Notes
    -----
    The report that the rule comes from gives no tolerance; its choice needs at least 0.51 points,
    and one of 0 would have chosen otherwise. So the tolerance is to be said.

    The candidates judge the same sick, so their misses are compared image by image.
    """
    _require_comparable(candidates)
    best = min(candidates, key=_by_accuracy)
    # Whole numbers and fractions: 0.51 points of 6,874 images must not hang on a last bit.
    allowed = Fraction(str(tolerance)) * best.n / 100
    equal = [one for one in candidates if best.correct - one.correct <= allowed]
    chosen, *others = sorted(equal, key=lambda one: (one.missed, *_by_accuracy(one)))
    differences = {one.name: _compare_misses(chosen, one) for one in others}
    corrected = paired.correct([one.p_value for one in differences.values()])
    p_values = dict(zip(differences, corrected, strict=True))
    return Choice(chosen, best, (chosen, *others), differences, p_values)


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


def _compare_misses(first: Candidate, second: Candidate) -> Comparison:
    sick = first.sick
    missed = sick["predicted"] == HEALTHY
    return paired.compare(
        missed, second.images.loc[sick.index, "predicted"] == HEALTHY, sick["group"]
    )


def _explain(choice: Choice, tolerance: float) -> list[str]:
    chosen, best = choice.chosen, choice.best
    names = ", ".join(sorted(one.name for one in choice.equivalent))
    lines = [f"Within {tolerance:g} points of the best accuracy ({best.name}): {names}."]
    if not choice.p_values:
        return [*lines, f"Chosen: {chosen.name}; no other comes so near."]
    lines.append(f"Chosen: {chosen.name}, {_say_why(choice)}.")
    for other in choice.equivalent[1:]:
        found, p_value = choice.differences[other.name], choice.p_values[other.name]
        lines.append(
            f"{chosen.name} misses {chosen.missed} ({found.first_alone} alone), {other.name} "
            f"{other.missed} ({found.second_alone} alone), {found.n_groups} groups: "
            f"{paired.judge(found, p_value)}, p = {p_value:.2g}."
        )
    return [*lines, f"By an {paired.METHOD}."]


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
        apart = first.images.index.symmetric_difference(other.images.index)
        if len(apart):
            raise PipelineError(
                f"{first.name} has {first.n} test images ({first.n_sick} sick), {other.name} "
                f"{other.n} ({other.n_sick} sick), and {len(apart)} are in one of them alone "
                f"({name_some(list(apart))}). Compare experiments of the same hospitals, taxonomy, "
                "split and seed."
            )
        require_same_truth(first, other)


def _by_accuracy(one: Candidate) -> tuple[int, str]:
    return (-one.correct, one.name)


def main(tolerance: float, names: Sequence[str]) -> None:
    """Print the experiments and the choice; `tolerance` is in points of accuracy."""
    candidates = [take(experiments.read(name)) for name in names]
    choice = choose(candidates, tolerance)
    sys.stdout.write(lay_out(candidates, choice, tolerance) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
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
    asked = parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments; a branch's name has slashes
    run_stage(partial(main, asked.tolerance, [asked.first, *asked.others]))
