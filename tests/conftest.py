"""Fixtures of several test modules, and the order of the suite."""

import gc
import os

import pytest
from hypothesis import settings as hypothesis

from stages.core import settings
from tests.made import small_backbone
from tests.made.shipped import copy_project, read_replays
from tests.projects import ROOT

# For the worker processes: a test has a core, and threads of algebra libraries would wait for it.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# A busy machine is no fault; the service that checks every commit has the time for all examples.
hypothesis.register_profile("desk", deadline=None, max_examples=25)
hypothesis.register_profile("service", deadline=None, max_examples=100)
hypothesis.load_profile("service" if os.environ.get("CI") else "desk")


@pytest.fixture
def small_base(monkeypatch):
    """Put the small backbone in place of the published ones."""
    small_backbone.put_in_place(monkeypatch.setattr)


@pytest.fixture
def rows():
    return read_replays()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files that the catalogue reads, to be edited."""
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def content():
    return settings.read_yaml(ROOT / "params.yaml")


def pytest_collection_modifyitems(items):
    """The longest file first, so that the other cores work beside it."""
    items.sort(key=lambda item: "test_end_to_end" not in item.nodeid)


def pytest_collection_finish():
    """Libraries stay: the collector, which Keras calls often, need not walk them each time."""
    gc.collect()
    gc.freeze()
