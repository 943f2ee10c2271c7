"""Groups of settings: frozen, no silent conversion; YAML as DVC reads it, faults in one line."""

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.core.errors import ParamsError
from stages.core.settings import Fraction, Group, Name, Share, explain, read_yaml, refuse_name


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


class Cook(Group):
    """A group with keys that must be given."""

    recipe: str
    kitchens: list[Name] = []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"recipes": "soup"}, "recipes: unknown key. Did you mean 'recipe'? Known here: kitch"),
        ({"folder": "x"}, "folder: unknown key. Known here: kitchens, recipe."),
        ({"kitchens": []}, "recipe: is missing. Add it"),
        (
            {"recipe": "soup", "kitchens": ["a", "My-Lab 2"]},
            "kitchens.1: got 'My-Lab 2'; a name is small letters, digits and _, a letter first. "
            "Call it 'my_lab_2'.",
        ),
        ({"recipe": "soup", "kitchens": ["2024"]}, "a letter first. Call it 'h2024'."),
    ],
)
def test_a_fault_is_told_by_its_cause(given, told):
    """A misspelt key is also a missing one; a pattern is no language of people."""
    with pytest.raises(ValidationError) as fault:
        Cook.model_validate(given)
    assert told in explain(fault.value, Cook)


@given(st.text())
def test_a_name_is_offered_that_is_one(text):
    """Whatever was written, what the message offers can be taken."""
    offered = refuse_name(text).split("Call it '")[1].removesuffix("'.")
    assert Kitchen(name=offered).name == offered


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml") / "params.yaml"


@example("010")
@example("0o10")
@example("1_000")
@example("1:30")
@example("yes")
@example("Off")
@example("1.e5")
@example("2026-01-31")
@example("!!float 3")
@given(st.text("0123456789abexoyns+-_:.~=TE", min_size=1, max_size=6))
def test_a_value_is_what_dvc_takes_it_for(file, value):
    """What `dvc params diff` shows is what ran: no second meaning, also not of octals and words."""
    file.write_text(f"seed: {value}\n", encoding="utf-8")
    try:
        by_dvc = load_yaml(str(file))
    except (YAMLFileCorruptedError, ValueError):
        with pytest.raises(ParamsError, match="Mend that line"):
            read_yaml(file)
        return
    ours = read_yaml(file)
    assert repr(ours) == repr(by_dvc)  # 1 and 1.0 are equal, and two values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nsplit:\n  valid: 1\n  valid: 2\n", 'line 4: found duplicate key "valid". Mend'),
        ("seed: 1\ndemo: {}\nseed: 1\n", 'line 3: found duplicate key "seed". Mend'),
        ("seed: 1\nday: 2026-13-45\n", "month must be in 1..12"),
        ("seed: 1\nday: !mine 3\n", "line 2: could not determine a constructor"),
        ("seed: 1\n\tvalid: 2\n", "line 2: .*cannot start any token"),
        ("seed: 1\n---\nseed: 2\n", "line 2: but found another document"),
        ("seed: \0\n", "special characters are not allowed"),
        ("n: " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_a_fault_of_yaml_names_its_line(file, text, message):
    """Also where PyYAML saw none: a key that stands twice, a day that is none."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"params.yaml is not YAML.*{message}") as fault:
        read_yaml(file)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("key", ["2024", "null", "1.5", "true", "2026-01-31"])
def test_a_name_that_is_no_text_is_asked_for_in_quotes(file, key):
    """`2024:` is a number, which no name of a hospital equals; in quotes it is read."""
    file.write_text(f"{key}: {{a: 1}}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"params.yaml: the key .* no text.*'{key}':") as fault:
        read_yaml(file)
    advised = str(fault.value).rsplit("write ", 1)[1].removesuffix(".")
    file.write_text(f"{advised} {{a: 1}}\n", encoding="utf-8")
    assert read_yaml(file) == {key: {"a": 1}}


@pytest.mark.parametrize("value", [12, 0.5, True])
def test_a_value_that_must_be_text_is_asked_for_in_quotes(value):
    with pytest.raises(ValidationError) as fault:
        Kitchen(name=value)
    assert explain(fault.value, Kitchen).endswith("valid string. Put it into quotes.")


def test_anchors_merge_and_may_be_named_again(file, recwarn):
    """The shipped hospitals use them; the library's warning would be a line in the terminal."""
    text = "a: &x {p: 1, q: 1}\nb: {<<: *x, q: 2}\nc: &x {r: 1}\nd: *x\n"
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert read_yaml(file) == {
        "a": {"p": 1, "q": 1}, "b": {"p": 1, "q": 2}, "c": {"r": 1}, "d": {"r": 1},
    }  # fmt: skip
    assert not recwarn.list
