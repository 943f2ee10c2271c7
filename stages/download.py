"""download: fetch and verify one hospital's archives. hospitals.yaml -> data/raw, data/about."""

import logging
from pathlib import Path

from pydantic import ValidationError

from stages.core.errors import HospitalError, run_stage
from stages.core.settings import explain
from stages.core.store import replace_folder, write_json
from stages.datasets import contents, fetching, hospitals, packing, walking
from stages.datasets.contents import LeftOut
from stages.simulation import cohorts

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/raw/<hospital>/, its archives and contents.json, and data/about/<hospital>.json.

    The archives stay apart from licence and citation, a correction of which reruns nothing.
    """
    block = hospitals.load(hospital)
    raw = Path("data/raw") / hospital
    contents.require_own(raw)
    left_out: list[LeftOut] = []
    with replace_folder(raw) as folder:
        if block.simulated is not None:
            cohorts.publish(_read_spec(block, hospital), hospital, folder / f"{hospital}.zip")
        else:
            left_out = _collect(block, hospital, raw, folder)
        written = contents.write(block, folder, left_out).archives
    write_json(Path("data/about") / f"{hospital}.json", fetching.describe(block))
    log.info("download: %s, %d bytes", hospital, sum(one.bytes for one in written))


def _read_spec(block: hospitals.Hospital, hospital: str) -> cohorts.SmearSpec:
    try:
        return cohorts.SmearSpec.model_validate(block.simulated)
    except ValidationError as error:
        text = explain(error, cohorts.SmearSpec)
        raise HospitalError(f"{hospitals.HOSPITALS_FILE}, {hospital}.simulated.{text}") from None


def _collect(block: hospitals.Hospital, hospital: str, before: Path, folder: Path) -> list[LeftOut]:
    source = fetching.find_source(block, hospital)
    if source is None:
        fetching.fetch_archives(block, hospital, before, folder)
        return []
    found = walking.walk(source)
    if fetching.is_published(found.files, block.archives):
        fetching.copy_published(found.files, block.archives, folder)
    else:
        packing.pack(found.files, folder / f"{hospital}.zip")
    for line in found.say():
        log.info("download: %s %s", hospital, line)
    return found.left_out


if __name__ == "__main__":
    run_stage(main, "hospital")
