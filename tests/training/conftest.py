"""How TensorFlow runs what the tests of training train."""

import pytest

from stages.core import backend


@pytest.fixture
def at_once():
    """Run each operation at once: to trace and compile tiny networks takes most of the time."""
    tf = backend.load_tensorflow()[1]
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def in_graphs(at_once):
    """Trace and compile after all, as a real training does."""
    tf = backend.load_tensorflow()[1]
    tf.config.run_functions_eagerly(False)
