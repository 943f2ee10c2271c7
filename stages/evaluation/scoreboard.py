"""The scores as a table of plain text: what a person reads at the end of `dvc repro`."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

Block = Mapping[str, Any]

WIDTH = 100
NAME_WIDTH, GROUPS_WIDTH = 13, 20
SHOWN_CLASSES = 5
FEW = 30  # images: below, no sentence is worth saying
RULE = "-" * WIDTH
MEANING = (
    "In domain: held-back images of hospitals that trained; unseen: hospitals never learnt from."
)


def lay_out(evaluation: Block, summary: Block, probe: Block, experts: Mapping[str, Block]) -> str:
    """Lay the scores out as a table, at most 100 columns wide.

    Parameters
    ----------
    evaluation, summary, probe : mapping
        Content of metrics/evaluate.json, summary.json and probe.json.
    experts : mapping of str to mapping
        By hospital, how far two experts agree (metrics/harmonise.json); without those hospitals
        of which no second opinion is published.

    Returns
    -------
    str
        Several lines, the last without a line end. Warnings stand at the end, in a frame.
    """
    lines = [MEANING, "", _row(*_HEADINGS), RULE]
    for part, title, mean in (
        ("test", "in domain", evaluation["mean_in_domain"]),
        ("unseen", "unseen", evaluation["mean_unseen"]),
    ):
        blocks = evaluation["by_hospital"].items()
        own = sorted((name, block) for name, block in blocks if block["part"] == part)
        known = probe["shortcut_score"] if part == "test" else None
        shortcuts = known["by_hospital"] if known else {}
        for name, block in own:
            lines += _score_rows(name, title, block, shortcuts.get(name))
        if len(own) > 1:
            lines += _score_rows("mean", title, mean, None)
        if own:
            lines.append(RULE)
    for sentence in _conclude(evaluation, summary, probe, experts):
        lines += textwrap.wrap(sentence, WIDTH, break_on_hyphens=False)
    return "\n".join([*lines, *_frame(summary["warnings"])])


TOO_FEW = "too few"
NARROW = "*"  # after an interval that is too narrow
LEARNT = {"home": "at home", "elsewhere": "at other unseen hospitals"}  # where a promise comes from
_HEADINGS = (
    "hospital", "part", "images", "groups", "accuracy", "macro F1", "interval", "baseline",
    "shortcut",
)  # fmt: skip


def _score_rows(name: str, part: str, block: Block, shortcut: Block | None) -> list[str]:
    macro_f1 = block["metrics"]["macro_f1"]
    row = _row(
        name,
        part,
        str(block["n_images"]),
        _groups(block["n_groups"], block["unit"]),
        _number(block["metrics"]["accuracy"]["value"]),
        _number(macro_f1["value"]),
        _between(macro_f1, block),
        _number(block["baseline"]["macro_f1"]),
        _number(shortcut["balanced_accuracy"]) if shortcut else "",
    )
    return [row, *([f"  {block['leaky']}"] if "leaky" in block else [])]


def _groups(n_groups: int, units: str) -> str:
    text = f"{n_groups} {units.replace(' + ', '+')}"
    return text if len(text) <= GROUPS_WIDTH else f"{n_groups} of many kinds"


def _row(*cells: str) -> str:
    name, part, images, groups, accuracy, f1, span, baseline, shortcut = cells
    name = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 2] + ".."
    return (
        f"{name:<{NAME_WIDTH}} {part:<9} {images:>6} {groups:<{GROUPS_WIDTH}} {accuracy:>8} "
        f"{f1:>8} {span:<12} {baseline:>8} {shortcut:>8}"
    ).rstrip()


def _conclude(
    evaluation: Block, summary: Block, probe: Block, experts: Mapping[str, Block]
) -> list[str]:
    return [
        *(_say_worth(name, one) for name, one in sorted(evaluation["by_hospital"].items())),
        _say_interval(evaluation),
        _say_baseline(evaluation),
        _say_drop(evaluation),
        *_say_on_site(evaluation["by_hospital"]),
        *_say_promises(evaluation["by_hospital"]),
        _say_shortcut(summary, probe),
        _say_covered(summary, evaluation),
        *_say_screening(evaluation["screening"]),
        *_say_patients(evaluation["by_hospital"]),
        *_say_experts(evaluation["by_hospital"], experts),
    ]


def _say_worth(hospital: str, block: Block) -> str:
    """Say in a sentence what the scores of a hospital are worth to whoever would use the model.

    The rival is the best single answer there, which no model is worse than for good.
    """
    accuracy, n = block["metrics"]["accuracy"], block["n_images"]
    commonest, most = max(block["n_by_class"].items(), key=lambda pair: (pair[1], pair[0]))
    text = (
        f"{hospital}: {accuracy['value']:.0%} right; the one answer {commonest} for all: "
        f"{most / n:.0%}"
    )
    if n < FEW:
        return f"{text}: too few images ({n}) to say."
    surely = accuracy["value"] if accuracy["low"] is None else accuracy["low"]
    if surely <= most / n:
        text += ": not useful here, as far as these images tell"
    elif accuracy["low"] is None:
        text += f": too few groups ({block['n_groups']}) to say how sure that is"
    scores = {name: one["f1"] for name, one in block["per_class"].items() if one["n"]}
    worst = min(scores, key=lambda name: (scores[name], name))
    absent = [name for name, count in block["n_by_class"].items() if not count]
    text += f"; weakest class: {worst} (F1 {scores[worst]:.2f})"
    return text + (f"; none of: {', '.join(absent)}." if absent else ".")


def _say_interval(evaluation: Block) -> str:
    text = (
        "Interval: of macro F1 over the classes that the hospital holds, 95 %, by redrawing the "
        "groups; of this one training: another seed may land outside of it."
    )
    if any("interval_reason" in block for block in evaluation["by_hospital"].values()):
        least = evaluation["min_groups"]
        text += f" {TOO_FEW.capitalize()}: {least} groups of each hospital are needed."
    note = _note(evaluation)
    return text + (f" {NARROW} {note['interval_note']}." if note else "")


def _note(evaluation: Block) -> dict[str, str]:
    """Return what is to be said of intervals over all hospitals, if there is anything."""
    blocks = evaluation["by_hospital"].values()
    notes = [block["interval_note"] for block in blocks if "interval_note" in block]
    return {"interval_note": notes[0]} if notes else {}


def _say_baseline(evaluation: Block) -> str:
    answers: dict[str, list[str]] = {}
    for hospital, block in sorted(evaluation["by_hospital"].items()):
        answers.setdefault(block["baseline_class"], []).append(hospital)
    listed = "; ".join(f"{label} at {', '.join(where)}" for label, where in answers.items())
    return f"Baseline: macro F1 of one answer for every image ({listed})."


def _say_drop(evaluation: Block) -> str:
    drop, worst = evaluation["drop"], evaluation["worst_unseen"]
    if not drop:
        return f"No drop can be given: {evaluation['drop_reason']}."
    shared, held = drop["classes"], drop["n_classes_held"]
    names = ", ".join(shared) if len(shared) <= SHOWN_CLASSES else f"{len(shared)} of {held}"
    over = "" if len(shared) == held else f" over the classes that all hold ({names})"
    macro_f1 = drop["metrics"]["macro_f1"]
    return (
        f"Drop in macro F1, in domain minus unseen{over}: {_number(macro_f1['value'])} "
        f"({_span(macro_f1, drop)}); worst unseen: {worst['hospital']}."
    )


def _say_on_site(by_hospital: Mapping[str, Block]) -> list[str]:
    """Say for each method what it reaches at each unseen hospital, or why it gives nothing."""
    told: dict[int, list[str]] = {}
    for hospital, block in sorted(by_hospital.items()):
        for method, one in (block.get("on_site") or {}).items():
            number = 0 if method == "calibrated" else int(method.removeprefix("labels_"))
            told.setdefault(number, []).append(f"{hospital} {_say_gain(one)}")
    return [
        f"{f'With {number} labels a class on site' if number else 'Calibrated without labels'}: "
        f"macro F1 on the images that are left, and gain over the plain model there: "
        f"{'; '.join(told[number])}."
        for number in sorted(told)
    ]


def _say_gain(block: Block) -> str:
    if block["metrics"] is None:
        return f"none: {block['reason']}"
    score, gain = block["metrics"]["macro_f1"], block["gain"]["macro_f1"]
    text = f"{_number(score['value'])} ({_span(score, block)}), {gain['value']:+.3f}"
    text += "" if gain["low"] is None else f" ({_span(gain, block)})"
    return text + (f"; {block['note']}" if "note" in block else "")


def _say_promises(by_hospital: Mapping[str, Block]) -> list[str]:
    """Say what becomes of the wished error at each unseen hospital, by where it was learnt."""
    told: dict[str, list[str]] = {}
    for hospital, block in sorted(by_hospital.items()):
        doubt = block.get("doubt") or {}
        for source, learnt in LEARNT.items():
            if block["part"] == "unseen" and (one := doubt.get(source)):
                start = f"Calls accepted for an error of {one['wished_error']:g}, learnt {learnt}: "
                told.setdefault(start, []).append(f"{hospital} {_say_promise(one)}")
    return [f"{start}{'; '.join(ones)}." for start, ones in told.items()]


def _say_promise(one: Block) -> str:
    if one["threshold"] is None:
        return f"none: {one['reason']}"
    error = one["error_of_accepted"]
    if error["value"] is None:
        return "none is so sure"
    text = f"{_number(one['accepted']['value'])}, error {_number(error['value'])} ({_span(error)})"
    return text + (f", {one['promise']}" if one["promise"] else "")


def _say_shortcut(summary: Block, probe: Block) -> str:
    score = summary["shortcut"]
    if score is None:
        return f"No shortcut score: {summary['shortcut_reason']}."
    seen, told = score["balanced_accuracy"], summary["hospital_told"]
    text = (
        "Shortcut: balanced accuracy of simple models on what must not matter, as the model will "
        f"see it, out of fold on the training part: {_number(seen['value'])} ({_span(seen)}); "
        f"chance is {_number(score['chance'])}."
    )
    published = probe["scores"]["published"]["all"]
    text += f" On the files as published: {_number(published['balanced_accuracy']['value'])}."
    return text + (f" The hospital is told with {_number(told)}." if told is not None else "")


def _say_covered(summary: Block, evaluation: Block) -> str:
    share = summary["covered"]
    if share is None:
        return f"Hidden cells: {summary['covered_reason']}."
    return (
        f"With the cell hidden the model still gives {_number(share['value'])} "
        f"({_span(share, _note(evaluation))}) of its {share['n']} most confident calls."
    )


def _say_screening(screening: Mapping[str, Block] | None) -> list[str]:
    return [
        f"Sick called healthy ({part} part): {block['sick_called_healthy']} of {block['n_sick']} "
        f"images, sensitivity {_number(block['sensitivity']['value'])} "
        f"({_span(block['sensitivity'])}); healthy called sick: "
        f"{block['healthy_called_sick']} of {block['n_healthy']}."
        for part, block in (screening or {}).items()
        if block
    ]


def _say_patients(by_hospital: Mapping[str, Block]) -> list[str]:
    return [
        f"By patient at {name}: accuracy {_number(block['per_patient']['accuracy']['value'])} "
        f"({_span(block['per_patient']['accuracy'])}) of "
        f"{block['per_patient']['n_patients']} patients."
        for name, block in sorted(by_hospital.items())
        if block["per_patient"]
    ]


def _say_experts(by_hospital: Mapping[str, Block], experts: Mapping[str, Block]) -> list[str]:
    return [
        f"Two experts at {name} agree on {_number(found['agreement']['value'])} of "
        f"{found['n_images']} images (kappa {_number(found['kappa']['value'])}); the model's kappa "
        f"there is {_number(by_hospital[name]['metrics']['kappa']['value'])}."
        for name, found in sorted(experts.items())
        if name in by_hospital
    ]


def _frame(warnings: list[str]) -> list[str]:
    if not warnings:
        return []
    heading = " WARNING " if len(warnings) == 1 else f" {len(warnings)} WARNINGS "
    body = [
        line
        for warning in warnings
        for line in textwrap.wrap(
            warning, WIDTH, initial_indent="! ", subsequent_indent="!   ", break_on_hyphens=False
        )
    ]
    return ["", heading.center(WIDTH, "!"), *body, "!" * WIDTH]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _span(score: Block, block: Block | None = None) -> str:
    """Say an interval in a sentence; `block` tells what it is worth, if not the score itself."""
    block = {**score, **(block or {})}
    if score["low"] is None:
        return f"no interval: {block.get('interval_reason', 'too few groups')}"
    return outwards(score, " to ") + (NARROW if "interval_note" in block else "")


def _between(score: Block, block: Block) -> str:
    if score["low"] is None:
        return TOO_FEW
    return outwards(score) + (NARROW if "interval_note" in block else "")


def outwards(score: Block, between: str = "-") -> str:
    """Round the ends away from one another: an interval that is printed has a width."""
    low, high = (round(1000 * score[end], 3) for end in ("low", "high"))
    return f"{math.floor(low) / 1000:.3f}{between}{math.ceil(high) / 1000:.3f}"
