"""The ten numbers that a person compares between two experiments, and what they must not hide."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.errors import name_some

Block = Mapping[str, Any]

SHOWN = ("accuracy", "macro_f1")
TOLD = ("interval_reason", "interval_note")
LEAKS = ("twin_in_train", "slide_or_patient_in_train")
NOT_HIDDEN = {
    "all": {"keeps_confident_call": None, "keeps_confident_call_reason": "bias.tests lacks hide"}
}
BAD = {"kept": "confident calls survive", "lost": "calls are lost"}
SIMULATED = "simulated hospitals: not evidence of accuracy on real cells"


def summarise(
    evaluation: Block, split: Block, probe: Block, bias: Block, simulated: Sequence[str]
) -> dict[str, Any]:
    """Pick the numbers of metrics/summary.json.

    Parameters
    ----------
    evaluation, split, probe, bias : mapping
        Content of metrics/evaluate.json, split.json, probe.json and bias.json.
    simulated : sequence of str
        Hospitals of the experiment whose images were drawn by a program.

    Returns
    -------
    dict
        ``in_domain``, ``unseen_mean`` and ``unseen_worst`` (scores 0..1 with bounds, counts and
        baseline), ``drop`` (in domain minus mean unseen, over the ``n_classes`` that all hold),
        ``leaks`` (shares of the in-domain test),
        ``shortcut`` and ``hospital_told`` (balanced accuracy of simple models on what must not
        matter), ``covered`` (confident calls that survive a hidden cell), ``screening`` (sick
        called healthy, in tasks that have the class healthy), ``simulated`` and ``warnings``.
        What cannot be computed is None, and a key ``<name>_reason`` tells why.
    """
    told = (probe["hospital_told"] or {}).get("seen")
    hidden = bias["tests"].get("hide", NOT_HIDDEN)["all"]
    # Unseen images share no patient with training: counted in, they would thin the leak.
    leaks = split["leaks"]["by_part"].get("test", split["leaks"]["all"])
    summary = {
        "in_domain": _pick(evaluation["mean_in_domain"]),
        "unseen_mean": _pick(evaluation["mean_unseen"]),
        "unseen_worst": _pick(evaluation["worst_unseen"]),
        "drop": _pick_drop(evaluation["drop"]),
        "leaks": {name: _value(leaks[name]) for name in LEAKS},
        "shortcut": _pick_shortcut(probe["shortcut_score"]),
        "hospital_told": told and told["all"]["balanced_accuracy"]["value"],
        "covered": hidden["keeps_confident_call"],
        "simulated": sorted(simulated),
        "warnings": _warn(evaluation, probe, bias["tests"], simulated),
    }
    reasons = {
        "in_domain_reason": evaluation.get("in_domain_reason"),
        "unseen_reason": evaluation.get("unseen_reason"),
        "drop_reason": evaluation.get("drop_reason"),
        "shortcut_reason": probe.get("shortcut_score_reason"),
        "hospital_told_reason": None if told else _say_untold(probe),
        "covered_reason": hidden.get("keeps_confident_call_reason"),
    }
    summary |= {name: reason for name, reason in reasons.items() if reason}
    if evaluation["screening"]:
        summary["screening"] = {
            part: {name: block[name] for name in ("sick_called_healthy", "n_sick")}
            for part, block in evaluation["screening"].items()
            if block
        }
    return summary


def _pick(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    names = ("hospital", "unit", "n_images", "n_groups", "leaky", *TOLD)
    return {
        **{name: block[name] for name in names if name in block},
        **{name: block["metrics"][name] for name in SHOWN},
        "baseline_macro_f1": block["baseline"]["macro_f1"],
    }


def _pick_drop(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    told = {name: block[name] for name in TOLD if name in block}
    return {**block["metrics"]["macro_f1"], "n_classes": len(block["classes"]), **told}


def _pick_shortcut(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    return {
        "balanced_accuracy": block["balanced_accuracy"],
        "auc": block["auc"],
        "chance": block["baseline"]["balanced_accuracy"],
    }


def _say_untold(probe: Block) -> str:
    # Told by the files as published, maybe, but the network gets nothing of that.
    return str(probe.get("hospital_told_reason") or probe["shortcut_score_reason"])


def _value(share: Block | None) -> float | None:
    return share["value"] if share else None


def _warn(evaluation: Block, probe: Block, tests: Block, simulated: Sequence[str]) -> list[str]:
    """Say in sentences what a reader of the scores must not overlook."""
    leaky = evaluation["mean_in_domain"] or evaluation["mean_unseen"] or {}
    warnings = (
        [f"The split lets images of training into the tests; {leaky['leaky']}."]
        if ("leaky" in leaky)
        else []
    )
    warnings += list(probe["warnings"])
    warnings += [
        f"At {name_some(block['flagged'])} most {BAD[block['bad']]} when {block['says']}."
        for block in tests.values()
        if block["flagged"]
    ]
    unjudged = tests.get("hide", {}).get("not_judged")
    if unjudged:
        warnings.append(
            "Whether the model needs the cell was not judged at some hospitals; "
            f"{'; '.join(f'{name}: {why}' for name, why in unjudged.items())}."
        )
    if simulated:
        warnings.append(f"These are {SIMULATED} ({', '.join(sorted(simulated))}).")
    return warnings
