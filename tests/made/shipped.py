"""The shipped recipes and replays, as they are and as a copy to be edited."""

import copy
import csv
import shutil
from functools import cache

import pytest

from stages.core import settings
from stages.tools import replays
from tests.projects import ROOT

PROJECT_FILES = (
    "params.yaml", "data/hospitals.yaml", "data/taxonomies.csv", "data/protocols.csv",
    "data/replays.csv",
)  # fmt: skip


DEMO = {
    "seed": 42, "hospitals": ["demo_north", "demo_east", "demo_west"], "partial": [],
    "taxonomy": "cells11", "weights_dir": None,
    "split": {
        "method": "grouped", "train_hospitals": ["demo_north", "demo_east"],
        "valid": 0.15, "test": 0.2, "folds": 5, "fold": None,
    },
}  # fmt: skip


def demo_params():
    """The content of params.yaml with the choices of the demo, whatever a user chose in it."""
    content = settings.read_yaml(ROOT / "params.yaml")
    return content | copy.deepcopy(DEMO)


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
