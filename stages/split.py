"""split: decide which images train, tune and test. labels -> split, metrics/split.json."""

import logging
from functools import partial

from stages.core import params, splitting, twins
from stages.core.errors import run_stage
from stages.core.store import write_metrics
from stages.core.tables import IMAGES, LABELS, SPLIT

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/split.parquet and metrics/split.json."""
    rule = params.load("hospitals", "split", "filter", "seed")
    labels = LABELS.read(columns=["image_id", "hospital", "label", "group", "keep"])
    kept = labels[labels["keep"]].drop(columns="keep")
    hashes = IMAGES.read_all(rule.hospitals, ["image_id", "phash"])
    images = kept.merge(hashes, on="image_id", validate="one_to_one")
    images["part"] = splitting.assign_parts(images, rule.split, rule.seed)
    find = partial(twins.group_twins, max_bits=rule.filter.twin_bits)
    images["twin_group"] = splitting.group_twins(images, find)
    images[["part", "left_out_reason"]] = splitting.leave_out_twins(images)
    split = images.drop(columns="phash")
    splitting.require_trainable(split, rule.hospitals)
    SPLIT.write(split)
    metrics = splitting.report(split)
    write_metrics("split", metrics)
    log.info("split: %s", metrics["n_by_part"])


if __name__ == "__main__":
    run_stage(main)
