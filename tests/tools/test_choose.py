"""Selection: the published choice by its tolerance, ties, chance, and what cannot be compared."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from stages.core.errors import PipelineError
from stages.tools import choose
from stages.tools.choose import Candidate

# PyCell's three models: correct of 6,874, sick called healthy of 4,112, healthy called sick.
B0 = Candidate("B0", 6874, 4112, 6557, 8, 5)
B1 = Candidate("B1", 6874, 4112, 6522, 1, 13)
R101 = Candidate("R101", 6874, 4112, 6494, 2, 8)
PYCELL = [B0, B1, R101]


def candidate(name, correct, missed, n=1000, n_sick=500):
    return Candidate(name, n, n_sick, correct, missed, 0)


@pytest.mark.parametrize(
    ("tolerance", "name"),
    [(0, "B0"), (0.50, "B0"), (0.509, "B0"), (0.51, "B1"), (1.0, "B1"), (100, "B1")],
)
def test_the_published_choice_needs_a_tolerance_of_0_51_points(tolerance, name):
    """The gap is 35 images of 6,874: 0.5092 points."""
    assert choose.choose(PYCELL, tolerance).chosen.name == name


def test_equivalent_are_those_within_the_tolerance_of_the_best():
    """0.92 points take in all three: the gap of R101 is 63 images, 0.9165 points."""
    for tolerance, names in ((0, "B0"), (0.6, "B1 B0"), (0.91, "B1 B0"), (0.92, "B1 R101 B0")):
        choice = choose.choose(PYCELL, tolerance)
        assert " ".join(one.name for one in choice.equivalent) == names
        assert choice.best == B0


def test_a_gap_of_exactly_the_tolerance_is_within_it():
    """7 of 10,000 are 0.07 points; 0.07 times 10,000 is no whole number in binary."""
    for n, gap, tolerance in ((10_000, 7, 0.07), (1000, 3, 0.3), (10_000, 29, 0.29), (100, 1, 1)):
        best = candidate("best", n // 2, 5, n)
        other = candidate("other", n // 2 - gap, 4, n)
        assert choose.choose([best, other], tolerance).chosen == other
        further = candidate("other", n // 2 - gap - 1, 4, n)
        assert choose.choose([best, further], tolerance).chosen == best


def test_ties_in_misses_go_to_the_accuracy_then_to_the_name():
    a, b, c = candidate("a", 900, 3), candidate("b", 905, 3), candidate("c", 905, 3)
    assert choose.choose([a, b, c], 2).chosen == b
    assert [one.name for one in choose.choose([a, c], 2).equivalent] == ["c", "a"]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), min_size=2, max_size=5),
    st.floats(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_the_choice_is_an_equal_with_the_fewest_misses_in_any_order(counts, tolerance):
    candidates = [
        candidate(f"m{place}", correct, missed, 40, 20)
        for place, (correct, missed) in enumerate(counts)
    ]
    choice = choose.choose(candidates, tolerance)
    best = max(one.correct for one in candidates)
    equal = [one for one in candidates if 100 * (best - one.correct) / 40 <= tolerance]
    assert choice.chosen.missed == min(one.missed for one in equal)
    assert choice.best.correct == best
    assert set(choice.equivalent) == set(equal)
    for order in itertools.islice(itertools.permutations(candidates), 10):
        assert choose.choose(order, tolerance) == choice


def test_fishers_test_tells_chance_from_more():
    """1 against 2 of 4,112 says nothing; 1 against 8 does; the numbers are the exact sums."""
    choice = choose.choose(PYCELL, 1.0)
    assert choice.p_values["R101"] == pytest.approx(1)
    # Nine misses in all: that one side has 0, 1, 8 or 9 of them.
    table = hypergeom(2 * 4112, 9, 4112)
    assert choice.p_values["B0"] == pytest.approx(sum(table.pmf(k) for k in (0, 1, 8, 9)))
    assert choice.p_values["B0"] < 0.05
    text = choose.lay_out(PYCELL, choice, 1.0)
    assert "B1 misses 1, R101 2: within chance (Fisher's exact test, p = 1)." in text
    assert "B1 misses 1, B0 8: more than chance (Fisher's exact test, p = 0.039)." in text


def test_the_table_shows_every_experiment_best_first_and_the_choice_with_its_reason():
    choice = choose.choose(PYCELL, 0.51)
    lines = choose.lay_out(PYCELL[::-1], choice, 0.51).split("\n")
    assert lines[0].split() == [
        "experiment", "images", "accuracy", "sick", "called", "healthy",
        "healthy", "called", "sick",
    ]  # fmt: skip
    assert lines[1].split() == ["B0", "6874", "0.9539", "8", "of", "4112", "5", "of", "2762"]
    assert [line.split()[0] for line in lines[1:4]] == ["B0", "B1", "R101"]
    assert {len(line) for line in lines[:4]} == {len(lines[0])}
    assert "Within 0.51 points of the best accuracy (B0): B0, B1." in lines
    assert "Chosen: B1, which calls the fewest sick healthy (1)." in lines
    assert not any("R101 2" in line for line in lines)
    assert lines[-1] == choose.FLATTERED


def test_a_lone_best_is_chosen_for_its_accuracy():
    text = choose.lay_out(PYCELL, choose.choose(PYCELL, 0), 0)
    assert "Chosen: B0; no other comes so near." in text
    assert "Fisher" not in text


def test_a_tie_says_what_decided():
    a, b = candidate("a", 900, 3), candidate("b", 905, 3)
    text = choose.lay_out([a, b], choose.choose([a, b], 2), 2)
    assert "Chosen: b, as a calls as few sick healthy (3): first by accuracy." in text
    c = candidate("c", 905, 3)
    text = choose.lay_out([b, c], choose.choose([b, c], 2), 2)
    assert "Chosen: b, as c calls as few sick healthy (3): first by name." in text


def test_what_the_split_leaks_stands_below_the_experiment():
    leaky = Candidate("B1", 6874, 4112, 6522, 1, 13, "leaky: 9.0 % of test images have a twin")
    text = choose.lay_out([B0, leaky], choose.choose([B0, leaky], 1), 1)
    lines = text.split("\n")
    assert lines[3] == "  leaky: 9.0 % of test images have a twin"
    assert text.count("leaky") == 1


def test_other_test_images_are_refused():
    fewer = candidate("c", 900, 3, n=999)
    sicker = candidate("d", 900, 3, n_sick=501)
    first = candidate("a", 900, 3)
    with pytest.raises(PipelineError, match=r"a has 1000 test images \(500 sick\), c 999.*same"):
        choose.choose([first, fewer], 1)
    with pytest.raises(PipelineError, match=r"d 1000 \(501 sick\): these are not the same"):
        choose.choose([first, sicker], 1)


def test_an_experiment_named_twice_is_refused():
    with pytest.raises(PipelineError, match=r"B0 is named twice\. Name each experiment once"):
        choose.choose([B0, B1, B0], 1)


def evaluation(**more):
    block = {
        "n": 6874, "n_sick": 4112, "correct": 6522, "sick_called_healthy": 1,
        "healthy_called_sick": 13,
    }  # fmt: skip
    return json.dumps({"screening": {"test": block | more, "unseen": {"n": 1}}})


def test_counts_are_read_from_the_test_part_of_evaluate_json():
    assert choose.read_candidate("B1", evaluation()) == B1
    assert B1.accuracy == pytest.approx(0.948793, abs=5e-7)
    assert choose.read_candidate("B1", evaluation(leaky="leaky: x")).leaky == "leaky: x"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"screening": None, "screening_reason": "no sick"}, r" \(no sick\)\."),
        ({"screening": {"unseen": {}}, "in_domain_reason": "none held"}, r" \(none held\)\."),
        ({"by_hospital": {}}, r"\. Choose among"),
    ],
)
def test_an_experiment_without_screening_is_refused_with_its_reason(content, reason):
    with pytest.raises(PipelineError, match=rf"^old: .*no screening of test images{reason}"):
        choose.read_candidate("old", json.dumps(content))


@pytest.mark.parametrize(
    "text", ["<html>", "[]", '{"screening": {"test": {"n": 3}}}', '{"screening": {"test": 3}}']
)
def test_what_stage_evaluate_did_not_write_is_refused(text):
    with pytest.raises(PipelineError, match=r"^old: .*not as stage evaluate writes it.*dvc repro"):
        choose.read_candidate("old", text)
