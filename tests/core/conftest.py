"""Fixtures of several test modules."""

import pytest

from stages.core import backbones, settings
from tests.core.shipped import copy_project, read_replays
from tests.core.test_networks import made_base
from tests.projects import ROOT


@pytest.fixture
def small_base(monkeypatch):
    """Put the small backbone in place of the published ones."""
    monkeypatch.setattr(backbones, "build", made_base)


@pytest.fixture
def replays():
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
