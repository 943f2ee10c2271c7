"""Numbers as a reader of a page sees them: three digits, intervals, counts, reasons for gaps."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from stages.core.errors import name_some
from stages.pages import charts

NONE = "none"


def say(value: float | None) -> str:
    """Return a number with three digits behind the point, or "none"."""
    return NONE if value is None else f"{value:.3f}"


def say_percent(share: float | None) -> str:
    """Return a share, 0..1, in percent with one digit behind the point, or "none"."""
    return NONE if share is None else f"{100 * share:.1f} %"


def say_interval(block: Mapping[str, Any], reason: str | None = None) -> str:
    """Return "0.913 to 0.968", rounded outwards, or why there is none.

    Parameters
    ----------
    block : mapping
        ``low`` and ``high``, and ``interval_reason`` where they are None.
    reason : str, optional
        Used where the block gives none itself.
    """
    if block["low"] is None:
        return f"no interval: {block.get('interval_reason') or reason or 'too few groups'}"
    low, high = (round(1000 * block[end], 3) for end in ("low", "high"))
    return f"{math.floor(low) / 1000:.3f} to {math.ceil(high) / 1000:.3f}"


def say_value(block: Mapping[str, Any] | None, reason: str | None = None) -> str:
    """Return "0.940 (0.911 to 0.967)"; of nothing "none" with its reason."""
    if block is None or block["value"] is None:
        return f"none: {reason}" if reason else NONE
    return f"{say(block['value'])} ({say_interval(block, reason)})"


def draw_bar(block: Mapping[str, Any] | None, baseline: float | None = None) -> Markup:
    """Draw a value of 0 to 1 with its interval, as `charts.draw_bar` does."""
    if block is None:
        return Markup("")
    return charts.draw_bar(block["value"], block.get("low"), block.get("high"), baseline)


def count(n: int, things: str) -> str:
    """Return "1 hospital" or "1,234 hospitals" of the plural ``hospitals``."""
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def part_of(names: Collection[str], everything: Collection[str], things: str) -> str:
    """Return "2 of 3 hospitals (demo_north, demo_east)", or "0 of 3 hospitals"."""
    listed = f" ({name_some(sorted(names))})" if names else ""
    return f"{len(names)} of {count(len(everything), things)}{listed}"


def plain(name: str) -> str:
    """Return a name of the program's as words: ``band_neutrophil`` as "band neutrophil"."""
    return name.replace("_", " ")


def stack(lines: Sequence[str]) -> Markup:
    """Return lines below one another in one cell."""
    return Markup("<br>").join(escape(line) for line in lines)
