"""Experiments that are to be compared: what stage evaluate wrote, and the scored images."""

import json
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import PipelineError, name_some
from stages.core.store import metrics_path
from stages.core.tables import PREDICTIONS, SCORED_PARTS, SPLIT, Table
from stages.evaluation import predictions
from stages.tools import revisions

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


def require_same_truth(first: Experiment, second: Experiment) -> None:
    """Refuse two experiments in which an image bears two labels.

    Raises
    ------
    PipelineError
        They are of different taxonomies or label maps.
    """
    common = first.images.index.intersection(second.images.index)
    labels = [one.images.loc[common, "label"] for one in (first, second)]
    other = common[labels[0] != labels[1]]
    if len(other):
        raise PipelineError(
            f"{first.name} and {second.name} give {len(other)} images different labels "
            f"({name_some(list(other))}). Compare experiments of one taxonomy and one label map."
        )


def _read_tables(name: str, table: Table, hospitals: list[str], columns: list[str]) -> pd.DataFrame:
    if name == HERE:
        return table.read_all(hospitals, columns)
    frames = []
    for hospital in hospitals:
        path = table.at(hospital).as_posix()
        content = pa.BufferReader(revisions.read_stored(name, path))
        frames.append(pq.read_table(content, columns=columns).to_pandas())
    return pd.concat(frames, ignore_index=True)
