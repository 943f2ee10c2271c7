"""split: decide which images train, tune and test. labels -> split, metrics/split.json."""

import logging
from functools import partial

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage, say_counts
from stages.core.params import QualityParams
from stages.core.store import write_metrics
from stages.core.tables import IMAGES, LABELS, QUALITY, SPLIT
from stages.images import colour_similarity, near_duplicates
from stages.splits import leaks, split_report, splitting

COLUMNS = [
    "image_id", "hospital", "label", "patient", "slide", "group", "official_part",
    "official_side", "keep",
]  # fmt: skip

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/split and metrics/split.json."""
    rule = params.load("hospitals", "split", "filter", "quality", "seed")
    labels = LABELS.read(columns=COLUMNS)
    pictures = IMAGES.read_all(rule.hospitals, ["image_id", "hospital", "phash", "place"])
    plans = splitting.plan_hospitals(
        rule.split,
        splitting.list_official(labels, rule.split),
        dict(zip(pictures["hospital"], pictures["place"], strict=True)),
    )
    hashes = pictures[["image_id", "phash"]]
    kept = labels[labels["keep"]].merge(hashes, on="image_id", validate="one_to_one")
    images, unlike = splitting.part_unlike(kept, *_find_unlike(rule.hospitals, rule.quality))
    placed = splitting.assign_parts(images, plans, rule.seed)
    images = images.join(placed)
    find = partial(near_duplicates.group_twins, max_bits=rule.filter.twin_bits)
    images["twin_group"] = splitting.group_twins(images, find)
    if rule.split.method not in leaks.LEAKY:
        images[placed.columns] = splitting.leave_out_twins(images)
    splitting.require_trainable(images, rule.hospitals, plans)
    images = pd.concat([images, unlike], ignore_index=True) if len(unlike) else images
    metrics = split_report.report(images, rule.split, plans)
    for hospital in rule.hospitals:
        own = images[images["hospital"] == hospital]
        SPLIT.write(own[SPLIT.schema.names], hospital)
    write_metrics("split", metrics)
    log.info("split: %s", say_counts(metrics["n_by_part"]))


def _find_unlike(hospitals: list[str], rule: QualityParams) -> tuple[set[str], str | None]:
    """Return the pictures that are dropped for their colours, and the hospital that they lack."""
    if rule.similar != "drop" or rule.similar_to is None:
        return set(), None
    columns = ["image_id", *colour_similarity.MEASURES]
    colours = QUALITY.read_all(hospitals, columns).set_index("image_id")
    reference = QUALITY.read(rule.similar_to, columns)
    found = colour_similarity.measure_distances(colours, reference)
    return set(found.index[found["distance"] > rule.similar_within]), rule.similar_to


if __name__ == "__main__":
    run_stage(main)
