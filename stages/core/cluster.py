"""Per-picture work on the machines of a Dask cluster; the same results as on this one.

What a cluster needs: every worker started in a copy of this project with the same code and the
same versions (``uv sync --extra cluster``), and the folder that a command runs in at the same path
on every machine, as on a shared disk. Pictures travel with the work, but `filter` and answers read
archives and folders, which the workers open themselves. One thread a worker, one worker a core::

    uv run dask scheduler
    uv run dask worker tcp://HOST:8786 --nworkers -1 --nthreads 1
    DASK_SCHEDULER_ADDRESS=tcp://HOST:8786 uv run dvc repro

As long as one worker is left, the work of others that are lost is done again. Nothing is encrypted
unless Dask is told so in its own configuration: use a network that you trust.
"""

import hashlib
import os
import pickle
import platform
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from stages.core.errors import ParamsError, PipelineError

ADDRESS = "DASK_SCHEDULER_ADDRESS"
PATIENCE = 30  # seconds, for the scheduler to answer and for a worker to be there
# Of which what is measured in a picture depends.
PACKAGES = (
    "numpy", "opencv-python-headless", "pillow", "scikit-image", "scipy", "simplejpeg", "tifffile",
)  # fmt: skip
WAY_OUT = f"or unset {ADDRESS} to work on this machine, and run the same command again."


@dataclass(frozen=True)
class Cluster:
    """A scheduler that answers; of `connect`."""

    client: Any
    address: str

    def count_workers(self) -> int:
        """Return how many pieces of work the workers of this moment do at a time."""
        with _explained(self.address):
            return sum(self.client.nthreads().values())

    def require_workers(self) -> None:
        """Raise a PipelineError where no worker is left."""
        if not self.count_workers():
            raise PipelineError(f"no worker is left at {self.address}. Start some, {WAY_OUT}")

    def submit(self, function: Callable[..., Any], *arguments: object) -> "Sent":
        """Have ``function(*arguments)`` done by any worker.

        Notes
        -----
        Everything travels as bytes: Dask would look for its own tasks in lists of pictures, and
        return arrays that cannot be written to. By cloudpickle, because a stage that runs as a
        program has its functions in ``__main__``, which is another module in a worker.
        """
        import cloudpickle

        work = cloudpickle.dumps((function, arguments))
        with _explained(self.address):
            future = self.client.submit(_work, str(Path.cwd()), describe(), work, pure=False)
        return Sent(self, future)


@dataclass(frozen=True)
class Sent:
    """Work on its way, as a ``concurrent.futures.Future``."""

    cluster: Cluster
    future: Any

    def result(self) -> Any:
        """Wait for the result; what the function raised is raised here.

        Raises
        ------
        PipelineError
            No worker is left, the scheduler is gone, or a worker is another than this machine.
        """
        while True:
            with _explained(self.cluster.address):
                try:
                    result, error = pickle.loads(self.future.result(timeout=PATIENCE))
                    break
                except TimeoutError:
                    self.cluster.require_workers()
        if error is not None:
            raise error
        return result

    def cancel(self) -> None:
        """Forget it."""
        self.future.cancel()


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect with a scheduler that has a worker at least.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ParamsError
        This is no address.
    PipelineError
        The package is not installed, nothing answers there, or no worker is there.
    """
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise PipelineError(
            f"{ADDRESS} is {address!r}, but the package distributed is not installed. Get it by "
            f"'uv sync --extra cluster', {WAY_OUT}"
        ) from None
    if not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^/]+:\d+", address):
        raise ParamsError(
            f"{ADDRESS} is {address!r}; it takes an address such as tcp://10.0.0.1:8786. "
            f"Correct it, {WAY_OUT}"
        )
    # Chunks of pictures are large on purpose: kept by a worker, they would be lost with it.
    quiet = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
    with dask.config.set(quiet), _explained(address), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other versions: `describe` is stricter
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    with client, dask.config.set(quiet):
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise PipelineError(
                f"the Dask scheduler at {address} has no worker. Start some by 'uv run dask worker "
                f"{address} --nworkers -1 --nthreads 1', {WAY_OUT}"
            ) from None
        yield Cluster(client, address)


@lru_cache(maxsize=1)
def describe() -> Mapping[str, str]:
    """Return the versions of Python, of the packages in use and of our code, for comparison."""
    checksum = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            checksum.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **versions, "code": checksum.hexdigest()[:12]}


def _work(folder: str, expected: Mapping[str, str], work: bytes) -> bytes:
    """Do it, in a worker; return the pickled result and the error, one of them None."""
    import cloudpickle

    try:
        _require_alike(expected)
        _enter(folder)
        function, arguments = pickle.loads(work)
        return cloudpickle.dumps((function(*arguments), None))  # type: ignore[no-any-return]
    except Exception as error:
        error.add_note(traceback.format_exc())
        return cloudpickle.dumps((None, error))  # type: ignore[no-any-return]


def _require_alike(expected: Mapping[str, str]) -> None:
    here = describe()
    differing = [
        f"{name} {here[name]}, not {expected[name]}"
        for name in expected
        if here[name] != expected[name]
    ]
    if differing:
        raise PipelineError(
            f"the Dask worker on {platform.node()} has {'; '.join(differing)}, so that its results "
            f"could differ. Bring it to the same code and versions and start it anew, {WAY_OUT}"
        )


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise PipelineError(
            f"the Dask worker on {platform.node()} cannot enter {folder} ({error.strerror}). "
            f"Share the folder with all workers, at the same path, {WAY_OUT}"
        ) from None


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what Dask raises into one line; what our own functions raise never comes this way."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(_explain(address, error)) from None


def _explain(address: str, error: Exception) -> str:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            "the same pictures killed several Dask workers, most likely because their memory ran "
            f"out. Start workers with more memory, {WAY_OUT}"
        )
    if isinstance(error, OSError | CancelledError | TimeoutError):
        return (
            f"the Dask scheduler at {address} does not answer ({type(error).__name__}: {error}). "
            f"Start it, or correct {ADDRESS}, {WAY_OUT}"
        )
    return (
        f"the Dask cluster at {address} cannot do this project's work ({type(error).__name__}: "
        f"{error}). Start its workers in a copy of this project, {WAY_OUT}"
    )
