"""TensorFlow and Keras, loaded when first needed and without their start-up noise."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any


def load_keras() -> Any:
    """Return the module keras; the first call takes seconds."""
    return load_tensorflow()[0]


def load_tensorflow() -> tuple[Any, Any]:
    """Return the modules keras and tensorflow; the first call takes seconds."""
    # Its threads do not survive in a forked process, which would wait for them for ever.
    multiprocessing.set_start_method("spawn", force=True)
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        return sys.modules["keras"], sys.modules["tensorflow"]
    # TensorFlow reads the variable once, while it loads; a value of the user's stays.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _hold_back_noise():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()  # says that there is no GPU at its first call
    return keras, tf


def list_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow may use, such as ``"GPU:0"``."""
    found = load_tensorflow()[1].config.list_physical_devices("GPU")
    return [f"GPU:{number}" for number in range(len(found))]


@cache
def mirror(devices: tuple[str, ...]) -> Any:
    """Return the strategy that trains on some devices together: each has its share of a batch.

    Notes
    -----
    The same one for all trainings of a process: TensorFlow numbers the exchanges of each strategy
    from the start, and takes those of a second one for the first one's.
    """
    return load_tensorflow()[1].distribute.MirroredStrategy(devices)


def use_one_thread_an_operation() -> None:
    """Let TensorFlow compute each operation on one thread, for callers that run several at once.

    Notes
    -----
    TensorFlow takes it before the first operation of a process only. After that it stays as it
    was: slower, and no other vectors.
    """
    threading = load_tensorflow()[1].config.threading
    with suppress(RuntimeError):
        threading.set_intra_op_parallelism_threads(1)


@contextmanager
def _hold_back_noise() -> Iterator[None]:
    """Keep what native code writes to standard error; show it only where something fails.

    Notes
    -----
    On a machine without a GPU the libraries write six lines of warnings at every start, below
    Python and past every log level. They would bury what a stage says.
    """
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
