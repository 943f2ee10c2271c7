"""A model that answers: probabilities that are corrected, and a verdict for each picture."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from stages.answering import about
from stages.answering.pictures import NO_CELL, Ready
from stages.core import backend
from stages.evaluation.doubt import SMALLEST
from stages.explanation import maps
from stages.models import composites, trained
from stages.models.recipes import Single
from stages.models.trained import SingleModel

Array = NDArray[np.float64]

BATCH = 64  # pictures
TOP = 3  # most probable classes that are told
ACCEPTED, LOOK_AGAIN, UNKNOWN, NOT_READ = "accepted", "look again", "not known", "not read"
METHODS = ("grad_cam", "rollout", "occlusion")  # of a map: the first that a network allows


@dataclass(frozen=True)
class Answer:
    """What is said of a picture.

    Attributes
    ----------
    picture, folder : str
    verdict : {"accepted", "look again", "not known", "not read"}
        Not known: no cell is seen, or nothing that the model knows. Accepted: as probable as the
        model's promise asks for, and without a flag.
    chances : dict of str to float
        By class, the most probable one first; corrected, 0..1. Empty where it was not read.
    flags : tuple of str
        Of `Ready`, and ``strange`` where the energy is above its threshold.
    problem : str, optional
        Why it was not read.
    sha256 : str, optional
        Of the file.
    radius : float, optional
        Of the cell by which the crop was scaled, px.
    """

    picture: str
    folder: str
    verdict: str
    chances: Mapping[str, float]
    flags: tuple[str, ...] = ()
    problem: str | None = None
    sha256: str | None = None
    radius: float | None = None

    @property
    def call(self) -> str | None:
        """The most probable class."""
        return next(iter(self.chances), None)

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """The three most probable classes, with their probabilities."""
        return list(self.chances.items())[:TOP]


STRANGE = "strange"


class AnsweringModel:
    """A trained model with what it needs to answer; TensorFlow is loaded at the first question.

    Parameters
    ----------
    folder : pathlib.Path
        ``data/export``, or a copy of it.

    Raises
    ------
    ModelError
        It is none, damaged, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = about.read(folder)
        self.card = trained.read_card(folder / about.MODEL)

    @property
    def recipes(self) -> dict[str, Single]:
        """Of each member by name; of a single model under ``model``."""
        recipe = self.card.recipe
        return dict(recipe.members) if hasattr(recipe, "members") else {"model": recipe}

    @property
    def trace(self) -> dict[str, str | None]:
        """Which model answers: its sha256, its taxonomy, and the commit of its project."""
        return {
            "model_sha256": self.about.model_sha256,
            "taxonomy": self.about.taxonomy,
            "commit": self.about.commit or _find_commit(self.folder),
        }

    def answer(self, pictures: Sequence[Ready]) -> list[Answer]:
        """Answer pictures, in their order; the same for a picture whatever stands beside it."""
        readable = [one for one in pictures if one.problem is None]
        chances, energies = self._ask(readable)
        answered = iter(zip(chances, energies, strict=True))
        return [
            Answer(one.name, one.folder, NOT_READ, {}, problem=one.problem, sha256=one.sha256)
            if one.problem is not None
            else self._judge(one, *next(answered))
            for one in pictures
        ]

    def explain(self, picture: Ready, classes: Sequence[str]) -> list[maps.Map | None]:
        """Return for each class a map of where the evidence lies: the mean over the networks.

        Returns
        -------
        list of numpy.ndarray of float64, shape (side, side), or None
            None where no network of the model knows the class.
        """
        side = max(one.side for one in self.recipes.values())
        found: dict[str, list[maps.Map]] = {name: [] for name in classes}
        for part in self._parts.values():
            known = [name for name in classes if name in part.classes]
            method = next(
                (name for name in METHODS if maps.say_lacking(name, part) is None), METHODS[-1]
            )
            if part.network is None or not known:
                continue
            columns = [part.classes.index(name) for name in known]
            own = maps.explain(method, part, picture.pixels[part.recipe.side][0], columns, 0)
            for name, values in zip(known, own, strict=True):
                found[name].append(maps.resize(values, side))
        return [np.mean(one, axis=0) if one else None for one in found.values()]

    @property
    def looker(self) -> Single | None:
        """The recipe of the first member with a network, which tells what looks alike."""
        return next((one for one in self.recipes.values() if one.has_network), None)

    def describe(self, x: NDArray[np.uint8]) -> Array:
        """Return what the first network looks at before it answers.

        Parameters
        ----------
        x : numpy.ndarray of uint8, shape (n_images * n_views, side, side, 3)
            The views of each picture one after the other, of the side of `looker`.

        Returns
        -------
        numpy.ndarray of float64, shape (n_images, n_features)
            The mean over the views.
        """
        name = next(name for name, one in self.recipes.items() if one.has_network)
        part = self._parts[name]
        if name in self._networks:
            found = trained.answer(self._networks[name], x)[:, len(part.classes) :]
        else:
            found = trained.vectors(part.recipe, part.network, x)
        return _average(found, len(self.card.inputs.white_balance))

    @cached_property
    def _model(self) -> trained.Model:
        return trained.load(self.folder / about.MODEL)

    @property
    def _parts(self) -> dict[str, SingleModel]:
        model = self._model
        return {"model": model} if isinstance(model, SingleModel) else model.members

    @cached_property
    def _networks(self) -> dict[str, Any]:
        """Of each part that answers by a network: one whose last features stand beside."""
        keras = backend.load_keras()
        networks = {}
        for name, part in self._parts.items():
            if part.network is not None and part.classifier is None:
                features = keras.ops.cast(part.network.layers[-1].input, "float32")
                both = keras.ops.concatenate([part.network.layers[-1].output, features], axis=-1)
                networks[name] = keras.Model(part.network.inputs, both)
        return networks

    def _ask(self, pictures: Sequence[Ready]) -> tuple[Array, Array]:
        """Return probabilities, shape (n, n_classes), and energies, shape (n,), NaN where none."""
        if not pictures:
            return np.zeros((0, len(self.card.classes))), np.zeros(0)
        n_views = len(self.card.inputs.white_balance)
        answers, energies = {}, []
        for name, part in self._parts.items():
            found, energy = self._ask_part(name, part, pictures)
            answers[name] = _average(found, n_views)
            if energy is not None and name in self.about.novelty.spread:
                mean, deviation = self.about.novelty.spread[name]
                energies.append((_average(energy, n_views) - mean) / deviation)
        energy = np.mean(energies, axis=0) if energies else np.full(len(pictures), np.nan)
        if isinstance(self._model, SingleModel):
            return answers["model"], energy
        frames = {name: _frame(own, self._parts[name].classes) for name, own in answers.items()}
        joined = composites.join(self._model.recipe, frames, self.card.classes)
        return joined[self.card.classes].to_numpy(), energy

    def _ask_part(
        self, name: str, part: SingleModel, pictures: Sequence[Ready]
    ) -> tuple[Array, Array | None]:
        """Return a part's probabilities and energy of each row."""
        if part.network is None:
            assert part.classifier is not None
            rows = np.concatenate([one.vectors[name] for one in pictures])
            return part.classifier.predict(rows), None
        x = np.concatenate([one.pixels[part.recipe.side] for one in pictures])
        if name not in self._networks:
            return part.predict(x), None
        n_classes = len(part.classes)
        both = trained.answer(self._networks[name], x)
        ways = range(1, 4 if part.recipe.flips_at_test else 1)
        asked = [both[:, :n_classes], *(part.ask(x, way) for way in ways)]
        total = np.sum(asked, axis=0, dtype=np.float64)
        kernel, bias = (weight.numpy() for weight in part.network.layers[-1].weights)
        logits = both[:, n_classes:].astype(np.float64) @ kernel + bias
        return total / total.sum(axis=1, keepdims=True), -logsumexp(logits, axis=1)

    def _judge(self, one: Ready, chances: Array, energy: float) -> Answer:
        confidence, novelty = self.about.confidence, self.about.novelty
        logs = np.log(np.clip(chances, SMALLEST, None))
        corrected = softmax(logs / confidence.temperature)
        order = np.argsort(-corrected, kind="stable")
        is_strange = novelty.threshold is not None and bool(energy > novelty.threshold)
        flags = (*one.flags, *[STRANGE] * is_strange)
        is_sure = confidence.threshold is not None and corrected.max() >= confidence.threshold
        verdict = ACCEPTED if is_sure and not flags else LOOK_AGAIN
        return Answer(
            one.name,
            one.folder,
            UNKNOWN if is_strange or NO_CELL in flags else verdict,
            {self.card.classes[place]: float(corrected[place]) for place in order},
            flags,
            sha256=one.sha256,
            radius=one.radius,
        )


def _average(rows: NDArray[Any], n_views: int) -> Array:
    """Return the mean over each picture's views, which stand one after the other."""
    views = rows.reshape(-1, n_views, *rows.shape[1:])
    return np.asarray(views.mean(axis=1), np.float64)


def _frame(values: Array, classes: Sequence[str]) -> Any:
    import pandas as pd

    return pd.DataFrame(values, columns=list(classes))


def _find_commit(folder: Path) -> str | None:
    """Return the commit of the Git repository that a folder lies in."""
    asked = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
