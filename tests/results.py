"""The metrics of a made experiment, as the stages write them."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluation import scoring

CLASSES = ["basophil", "eosinophil"]
SHARE = {"value": 0.25, "low": 0.1, "high": 0.5, "n": 16}
UNKNOWN = "a_hospital_with_a_very_long_name"


def evaluation(unseen: tuple[str, ...] = ("east", UNKNOWN), n: int = 40) -> dict[str, Any]:
    """What evaluate writes for two training hospitals and the named unseen ones."""
    rng = np.random.default_rng(1)
    frames = []
    for name, part, rate in [
        ("north", "test", 0.9),
        ("south", "test", 0.95),
        *((name, "unseen", 0.7 - 0.2 * place) for place, name in enumerate(unseen)),
    ]:
        truth = rng.choice(CLASSES, n)
        wrong = np.where(truth == CLASSES[0], CLASSES[1], CLASSES[0])
        frames.append(
            pd.DataFrame(
                {
                    "hospital": name,
                    "part": part,
                    "label": truth,
                    "predicted": np.where(rng.random(n) < rate, truth, wrong),
                    "group": [f"{name}/{i // 4}" for i in range(n)],
                    "unit": "patient",
                }
            )
        )
    scores = scoring.score_hospitals(
        pd.concat(frames), CLASSES, defaultdict(lambda: "basophil"), 200, 1
    )
    content = scoring.report(scores, CLASSES)
    for block in content["by_hospital"].values():
        block |= {"per_patient": None, "per_patient_reason": "classes vary within a patient"}
    return content | {"screening": None, "screening_reason": "no class healthy"}


def split() -> dict[str, Any]:
    nothing = {"value": 0.0, "low": 0.0, "high": 0.1, "n": 80}
    names = ("twin_in_train", "slide_or_patient_in_train")
    block = dict.fromkeys(names, nothing)
    return {"leaks": {"all": block, "by_part": {"test": block}}}


def probe(**changes: Any) -> dict[str, Any]:
    score = {
        "balanced_accuracy": {"value": 0.61, "low": 0.55, "high": 0.67},
        "auc": {"value": 0.66, "low": 0.6, "high": 0.7},
        "baseline": {"balanced_accuracy": 0.5, "auc": 0.5},
    }
    by_hospital = {name: {"balanced_accuracy": 0.58} for name in ("north", "south")}
    return {
        "shortcut_score": score | {"by_hospital": by_hospital},
        "hospital_told": {"seen": {"all": score}},
        "scores": {"published": {"all": score}},
        "warnings": [],
        **changes,
    }


def bias(**changes: Any) -> dict[str, Any]:
    hide = {
        "says": "the cell is hidden", "bad": "kept", "flagged": [], "not_judged": {},
        "all": {"keeps_confident_call": SHARE},
    }  # fmt: skip
    return {"tests": {"hide": hide | changes}}
