"""Two experiments side by side, on made numbers."""

import copy
import json

from stages.pages import side_by_side
from tests.projects import ROOT

NAMES = ("here", "there")


def read(name):
    return json.loads((ROOT / f"metrics/{name}.json").read_text(encoding="utf-8"))


def test_only_parameters_that_differ_are_listed():
    """Nested, of lists, on one side alone; null is no missing key."""
    first = {"a": {"b": 1, "c": [1, 2]}, "same": 3, "d": None}
    second = {"a": {"b": 2, "c": [2, 1]}, "same": 3, "e": 1}
    told = side_by_side.list_parameters(NAMES, (first, second))
    assert told.lead == "4 parameters differ."
    assert told.blocks[0].rows == [
        ["a.b", "1", "2"], ["a.c", "[1, 2]", "[2, 1]"], ["d", "null", "not there"],
        ["e", "not there", "1"],
    ]  # fmt: skip
    same = side_by_side.list_parameters(NAMES, (first, first))
    assert (same.lead.startswith("No parameter differs"), same.blocks) == (True, [])


def test_numbers_stand_beside_one_another_and_gaps_have_reasons():
    first, second = read("summary"), read("summary")
    first["unseen_mean"]["macro_f1"]["value"] = 0.5
    second |= {"unseen_mean": None, "unseen_mean_reason": "no hospital is unseen"}
    told = side_by_side.compare_summaries(NAMES, (first, second))
    row = next(row for row in told.blocks[0].rows if row[0].startswith("mean of unseen"))
    assert row[1].startswith("0.500 (")
    assert row[3] == "none: no hospital is unseen"
    assert "cannot be compared" in told.lead


def line(hospital, difference, verdict):
    return {
        "hospital": hospital, "n": 10, "n_groups": 9, "accuracies": (0.5, 0.5 - difference),
        "difference": difference, "p": 0.01, "verdict": verdict,
    }  # fmt: skip


def test_who_is_better_where_it_is_more_than_chance():
    lines = [
        line("a", 0.2, "more than chance"), line("b", -0.2, "more than chance"),
        line("c", -0.2, "more than chance"), line("d", -0.4, "within chance"),
    ]  # fmt: skip
    told = side_by_side.tell_chance(NAMES, lines, "a test")
    assert told.lead.endswith(
        "at 3 of 4 hospitals (a, b, c): here is better at 1, there is better at 2."
    )
    assert told.blocks[0].rows[1][-3:] == ["-0.200", "0.01", "more than chance"]
    none = side_by_side.tell_chance(NAMES, lines[3:], "a test")
    assert none.lead.endswith("at 0 of 1 hospital.")


def test_the_class_that_differs_most_is_named_and_classes_of_one_side_are_kept():
    first = read("evaluate")
    second = copy.deepcopy(first)
    own = second["by_hospital"]["demo_west"]["per_class"]
    own["monocyte"]["f1"] -= 0.25
    del own["basophil"]
    told = side_by_side.compare_classes(NAMES, (first, second))
    assert "monocyte at demo_west: +0.250, here minus there" in told.lead
    row = next(row for row in told.blocks[0].rows if row[:2] == ["demo_west", "basophil"])
    assert row[3:] == ["no such class", "none"]
