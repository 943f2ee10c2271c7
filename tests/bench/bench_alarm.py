"""Print how often the probe finds a planted shortcut: python -m tests.bench.bench_alarm.

Drawn measures of patients who each have all classes, or of slides of one class, strongly coloured
by patient. A marker that nothing else bears is planted on a share of one class of four: in the
corners (trees), in a square of the background (linear), or on all its images of a share of the
patients. An alarm for any other class, or without a marker, is a false one. Both rules look at the
same answers: `before` at the AUC alone (.8 by the lower end), `now` also at the share that is told.

50 seeds, ten minutes on one core. Classes of which there was an alarm though nothing was planted:

===============================  ========  ======  ====
cohort                            classes  before   now
===============================  ========  ======  ====
200 of a class, 20 patients           200       0     0
60 of a class, 15 patients            200       0     0
20 of a class, 12 patients            550       0     0
200 of a class, 5 slides each         200       0     0
60 of a class, 3 slides each          200      12    12
===============================  ========  ======  ====

Of 3600 classes beside a planted one there was no alarm. Share of planted markers that are found:

===========================  ========================  ====================  ====================
cohort                       marker                    before                now
...                          ... of the class          10 % 30 % 60 % 100 %  10 % 30 % 60 % 100 %
===========================  ========================  ====================  ====================
200 of a class, 20 patients  corners                    .00  .00  .04  1.00  1.00 1.00 1.00  1.00
...                          background                 .00  .00  .00  1.00   .22  .94 1.00  1.00
...                          corners, whole patients    .00  .00  .00  1.00   .00 1.00 1.00  1.00
60 of a class, 15 patients   corners                    .00  .00  .02  1.00   .00 1.00 1.00  1.00
...                          background                 .00  .00  .00  1.00   .00  .60  .98  1.00
...                          corners, whole patients    .00  .00  .00  1.00   .00  .30 1.00  1.00
===========================  ========================  ====================  ====================

A marker of two patients in twenty cannot be told from these two patients' looks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from stages.shortcuts import contingency, shortcut_scores
from tests.made.looks import make_cohort, plant_marker

N_SEEDS = 50
ALARM = 0.8
SHARES = (0.1, 0.3, 0.6, 1.0)
MARKERS = {
    "corners": ("corners", False),
    "background": ("background", False),
    "corners, whole patients": ("corners", True),
}
COHORTS: dict[str, dict[str, Any]] = {
    "200 of a class, 20 patients": {"n_groups": 20, "per_group": 40, "n_classes": 4},
    "60 of a class, 15 patients": {"n_groups": 15, "per_group": 16, "n_classes": 4},
    "20 of a class, 12 patients": {"n_groups": 12, "per_group": 18, "n_classes": 11},
    "200 of a class, 5 slides each": {
        "n_groups": 20, "per_group": 40, "n_classes": 4, "pure": True,
    },
    "60 of a class, 3 slides each": {
        "n_groups": 12, "per_group": 20, "n_classes": 4, "pure": True,
    },
}  # fmt: skip


def main() -> None:
    """Print false alarms by cohort, then the share of planted markers that are found."""
    with threadpool_limits(1):
        false = pd.DataFrame([row for seed in range(N_SEEDS) for row in _ask_in_vain(seed)])
        print(false.groupby("cohort", sort=False).sum().to_string(), end="\n\n", flush=True)
        found = pd.DataFrame([row for seed in range(N_SEEDS) for row in _ask(seed)])
    print("others named:", found["others"].sum(), "of", 3 * len(found), end="\n\n")
    table = found.pivot_table(["before", "now"], ["cohort", "marker"], "share", sort=False)
    print(table.to_string(float_format="{:.2f}".format))


def _ask_in_vain(seed: int) -> Iterator[dict[str, Any]]:
    """Count the classes that are cried for although nothing is planted."""
    for name, shape in COHORTS.items():
        images, measures = make_cohort(seed, effect=2.0, **shape)
        before, now = _cry(images, measures, seed)
        n = images["label"].nunique()
        yield {"cohort": name, "classes": n, "before": len(before), "now": len(now)}


def _ask(seed: int) -> Iterator[dict[str, Any]]:
    """Tell whether a marker is found, by cohort, kind and share."""
    for name in list(COHORTS)[:2]:
        images, measures = make_cohort(seed, effect=2.0, **COHORTS[name])
        for marker, (family, by_patient) in MARKERS.items():
            for share in SHARES:
                planted = plant_marker(images, measures, family, share, seed, by_patient)
                before, now = _cry(images, planted.filter(like=f"seen/{family}/"), seed)
                own = {"cohort": name, "marker": marker, "share": f"{share:.0%}"}
                yield own | {
                    "before": "class0" in before,
                    "now": "class0" in now,
                    "others": len(now - {"class0"}),
                }


def _cry(images: pd.DataFrame, measures: pd.DataFrame, seed: int) -> tuple[set[str], set[str]]:
    """Return the classes that the AUC alone names, and those that both measures name."""
    counts = contingency.count_classes(images)
    content: Mapping[str, Any] = shortcut_scores.report(
        images, measures, counts, by_image=False, alarm=ALARM, seed=seed
    )
    alarms = content["alarms"]
    return {one["class"] for one in alarms if "share" not in one}, {one["class"] for one in alarms}


if __name__ == "__main__":
    main()
