"""params.yaml as one typed, frozen object; a wrong key or value ends with one line naming it."""

import difflib
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.core.errors import ParamsError

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
BackboneName = Literal[
    "efficientnet_lite0",
    "efficientnetb0", "efficientnetb1", "efficientnetb2", "efficientnetb3",
    "efficientnetb4", "efficientnetb5", "efficientnetb6", "efficientnetb7",
    "vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "densenet121", "inceptionv3",
    "xception", "mobilenetv2", "nasnetmobile", "nasnetlarge", "convnexttiny",
    "vit_b16", "vit_b32",
]  # fmt: skip
ClassWeights = Literal["none", "balanced", "binary", "sqrt"]


class Group(BaseModel):
    """One group of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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


class Augmentation(Group):
    """How a training image is changed, anew at every view; what is not named is not done.

    Notes
    -----
    The bounds refuse what the two projects fell into: a zoom of 1.1, which Keras reads as factors
    from -0.1 to 2.1; a shear of 0.1, which is a tenth of a degree; a brightness that starts at 0
    and gives black images.
    """

    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    flips: bool = False
    shift: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.7)] = 0.0
    brightness: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    stain: Annotated[float, Field(ge=0, le=2)] = 0.0
    colour: Share = 0.0
    grey: Share = 0.0
    blur: Share = 0.0
    noise: Share = 0.0
    jpeg: Share = 0.0
    hide: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _refuse_known_slips(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        zoom, shear = given.get("zoom", 0), given.get("shear", 0)
        if isinstance(zoom, int | float) and zoom > 0.7:
            raise ValueError(
                f"zoom is {zoom}; it is the largest change of the logarithm of the scale, 0 to 0.7 "
                "(0.1: factors 0.9 to 1.1). Keras reads 1.1 as factors from -0.1 to 2.1"
            )
        if isinstance(shear, int | float) and 0 < shear < 1:
            raise ValueError(
                f"shear is {shear}; it is in degrees, 1 to 45, or 0 for none: less than a degree "
                "changes nothing"
            )
        return given

    @model_validator(mode="after")
    def _brightness_in_order(self) -> Self:
        if self.brightness is not None:
            low, high = self.brightness
            if not 0.1 <= low <= high <= 3:
                raise ValueError(
                    f"brightness is {self.brightness}; it is two factors in order, 0.1 to 3: one "
                    "near 0 gives black images"
                )
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return self == Augmentation()


class Step(Group):
    """One stretch of training: which layers learn, how fast, for how long."""

    train: Name = "all"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    epochs: Annotated[int, Field(ge=1)] = 30
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=1)] = 2
    stop_patience: Annotated[int, Field(ge=1)] = 3


class ClassifierSettings(Group):
    """A classical classifier of vectors, after an optional reduction; fitted on train alone."""

    classifier: Literal["svm", "knn", "logistic", "forest", "extra_trees"]
    reduce: Literal["none", "pca", "umap", "umap_supervised"] = "none"
    components: int | float = 0.9
    umap_neighbours: Annotated[int, Field(ge=2)] = 15
    neighbours: Annotated[int, Field(ge=1)] = 3
    trees: Annotated[int, Field(ge=1)] = 500
    depth: Annotated[int, Field(ge=1)] | None = None
    c: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [1.0]
    folds: Annotated[int, Field(ge=2)] = 3
    penalty: Literal["l1", "l2"] = "l2"

    @field_validator("components")
    @classmethod
    def _is_number_or_share(cls, given: int | float) -> int | float:
        if given <= 0 or (isinstance(given, float) and given >= 1):
            raise ValueError(
                f"{given} is neither a whole number of components nor, for pca, a share of the "
                "variance between 0 and 1"
            )
        return given


class HeadRecipe(Group):
    """A head on stored features."""

    kind: Literal["head"]
    hidden: list[Annotated[int, Field(ge=1)]]
    dropout: Fraction
    l2: Annotated[float, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=1)]
    class_weights: ClassWeights

    @property
    def uses_features(self) -> bool:
        """Whether it learns from stored features, not from pixels."""
        return True

    @property
    def steps(self) -> list[Step]:
        """Its one stretch of training; the lower learning rate gets its chance before the end."""
        return [
            Step(
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                patience=self.patience,
                stop_patience=2 * self.patience,
            )
        ]


class NetworkRecipe(Group):
    """A network that learns from pixels: from scratch, or a backbone with a head of its own."""

    kind: Literal["network"]
    network: Literal["lenet", "plain_cnn", BackboneName]
    size: Annotated[int, Field(ge=32, le=1024)]
    weights: Literal["imagenet", "none"] = "none"
    hidden: list[Annotated[int, Field(ge=1)]] = []
    activation: Literal["relu", "tanh", "elu", "selu", "gelu", "swish"] = "relu"
    dropout: Fraction = 0.2
    norms: list[Literal["input", "hidden"]] = []
    optimiser: Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "adamax"] = "adam"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Annotated[int, Field(ge=1)] = 32
    class_weights: ClassWeights = "none"
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    label_smoothing: Fraction = 0.0
    average: Fraction = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    augment: Augmentation = Augmentation()
    views: Annotated[int, Field(ge=0, le=50)] = 0
    flips_at_test: bool = False
    precision: Literal["float32", "mixed"] = "float32"
    steps: Annotated[list[Step], Field(min_length=1)]
    then: ClassifierSettings | None = None

    @property
    def uses_features(self) -> bool:
        """Whether it learns from stored features, not from pixels."""
        return False

    @field_validator("steps", mode="before")
    @classmethod
    def _name_steps(cls, given: Any) -> Any:
        """Turn ``{head: {...}}``, which ``-S`` can reach into, to steps that know their layers."""
        if not isinstance(given, dict):
            return given
        wrong = [name for name, step in given.items() if not isinstance(step, dict)]
        if wrong:
            raise ValueError(f"{wrong[0]} takes settings in braces, for example {{epochs: 5}}")
        return [{"train": name, **step} for name, step in given.items()]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.network in ("lenet", "plain_cnn") and self.weights != "none":
            raise ValueError(f"{self.network} has no ImageNet weights; set weights to none")
        if self.then is not None and not (self.hidden or self.network in ("lenet", "plain_cnn")):
            raise ValueError("then takes the output of the first hidden layer; hidden is empty")
        return self


class ClassifierRecipe(ClassifierSettings):
    """A classical classifier without a network: of stored features, grey pixels or measures."""

    kind: Literal["classifier"]
    vectors: Literal["features", "grey", "measures"]
    size: Annotated[int, Field(ge=16, le=512)] = 160

    @property
    def uses_features(self) -> bool:
        """Whether it learns from stored features, not from pixels."""
        return self.vectors == "features"


Single = Annotated[HeadRecipe | NetworkRecipe | ClassifierRecipe, Field(discriminator="kind")]


class CascadeRecipe(Group):
    """A model of coarse classes, and one of the classes inside some of them, asked when needed."""

    kind: Literal["cascade"]
    groups: Annotated[dict[Name, Annotated[list[Name], Field(min_length=2)]], Field(min_length=1)]
    first: Single
    second: Single

    @property
    def members(self) -> dict[str, HeadRecipe | NetworkRecipe | ClassifierRecipe]:
        """Its two models by name."""
        return {"first": self.first, "second": self.second}

    @model_validator(mode="after")
    def _groups_are_apart(self) -> Self:
        members = [name for classes in self.groups.values() for name in classes]
        if len(set(members)) < len(members):
            raise ValueError("groups: a class stands in two groups; leave it in one")
        return self


class EnsembleRecipe(Group):
    """Several models whose probabilities are averaged."""

    kind: Literal["ensemble"]
    members: Annotated[dict[Name, Single], Field(min_length=2)]


AnyRecipe = Annotated[
    HeadRecipe | NetworkRecipe | ClassifierRecipe | CascadeRecipe | EnsembleRecipe,
    Field(discriminator="kind"),
]


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
