"""params.yaml as one typed, frozen object; a wrong key or value ends with one line naming it."""

import difflib
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.core.errors import ParamsError
from stages.core.groups import BackboneName, Fraction, Group, Name
from stages.core.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    EnsembleRecipe,
    HeadRecipe,
    NetworkRecipe,
)

PARAMS_FILE = Path("params.yaml")


class FilterParams(Group):
    """Which pictures are usable."""

    min_side: Annotated[int, Field(ge=8)]
    max_side: Annotated[int, Field(ge=8)]
    twin_bits: Annotated[int, Field(ge=0, le=64)]

    @model_validator(mode="after")
    def _sides_in_order(self) -> Self:
        if self.min_side >= self.max_side:
            raise ValueError("min_side must be smaller than max_side")
        return self


class QualityParams(Group):
    """When a measure is far from those of the same hospital."""

    outlier_z: Annotated[float, Field(gt=0)]


class InputsParams(Group):
    """How a picture becomes an array, everywhere."""

    crop: Literal["cell", "centre", "whole"]
    scale: Literal["hospital", "image"]
    half_side: Annotated[float, Field(ge=0.5, le=5.0)]
    white_balance: Annotated[
        list[Literal["white_point", "grey_world", "none"]], Field(min_length=1, max_length=3)
    ]
    hide: Literal["nothing", "background", "cell"]

    @model_validator(mode="after")
    def _balances_differ(self) -> Self:
        if len(set(self.white_balance)) < len(self.white_balance):
            raise ValueError("white_balance names a colour correction twice")
        return self


class FeaturesParams(Group):
    """Which frozen network looks at the prepared input, and how often."""

    backbone: BackboneName
    size: Annotated[int, Field(ge=32, le=512)]
    layers: Annotated[list[Name], Field(min_length=1)]
    augmented_views: Annotated[int, Field(ge=0, le=50)]


class SplitParams(Group):
    """Who trains, who tunes, who tests."""

    method: Literal["grouped", "leave_hospitals_out", "cohort", "official", "random"]
    train_hospitals: Annotated[list[Name], Field(min_length=1)]
    valid: Fraction
    test: Fraction
    folds: Annotated[int, Field(ge=2, le=100)]
    fold: Annotated[int, Field(ge=0)] | None

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError("valid + test must be below 1, or nothing is left to train")
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds: 0 to {self.folds - 1}, or null for none")
        return self


class ProbeParams(Group):
    """Simple models on what must not matter."""

    max_images: Annotated[int, Field(ge=100)]
    alarm: Annotated[float, Field(ge=0.5, le=1.0)]


class CoverParams(Group):
    """Whether a call survives that the cell is hidden."""

    max_images: Annotated[int, Field(ge=1)]
    confident: Annotated[float, Field(gt=0.0, lt=1.0)]


class EvaluateParams(Group):
    """How scores get their intervals."""

    bootstrap: Annotated[int, Field(ge=100, le=100_000)]


class Params(Group):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    hospitals: Annotated[list[Name], Field(min_length=1)]
    partial: list[Name]
    taxonomy: Name
    filter: FilterParams
    quality: QualityParams
    inputs: InputsParams
    features: FeaturesParams
    weights_dir: str | None
    split: SplitParams
    probe: ProbeParams
    model: Name
    models: dict[Name, AnyRecipe]
    evaluate: EvaluateParams
    cover: CoverParams

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if len(set(self.hospitals)) < len(self.hospitals):
            raise ValueError("hospitals: a name stands twice; leave it once")
        _require_known("split.train_hospitals", self.split.train_hospitals, self.hospitals)
        _require_known("model", [self.model], list(self.models))
        return self

    @property
    def recipe(
        self,
    ) -> HeadRecipe | NetworkRecipe | ClassifierRecipe | CascadeRecipe | EnsembleRecipe:
        """The chosen entry of `models`."""
        return self.models[self.model]


def load(*groups: str) -> Params:
    """Read and check all of params.yaml; return only the named groups.

    Parameters
    ----------
    *groups : str
        The groups that the caller reads, and that its stage declares in dvc.yaml.

    Returns
    -------
    Params
        Without the other groups: reading one of them is an AttributeError, so that no stage
        depends on a parameter that DVC does not know of.

    Raises
    ------
    ParamsError
        The file is missing, is not YAML, or a value is not what it should be.
    """
    everything = parse(read_yaml(PARAMS_FILE))
    return Params.model_construct(
        _fields_set=set(groups), **{name: getattr(everything, name) for name in groups}
    )


class _Loader(yaml.SafeLoader):
    """YAML whose 1e-5 is a number: DVC writes small numbers so, and PyYAML reads them as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ParamsError(
            f"{path} is not here. Run from the project's top folder, which holds it."
        ) from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}. "
            "Save it as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ParamsError(f"{path} is not YAML: {text}. Mend that line.") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must hold 'key: value' lines at its top.")
    return content


def parse(content: dict[str, Any]) -> Params:
    """Turn the content of params.yaml into `Params`; the first fault becomes one line."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}, {explain(error, Params)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say one validation fault in a line: key, what is wrong, what it got, nearest valid name."""
    fault = error.errors()[0]
    full = [str(part) for part in fault["loc"]]
    # Below a recipe's name pydantic puts its kind into the path; nobody wrote it there.
    place = [part for part, kind in _mark_kinds(full) if kind is None]
    key = ".".join(place) or "top level"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, full[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{key}: unknown key.{hint} Known here: {', '.join(sorted(known))}."
    if fault["type"] == "missing":
        return f"{key}: is missing. Add it; a fresh clone shows its meaning and legal values."
    if fault["type"] == "value_error":
        text = str(fault["msg"]).removeprefix("Value error, ")
        return f"{key}: {text}." if place else f"{text}."
    if fault["type"] == "union_tag_invalid":
        known = [name.strip("'") for name in fault["ctx"]["expected_tags"].split(", ")]
        near = difflib.get_close_matches(fault["ctx"]["tag"], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{key}.kind: {fault['ctx']['tag']!r} is unknown.{hint} Known: {', '.join(known)}."
    if fault["type"] == "union_tag_not_found":
        return f"{key}.kind: is missing. Add it; a fresh clone shows its meaning and legal values."
    expected = str(fault["msg"])
    is_about_input = expected.startswith("Input ")
    expected = expected.removeprefix("Input ") if is_about_input else expected
    expected = f"it {expected}" if is_about_input else expected[0].lower() + expected[1:]
    return f"{key}: got {fault['input']!r}; {expected}."


def seed_for(seed: int, *names: str) -> int:
    """Derive a seed from the experiment's seed and the name of the thing, never from order."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _require_known(key: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{key}: {name!r} is unknown.{hint} Known: {', '.join(known)}")


def _mark_kinds(place: list[str]) -> list[tuple[str, type[BaseModel] | None]]:
    """Pair each part of a path with the recipe that it stands for, where it is a kind's name."""
    kinds: dict[str, type[BaseModel]] = {
        "head": HeadRecipe,
        "network": NetworkRecipe,
        "classifier": ClassifierRecipe,
        "cascade": CascadeRecipe,
        "ensemble": EnsembleRecipe,
    }
    marked: list[tuple[str, type[BaseModel] | None]] = []
    for depth, part in enumerate(place):
        before = place[:depth]
        is_kind = place[0] == "models" and (
            depth == 2
            or before[3:] in (["first"], ["second"])
            or (before[3:4] == ["members"] and depth == 5)
        )
        marked.append((part, kinds.get(part) if is_kind else None))
    return marked


def _fields_at(model: type[BaseModel], place: list[str]) -> list[str]:
    current: type[BaseModel] = model
    for part, kind in _mark_kinds(place):
        if kind is not None:
            current = kind
            continue
        field = current.model_fields.get(part)
        if field is None:  # a name or number inside of a mapping or list
            continue
        inside = [field.annotation, *get_args(field.annotation)]
        groups = [k for k in inside if isinstance(k, type) and issubclass(k, BaseModel)]
        if groups:
            current = groups[0]
    return list(current.model_fields)
