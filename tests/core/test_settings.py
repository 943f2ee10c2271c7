"""Groups of settings: frozen, no unknown keys, no silent conversion, bounded values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.core.settings import Fraction, Group, Name, Share


class Kitchen(Group):
    """A group with a value of each shared kind."""

    name: Name = "a"
    part: Fraction = 0.0
    share: Share = 0.0


def test_a_group_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Kitchen().name = "b"


@pytest.mark.parametrize("given", [{"nmae": "a"}, {"name": 1}, {"part": "0.5"}, {"part": True}])
def test_unknown_keys_and_other_types_are_refused(given):
    """Nothing is converted: a number in quotes is a text."""
    with pytest.raises(ValidationError):
        Kitchen(**given)


@given(st.floats())
def test_a_fraction_is_below_one_and_a_share_may_be_one(value):
    for key, is_good in (("part", 0 <= value < 1), ("share", 0 <= value <= 1)):
        if is_good:
            assert getattr(Kitchen(**{key: value}), key) == value
        else:
            with pytest.raises(ValidationError):
                Kitchen(**{key: value})


@pytest.mark.parametrize("name", ["Lenet", "1net", "a-b", "", "a b", "a.b"])
def test_names_are_small_letters_numbers_and_underscores(name):
    """They are keys of params.yaml and folders: no dot, no hyphen, no blank."""
    assert Kitchen(name="vgg19_block5").name == "vgg19_block5"
    with pytest.raises(ValidationError):
        Kitchen(name=name)
