"""Fixtures of several test modules."""

import pytest

from stages.core import backbones
from tests.core.test_networks import made_base


@pytest.fixture
def small_base(monkeypatch):
    """Put the small backbone in place of the published ones."""
    monkeypatch.setattr(backbones, "build", made_base)
