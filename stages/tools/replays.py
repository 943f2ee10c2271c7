"""Every recipe, and every system of the two projects that a recipe replays: what, by which command.

``data/replays.csv`` has one row for each system that PyCell or Leukopy reported or tried, with its
published accuracy and ours; ``data/protocols.csv`` says once what the rows of one experiment of
theirs have in common. A row and its protocol together are one command.
"""

import copy
import csv
import io
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from stages.core import params
from stages.core.errors import ModelError, PipelineError, did_you_mean
from stages.core.params import Params
from stages.core.settings import parse_yaml, read_yaml
from stages.datasets import hospitals
from stages.labels import taxonomy
from stages.models import composites, networks
from stages.models.recipes import (
    AnyRecipe,
    CascadeRecipe,
    ClassifierRecipe,
    NetworkRecipe,
    choose,
    read_all,
)

REPLAYS_FILE = Path("data/replays.csv")
PROTOCOLS_FILE = Path("data/protocols.csv")
REPLAY_COLUMNS = (
    "row", "project", "source", "system", "recipe", "protocol", "settings", "paper", "paper_n",
    "what_was_meant", "ours", "low", "high", "n", "ours_settings", "not_run",
)  # fmt: skip
PROTOCOL_COLUMNS = ("protocol", "title", "settings", "note")
START = "SMEARFLOW_MIRROR=DIR uv run dvc exp run"
TAXONOMY = "cells11"  # of a row that names none, whatever params.yaml says today


@dataclass(frozen=True)
class Protocol:
    """What the replays of one experiment have in common: hospitals, split, prepared input."""

    name: str
    title: str
    settings: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Replay:
    """One system of an earlier project, the command that builds it here, and both scores.

    Attributes
    ----------
    row : str
        Its name, and that of the experiment.
    project, source, system : str
        Whose it is, where it is told, and what it was.
    recipe, protocol : str
        A name under ``models:`` in params.yaml, and one of ``data/protocols.csv``.
    settings : tuple of str
        ``key=value``, as ``dvc exp run -S`` takes them, besides those of the protocol.
    paper : str
        Accuracy as printed, or why there is none.
    paper_n : int or None
        Images that it was tested on; None where that was not published.
    meant : str
        Where the project did something else than it wanted, what that was.
    ours, low, high : float or None
        Our accuracy with its 95 % interval, 0..1.
    n : int or None
        Images that ours was tested on.
    reduced : str
        What was made smaller for our run.
    not_run : str
        Why there is no run of ours.
    n_classes : int
        Of its taxonomy.
    changed : Params
        All of params.yaml as the command has it; of a series the first.
    """

    row: str
    project: str
    source: str
    system: str
    recipe: str
    protocol: Protocol
    settings: tuple[str, ...]
    paper: str
    paper_n: int | None
    meant: str
    ours: float | None
    low: float | None
    high: float | None
    n: int | None
    reduced: str
    not_run: str
    n_classes: int
    changed: Params

    @property
    def built(self) -> AnyRecipe:
        """The recipe as the command has it."""
        return choose(self.changed.model, self.changed.models, self.changed.features)

    @property
    def addition(self) -> list[str]:
        """The words that make the protocol's command the row's own."""
        series = ["--queue"] if any(len(choices(s)) > 1 for s in self.settings) else []
        return [*series, "-n", self.row, *_set(f"model={self.recipe}", *self.settings)]

    @property
    def command(self) -> list[str]:
        """The words of the command, quoted for a shell."""
        return [*base_command(self.protocol), *map(shlex.quote, self.addition)]


@dataclass(frozen=True)
class Part:
    """One network of a recipe, or one classifier without a network.

    Attributes
    ----------
    name : str
        Its place in a cascade or an ensemble; "" where the recipe is a single one.
    recipe : NetworkRecipe or ClassifierRecipe
        What is built.
    n_classes : int
        Classes that it tells apart.
    """

    name: str
    recipe: NetworkRecipe | ClassifierRecipe
    n_classes: int


@dataclass(frozen=True)
class Count:
    """The weights of a network in one step of its training; `step` is as ``steps.train``."""

    step: str
    epochs: int
    total: int
    learning: int


Counted = tuple[Part, list[Count]]


def base_command(protocol: Protocol) -> list[str]:
    """Return the words, quoted for a shell, that all commands of a protocol begin with."""
    return [*START.split(), *map(shlex.quote, _set(*protocol.settings))]


def choices(setting: str) -> list[str]:
    """Return the single settings that ``key=a,b`` stands for: a series, as DVC reads it.

    Examples
    --------
    >>> choices("models.lenet.activation=relu,tanh")
    ['models.lenet.activation=relu', 'models.lenet.activation=tanh']
    >>> choices("hospitals=[barcelona,jhu]")
    ['hospitals=[barcelona,jhu]']
    """
    key, _, value = setting.partition("=")
    return [f"{key}={one}" for one in re.split(r",(?![^\[]*\])", value)]


def change(content: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return the content of params.yaml with settings, as ``dvc exp run -S`` would write it.

    Parameters
    ----------
    content : dict
        Of params.yaml; not changed.
    settings : iterable of str
        ``key=value`` replaces what is written there, ``+key=value`` adds what is not. Parts of a
        key are joined by dots.

    Raises
    ------
    ModelError
        A setting is no ``key=value``, its key is not there, or one that it adds is.
    """
    content = copy.deepcopy(content)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *parents, last = key.removeprefix("+").split(".")
        if not (equals and text and last):
            raise ModelError(f"{setting!r} is no key=value.")
        place: Any = content
        for parent in parents:
            place = _inside(place, parent, setting)
        if key.startswith("+"):
            if not isinstance(place, dict) or last in place:
                raise ModelError(f"{setting!r} adds what is there; leave the + away.")
        else:
            _inside(place, last, setting)
        place[last] = parse_yaml(text)
    return content


def _inside(place: Any, name: str, setting: str) -> Any:
    if isinstance(place, dict) and name in place:
        return place[name]
    known = [str(key) for key in place] if isinstance(place, dict) else []
    raise ModelError(
        f"{setting!r}: {name!r} is not written in params.yaml.{did_you_mean(name, known)} "
        "Correct it, or put a + before the key to add it."
    )


def read() -> list[Replay]:
    """Read and check ``data/replays.csv``, and that each of its commands can run.

    Returns
    -------
    list of Replay
        In the order of the file.

    Raises
    ------
    PipelineError
        A line is wrong; the message names the file, the line and the way out.

    Notes
    -----
    A command is checked as the run would check it: the settings are written into params.yaml's
    content, which is parsed; its taxonomy and hospitals are looked up. What it needs besides,
    pictures and published weights, is found out by the run.
    """
    content = read_yaml(params.PARAMS_FILE)
    shipped = params.parse(content)
    models = read_all(shipped.models, shipped.features)
    protocols = _read_protocols()
    checked: set[str] = set()
    replays: dict[str, Replay] = {}
    for where, cells in read_rows(REPLAYS_FILE, REPLAY_COLUMNS):
        _require_name(where, "row", cells["row"], r"[a-z0-9]+(-[a-z0-9]+)*", replays)
        _require_known(where, "recipe", cells["recipe"], models)
        _require_known(where, "protocol", cells["protocol"], protocols)
        for column in ("project", "source", "system", "paper"):
            if not cells[column]:
                _refuse(where, f"{column} is empty. Fill it")
        protocol, settings = protocols[cells["protocol"]], tuple(cells["settings"].split())
        if not any(one.startswith("taxonomy=") for one in (*protocol.settings, *settings)):
            settings = (f"taxonomy={TAXONOMY}", *settings)
        try:
            variants = _vary(content, protocol, cells["recipe"], settings)
            n_classes = _look_up(variants[0], checked)
        except PipelineError as error:
            raise ModelError(f"{where}, settings: the command cannot run: {error}") from None
        replays[cells["row"]] = Replay(
            cells["row"], cells["project"], cells["source"], cells["system"], cells["recipe"],
            protocol, settings, cells["paper"], _whole(where, "paper_n", cells["paper_n"]),
            cells["what_was_meant"], *_read_score(where, cells), cells["ours_settings"],
            cells["not_run"], n_classes, variants[0],
        )  # fmt: skip
    return list(replays.values())


def list_parts(recipe: AnyRecipe, classes: Sequence[str]) -> list[Part]:
    """Return what a recipe is made of: itself, or the members of a cascade or an ensemble."""
    if isinstance(recipe, CascadeRecipe):
        composites.require_groups(classes, recipe.groups)
        coarse, fine = (
            set(f(classes, recipe.groups)) for f in (composites.merge, composites.narrow)
        )
        return [Part("first", recipe.first, len(coarse)), Part("second", recipe.second, len(fine))]
    return [Part(name, one, len(classes)) for name, one in recipe.singles.items()]


def count(part: Part) -> list[Count]:
    """Count the weights of a network in each step of its training, by building it.

    Parameters
    ----------
    part : Part
        What to build, at its full size. A classical classifier gives an empty list.

    Notes
    -----
    No published weights are read or fetched: only the shapes count. The largest networks take
    seconds to build.
    """
    recipe = part.recipe
    if isinstance(recipe, ClassifierRecipe):
        return []
    network = networks.build(recipe, (recipe.size, recipe.size, 3), part.n_classes)
    counts = []
    for step in recipe.steps:
        networks.freeze(network, recipe, step.train)
        counts.append(Count(step.train, step.epochs, *networks.count_weights(network)))
    return counts


def _set(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("-S", setting)]


def _vary(
    content: dict[str, Any], protocol: Protocol, recipe: str, settings: tuple[str, ...]
) -> list[Params]:
    """Return what the command makes of params.yaml: one, or as many as a series has runs."""
    everything = [*protocol.settings, f"model={recipe}", *settings]
    keys = [setting.partition("=")[0].removeprefix("+") for setting in everything]
    for key in keys:
        if keys.count(key) > 1:
            raise ModelError(f"{key} is set twice, by row and protocol. Leave one of the two.")
    series = itertools.product(*(choices(setting) for setting in everything))
    variants = [params.parse(change(content, one)) for one in series]
    for one in variants:
        choose(one.model, one.models, one.features)
    return variants


def _look_up(changed: Params, checked: set[str]) -> int:
    """Look the hospitals and the taxonomy up; return the number of classes."""
    for name in changed.hospitals:
        if name not in checked:  # the file is read anew for each
            hospitals.load(name)
            checked.add(name)
    classes = taxonomy.read_taxonomy(changed.taxonomy, "taxonomy").classes
    recipe = choose(changed.model, changed.models, changed.features)
    if isinstance(recipe, CascadeRecipe):
        composites.require_groups(classes, recipe.groups)
    return len(classes)


def _read_protocols() -> dict[str, Protocol]:
    protocols: dict[str, Protocol] = {}
    for where, cells in read_rows(PROTOCOLS_FILE, PROTOCOL_COLUMNS):
        name = cells["protocol"]
        _require_name(where, "protocol", name, r"[a-z][a-z0-9_]*", protocols)
        settings = tuple(cells["settings"].split())
        protocols[name] = Protocol(name, cells["title"], settings, cells["note"])
    return protocols


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where each row stands, and its cells by column, stripped."""
    reader = csv.reader(io.StringIO(taxonomy.read_text(path), newline=""))
    header = tuple(next(reader, []))
    if header != columns:
        _refuse(f"{path}, line 1", f"the columns are {','.join(header) or 'none'}; they must be "
                f"{','.join(columns)}")  # fmt: skip
    for cells in reader:
        where = f"{path}, line {reader.line_num}"
        if len(cells) != len(columns):
            _refuse(where, f"has {len(cells)} cells, not {len(columns)}. Put a cell that holds a "
                    "comma into double quotes")  # fmt: skip
        yield where, {c: cell.strip() for c, cell in zip(columns, cells, strict=True)}


def _read_score(
    where: str, cells: dict[str, str]
) -> tuple[float | None, float | None, float | None, int | None]:
    """Read our accuracy, its interval and the number of images: all four, or none."""
    columns = ("ours", "low", "high", "n")
    given = [column for column in columns if cells[column]]
    if given and cells["not_run"]:
        _refuse(where, "has a score of ours and a reason why there is none. Empty one of the two")
    if not given:
        return None, None, None, None
    if len(given) < len(columns):
        missing = ", ".join(column for column in columns if column not in given)
        _refuse(where, f"a score has four cells, and {missing} is empty. Fill it")
    try:
        ours, low, high = (float(cells[column]) for column in columns[:3])
    except ValueError:
        ours, low, high = 0.0, 1.0, 0.0
    if not 0 <= low <= ours <= high <= 1:
        told = ", ".join(f"{column} {cells[column]!r}" for column in columns[:3])
        _refuse(where, f"{told}: they take shares, 0 <= low <= ours <= high <= 1")
    return ours, low, high, _whole(where, "n", cells["n"])


def _whole(where: str, column: str, text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and int(text)):
        _refuse(where, f"{column} is {text!r}; it takes a number of images, or nothing")
    return int(text) if text else None


def _require_name(where: str, column: str, name: str, rule: str, taken: Iterable[str]) -> None:
    if not re.fullmatch(rule, name):
        _refuse(where, f"{column} is {name!r}; it takes small letters and numbers")
    if name in taken:
        _refuse(where, f"{column} {name!r} stands twice. Leave one of the two")


def _require_known(where: str, column: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        _refuse(where, f"{column} {name!r} is unknown.{did_you_mean(name, known)} Correct it")


def _refuse(where: str, text: str) -> NoReturn:
    raise ModelError(f"{where}: {text}.")
