"""suspects: name labels that are probably wrong. training -> suspects, metrics/suspects."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import SUSPECTS, TRAINING, VECTORS
from stages.images import contact_sheets, decoding
from stages.labels import label_errors
from stages.splits import grouping

SHEET = Path("metrics/suspects/examples.png")
N_SHOWN = 24

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/suspects.parquet, metrics/suspects.json and a sheet of the first suspects."""
    rule = params.load("seed")
    images = _read_images()
    vectors = VECTORS.read().set_index("image_id")["vector"]
    features = pd.DataFrame(np.stack(vectors.tolist()).astype(np.float64), index=vectors.index)
    verdicts = label_errors.predict_out_of_fold(features, images, seed_for(rule.seed, "suspects"))
    suspects = label_errors.find_suspects(verdicts, images)
    content = label_errors.report(verdicts, suspects, images)
    SUSPECTS.write(suspects)
    write_bytes(SHEET, _draw_sheet(suspects.head(N_SHOWN)))
    write_metrics("suspects", content)
    log.info("suspects: %d of %d labels", content["n_suspects"], content["n_images"])
    if content["classes_left_out"]:
        log.info("suspects: not judged, too few groups: %s", content["classes_left_out"])


def _read_images() -> pd.DataFrame:
    """Return the training images; those that share a group or a twin are one group."""
    columns = ["image_id", "hospital", "label", "group", "twin_group"]
    return grouping.join_twins(TRAINING.read(columns=columns))


def _draw_sheet(suspects: pd.DataFrame) -> bytes:
    """Return the first suspects as a contact sheet, with both classes below each."""
    if suspects.empty:
        tile = contact_sheets.caption(None, ["no label is suspected"])
        return contact_sheets.encode_sheet([tile])
    wanted = set(suspects["image_id"])
    pixels = {
        row["image_id"]: decoding.decode(row["bytes"]).rgb
        for row in TRAINING.stream(columns=["image_id", "bytes"], wanted=wanted)
    }
    return contact_sheets.encode_sheet(
        [
            contact_sheets.caption(
                pixels[row.image_id], [f"label: {row.label}", f"rather: {row.suggested}"]
            )
            for row in suspects.itertuples()
        ]
    )


if __name__ == "__main__":
    run_stage(main)
