"""The shipped recipes and replays, as they are and as a copy to be edited."""

import csv
import shutil
from functools import cache

import pytest

from stages.tools import replays
from tests.projects import ROOT

PROJECT_FILES = (
    "params.yaml", "data/hospitals.yaml", "data/taxonomies.csv", "data/protocols.csv",
    "data/replays.csv",
)  # fmt: skip


@cache
def read_replays():
    """By row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {replay.row: replay for replay in replays.read()}


def copy_project(folder):
    """Copy the files that the catalogue reads."""
    (folder / "data").mkdir()
    for name in PROJECT_FILES:
        shutil.copy(ROOT / name, folder / name)


def edit(path, name, /, **changes):
    """Change cells of the row of that name in a CSV file; return the number of its line."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    place = next(i for i, cells in enumerate(rows) if name in cells.values())
    rows[place] |= changes
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return place + 2
