"""quality: measure every picture. images -> quality, metrics/quality/<hospital>."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import parallel, params
from stages.core.errors import run_stage, say_counts
from stages.core.store import write_bytes, write_csv, write_metrics
from stages.core.tables import IMAGES, QUALITY
from stages.images import (
    cell_masks,
    colour,
    contact_sheets,
    decoding,
    lost_parts,
    outliers,
    sharpness,
)

log = logging.getLogger(__name__)

N_EXAMPLES = 24


def main(hospital: str) -> None:
    """Write data/quality, metrics/quality and the plots of one hospital."""
    rule = params.load("quality").quality
    shown = _choose_examples(hospital)
    counts = np.zeros((3, colour.BINS), dtype=np.int64)
    tiles, rows = [], []
    measured = parallel.map_ordered(measure_picture, _pictures(hospital, shown))
    n_images = IMAGES.count_rows(hospital)
    for row in parallel.show_progress(measured, n_images, f"quality: {hospital}"):
        counts += row.pop("histogram")
        tile = row.pop("tile")
        tiles += [tile] if tile is not None else []
        rows.append(row)
    measures = pd.DataFrame(rows, columns=[*QUALITY.schema.names[:-1], *outliers.OF_PICTURE])
    measures["flags"] = outliers.flag(measures, rule.outlier_z)
    quality = measures.drop(columns=list(outliers.OF_PICTURE)).astype({"nucleus_lobes": "Int32"})
    QUALITY.write(quality, hospital)
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
    rgb = decoding.decode(picture["bytes"]).rgb
    found = cell_masks.segment(rgb)
    shown = (
        contact_sheets.draw_outlines(rgb, found.cell, found.nucleus) if picture["shown"] else None
    )
    return {
        "image_id": picture["image_id"],
        "hospital": picture["hospital"],
        **colour.measure(rgb),
        **sharpness.measure(rgb),
        **cell_masks.measure(rgb, found),
        "mask_iou": _compare(found, picture["mask"]),
        "cell_mask": found.packed,
        "broken": lost_parts.has_break(rgb),
        "at_border": cell_masks.touches_border(found.cell),
        cell_masks.UNSURE: found.is_unsure,
        "histogram": colour.histogram(rgb),
        "tile": shown,
    }


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
