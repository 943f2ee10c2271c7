"""Keep how each hospital's pictures measure now, so that `validate` notices when they change.

``uv run python -m stages.tools.reference [HOSPITAL ...]``; without a name, all hospitals of
params.yaml. Commit data/reference.json.
"""

import argparse
import logging
import sys
from functools import partial

from stages.core import params
from stages.core.errors import ParamsError, did_you_mean, run_stage
from stages.core.store import write_json
from stages.core.tables import QUALITY
from stages.validation import limits

log = logging.getLogger(__name__)


def main(*hospitals: str) -> None:
    """Write the quantiles of the named hospitals' measures; those of others stay.

    Raises
    ------
    ParamsError
        A hospital is not in params.yaml.
    TableError
        Its measures are missing, or data/reference.json is damaged.
    """
    known = params.load("hospitals").hospitals
    for name in hospitals:
        if name not in known:
            raise ParamsError(
                f"params.yaml names no hospital {name!r}.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}"
            )
    kept = limits.read_reference() if limits.REFERENCE.exists() else {}
    own = list(hospitals) or known
    for name in own:
        kept[name] = limits.describe(QUALITY.read(name, list(limits.MEASURES)))
    write_json(limits.REFERENCE, kept)
    log.info("reference: wrote %s of %s", limits.REFERENCE, ", ".join(own))
    log.info("Commit it; 'uv run dvc repro' holds the pictures against it (stage validate).")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stages.tools.reference", description=__doc__)
    parser.add_argument("hospitals", metavar="HOSPITAL", nargs="*", help="a name in params.yaml")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments
    run_stage(partial(main, *asked.hospitals))
