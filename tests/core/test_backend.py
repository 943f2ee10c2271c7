"""Start-up noise is held back, and shown where the start fails; threads of an operation."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import backend

ROOT = Path(__file__).resolve().parents[2]


def start(lines):
    code = "import os\nfrom stages.core import backend\n" + lines
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_noise_is_held_back_and_later_words_are_not():
    done = start(
        "with backend._hold_back_noise():\n"
        "    os.write(2, b'noise of native code')\n"
        "os.write(2, b'what a stage says')\n"
    )
    assert done.stderr == "what a stage says"


def test_noise_is_shown_where_the_start_fails():
    done = start(
        "with backend._hold_back_noise():\n"
        "    os.write(2, b'the library is missing a symbol')\n"
        "    raise ImportError('no tensorflow')\n"
    )
    assert "the library is missing a symbol" in done.stderr
    assert "no tensorflow" in done.stderr
    assert done.returncode == 1


def test_both_modules_come_without_a_line_of_noise_and_take_the_threads_they_are_told():
    done = start(
        "backend.use_one_thread_an_operation()\n"
        "keras, tf = backend.load_tensorflow()\n"
        "assert backend.load_keras() is keras\n"
        "threads = tf.config.threading.get_intra_op_parallelism_threads()\n"
        "print(keras.__name__, tf.__name__, threads)\n"
    )
    assert done.stdout == "keras tensorflow 1\n"
    assert done.stderr == ""


def test_after_the_first_operation_threads_stay_as_they_were():
    """TensorFlow would refuse the change; nothing is raised."""
    tf = backend.load_tensorflow()[1]
    tf.zeros(1) + 1
    before = tf.config.threading.get_intra_op_parallelism_threads()
    backend.use_one_thread_an_operation()
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
    with pytest.raises(RuntimeError, match="cannot be modified after initialization"):
        tf.config.threading.set_intra_op_parallelism_threads(before + 1)
