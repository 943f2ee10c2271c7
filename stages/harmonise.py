"""harmonise: one label scheme for all hospitals, and groups. images -> labels, metrics."""

import logging

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import write_metrics
from stages.core.tables import IMAGES, LABELS, REJECTED
from stages.evaluation import expert_agreement
from stages.labels import harmonising, reviews, taxonomy
from stages.splits import grouping

COLUMNS = [
    "image_id", "hospital", "published_label", "patient", "slide", "field", "diagnosis",
    "official_part", "official_side", "simulated", "expert_1", "expert_2", "twin_group",
    "pixel_sha256",
]  # fmt: skip

REJECTED_COLUMNS = [
    "image_id", "published_label", "patient", "slide", "pixel_sha256", "reason", "detail",
]  # fmt: skip

UNUSED = ["field", "diagnosis", "simulated", "expert_1", "expert_2", "twin_group", "pixel_sha256"]

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/labels.parquet and metrics/harmonise.json."""
    rule = params.load("hospitals", "partial", "taxonomy")
    harmonising.require_partial_known(rule.partial, rule.hospitals)
    chosen = taxonomy.read_taxonomy(rule.taxonomy)
    answers = reviews.read()
    pieces, left_out, remarks = [], [], {}
    for hospital in sorted(rule.hospitals):
        pictures = IMAGES.read(hospital, COLUMNS)
        rejected = REJECTED.read(hospital, REJECTED_COLUMNS)
        taxonomy.require_class_folders(hospital, pictures["image_id"], pictures["published_label"])
        label_map = taxonomy.read_label_map(hospital, pictures["published_label"].dropna())
        observed = harmonising.count_labels(
            pictures["published_label"], rejected["published_label"]
        )
        taxonomy.check_counts(hospital, observed, label_map, partial=hospital in rule.partial)
        labelled = harmonising.label_images(hospital, pictures, label_map, chosen)
        remarks[hospital] = {
            "simulated": bool(pictures["simulated"].any()),
            "unused_map_rows": harmonising.list_unused(observed, label_map),
            **expert_agreement.compare_experts(pictures, label_map, chosen),
        }
        copies = rejected[rejected["pixel_sha256"].notna()]
        grouped = grouping.group_images(pictures, copies)
        pieces.append(pd.concat([pictures, labelled, grouped], axis=1))
        left_out.append(rejected)
    labels, reviewed = reviews.apply(
        pd.concat(pieces, ignore_index=True), answers, pd.concat(left_out), rule.hospitals, chosen
    )
    labels = labels.drop(columns=UNUSED)
    metrics = harmonising.report(labels, chosen, remarks) | {"reviews": reviewed}
    LABELS.write(labels)
    write_metrics("harmonise", metrics)
    for line in reviews.say(reviewed):
        log.info("harmonise: %s", line)
    log.info("harmonise: %s of %s pictures kept", metrics["n_kept"], metrics["n_images"])


if __name__ == "__main__":
    run_stage(main)
