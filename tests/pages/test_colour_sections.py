"""The sections on colours: what lacks is said as "none", and no name becomes markup."""

import numpy as np
import pandas as pd

from stages.pages import drawing
from stages.pages.blocks import Section
from stages.pages.colour_sections import (
    Seen,
    compare_colours,
    compare_hospitals,
    compare_with_reference,
    judge_luminance,
    show_mean_cells,
    show_profiles,
)

REASONS = ("several cells", "other")


def block(level, n_similar):
    return {
        "n_images": 20, "luminance": {"p5": level, "p50": level, "p95": level}, "n_dark": 1,
        "n_dark_by_reason": {"several cells": 1, "other": 0}, "n_bright": 0,
        "similar": {"n": 20, "n_similar": n_similar, "median_distance": 2.0},
    }  # fmt: skip


def found():
    """Hospital b lacks the class <i>, tells no stain, and shares no class with others."""
    first = block(120.0, 20) | {
        "stains": {"n": 3, "blue": [0.8, 0.5, 0.2], "eosin": [0.1, 0.9, 0.3]},
        "drift": {"mean": 1.5, "by_measure": {"luminance": 1.5}},
        "by_class": {"<i>": block(120.0, 20), "y": block(110.0, 20)},
    }
    second = block(180.0, 5) | {
        "stains": {"n": 0, "blue": None, "eosin": None},
        "drift": {"mean": float("nan"), "by_measure": {"luminance": float("nan")}},
        "by_class": {"y": block(180.0, 5)},
    }
    return {
        "n_images": 40, "classes": ["<i>", "y"], "by_hospital": {"a": first, "b": second},
        "similar": {"reference": "a", "choice": "drop", "within": 5.0},
    }  # fmt: skip


def test_the_page_says_what_lacks_and_escapes_what_it_is_given():
    cells = {"a": {"<i>": Seen(1200, "data:image/jpeg;base64,AA==", np.ones((3, 8)))}, "b": {}}
    drift = pd.DataFrame(
        {"hospital": ["a"], "other": ["b"], "measure": ["luminance"], "distance": [np.nan]}
    )
    rows = pd.DataFrame(
        [("b/<b>.png", "y", 90.0, -4.0, "several cells", 9.0, "sd_g")],
        columns=["image_id", "label", "luminance", "z", "reason", "distance", "measure"],
    )
    colours = pd.DataFrame({"channel": ["red"] * 2, "level": [4.0, 12.0], "share": [0.4, 0.6]})
    sharpness = pd.DataFrame({"sharpness": [0.0, 0.5], "share": [0.5, 0.5]})
    told = [
        compare_colours({"a": colours, "b": colours}, {"a": sharpness, "b": sharpness}),
        judge_luminance(found(), rows),
        show_mean_cells(cells, ["<i>", "y"]),
        show_profiles(cells, ["<i>", "y"], found()),
        compare_hospitals(found(), drift),
        compare_with_reference(found(), rows),
    ]
    sections = [Section(f"s{number}", "T", one) for number, one in enumerate(told)]
    page = drawing.render("report.html.jinja", title="T", purpose="P", sections=sections)
    assert "<i>" not in page
    assert "<b>.png" not in page
    assert "1,200 cells" in page
    assert "the darkest hospital is a (120), the brightest b (180)" in page
    assert "Furthest from the hospitals that train lies a (1.50" in page
    assert "1 of 40 pictures have colours unlike those of a. The split leaves them out" in page
    assert "25.0 %<br>of 20" in page
    assert ">nan<" not in page


def test_without_a_cell_there_is_no_profile():
    assert "No cell was found" in show_profiles({"a": {}}, ["y"], found()).lead
