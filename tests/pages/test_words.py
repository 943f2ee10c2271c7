"""Numbers in words: digits, reasons for gaps, counts."""

import pytest

from stages.pages import words


@pytest.mark.parametrize(
    ("block", "reason", "says"),
    [
        ({"value": 0.94, "low": 0.9119, "high": 0.9661}, None, "0.940 (0.911 to 0.967)"),
        ({"value": 1.0, "low": None, "interval_reason": "few"}, None, "1.000 (no interval: few)"),
        ({"value": 1.0, "low": None}, "why", "1.000 (no interval: why)"),
        ({"value": None, "low": None}, "no cell", "none: no cell"),
        (None, None, "none"),
    ],
)  # fmt: skip
def test_a_value_with_its_interval_or_the_reason_why_not(block, reason, says):
    """Ends are rounded away from one another."""
    assert words.say_value(block, reason) == says


def test_counts_and_shares():
    assert words.count(1, "hospitals") == "1 hospital"
    assert words.count(1234, "hospitals") == "1,234 hospitals"
    assert words.part_of(["b", "a"], "abc", "hospitals") == "2 of 3 hospitals (a, b)"
    assert words.part_of([], "abc", "hospitals") == "0 of 3 hospitals"
    assert words.say_percent(0.0316) == "3.2 %"
    assert words.plain("band_neutrophil") == "band neutrophil"


def test_stacked_lines_stay_text():
    assert words.stack(["<b>", "c"]) == "&lt;b&gt;<br>c"
