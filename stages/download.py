"""download: fetch and verify one hospital's archives. hospitals.yaml -> data/raw/<hospital>/."""

import logging
from pathlib import Path

from pydantic import ValidationError

from stages.core.errors import HospitalError, run_stage
from stages.core.settings import explain
from stages.core.store import replace_folder
from stages.datasets import fetching, hospitals, packing
from stages.simulation import cohorts

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/raw/<hospital>/: the archives, and about.json with licence and checksums."""
    block = hospitals.load(hospital)
    with replace_folder(Path("data/raw") / hospital) as folder:
        if block.simulated is not None:
            cohorts.publish(_read_spec(block, hospital), hospital, folder / f"{hospital}.zip")
        else:
            _collect(block, hospital, folder)
        fetching.write_about(block, folder)
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    log.info("download: %s, %d bytes", hospital, n_bytes)


def _read_spec(block: hospitals.Hospital, hospital: str) -> cohorts.SmearSpec:
    try:
        return cohorts.SmearSpec.model_validate(block.simulated)
    except ValidationError as error:
        text = explain(error, cohorts.SmearSpec)
        raise HospitalError(f"{hospitals.HOSPITALS_FILE}, {hospital}.simulated.{text}") from None


def _collect(block: hospitals.Hospital, hospital: str, folder: Path) -> None:
    source = fetching.find_source(block, hospital)
    if source is None:
        for archive in block.archives:
            fetching.fetch_archive(archive, folder / archive.name)
    elif files := fetching.list_published(source, block.archives):
        fetching.copy_published(files, block.archives, folder)
    else:
        packing.pack_folder(source, folder / f"{hospital}.zip")


if __name__ == "__main__":
    run_stage(main, "hospital")
