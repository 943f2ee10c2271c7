"""params.yaml as one typed, frozen object; a wrong key or value ends with one line naming it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from stages.core.errors import ParamsError, did_you_mean
from stages.core.settings import Fraction, Group, Name, Share, explain, read_yaml

PARAMS_FILE = Path("params.yaml")
Percent = Annotated[float, Field(ge=0, le=100)]


class FilterParams(Group):
    """Which pictures are usable."""

    min_side: Annotated[int, Field(ge=8)]
    max_side: Annotated[int, Field(ge=8)]
    twin_bits: Annotated[int, Field(ge=0, le=64)]
    max_lost: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _sides_in_order(self) -> Self:
        if self.min_side >= self.max_side:
            raise ValueError("min_side must be smaller than max_side")
        return self


class QualityParams(Group):
    """When a measure is far from those of the same hospital, and colours from a reference's."""

    outlier_z: Annotated[float, Field(gt=0)]
    similar_to: Name | None
    similar: Literal["keep", "flag", "drop"]
    similar_within: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _there_is_a_reference(self) -> Self:
        if self.similar != "keep" and self.similar_to is None:
            raise ValueError(
                f"similar: got '{self.similar}', but similar_to names no hospital; name one, or "
                "set similar to keep"
            )
        return self


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
    """Which frozen network looks at the prepared input."""

    backbone: Name
    size: Annotated[int, Field(ge=32, le=512)]
    layers: Annotated[list[Name], Field(min_length=1)]


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


class BiasParams(Group):
    """How pictures are changed to see which calls survive."""

    max_images: Annotated[int, Field(ge=1)]
    most_confident: Annotated[float, Field(gt=0.0, le=1.0)]
    tests: list[
        Literal[
            "hide", "shapes", "isolate", "isolate_on_colour", "isolate_sharpened",
            "background", "neighbours", "blur", "grey", "stain",
        ]
    ]  # fmt: skip


class ExplainParams(Group):
    """Which calls are explained, and how."""

    images: Annotated[int, Field(ge=1)]
    methods: list[Literal["grad_cam", "grad_cam_pp", "occlusion", "lime", "rollout"]]


class NoveltyParams(Group):
    """How images of unknown types are told."""

    max_images: Annotated[int, Field(ge=1)]
    known: Annotated[float, Field(gt=0.0, lt=1.0)]


class AttributesParams(Group):
    """What experts saw in cells."""

    tables: list[str]


class ExportParams(Group):
    """What a model that answers says beside its calls."""

    reference: dict[Name, Annotated[list[Percent], Field(min_length=2, max_length=2)]]

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Self:
        for name, (low, high) in self.reference.items():
            if low > high:
                raise ValueError(f"reference.{name}: {low:g} is above {high:g}; exchange them")
        return self


class EvaluateParams(Group):
    """How scores get their intervals, and which calls are accepted."""

    bootstrap: Annotated[int, Field(ge=100, le=100_000)]
    error: Annotated[float, Field(gt=0.0, lt=1.0)]


class ExpectationsParams(Group):
    """When pictures stop a run before anything is learnt from them."""

    max_flagged: Share
    min_per_class: Annotated[int, Field(ge=1)]
    max_drift: Annotated[float, Field(gt=0)]


class MapsParams(Group):
    """How many pictures are shown on maps."""

    max_images: Annotated[int, Field(ge=10, le=1000)]


class OnSiteParams(Group):
    """What a few labels of an unseen hospital are worth."""

    labels: list[Annotated[int, Field(ge=1, le=1000)]]
    views: Annotated[int, Field(ge=1, le=1_000_000)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _numbers_differ(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels names a number twice; leave it once")
        return self


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
    expectations: ExpectationsParams
    probe: ProbeParams
    model: Name
    models: dict[Name, dict[str, Any]]
    on_site: OnSiteParams
    evaluate: EvaluateParams
    bias: BiasParams
    explain: ExplainParams
    maps: MapsParams
    novelty: NoveltyParams
    attributes: AttributesParams
    export: ExportParams

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if len(set(self.hospitals)) < len(self.hospitals):
            raise ValueError("hospitals: a name stands twice; leave it once")
        _require_known("split.train_hospitals", self.split.train_hospitals, self.hospitals)
        reference = self.quality.similar_to
        _require_known("quality.similar_to", [reference] if reference else [], self.hospitals)
        _require_known("model", [self.model], list(self.models))
        return self


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


def parse(content: dict[str, Any]) -> Params:
    """Turn the content of params.yaml into `Params`; the first fault becomes one line."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}, {explain(error, Params)}") from None


def _require_known(key: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"{key}: {name!r} is unknown.{near} Known: {', '.join(known)}")
