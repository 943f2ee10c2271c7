"""probe: what tells class and hospital besides the cell. images, split -> metrics/probe."""

import logging
from functools import partial
from pathlib import Path

import pandas as pd

from stages.core import parallel, params
from stages.core.errors import run_stage
from stages.core.params import InputsParams
from stages.core.store import write_csv, write_metrics
from stages.inputs import reading
from stages.shortcuts import contingency, measures, probing, shortcut_scores
from stages.splits import grouping, leaks

log = logging.getLogger(__name__)

PLOTS = Path("metrics/probe")
LEARNT = ("train", "valid")
OTHERS = ("test", "unseen")


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
    """Return the images of all parts; only those to learn from have their label.

    Those that share a group or a twin are one group.
    """
    columns = ["image_id", "hospital", "group", "twin_group"]
    learnt = reading.read_split(hospitals, LEARNT, [*columns, "label"])
    others = reading.read_split(hospitals, OTHERS, columns)
    return grouping.join_twins(pd.concat([learnt, others.assign(label=None)], ignore_index=True))


def _measure(images: pd.DataFrame, rule: InputsParams) -> pd.DataFrame:
    """Measure the images in one pass; one row each, by image_id."""
    work = (
        picture
        for hospital, own in images.groupby("hospital", sort=True)
        for picture in reading.stream_pictures(str(hospital), rule, set(own["image_id"]))
    )
    rows = list(parallel.map_ordered(partial(_measure_image, rule=rule), work))
    return pd.DataFrame([row for _, row in rows], index=[image_id for image_id, _ in rows])


def _measure_image(picture: reading.Picture, rule: InputsParams) -> tuple[str, dict[str, float]]:
    image_id, content, geometry = picture
    return image_id, measures.measure(content, geometry, rule)


if __name__ == "__main__":
    run_stage(main)
