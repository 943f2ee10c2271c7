"""validate: hold all tables against the data expectations. tables -> metrics/validate.json."""

import logging

from stages.core import params, store, tables
from stages.core.errors import name_some, run_stage
from stages.splits import leaks
from stages.validation import cross_table_checks, expectations, limits

logger = logging.getLogger(__name__)


def main() -> None:
    """Check every table so far; stop before anything is learnt from rows that are not as expected.

    Raises
    ------
    TableError
        Names table, column, expectation and the first rows. No metrics file is left then: an
        older one would vouch for tables that it has not seen.
    """
    store.metrics_path("validate").unlink(missing_ok=True)
    rule = params.load("hospitals", "split", "expectations")
    hospitals = rule.hospitals
    frames = {
        "images": tables.IMAGES.read_all(hospitals, expectations.columns_to_check(tables.IMAGES)),
        "rejected": tables.REJECTED.read_all(hospitals),
        "quality": tables.QUALITY.read_all(
            hospitals, expectations.columns_to_check(tables.QUALITY)
        ),
        "labels": tables.LABELS.read(),
        "split": tables.SPLIT.read_all(hospitals),
    }
    frames |= cross_table_checks.derive_frames(frames, store.read_metrics("split"))
    frames |= limits.hold(frames, rule.expectations, limits.read_reference())
    leak = f"split.method {rule.split.method} parts groups; metrics/split.json measures the leak"
    leaky = cross_table_checks.ONE_SIDED if rule.split.method in leaks.LEAKY else ()
    not_checked = dict.fromkeys(leaky, leak)
    if frames["hospital_drift"].empty:
        not_checked["hospital_drift"] = limits.NO_REFERENCE
    checked = {name: frame for name, frame in frames.items() if name not in not_checked}
    findings = expectations.check_all(checked)
    expectations.require_success(findings)
    metrics = expectations.summarise(findings, checked)
    broken = cross_table_checks.list_broken(frames["quality"])
    metrics["n_broken"] = len(broken)
    if broken:
        logger.warning(
            "validate: %d pictures have a break across their whole width: a border, or a part that "
            "was lost: %s. Look at them; where a part was lost, get the file again.",
            len(broken), name_some(broken),
        )  # fmt: skip
    store.write_metrics("validate", {**metrics, "not_checked": not_checked})
    logger.info("validate: %d expectations hold on %d tables", len(findings), len(checked))


if __name__ == "__main__":
    run_stage(main)
