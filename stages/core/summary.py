"""The ten numbers that a person compares between two experiments, as JSON and as a table."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

LEAK_KEY = "share_of_test_with_twin_in_train"
SHOWN = ("accuracy", "macro_f1")
NAME_WIDTH = 16
RULE = "-" * 100
MEANING = (
    "In domain: held-back pictures of hospitals that trained; unseen: hospitals never learnt from."
)
SIMULATED = "simulated hospitals: not evidence of accuracy on real cells"


def summarise(
    evaluation: Mapping[str, Any], split: Mapping[str, Any], simulated: Sequence[str]
) -> dict[str, Any]:
    """Pick the numbers of metrics/summary.json.

    Parameters
    ----------
    evaluation, split : mapping
        Content of metrics/evaluate.json and metrics/split.json.
    simulated : sequence of str
        Hospitals of the experiment whose pictures were drawn by a program.

    Returns
    -------
    dict
        ``in_domain``, ``unseen_mean`` and ``unseen_worst`` (scores 0..1 with bounds, counts and
        baseline), ``drop`` (in domain minus mean unseen), ``leak_share`` and ``simulated``.
        What cannot be computed is None, and a key ``<name>_reason`` tells why.
    """
    leak_share = split.get("leaks", {}).get(LEAK_KEY)
    summary = {
        "in_domain": _pick(evaluation["mean_in_domain"]),
        "unseen_mean": _pick(evaluation["mean_unseen"]),
        "unseen_worst": _pick(evaluation["worst_unseen"]),
        "drop": evaluation["drop"]["metrics"]["macro_f1"] if evaluation["drop"] else None,
        "leak_share": leak_share,
        "simulated": sorted(simulated),
    }
    if "unseen_reason" in evaluation:
        summary["unseen_reason"] = evaluation["unseen_reason"]
    if leak_share is None:
        summary["leak_share_reason"] = f"metrics/split.json gives no leaks.{LEAK_KEY}"
    return summary


def lay_out(evaluation: Mapping[str, Any], simulated: Sequence[str]) -> str:
    """Lay the scores out as a table of plain text, at most 100 columns wide.

    Parameters
    ----------
    evaluation : mapping
        Content of metrics/evaluate.json.
    simulated : sequence of str
        Hospitals whose pictures were drawn by a program; the table warns of them.

    Returns
    -------
    str
        Several lines, the last without a line end.
    """
    by_hospital = evaluation["by_hospital"]
    lines = [
        MEANING,
        "",
        _row(
            "hospital",
            "part",
            "images",
            "groups",
            "accuracy",
            "macro F1",
            "95 % interval",
            "baseline",
        ),
        RULE,
    ]
    for part, title, mean in (
        ("test", "in domain", evaluation["mean_in_domain"]),
        ("unseen", "unseen", evaluation["mean_unseen"]),
    ):
        names = sorted(name for name, block in by_hospital.items() if block["part"] == part)
        lines += [_score_row(name, title, by_hospital[name]) for name in names]
        if mean is not None and len(names) > 1:
            lines.append(_score_row("mean", title, mean))
        if names:
            lines.append(RULE)
    for sentence in _conclude(evaluation, simulated):
        lines += textwrap.wrap(sentence, len(RULE))
    return "\n".join(lines)


def _pick(block: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if block is None:
        return None
    kept = {
        name: block[name] for name in ("hospital", "unit", "n_images", "n_groups") if name in block
    }
    return {
        **kept,
        **{name: block["metrics"][name] for name in SHOWN},
        "baseline_macro_f1": block["baseline"]["macro_f1"],
    }


def _score_row(name: str, part: str, block: Mapping[str, Any]) -> str:
    macro_f1 = block["metrics"]["macro_f1"]
    return _row(
        name,
        part,
        str(block["n_images"]),
        f"{block['n_groups']} ({block['unit'].replace(' + ', '+')})",
        _number(block["metrics"]["accuracy"]["value"]),
        _number(macro_f1["value"]),
        _between(macro_f1),
        _number(block["baseline"]["macro_f1"]),
    )


def _row(
    name: str, part: str, images: str, groups: str, accuracy: str, f1: str, span: str, base: str
) -> str:
    name = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 2] + ".."
    cells = (
        f"{name:<{NAME_WIDTH}}",
        f"{part:<9}",
        f"{images:>7}",
        f"{groups:<23.23}",
        f"{accuracy:>8}",
        f"{f1:>8}",
        f"{span:<14}",
        f"{base:>8}",
    )
    return " ".join(cells).rstrip()


def _conclude(evaluation: Mapping[str, Any], simulated: Sequence[str]) -> list[str]:
    answers: dict[str, list[str]] = {}
    for hospital, block in sorted(evaluation["by_hospital"].items()):
        answers.setdefault(block["baseline_class"], []).append(hospital)
    listed = "; ".join(f"{label} at {', '.join(where)}" for label, where in answers.items())
    sentences = [f"Baseline: macro F1 of one answer for every picture ({listed})."]
    drop, worst = evaluation["drop"], evaluation["worst_unseen"]
    if drop:
        macro_f1 = drop["metrics"]["macro_f1"]
        sentences.append(
            f"Drop in macro F1, in domain minus unseen: {_number(macro_f1['value'])} "
            f"({_between(macro_f1)}); worst unseen: {worst['hospital']}."
        )
    else:
        sentences.append(f"No drop can be given: {evaluation['unseen_reason']}.")
    if simulated:
        sentences.append(f"Warning, {SIMULATED} ({', '.join(sorted(simulated))}).")
    return sentences


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _between(score: Mapping[str, float | None]) -> str:
    if score["low"] is None:
        return "no interval"
    return f"{_number(score['low'])} to {_number(score['high'])}"
