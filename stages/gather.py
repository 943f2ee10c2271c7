"""gather: what training reads, and nothing else. images, quality, features, split -> training."""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from stages.core import params
from stages.core.errors import TableError, name_some, run_stage, say_counts
from stages.core.params import InputsParams
from stages.core.tables import FEATURES, ROW_GROUP, TRAINING, VECTORS
from stages.inputs import preparation, reading, views

KNOWN = ["image_id", "hospital", "label", "group", "twin_group", "part"]

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/training/: the pictures of train and valid, and the mean vector of each.

    The bytes stay the same whatever happens to other hospitals, so that nothing is trained again.
    """
    rule = params.load("hospitals", "inputs")
    images = reading.read_split(rule.hospitals, ["train", "valid"], KNOWN)
    rows = _rows(images, rule.inputs)
    with TRAINING.writer() as append:
        while group := list(islice(rows, ROW_GROUP)):
            append(group)
    with VECTORS.writer() as append:
        for _, own in images.groupby("hospital", sort=True):
            append(_vectors(own))
    log.info("gather: %s", say_counts(images["part"].value_counts().to_dict()))


def _rows(images: pd.DataFrame, rule: InputsParams) -> Iterator[dict[str, Any]]:
    for hospital, own in images.groupby("hospital", sort=True):
        known = own.set_index("image_id", drop=False).to_dict("index")
        for image_id, content, geometry in reading.stream_pictures(str(hospital), rule, set(known)):
            yield {**known[image_id], "bytes": content, **preparation.to_row(geometry)}


def _vectors(images: pd.DataFrame) -> pd.DataFrame:
    """Return the mean vector of the views of each picture of one hospital."""
    hospital, wanted = str(images["hospital"].iloc[0]), set(images["image_id"])
    found = list(FEATURES.stream(hospital, ["image_id", "vector"], wanted))
    if missing := sorted(wanted - {row["image_id"] for row in found}):
        raise TableError(
            f"{FEATURES.at(hospital)} has no row of {len(missing)} pictures "
            f"({name_some(missing)}). Run 'uv run dvc repro', which brings the tables into step."
        )
    x = np.stack([np.asarray(row["vector"], np.float32) for row in found])
    means = views.average([row["image_id"] for row in found], x)
    vectors = list(means.to_numpy().astype(np.float32))
    return pd.DataFrame({"image_id": means.index, "vector": vectors})


if __name__ == "__main__":
    run_stage(main)
