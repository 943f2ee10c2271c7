"""What all groups of settings share: kinds of values, YAML, faults told in one line, seeds."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

from stages.core.errors import ParamsError, did_you_mean
from stages.core.texts import clean

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]


class Group(BaseModel):
    """One group of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping, with the meaning that DVC gives it.

    Raises
    ------
    ParamsError
        The file is missing, no YAML or no mapping by names, or holds a key twice; with its line.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path} is not here. Run from the project's top folder, which holds it."
        ) from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}. "
            "Save it as UTF-8."
        ) from None
    except (YAMLError, ValueError) as error:  # ValueError: a day that no calendar has
        raise ParamsError(f"{path} is not YAML{_say_fault(error)}. Mend that line.") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must hold 'key: value' lines at its top.")
    for key in content:
        if not isinstance(key, str):
            written = {None: "null", True: "true", False: "false"}.get(key, str(key))
            raise ParamsError(f"{path}: the key {written} is no text to YAML; write '{written}':.")
    return content


def parse_yaml(text: str) -> Any:
    """Read YAML with the reader of DVC, and so as YAML 1.2.

    Two readers would give two meanings: ``010`` is 8 to YAML 1.1 and 10 to 1.2, ``1:30`` is 90 or
    a text, ``no`` is false or a text; what DVC records would not be what ran.

    Raises
    ------
    ruamel.yaml.YAMLError, ValueError
        It is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML 1.2 allows it
        return YAML(typ="safe").load(text)


def _say_fault(error: Exception) -> str:
    """Say where the fault is, and what; libraries add an excerpt and advice to programmers."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        # Of a key that stands twice, both values follow.
        return f"{where}: {(error.problem or error.context).partition(' with value ')[0]}"
    return ": " + " ".join(str(error).split())


def explain(error: ValidationError, model: type[BaseModel], above: str = "") -> str:
    """Say one validation fault in a line: key, what is wrong, what it got, nearest valid name.

    The key starts with `above`, the place of the group in its file, where it is given.
    """
    faults = error.errors()
    # A misspelt key is also a missing one: the key that is there tells more.
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    place = [str(part) for part in fault["loc"]]
    key = ".".join([above, *place] if above else place) or "top level"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, place[:-1])
        near = did_you_mean(place[-1], known)
        return f"{key}: unknown key.{near} Known here: {', '.join(sorted(known))}."
    if fault["type"] == "missing":
        return f"{key}: is missing. Add it; a fresh clone shows its meaning and legal values."
    if fault["type"] == "value_error":
        text = str(fault["msg"]).removeprefix("Value error, ")
        return f"{key}: {text}." if place or above else f"{text}."
    if fault.get("ctx", {}).get("pattern") == NAME:
        return f"{key}: {refuse_name(str(fault['input']))}"
    expected = str(fault["msg"])
    is_about_input = expected.startswith("Input ")
    expected = expected.removeprefix("Input ") if is_about_input else expected
    expected = f"it {expected}" if is_about_input else expected[0].lower() + expected[1:]
    quotes = " Put it into quotes." if fault["type"] == "string_type" else ""
    return f"{key}: got {fault['input']!r}; {expected}.{quotes}"


def refuse_name(name: str) -> str:
    """Say why a text is no `Name`, and one that is."""
    near = re.sub(r"[^a-z0-9]+", "_", clean(name).lower()).strip("_")
    near = near if re.match("[a-z]", near) else f"h{near}"
    return f"got {name!r}; a name is small letters, digits and _, a letter first. Call it {near!r}."


def seed_for(seed: int, *names: str) -> int:
    """Derive a seed from the experiment's seed and the name of the thing, never from order."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _fields_at(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """Return the keys that are known at a place inside a group."""
    current: type[BaseModel] = model
    for part in place:
        field = current.model_fields.get(part)
        if field is None:  # a name or number inside of a mapping or list
            continue
        inside = [field.annotation, *get_args(field.annotation)]
        groups = [k for k in inside if isinstance(k, type) and issubclass(k, BaseModel)]
        if groups:
            current = groups[0]
    return list(current.model_fields)
