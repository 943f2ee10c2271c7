"""Two experiments side by side: what differs in their parameters, and in what they score."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.pages import words
from stages.pages.blocks import Cell, Sentence, Table, Told
from stages.pages.words import count, draw_bar, part_of, plain, say, say_value

Content = Mapping[str, Any]

NUMBERS = {  # of metrics/summary.json: where, and which metric
    "in domain, macro F1": ("in_domain", "macro_f1"),
    "in domain, accuracy": ("in_domain", "accuracy"),
    "mean of unseen hospitals, macro F1": ("unseen_mean", "macro_f1"),
    "mean of unseen hospitals, accuracy": ("unseen_mean", "accuracy"),
    "worst unseen hospital, macro F1": ("unseen_worst", "macro_f1"),
    "drop of macro F1 from home to unseen": ("drop", None),
    "shortcut, balanced accuracy": ("shortcut", "balanced_accuracy"),
    "surest calls that stay with the cell hidden": ("covered", None),
}


def flatten(content: object, name: str = "") -> dict[str, str]:
    """Return nested parameters as one level: ``split.test`` to ``"0.2"``.

    Lists stay whole: their order may matter, and their elements have no names.
    """
    if not isinstance(content, Mapping):
        return {name: "null" if content is None else str(content)}
    found: dict[str, str] = {}
    for key, value in content.items():
        found |= flatten(value, f"{name}.{key}" if name else str(key))
    return found


def list_parameters(names: Sequence[str], contents: Sequence[Content]) -> Told:
    """Tell which parameters differ.

    Parameters
    ----------
    names : sequence of str
        Of both experiments.
    contents : sequence of mapping
        Their parameters and chosen recipes.
    """
    first, second = map(flatten, contents)
    differ = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    lead = f"{count(len(differ), 'parameters')} {'differs' if len(differ) == 1 else 'differ'}."
    if not differ:
        lead = "No parameter differs: data or code do, or nothing."
    rows = [[key, first.get(key, "not there"), second.get(key, "not there")] for key in differ]
    table = Table("Parameters that differ", ["parameter", *names], rows, "lll")
    return Told(lead, [table] if differ else [])


def compare_summaries(names: Sequence[str], summaries: Sequence[Content]) -> Told:
    """Put the numbers of two metrics/summary.json side by side, with their intervals."""
    rows = []
    for title, (key, metric) in NUMBERS.items():
        cells: list[Cell] = [title]
        for one in summaries:
            block = one.get(key)
            found = block[metric] if block and metric else block
            reason = (block or {}).get("interval_reason") or one.get(f"{key}_reason")
            text = say_value(found, reason)
            if key == "unseen_worst" and block:
                text += f", {block['hospital']}"
            cells += [text, "" if key == "drop" else draw_bar(found)]
        rows.append(cells)
    first, second = (_mean_unseen(one) for one in summaries)
    lead = "The mean of unseen hospitals cannot be compared: one of the two has none."
    if first is not None and second is not None:
        lead = (
            f"Mean macro F1 of unseen hospitals: {say(first)} and {say(second)}; the next section "
            "tells, on the same pictures, whether such a difference is more than chance."
        )
    headings = ["", names[0], "0 to 1", names[1], "0 to 1"]
    table = Table("Numbers with 95 % intervals", headings, rows, "lrbrb")
    cautions = [
        Sentence(f"{name}: {text}", is_warning=True)
        for name, one in zip(names, summaries, strict=True)
        for text in one["warnings"]
    ]
    return Told(lead, [table, *cautions])


def tell_chance(names: Sequence[str], lines: Sequence[Content], method: str) -> Told:
    """Tell whether the two differ by more than chance on the same pictures.

    Parameters
    ----------
    names : sequence of str
        Of both experiments.
    lines : sequence of mapping
        ``hospital``, ``n``, ``n_groups``, ``accuracies`` (a pair), ``difference``, ``p``
        (corrected) and ``verdict``.
    method : str
        Of the test, in words.
    """
    hospitals = [line["hospital"] for line in lines]
    surely = [line["hospital"] for line in lines if line["verdict"] == "more than chance"]
    better = dict.fromkeys(names, 0)
    for line in lines:
        if line["hospital"] in surely:
            better[names[0] if line["difference"] > 0 else names[1]] += 1
    lead = (
        "On the pictures that both were tested on, their accuracy differs by more than chance at "
        f"{part_of(surely, hospitals, 'hospitals')}"
    )
    if surely:
        lead += ": " + ", ".join(f"{name} is better at {n}" for name, n in better.items())
    rows = [
        [
            line["hospital"],
            f"{line['n']:,}",
            f"{line['n_groups']:,}",
            *map(say, line["accuracies"]),
            f"{line['difference']:+.3f}",
            f"{line['p']:.2g}",
            line["verdict"],
        ]
        for line in lines
    ]
    headings = ["hospital", "pictures of both", "groups", *names, "difference", "p", "it is"]
    table = Table(f"Accuracy, {names[0]} minus {names[1]}; {method}", headings, rows, "lrrrrrrl")
    return Told(lead + ".", [table])


def compare_classes(names: Sequence[str], evaluations: Sequence[Content]) -> Told:
    """Put the F1 of every class at every hospital side by side; of two metrics/evaluate.json."""
    first, second = (one["by_hospital"] for one in evaluations)
    rows, changes = [], dict[tuple[str, str], float]()
    for hospital in [name for name in first if name in second]:
        for name in {**first[hospital]["per_class"], **second[hospital]["per_class"]}:
            own = [one[hospital]["per_class"].get(name) for one in (first, second)]
            first_score, second_score = (one["f1"] if one else None for one in own)
            if first_score is None and second_score is None:
                continue
            change = words.NONE
            if first_score is not None and second_score is not None:
                changes[hospital, name] = first_score - second_score
                change = f"{first_score - second_score:+.3f}"
            rows.append([hospital, plain(name), *map(_say_class, own), change])
    lead = "No class is scored in both at one hospital."
    if changes:
        place = max(changes, key=lambda key: (abs(changes[key]), key))
        lead = (
            f"F1 differs most for {plain(place[1])} at {place[0]}: {changes[place]:+.3f}, "
            f"{names[0]} minus {names[1]}. That of few pictures differs by chance."
        )
    table = Table("F1 by hospital and class, of so many pictures",
                  ["hospital", "class", *names, "difference"], rows, "llrrr")  # fmt: skip
    return Told(lead, [table])


def _mean_unseen(summary: Content) -> float | None:
    block = summary.get("unseen_mean")
    return block["macro_f1"]["value"] if block else None


def _say_class(one: Content | None) -> str:
    if one is None:
        return "no such class"
    return words.NONE if one["f1"] is None else f"{say(one['f1'])} of {one['n']:,}"
