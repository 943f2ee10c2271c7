"""Every verdict, flag and promise has words."""

import pytest

from stages.answering import model, pictures, wording
from stages.answering.about import Confidence
from stages.images import cell_masks


def test_every_verdict_and_flag_has_words():
    """A new one without words would end the page."""
    assert set(wording.VERDICTS) == {
        model.ACCEPTED, model.LOOK_AGAIN, model.UNKNOWN, model.NOT_READ
    }  # fmt: skip
    flags = (pictures.NO_CELL, pictures.AT_BORDER, pictures.BROKEN, cell_masks.UNSURE)
    told = wording.say_flags([*flags, model.STRANGE])
    assert told.count(";") == 4
    assert "_" not in told
    assert wording.say_flags([]) == "nothing"


@pytest.mark.parametrize(
    ("share", "told"), [(0.5, "50.0 %"), (0.99999, "99.9 %"), (1.0, "99.9 %"), (0.0, "0.1 %")]
)
def test_nothing_reads_as_certain(share, told):
    assert wording.say_percent(share) == told


@pytest.mark.parametrize(
    ("source", "words"), [("unseen", "taught the model nothing"), ("valid", "that taught the mod")]
)
def test_a_promise_says_where_it_was_learnt(source, words):
    promise = Confidence(temperature=1, threshold=0.7, wished_error=0.1, learnt_from=source,
                         hospitals=["east", "west"], n_images=9)  # fmt: skip
    told = wording.say_promise(promise)
    assert words in told
    assert "70.0 %" in told
    assert "(east, west)" in told


def test_without_a_threshold_nothing_is_promised():
    promise = Confidence(temperature=1, threshold=None, wished_error=0.1, learnt_from="nothing",
                         hospitals=[], n_images=0, reason="no image to learn it from")  # fmt: skip
    assert wording.say_promise(promise) == "No call is accepted: no image to learn it from."


def test_a_problem_is_told_without_names_of_ours():
    """The reason's own name only; what follows may hold a file's name."""
    assert wording.say_problem("not_an_image: a_b.png") == "not an image: a_b.png"
    assert wording.say_problem("my_cells.zip is broken: no end") == "my_cells.zip is broken: no end"
    assert wording.say_problem("there is no such file") == "there is no such file"
