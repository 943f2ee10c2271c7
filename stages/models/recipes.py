"""The recipes of params.yaml: what a model is made of and how it learns, each kind typed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from stages.core.errors import ModelError, ParamsError, did_you_mean
from stages.core.params import FeaturesParams
from stages.core.settings import Fraction, Group, Name, explain
from stages.core.store import write_json
from stages.inputs.augmentation import Augmentation
from stages.models import backbones

FROM_SCRATCH = ("lenet", "plain_cnn")
NETWORKS = (*FROM_SCRATCH, *backbones.NAMES)
ClassWeights = Literal["none", "balanced", "binary", "sqrt"]


class Step(Group):
    """One stretch of training: which layers learn, how fast, for how long.

    Attributes
    ----------
    train : str, default 'all'
        What learns: ``"all"``, ``"head"``, or the first layer or block (``"block5"``) that does,
        with everything after it. In params.yaml it is the name of the step.
    learning_rate : float, default 0.001
        Above 0, at most 1. Of ``schedule: cosine`` the highest.
    epochs : int, default 30
        Passes over the training rows, at most.
    schedule : {"constant", "plateau", "cosine"}, default 'plateau'
        plateau: the rate falls when validation stands still, training ends, and the best epoch is
        kept. constant and cosine (a tenth of the updates to warm up, then down to 0): all epochs
        are run, and the last is kept.
    monitor : {"val_loss", "val_accuracy"}, default 'val_loss'
        What a plateau watches.
    factor : float, default 0.1
        By which the rate falls, between 0 and 1.
    patience : int, default 2
        Epochs without a better one until the rate falls.
    stop_patience : int, default 3
        Epochs without a better one until training ends.
    """

    train: Name = "all"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    epochs: Annotated[int, Field(ge=1)] = 30
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=1)] = 2
    stop_patience: Annotated[int, Field(ge=1)] = 3


class ClassifierSettings(Group):
    """A classical classifier of vectors, after an optional reduction; fitted on train alone.

    Attributes
    ----------
    classifier : {"svm", "knn", "logistic", "forest", "extra_trees"}
        Support vectors (radial kernel), nearest neighbours, logistic regression, or trees.
    reduce : {"none", "pca", "umap", "umap_supervised"}, default 'none'
        What shortens the vectors first; umap_supervised sees the labels.
    components : int or float, default 0.9
        Length afterwards; for pca also a share of the variance, between 0 and 1.
    umap_neighbours : int, default 15
        Rows that UMAP takes for near, 2 or more.
    neighbours : int, default 3
        Of knn.
    trees : int, default 500
        Of forest and extra_trees.
    depth : int, default None
        Of each tree, at most; None: until a leaf holds one class.
    c : list of float, default [1.0]
        Inverse strengths of the regularisation of svm and logistic; of several the best by folds.
    folds : int, default 3
        Parts of the training rows that choose c, 2 or more.
    penalty : {"l1", "l2"}, default 'l2'
        Of logistic.
    """

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


class SingleRecipe(Group):
    """One model by itself; what those who read its rows or keep it have to know."""

    @property
    def singles(self) -> dict[str, Any]:
        """Itself, without a name."""
        return {"": self}

    @property
    def side(self) -> int:
        """Side of the pixels that it takes, px."""
        raise NotImplementedError

    @property
    def learns_wide(self) -> bool:
        """Whether it learns from pictures with surroundings, for views to be cut from."""
        return False

    @property
    def learns_hidden(self) -> bool:
        """Whether some of those views hide everything outside the cell."""
        return False

    @property
    def has_network(self) -> bool:
        """Whether a network stands in it."""
        return True

    @property
    def published(self) -> list[str]:
        """The backbones whose published weights it starts from."""
        return []

    @property
    def classical(self) -> ClassifierSettings | None:
        """The classical classifier that answers, if any."""
        return None


class NetworkRecipe(SingleRecipe):
    """A network that learns from pixels: from scratch, or a backbone with a head of its own.

    Attributes
    ----------
    kind : {"network"}
    network : str
        lenet, plain_cnn, or a backbone: see `NETWORKS`.
    size : int
        Side of the pixels, px, 32 to 1024; a backbone may want more.
    weights : {"imagenet", "none"}, default 'none'
        What a backbone starts from: published weights, or drawn ones.
    hidden : list of int, default []
        Widths of dense layers: the head of a backbone, or those of plain_cnn.
    activation : {"relu", "tanh", "elu", "selu", "gelu", "swish"}, default 'relu'
        Of the dense layers; of lenet and plain_cnn of all layers.
    dropout : float, default 0.2
        Share of values that dense layers lose while they learn, 0 to below 1.
    norms : list of {"input", "hidden"}, default []
        Batch normalisation in a head: before it, or after each of its hidden layers.
    optimiser : {"adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "adamax"}, default 'adam'
    weight_decay : float, default 0.0
        Share of each weight that an update takes away, times the learning rate.
    batch : int, default 32
        Rows of an update.
    class_weights : {"none", "balanced", "binary", "sqrt"}, default 'none'
        Of the rows of a class in the loss. balanced: N / (classes n); binary: N / (2 n), as the
        papers had it; sqrt: roots of the balanced ones, scaled to a mean of 1.
    sampling : {"shuffled", "balanced", "balanced_by_hospital"}, default 'shuffled'
        Rows of an epoch: each once; or every class as often; or also, within a class, every
        hospital that has it as often.
    label_smoothing : float, default 0.0
        Share of each target that is spread over all classes, 0 to below 1.
    average : float, default 0.0
        Weight of the past in an exponential mean of the weights, which is what is kept; 0: none.
    clip_norm : float, default None
        Largest norm of all gradients together; None: any.
    augment : Augmentation, default Augmentation()
        How training images are changed.
    views : int, default 0
        0: every epoch sees new views. K: frozen layers run once over K views of each image, which
        are stored; each epoch takes one of them. At most 50.
    flips_at_test : bool, default False
        Whether a prediction is the mean over four mirrorings.
    precision : {"float32", "mixed"}, default 'float32'
        mixed: half floats within, on a GPU only.
    steps : list of Step
        One after the other. In params.yaml a mapping of what learns to the step's settings.
    then : ClassifierSettings, default None
        A classifier of what the first hidden layer says, which gives the answers.
    """

    kind: Literal["network"]
    network: Name
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
    sampling: Literal["shuffled", "balanced", "balanced_by_hospital"] = "shuffled"
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
    def side(self) -> int:
        """Side of the pixels that it takes, px."""
        return self.size

    @property
    def learns_wide(self) -> bool:
        """Whether it learns from pictures with surroundings, for views to be cut from."""
        return not self.augment.is_empty

    @property
    def learns_hidden(self) -> bool:
        """Whether some of those views hide everything outside the cell."""
        return self.augment.hide > 0

    @property
    def published(self) -> list[str]:
        """The backbones whose published weights it starts from."""
        return [self.network] if self.weights == "imagenet" else []

    @property
    def classical(self) -> ClassifierSettings | None:
        """The classical classifier that answers, if any."""
        return self.then

    @field_validator("network")
    @classmethod
    def _is_known(cls, given: str) -> str:
        if given not in NETWORKS:
            hint = did_you_mean(given, NETWORKS)
            raise ValueError(f"{given!r} is unknown.{hint} Known: {', '.join(NETWORKS)}")
        return given

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
        if self.network in FROM_SCRATCH and self.weights != "none":
            raise ValueError(f"{self.network} has no ImageNet weights; set weights to none")
        if self.then is not None and not (self.hidden or self.network in FROM_SCRATCH):
            raise ValueError("then takes the output of the first hidden layer; hidden is empty")
        return self


class ClassifierRecipe(SingleRecipe, ClassifierSettings):
    """A classical classifier of a frozen network's features, of grey pixels or of measures.

    Attributes
    ----------
    kind : {"classifier"}
    vectors : {"features", "grey", "measures"}
        What is classified: the answers of a frozen network, all pixels in grey, or the shape and
        the texture of cell and nucleus.
    size : int, default 160
        Side of the pixels for grey and measures, px, 16 to 512.
    features : FeaturesParams, default None
        Backbone, size and layers for features; where the entry gives none, the group of that name
        of params.yaml.

    Notes
    -----
    The other keys are those of `ClassifierSettings`.
    """

    kind: Literal["classifier"]
    vectors: Literal["features", "grey", "measures"]
    size: Annotated[int, Field(ge=16, le=512)] = 160
    features: FeaturesParams | None = None
    flips_at_test: ClassVar[bool] = False

    @property
    def side(self) -> int:
        """Side of the pixels that it takes, px."""
        return self.features.size if self.features else self.size

    @property
    def has_network(self) -> bool:
        """Whether a network stands in it."""
        return self.vectors == "features"

    @property
    def published(self) -> list[str]:
        """The backbones whose published weights it starts from."""
        return [self.features.backbone] if self.has_network and self.features else []

    @property
    def classical(self) -> ClassifierSettings | None:
        """The classical classifier that answers, if any."""
        return self


Single = Annotated[NetworkRecipe | ClassifierRecipe, Field(discriminator="kind")]


class CompositeRecipe(Group):
    """A model made of others."""

    @property
    def singles(self) -> dict[str, Any]:
        """Its members by name."""
        return dict(self.members)  # type: ignore[attr-defined]


class CascadeRecipe(CompositeRecipe):
    """A model of coarse classes, and one of the classes inside some of them, asked when needed.

    Attributes
    ----------
    kind : {"cascade"}
    groups : dict of str to list of str
        Coarse class to two or more of the taxonomy's; no class in two groups.
    first : NetworkRecipe or ClassifierRecipe
        Tells coarse classes and the classes outside of groups apart. params.yaml has the name of
        an entry; here it stands in full.
    second : NetworkRecipe or ClassifierRecipe
        Tells the classes inside of groups apart, from each other and from all others; asked where
        the first names a group. Named as the first.
    """

    kind: Literal["cascade"]
    groups: Annotated[dict[Name, Annotated[list[Name], Field(min_length=2)]], Field(min_length=1)]
    first: Single
    second: Single

    @property
    def members(self) -> dict[str, NetworkRecipe | ClassifierRecipe]:
        """Its two models by name."""
        return {"first": self.first, "second": self.second}

    @model_validator(mode="after")
    def _groups_are_apart(self) -> Self:
        members = [name for classes in self.groups.values() for name in classes]
        if len(set(members)) < len(members):
            raise ValueError("groups: a class stands in two groups; leave it in one")
        return self


class EnsembleRecipe(CompositeRecipe):
    """Several models whose probabilities are averaged.

    Attributes
    ----------
    kind : {"ensemble"}
    members : dict of str to NetworkRecipe or ClassifierRecipe
        Two or more. params.yaml lists the names of entries; here they stand in full.
    """

    kind: Literal["ensemble"]
    members: Annotated[dict[Name, Single], Field(min_length=2)]


AnyRecipe = Annotated[
    NetworkRecipe | ClassifierRecipe | CascadeRecipe | EnsembleRecipe,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Group]] = {
    "network": NetworkRecipe,
    "classifier": ClassifierRecipe,
    "cascade": CascadeRecipe,
    "ensemble": EnsembleRecipe,
}
OF_OTHERS = ("cascade", "ensemble")


def read_all(
    models: Mapping[str, Mapping[str, Any]], features: FeaturesParams
) -> dict[str, AnyRecipe]:
    """Check all of ``models:`` and put the members of cascades and ensembles in their places.

    Parameters
    ----------
    models : mapping of str to mapping
        As it stands in params.yaml.
    features : FeaturesParams
        For classifiers of features that name none of their own.

    Returns
    -------
    dict of str to recipe
        In the same order; a member is the very entry that was named.

    Raises
    ------
    ParamsError
        The first fault, in one line that names its key.
    """
    singles: dict[str, Any] = {}
    for name, entry in models.items():
        kind = entry.get("kind")
        if kind not in KINDS:
            hint = did_you_mean(str(kind), KINDS)
            said = f"{kind!r} is unknown.{hint}" if kind else "is missing."
            _refuse(f"{name}.kind", f"{said} Known: {', '.join(KINDS)}.")
        if kind not in OF_OTHERS:
            own = {"features": features} if entry.get("vectors") == "features" else {}
            singles[name] = _read(name, own | dict(entry))
    found: dict[str, Any] = {
        name: singles.get(name) or _read(name, _place_members(name, entry, singles))
        for name, entry in models.items()
    }
    return found


def choose(
    model: str, models: Mapping[str, Mapping[str, Any]], features: FeaturesParams
) -> AnyRecipe:
    """Return the entry of ``models:`` that ``model:`` names; errors as `read_all`."""
    return read_all(models, features)[model]


def write(recipe: AnyRecipe, path: Path) -> None:
    """Write a recipe with all of its settings, defaults too."""
    write_json(path, recipe.model_dump(mode="json"))


def read(path: Path) -> AnyRecipe:
    """Read what `write` wrote.

    Raises
    ------
    ModelError
        It is not there, or of another version.
    """
    try:
        text = path.read_text(encoding="utf-8")
        kind: Any = AnyRecipe
        recipe: AnyRecipe = TypeAdapter(kind).validate_json(text)
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        raise ModelError(
            f"{path} is missing, or of another version. Run 'uv run dvc repro', which makes it."
        ) from None
    return recipe


def _read(name: str, entry: Mapping[str, Any]) -> Any:
    kind = KINDS[entry["kind"]]
    try:
        return kind.model_validate(dict(entry))
    except ValidationError as error:
        raise ParamsError(f"params.yaml, {explain(error, kind, f'models.{name}')}") from None


def _place_members(
    name: str, entry: Mapping[str, Any], singles: Mapping[str, Any]
) -> dict[str, Any]:
    placed = dict(entry)
    if entry["kind"] == "cascade":
        for key in ("first", "second"):
            if key in entry:
                placed[key] = _find(f"{name}.{key}", str(entry[key]), singles)
    elif "members" in entry:
        given = entry["members"]
        names = [str(one) for one in given] if isinstance(given, list) else []
        if len(set(names)) < max(2, len(names)):
            _refuse(f"{name}.members", f"got {given!r}; it takes two or more names, each once.")
        placed["members"] = {one: _find(f"{name}.members", one, singles) for one in names}
    return placed


def _find(key: str, name: str, singles: Mapping[str, Any]) -> Any:
    if name not in singles:
        hint = did_you_mean(name, singles)
        known = ", ".join(singles)
        _refuse(key, f"{name!r} is no recipe of a single model.{hint} Known: {known}.")
    return singles[name]


def _refuse(place: str, text: str) -> NoReturn:
    raise ParamsError(f"params.yaml, models.{place}: {text}")
