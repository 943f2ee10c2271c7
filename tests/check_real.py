"""Real images, reduced: train on barcelona, test on its held-back part and four unseen hospitals.

``python -m tests.check_real`` needs ../shared/data as mirror. The full form, with barcelona224,
stands in metrics/README.md (five-default); this one leaves it out so that every submission can
afford it.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.projects import SHARED, Project

UNSEEN = ("raabin", "munich", "cvb", "jiangxi")
# Far above what a constant answer or frozen features of whole images reach on the unseen
# hospitals (macro F1 .29-.34), below what this recipe reached when it was written.
LEAST_IN_DOMAIN, LEAST_UNSEEN = 0.85, 0.50


def main() -> int:
    names = ["barcelona", *UNSEEN]
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.edit_yaml(
            "params.yaml",
            hospitals=names,
            partial=names,
            taxonomy="shared5",
            split__train_hospitals=["barcelona"],
            # What is asked here is the score; the demo has run these in full.
            bias__max_images=5,
            explain__methods=["grad_cam"],
            novelty__max_images=5,
        )
        project.commit("real images")
        done = project.dvc("repro", SMEARFLOW_MIRROR=str(SHARED))
        summary = json.loads(project.read("metrics/summary.json"))
        table = done.stdout[done.stdout.rindex("Running stage 'summarise'") :]
    sys.stdout.write(table)
    in_domain = summary["in_domain"]["macro_f1"]["value"]
    unseen = summary["unseen_mean"]["macro_f1"]["value"]
    holds = in_domain >= LEAST_IN_DOMAIN and unseen >= LEAST_UNSEEN
    sys.stdout.write(f"macro F1 in domain {in_domain}, mean unseen {unseen}: holds={holds}\n")
    return not holds


if __name__ == "__main__":
    sys.exit(main())
