"""Charts whose places can be read off, and text that stays text."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.pages.charts import Axis, Curve, draw_bar, draw_curves, round_up


def numbers(svg, pattern):
    return [float(found) for found in re.findall(pattern, str(svg))]


def test_a_bar_is_as_long_as_its_value_and_the_interval_lies_where_it_is():
    svg = draw_bar(0.5, 0.25, 0.75, baseline=0.1)
    assert numbers(svg, r'<rect class="bar" x="0" y="3" width="([\d.]+)"') == [50]
    assert "M25 6H75" in svg
    assert "M10 0V12" in svg
    assert 'aria-hidden="true"' in svg


def test_what_is_not_known_is_not_drawn():
    assert draw_bar(None, 0.1, 0.2) == ""
    svg = draw_bar(0.5)
    assert "interval" not in svg
    assert "baseline" not in svg


def test_below_zero_goes_to_the_left():
    svg = draw_bar(-0.5, ends=(-1, 1))
    assert numbers(svg, r'x="([\d.]+)"') == [25]
    assert numbers(svg, r'width="([\d.]+)"') == [25]


def test_curves_are_well_formed_and_names_are_no_markup():
    """Two lines differ by their dashes too; a point beyond an axis stays inside of the frame."""
    curves = [Curve("<a & b>", [(0, 0), (1, 9)], has_marks=True), Curve("two", [(0, 1)], "b")]
    svg = draw_curves(curves, Axis("x", 0, 1), Axis('"y"', 0, 1), "says <this>")
    tree = ET.fromstring(str(svg))
    assert tree.get("aria-label") == "says <this>"
    assert "<a & b>" in [text.text for text in tree.iter("text")]
    lines = list(tree.iter("polyline"))
    assert lines[0].get("points") == "46,152 258,22"
    assert lines[0].get("stroke-dasharray") != lines[1].get("stroke-dasharray")
    assert len(list(tree.iter("circle"))) == 2


@given(st.floats(1e-6, 1e6))
def test_an_axis_holds_its_values_and_wastes_little(value):
    top = round_up(value)
    assert value <= top * (1 + 1e-9)
    assert top <= 2.5 * value or top == pytest.approx(1e-6)
