"""validate: hold all tables against the data expectations. tables -> metrics/validate.json."""

import logging

from stages.core import expectations, params, store, tables
from stages.core.errors import run_stage

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
    hospitals = params.load("hospitals").hospitals
    frames = {
        "images": tables.IMAGES.read_all(hospitals, expectations.columns_to_check(tables.IMAGES)),
        "rejected": tables.REJECTED.read_all(hospitals),
        "quality": tables.QUALITY.read_all(hospitals),
        "labels": tables.LABELS.read(),
        "split": tables.SPLIT.read(),
    }
    frames |= expectations.derive_frames(frames)
    findings = expectations.check_all(frames)
    expectations.require_success(findings)
    store.write_metrics("validate", expectations.summarise(findings, frames))
    logger.info("validate: %d expectations hold on %d tables", len(findings), len(frames))


if __name__ == "__main__":
    run_stage(main)
