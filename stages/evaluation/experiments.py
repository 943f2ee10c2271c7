"""Experiments that are to be compared: what stage evaluate wrote, the scored images, a test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core import revisions
from stages.core.errors import PipelineError, name_some
from stages.core.store import metrics_path
from stages.core.tables import PREDICTIONS, SCORED_PARTS, SPLIT, Table
from stages.evaluation import paired, predictions
from stages.evaluation.paired import Comparison

HERE = "."  # the working tree
TRUTH = ["image_id", "hospital", "part", "label", "group"]
ANSWERS = ["image_id", "hospital", "part", "predicted"]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes
    ----------
    name : str
        As a person named it.
    evaluation : dict
        Its metrics/evaluate.json.
    images : pandas.DataFrame, shape (n_scored, 5)
        ``hospital``, ``part``, ``label`` (the truth), ``group`` and ``predicted`` of each test or
        unseen image, by ``image_id``.
    """

    name: str
    evaluation: dict[str, Any] = field(compare=False, repr=False)
    images: pd.DataFrame = field(compare=False, repr=False)


@dataclass(frozen=True)
class Line:
    """Two experiments at one hospital.

    Attributes
    ----------
    first, other, hospital : str
        Names.
    accuracies : tuple of float
        Of the first and the other on the images that both were tested on, 0..1.
    found : Comparison
        Of what is called rightly.
    """

    first: str
    other: str
    hospital: str
    accuracies: tuple[float, float]
    found: Comparison


def read(name: str) -> Experiment:
    """Read an experiment.

    Parameters
    ----------
    name : str
        Git revision, branch, DVC experiment, or `HERE`.

    Raises
    ------
    PipelineError
        There is no such experiment, it holds no scores, or its tables are not in DVC's cache.
    """
    path = metrics_path("evaluate")
    if name != HERE:
        text = revisions.read_at(f"{name}:{path.as_posix()}")
    elif path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise PipelineError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    try:
        evaluation = json.loads(text)
        hospitals = sorted(evaluation["by_hospital"])
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{name}: {path} is not as stage evaluate writes it "
            f"({type(error).__name__}: {error}). Run 'uv run dvc repro' there."
        ) from None
    truth = _read_tables(name, SPLIT, hospitals, TRUTH)
    answers = _read_tables(name, PREDICTIONS, hospitals, ANSWERS)
    chosen = truth[truth["part"].isin(SCORED_PARTS)]
    scored = predictions.add_truth(answers, chosen)
    images = scored.merge(chosen[["image_id", "group"]], on="image_id").set_index("image_id")
    return Experiment(name, evaluation, images.sort_index())


def compare(first: Experiment, others: Sequence[Experiment]) -> list[Line]:
    """Compare the accuracy of experiments with that of the first.

    Parameters
    ----------
    first : Experiment
    others : sequence of Experiment
        One at least.

    Returns
    -------
    list of Line
        For each other, by hospital, over the images that both experiments were tested on.

    Raises
    ------
    PipelineError
        Two have no tested image in common, give an image different labels, or bear one name.
    """
    names = [first.name, *(one.name for one in others)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PipelineError(f"{twice} is named twice. Name each experiment once.")
    return [line for other in others for line in _compare_pair(first, other)]


def require_same_truth(first: Experiment, second: Experiment) -> None:
    """Refuse two experiments in which an image bears two labels.

    Raises
    ------
    PipelineError
        They are of different taxonomies, label maps or reviews.
    """
    common = first.images.index.intersection(second.images.index)
    labels = [one.images.loc[common, "label"] for one in (first, second)]
    other = common[labels[0] != labels[1]]
    if len(other):
        raise PipelineError(
            f"{first.name} and {second.name} give {len(other)} images different labels "
            f"({name_some(list(other))}). Compare experiments of one taxonomy, with the same "
            "label maps and reviews."
        )


def _compare_pair(first: Experiment, other: Experiment) -> list[Line]:
    require_same_truth(first, other)
    common = first.images.index.intersection(other.images.index)
    if common.empty:
        raise PipelineError(
            f"{first.name} and {other.name} were tested on no image in common. Compare "
            "experiments that share a hospital, with one split and seed if it trained."
        )
    images = first.images.loc[common]
    hits = pd.DataFrame(
        {
            number: one.images.loc[common, "predicted"] == images["label"]
            for number, one in enumerate((first, other))
        }
    )
    lines = []
    for hospital, own in images.groupby("hospital", sort=True):
        hit = hits.loc[own.index]
        found = paired.compare(hit[0], hit[1], own["group"])
        accuracies = (float(hit[0].mean()), float(hit[1].mean()))
        lines.append(Line(first.name, other.name, str(hospital), accuracies, found))
    return lines


def _read_tables(name: str, table: Table, hospitals: list[str], columns: list[str]) -> pd.DataFrame:
    if name == HERE:
        return table.read_all(hospitals, columns)
    frames = []
    for hospital in hospitals:
        path = table.at(hospital).as_posix()
        content = pa.BufferReader(revisions.read_stored(name, path))
        frames.append(pq.read_table(content, columns=columns).to_pandas())
    return pd.concat(frames, ignore_index=True)
