"""A differential count is of white cells, and says where it lies beside the usual range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.answering import differential
from stages.answering.differential import Counts
from stages.answering.model import ACCEPTED, LOOK_AGAIN, NOT_READ, UNKNOWN, Answer

TYPES = {"neutrophil": ["band_neutrophil", "segmented_neutrophil"], "lymphocyte": ["lymphocyte"],
         "platelet": ["platelet"], "erythroblast": ["erythroblast"]}  # fmt: skip
USUAL = {"neutrophil": (40.0, 80.0), "lymphocyte": (20.0, 40.0), "platelet": (0.0, 1.0)}


def test_percentages_are_of_white_cells_alone():
    """Known answers: platelets and erythroblasts are counted, and are no white cells."""
    counts = {"neutrophil": 30, "lymphocyte": 10, "platelet": 60, UNKNOWN: 9}
    found = {one.label: one for one in differential.describe(counts, TYPES, USUAL)}
    assert (found["neutrophil"].n, found["neutrophil"].percent) == (30, 75.0)
    assert found["lymphocyte"].percent == 25.0
    assert found["neutrophil"].low == pytest.approx(59.8, abs=0.05)  # Wilson, 30 of 40
    assert found["neutrophil"].high == pytest.approx(85.8, abs=0.05)
    assert (found["platelet"].n, found["platelet"].percent) == (60, None)
    assert (found["erythroblast"].n, found["erythroblast"].percent) == (0, None)


@pytest.mark.parametrize(
    ("n", "of", "place"),
    [(60, 100, "within"), (99, 100, "above"), (17, 20, "perhaps above"), (1, 100, "below"),
     (7, 20, "perhaps below")],
)  # fmt: skip
def test_a_share_outside_is_sure_only_where_its_interval_is(n, of, place):
    """Beside 40 to 80 %."""
    [first, _, *_] = differential.describe({"neutrophil": n, "lymphocyte": of - n}, TYPES, USUAL)
    assert first.place == place


def test_without_white_cells_nothing_is_divided():
    """Counts stay; percentages are none."""
    assert all(one.percent is None for one in differential.describe({"platelet": 3}, TYPES, USUAL))


@given(st.lists(st.sampled_from([*TYPES, UNKNOWN, NOT_READ]), max_size=60))
def test_every_answer_is_counted_once(calls):
    """By folder and verdict; what is not known is no cell of the count."""
    counts = Counts()
    for number, call in enumerate(calls):
        is_class = call in TYPES
        verdict = (ACCEPTED, LOOK_AGAIN)[number % 2] if is_class else call
        chances = {call: 1.0} if is_class else {} if call == NOT_READ else {"lymphocyte": 1.0}
        counts.add(Answer(f"{number}.png", str(number % 3), verdict, chances))
    assert sum(counts.verdicts.values()) == len(calls)
    assert sum(sum(own.values()) for own in counts.by_folder.values()) == len(calls)
    total = sum(own["lymphocyte"] for own in counts.by_folder.values())
    assert total == calls.count("lymphocyte")


def test_a_class_that_holds_a_white_cell_is_one_and_an_end_belongs_to_the_range():
    """Known answers, class by class: each is compared with its own range."""
    types = {"mixed": ["platelet", "monocyte"], "rest": ["platelet_clump", "smudge_cell"],
             "basophil": ["basophil"]}  # fmt: skip
    usual = {"mixed": (80.0, 90.0), "basophil": (0.0, 20.0)}
    shares = differential.describe({"mixed": 8, "rest": 5, "basophil": 2}, types, usual)
    found = {one.label: one for one in shares}
    assert (found["mixed"].percent, found["rest"].percent) == (80.0, None)
    assert [found[name].place for name in ("mixed", "basophil")] == ["within", "within"]
    assert found["basophil"].usual == (0.0, 20.0)
    assert differential._place(10.0, 5.0, 20.0, (20.0, 30.0)) == "perhaps below"
