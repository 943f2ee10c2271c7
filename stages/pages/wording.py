"""A recipe, an input, a score, a size and a licence in plain words."""

import re
from collections.abc import Mapping
from typing import Any

from stages.evaluation.scoreboard import outwards

Block = Mapping[str, Any]

FAMILIES = {
    "svm": "support vectors", "knn": "nearest neighbours", "logistic": "logistic regression",
    "forest": "a random forest", "extra_trees": "extra trees",
}  # fmt: skip
VECTORS = {"grey": "grey pixels", "measures": "measures of the cell's shape, density and texture"}
BALANCES = {
    "white_point": "with the background made white", "none": "as photographed",
    "grey_world": "with the mean of each colour made the same",
}  # fmt: skip
HIDDEN = {"nothing": "", "background": ", all but the cell hidden", "cell": ", the cell hidden"}
UNITS = {"patient": "patients", "slide": "slides", "field": "fields of view"}
OPEN = re.compile(r"\b(CC0|CC.BY|MIT|BSD|Apache|ODbL|PDDL|public domain)\b", re.IGNORECASE)
CLOSED = re.compile(
    r"\b(NC|ND|not?|none|never|without|un\w+|forbid\w*|prohibit\w*)\b|commerc", re.I
)


def say_recipe(recipe: Block) -> list[str]:
    """Say what a model is made of, a line for each part; `recipe` is that of card.json."""
    if recipe["kind"] == "ensemble":
        parts = [f"{name}: {_say_single(one)}" for name, one in recipe["members"].items()]
        return [f"The mean of {len(parts)} models", *parts]
    if recipe["kind"] == "cascade":
        groups = "; ".join(f"{name}: {', '.join(own)}" for name, own in recipe["groups"].items())
        parts = [f"{name}: {_say_single(recipe[name])}" for name in ("first", "second")]
        return [f"Two models; the second is asked where the first says a group ({groups})", *parts]
    return [f"One model: {_say_single(recipe)}"]


def say_inputs(rule: Block) -> str:
    """Say what of a picture a model sees; `rule` is ``inputs`` of card.json."""
    whose = "the hospital's median cell" if rule["scale"] == "hospital" else "the picture's own"
    square = f"a square of {2 * rule['half_side']:g} cell radii ({whose})"
    crops = {"whole": "the whole picture", "centre": f"{square} in the middle of the picture"}
    crop = crops.get(rule["crop"], f"{square} around the cell") + HIDDEN[rule["hide"]]
    if len(rule["white_balance"]) == 1:
        return f"{crop}, {BALANCES[rule['white_balance'][0]]}"
    views = "; ".join(BALANCES[name] for name in rule["white_balance"])
    return f"{crop}, and answers with the mean over several views ({views})"


def say_score(score: Block, block: Block | None = None) -> str:
    """Say a score with its interval; `block` tells what that is worth, if not the score itself.

    Examples
    --------
    >>> say_score({"value": 0.94, "low": 0.9112, "high": 0.9668})
    '0.940 (0.911 to 0.967)'
    """
    if score["value"] is None:
        return f"none: {score.get('reason', 'too few pictures')}"
    if score["low"] is None:
        return f"{say_number(score['value'])} (no interval)"
    narrow = "*" if "interval_note" in (block or score) else ""
    return f"{say_number(score['value'])} ({outwards(score, ' to ')}){narrow}"


def say_number(value: float | None) -> str:
    """Say a number with three digits behind the point."""
    return "none" if value is None else f"{value:.3f}"


def say_size(n_images: int, n_groups: int, units: str) -> str:
    """Say how many pictures there are, and of how many patients, slides or others.

    Examples
    --------
    >>> say_size(1204, 11, "patient")
    '1,204 pictures of 11 patients'
    """
    if units == "image":
        return f"{n_images:,} single pictures"
    told = f"of {n_groups:,} {UNITS[units]}" if units in UNITS else f"in {n_groups:,} groups"
    return f"{n_images:,} pictures {told}"


def say_tested(block: Block) -> str:
    """Say on how many pictures a block of evaluate.json was tested."""
    return say_size(block["n_images"], block["n_groups"], block["unit"])


def say_percent(share: float) -> str:
    """Say a share in per cent, with one digit where it has one."""
    return f"{round(100 * share, 1):g} %"


def say_worst(per_class: Block) -> str:
    """Name the class of which the smallest share is found; `per_class` is of evaluate.json."""
    missed = {name: one["recall"] for name, one in per_class.items() if one["n"]}
    missed = {name: recall for name, recall in missed.items() if recall < 1}
    if not missed:
        return "none is missed"
    worst = min(missed, key=lambda name: (missed[name], name))
    return f"{worst} {missed[worst]:.2f} of {per_class[worst]['n']}"


def say_flagged(by_hospital: Block, kind: str) -> str:
    """Say between which shares the pictures of a kind are flagged; of a score of novelty.json."""
    flagged = [
        block["flagged"][kind]["value"] for block in by_hospital.values() if "flagged" in block
    ]
    told = [value for value in flagged if value is not None]
    return f"{min(told):.2f} to {max(told):.2f}" if told else "no such picture"


def is_open(licence: str) -> bool:
    """Tell whether a licence is one that is known to let anyone pass pictures on, for any use."""
    return bool(OPEN.search(licence)) and not CLOSED.search(licence)


def _say_single(recipe: Block) -> str:
    if recipe["kind"] == "network":
        start = "published ImageNet weights" if recipe["weights"] == "imagenet" else "chance"
        end = f", classified by {FAMILIES[recipe['then']['classifier']]}" if recipe["then"] else ""
        seen = f"it sees {recipe['size']} px"
        return f"the network {recipe['network']}, started from {start}{end}; {seen}"
    what = VECTORS.get(recipe["vectors"], "")
    if recipe["features"]:
        what = f"features of the frozen network {recipe['features']['backbone']}"
    return f"{FAMILIES[recipe['classifier']]} on {what}"
