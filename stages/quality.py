"""quality: measure every picture. images -> quality, metrics/quality/<hospital>."""

import logging
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import parallel, params
from stages.core.errors import run_stage, say_counts
from stages.core.store import write_bytes, write_csv, write_metrics
from stages.core.tables import IMAGES, QUALITY, ROW_GROUP
from stages.images import (
    cell_masks,
    colour,
    contact_sheets,
    decoding,
    jpeg,
    light,
    lost_parts,
    neighbours,
    outliers,
    sharpness,
    stains,
    working_size,
)

log = logging.getLogger(__name__)

N_EXAMPLES = 24
WITH_NULLS = {"nucleus_lobes": "Int32", "jpeg_quality": "Int32"}  # whole numbers
# What is no number: it waits on the disk until the flags of all pictures are known.
NOT_JUDGED = [
    "image_id", "hospital", "cell_mask", "blue_stain", "eosin_stain", "profile", "thumbnail",
]  # fmt: skip


def main(hospital: str) -> None:
    """Write data/quality, metrics/quality and the plots of one hospital."""
    rule = params.load("quality").quality
    shown = _choose_examples(hospital)
    counts = np.zeros((3, colour.BINS), dtype=np.int64)
    tiles: list[np.ndarray] = []
    judged: list[pd.DataFrame] = []
    n_images = IMAGES.count_rows(hospital)
    measured = parallel.show_progress(
        parallel.map_ordered(measure_picture, _pictures(hospital, shown)),
        n_images,
        f"quality: {hospital}",
    )
    with tempfile.TemporaryFile(prefix="smearflow-") as waiting:
        while rows := list(islice(measured, ROW_GROUP)):
            counts += sum(row.pop("histogram") for row in rows)
            tiles += [tile for row in rows if (tile := row.pop("tile")) is not None]
            pickle.dump(rows, waiting)
            judged.append(_to_numbers(rows))
        quality = pd.concat(judged, ignore_index=True)
        quality["flags"] = outliers.flag(quality, rule.outlier_z)
        waiting.seek(0)
        with QUALITY.writer(hospital) as append:
            for start in range(0, n_images, ROW_GROUP):
                piece = pd.DataFrame(pickle.load(waiting)).astype(WITH_NULLS)
                own = list(quality["flags"][start : start + ROW_GROUP])
                append(piece.assign(flags=own)[QUALITY.schema.names])
    metrics = outliers.summarise(quality)
    write_metrics("quality", metrics, hospital)
    plots = Path("metrics/quality") / hospital
    write_csv(plots / "colour.csv", outliers.colour_shares(hospital, counts))
    write_csv(plots / "sharpness.csv", outliers.sharpness_shares(hospital, quality["sharpness"]))
    write_bytes(plots / "examples.png", contact_sheets.encode_sheet(tiles))
    flags = say_counts(metrics["n_by_flag"])
    log.info("quality: %s, %d pictures; flags: %s", hospital, n_images, flags)


def measure_picture(picture: Mapping[str, Any]) -> dict[str, Any]:
    """Return a picture's row of the quality table, its colour histogram, and its tile if shown."""
    decoded = decoding.decode(picture["bytes"])
    rgb = decoded.rgb
    small = working_size.reduce(rgb)
    counts = colour.count_levels(rgb)
    found = cell_masks.segment(rgb)
    shown = (
        contact_sheets.draw_outlines(rgb, found.cell, found.nucleus) if picture["shown"] else None
    )
    return {
        "image_id": picture["image_id"],
        "hospital": picture["hospital"],
        **colour.measure(rgb, counts, small),
        **light.measure(rgb, small, found),
        "jpeg_quality": jpeg.find_quality(picture["bytes"]) if decoded.format == "jpeg" else None,
        **sharpness.measure(rgb, found.cell),
        **neighbours.measure(small, found, working_size.factor(*rgb.shape[:2])),
        **cell_masks.measure(rgb, found),
        **stains.measure(rgb, found),
        "mask_iou": _compare(found, picture["mask"]),
        "cell_mask": found.packed,
        "broken": lost_parts.has_break(rgb),
        "at_border": cell_masks.touches_border(found.cell),
        cell_masks.UNSURE: found.is_unsure,
        "histogram": colour.histogram(counts),
        "tile": shown,
    }


def _to_numbers(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return what can be judged as columns, which take a tenth of the memory of rows."""
    numbers = pd.DataFrame(rows).drop(columns=NOT_JUDGED)
    # A measure that is known of no picture of a piece is a number all the same.
    unknown = numbers.columns[numbers.isna().all()]
    return numbers.astype(dict.fromkeys(unknown, float))


def _compare(found: cell_masks.CellMask, content: bytes | None) -> float | None:
    """Return the overlap with the published mask; None where there is none of this size."""
    if content is None:
        return None
    published, _ = cell_masks.read_published(decoding.decode(content).rgb)
    if published.shape != found.cell.shape:
        return None
    return float(f"{cell_masks.iou(found.cell, published):.6g}")


def _choose_examples(hospital: str) -> set[str]:
    image_ids = list(IMAGES.read(hospital, ["image_id"])["image_id"])
    return {image_ids[place] for place in outliers.evenly_spaced(len(image_ids), N_EXAMPLES)}


def _pictures(hospital: str, shown: set[str]) -> Iterator[dict[str, Any]]:
    for row in IMAGES.stream(hospital, ["image_id", "hospital", "bytes", "mask"]):
        yield row | {"shown": row["image_id"] in shown}


if __name__ == "__main__":
    run_stage(main, "hospital")
