"""probe: what tells class and hospital besides the cell. images, split -> metrics/probe."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from stages.core import parallel, params
from stages.core.errors import TableError, name_some, run_stage
from stages.core.params import InputsParams
from stages.core.store import write_csv, write_metrics
from stages.core.tables import IMAGES, QUALITY, SPLIT
from stages.inputs import preparation, reading
from stages.shortcuts import contingency, measures, probing, shortcut_scores
from stages.splits import leaks

log = logging.getLogger(__name__)

PLOTS = Path("metrics/probe")
LEARNT = ("train", "valid")

Work = tuple[str, bytes, preparation.Geometry]


def main() -> None:
    """Write metrics/probe.json and the tables behind its plots."""
    rule = params.load("hospitals", "split", "inputs", "probe", "seed")
    images = _read_split(rule.hospitals)
    counts = contingency.count_classes(images[images["label"].notna()])
    chosen = probing.draw(images, rule.probe.max_images, rule.seed)
    measured = _measure(chosen, rule.inputs)
    by_image = rule.split.method in leaks.LEAKY
    content = shortcut_scores.report(
        chosen, measured, counts, by_image, rule.probe.alarm, rule.seed
    )
    content["absent"] = measures.absent(rule.inputs)
    write_csv(PLOTS / "scores.csv", shortcut_scores.list_scores(content))
    write_csv(PLOTS / "class_by_hospital.csv", contingency.list_counts(counts))
    write_metrics("probe", content)
    for line in content["warnings"]:
        log.info("probe: %s", line)


def _read_split(hospitals: list[str]) -> pd.DataFrame:
    """Return the images of all parts; only those to learn from have their label."""
    labelled = reading.read_split(LEARNT)
    everyone = SPLIT.read(columns=["image_id", "hospital", "group", "part"])
    others = everyone[~everyone["part"].isin([*LEARNT, "left_out"])]
    images = pd.concat([labelled, others.assign(label=None)], ignore_index=True)
    return images[images["hospital"].isin(hospitals)].drop(columns="part")


def _measure(images: pd.DataFrame, rule: InputsParams) -> pd.DataFrame:
    """Measure the images in one pass; one row each, by image_id."""
    work = _stream(images, rule)
    rows = list(parallel.map_ordered(partial(_measure_image, rule=rule), work))
    measured = pd.DataFrame([row for _, row in rows], index=[image_id for image_id, _ in rows])
    missing = sorted(set(images["image_id"]) - set(measured.index))
    if missing:
        raise TableError(
            f"data/images or data/quality: no row of {len(missing)} images of data/split.parquet "
            f"({name_some(missing)}). Run 'uv run dvc repro', which brings the tables into step."
        )
    return measured


def _stream(images: pd.DataFrame, rule: InputsParams) -> Iterator[Work]:
    for hospital, own in images.groupby("hospital"):
        wanted = set(own["image_id"])
        geometries = preparation.geometries(QUALITY.read(str(hospital)), rule)
        for row in IMAGES.stream(str(hospital), ["image_id", "bytes"]):
            image_id = row["image_id"]
            if image_id in wanted and image_id in geometries:
                yield image_id, row["bytes"], geometries[image_id]


def _measure_image(work: Work, rule: InputsParams) -> tuple[str, dict[str, float]]:
    image_id, content, geometry = work
    return image_id, measures.measure(content, geometry, rule)


if __name__ == "__main__":
    run_stage(main)
