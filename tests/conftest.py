"""Fixtures of several test modules, and the order of the suite."""

import pytest

from stages.core import settings
from stages.models import backbones
from tests.made.shipped import copy_project, read_replays
from tests.models.test_networks import made_base
from tests.projects import ROOT


@pytest.fixture
def small_base(monkeypatch):
    """Put the small backbone in place of the published ones."""
    monkeypatch.setattr(backbones, "build", made_base)


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
