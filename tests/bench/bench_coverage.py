"""Print how often 95 % intervals hold the truth: python -m tests.bench.bench_coverage [WORLDS].

In each made world groups (patients) are drawn whose images resemble one another: each has its own
mix of classes and its own difficulty. The truth is that of 100,000 such groups, over the classes
that the world's images hold. The first number is of the plain percentile bootstrap over groups, as
intervals were before; the second of what `scoring` prints now. Below 6 groups it prints none; the
column of 3 tells why. "mean" is of three other hospitals with as many groups, twice as many, and
10; "drop" of one hospital against those three; both of macro F1. "no patients": macro F1 where
each image counts as a group, since nobody published which belong together.

With 1000 worlds, each share is sure to about .015:

::

    groups                                    3        6       10       20       50      100
    four common classes   accuracy       .73 .87   .82 .93   .88 .93   .92 .94   .93 .94   .94 .95
    four common classes   macro F1       .77 .91   .83 .94   .89 .95   .92 .94   .94 .94   .95 .95
    four common classes   no patients    .77 .80   .76 .77   .78 .79   .75 .75   .76 .76   .78 .78
    four common classes   mean           .86 .95   .91 .95   .92 .94   .93 .95   .91 .94   .90 .94
    four common classes   drop           .84 .96   .88 .95   .91 .95   .92 .95   .93 .94   .92 .94
    one class of 3 %      accuracy       .75 .93   .84 .93   .89 .94   .91 .94   .93 .94   .94 .94
    one class of 3 %      macro F1       .54 .97   .70 .99   .85 .97   .91 .96   .94 .95   .94 .95
    3 %, high scores      accuracy       .63 .96  .85 1.00   .89 .98   .90 .94   .93 .95   .93 .94
    3 %, high scores      macro F1       .49 .98   .61 .99   .77 .99   .87 .94   .93 .95   .94 .95
    eleven, high scores   accuracy       .68 .96  .82 1.00   .85 .96   .90 .94   .93 .94   .95 .95
    eleven, high scores   macro F1       .46 .98  .71 1.00   .82 .99   .89 .95   .91 .93   .95 .95
    groups of unlike size accuracy       .76 .91   .81 .94   .87 .95   .88 .94   .92 .94   .93 .94
    groups of unlike size macro F1       .63 .97   .78 .98   .85 .97   .89 .95   .92 .95   .94 .95

So an interval of patients that is printed held the truth in 93 % of worlds or more; where groups
are few and scores high or classes rare, it is wider than it need be. Where no patients are
published it held it three times in four, however many images there are.
"""

import sys
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from stages.evaluation import bootstrap, scoring
from stages.evaluation.bootstrap import Array, GroupedCounts
from stages.evaluation.metrics import METRICS

N_DRAWS = 1000
N_GROUPS = (3, 6, 10, 20, 50, 100)
BIG = 100_000  # groups, for the truth
SPREAD_OF_GROUPS, SPREAD_OF_CLASSES = 0.7, 0.4  # of a group's difficulty, in logits
PURITY = 16.0  # Dirichlet: the lower, the fewer classes a group has


@dataclass(frozen=True)
class World:
    """Shares of the classes, and how often each is called rightly at an average group."""

    shares: tuple[float, ...]
    recalls: tuple[float, ...]
    are_sizes_alike: bool = True


WORLDS = {
    "four common classes": World((0.25,) * 4, (0.93, 0.90, 0.88, 0.80)),
    "one class of 3 %": World((0.40, 0.35, 0.22, 0.03), (0.95, 0.95, 0.90, 0.50)),
    "3 %, high scores": World((0.40, 0.35, 0.22, 0.03), (0.99, 0.99, 0.98, 0.97)),
    "eleven, high scores": World(
        (0.25, 0.2, 0.1, 0.1, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02), (0.99,) * 6 + (0.97,) * 5
    ),
    "groups of unlike size": World((0.40, 0.35, 0.22, 0.03), (0.93, 0.90, 0.88, 0.80), False),
}
FIRST = "four common classes"
UNPUBLISHED = "no patients"
KINDS = ("accuracy", "macro F1", UNPUBLISHED, "mean", "drop")
OTHER = World((0.25,) * 4, (0.85, 0.80, 0.78, 0.70))  # the unseen hospitals of means and drops


def expect(world: World, n_groups: int, rng: np.random.Generator) -> Array:
    """Return the expected counts of each group by truth and call, (n_groups, n, n)."""
    shares, recalls = np.array(world.shares), np.array(world.recalls)
    n = len(shares)
    sizes = rng.integers(10, 41, n_groups).astype(np.float64)
    if not world.are_sizes_alike:
        sizes = np.ceil(rng.lognormal(3.0, 1.0, n_groups))
    mix = rng.dirichlet(PURITY * shares, n_groups)
    logits = np.log(recalls / (1 - recalls)) + rng.normal(0, SPREAD_OF_GROUPS, (n_groups, 1))
    logits = logits + rng.normal(0, SPREAD_OF_CLASSES, (n_groups, n))
    right = 1 / (1 + np.exp(-logits))
    confused = (1 - np.eye(n)) / (1 + np.abs(np.subtract.outer(np.arange(n), np.arange(n))))
    confused /= confused.sum(axis=1, keepdims=True)
    calls = right[:, :, None] * np.eye(n) + (1 - right)[:, :, None] * confused
    counts: Array = sizes[:, None, None] * mix[:, :, None] * calls
    return counts


@cache
def know(world: World) -> Array:
    """Return the expected counts of very many groups, (n, n)."""
    rng = np.random.default_rng(99)
    pieces = [expect(world, 5000, rng).sum(axis=0) for _ in range(BIG // 5000)]
    known: Array = np.sum(pieces, axis=0)
    return known


def draw(world: World, n_groups: int, rng: np.random.Generator) -> scoring.Scores:
    """Draw a hospital of such groups, as `scoring` holds it."""
    expected = expect(world, n_groups, rng).reshape(n_groups, -1)
    sizes = expected.sum(axis=1).round().astype(np.int64)
    counts = rng.multinomial(sizes, expected / expected.sum(axis=1, keepdims=True))
    grouped = GroupedCounts(counts.astype(np.float64), np.ones(n_groups, np.int64))
    return scoring.Scores(
        "h", "test", "patient", grouped, "", {}, N_DRAWS, int(rng.integers(2**31))
    )


def plain(entry: scoring.Scores) -> dict[str, Array]:
    """Redraw as before: whole groups and nothing beside them."""
    drawn = bootstrap.redraw(entry.grouped, N_DRAWS, entry.seed)
    matrices = drawn.reshape(N_DRAWS, *entry.counts.shape)
    return {name: metric(matrices, entry.counts) for name, metric in METRICS.items()}


def judge(weighted: list[tuple[World, scoring.Scores, float]], metric: str) -> list[bool]:
    """Say whether the interval before and that after hold the truth of a sum of hospitals."""
    truth = value = 0.0
    for world, entry, weight in weighted:
        known = know(world) * entry.holds[:, None]
        # Of the classes that the world's images hold, and whatever those are called.
        truth += weight * float(METRICS[metric](known))
        value += weight * entry.points[metric]
    before = np.sum([weight * plain(entry)[metric] for _, entry, weight in weighted], axis=0)
    after = [
        # Below the least number of groups too.
        scoring.redraw_scores(entry.grouped, N_DRAWS, entry.seed)[metric].times(weight)
        for _, entry, weight in weighted
    ]
    ends = [bootstrap.bounds(before), bootstrap.expand(after, value)]
    return [low is not None and high is not None and low <= truth <= high for low, high in ends]


def hide_groups(entry: scoring.Scores) -> scoring.Scores:
    """Take each image for a group of its own, as where no patients are published."""
    total = entry.grouped.total
    alone = GroupedCounts(np.eye(len(total))[total > 0], total[total > 0].astype(np.int64))
    return replace(entry, grouped=alone)


def hospitals_of(
    kind: str, world: World, n_groups: int, rng: np.random.Generator
) -> list[tuple[World, scoring.Scores, float]]:
    """Draw what a kind of score is made of: one hospital, three, or one against three."""
    one = draw(world, n_groups, rng)
    if kind == UNPUBLISHED:
        return [(world, hide_groups(one), 1.0)]
    if kind not in ("mean", "drop"):
        return [(world, one, 1.0)]
    sign = 1 if kind == "mean" else -1
    three = [(OTHER, draw(OTHER, n, rng), sign / 3) for n in (n_groups, 2 * n_groups, 10)]
    return three if kind == "mean" else [(world, one, 1.0), *three]


def main(n_worlds: int) -> None:
    """Print a row for each kind of world and score: before and after, by number of groups."""
    print(f"{'':<35}", "   ".join(f"{n_groups:>7}" for n_groups in N_GROUPS), "groups")
    for title, world in WORLDS.items():
        for kind in KINDS if title == FIRST else ("accuracy", "macro F1"):
            metric = "accuracy" if kind == "accuracy" else "macro_f1"
            cells = []
            for n_groups in N_GROUPS:
                generators = [np.random.default_rng([n_groups, one]) for one in range(n_worlds)]
                held = [judge(hospitals_of(kind, world, n_groups, rng), metric)
                        for rng in generators]  # fmt: skip
                before, after = np.mean(held, axis=0)
                cells.append(f"{before:.2f} {after:.2f}".replace("0.", "."))
            print(f"{title:<22} {kind:<12}", "   ".join(cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
