"""What the tests of tools read again and again."""

import copy
from functools import cache

import pytest

from stages.core import settings
from stages.tools import replays


@pytest.fixture(scope="package", autouse=True)
def yaml_read_once():
    """The catalogue reads the same files and words for each row: the same text is parsed once.

    Everybody gets a copy to change; what is no YAML is refused anew.
    """
    parse = cache(settings.parse_yaml)
    with pytest.MonkeyPatch.context() as patch:
        for module in (settings, replays):
            patch.setattr(module, "parse_yaml", lambda text: copy.deepcopy(parse(text)))
        yield
