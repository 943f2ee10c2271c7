"""A Dask cluster gives what this machine gives, also when it loses workers; else one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core import cluster
from stages.core.errors import ParamsError, PipelineError
from stages.core.parallel import CHUNK, CHUNKS_AHEAD_PER_WORKER, map_ordered
from stages.core.tables import IMAGES
from tests.core.test_parallel import refuse, square
from tests.projects import environment
from tests.stages.test_quality import draw_cell, image_row

ROOT = Path(__file__).resolve().parents[2]
N_AHEAD = 2 * CHUNKS_AHEAD_PER_WORKER * CHUNK

# quality as a program; a worker is killed while both are busy, and more pictures are to come.
KILLING = f"""
import os, runpy, signal, sys
from stages.core.tables import Table

stream = Table.stream
victim = int(sys.argv.pop())

def killing(*arguments):
    for number, row in enumerate(stream(*arguments)):
        if number == {N_AHEAD}:
            os.kill(victim, signal.SIGKILL)
        yield row

Table.stream = killing
runpy.run_module("stages.quality", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A scheduler and two workers on loopback: the address, and the workers' processes."""
    folder = tmp_path_factory.mktemp("dask")
    told = folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    common += ["--scheduler-file", str(told)]
    variables = environment(DASK_TEMPORARY_DIRECTORY=str(folder), PYTHONPATH=str(ROOT))
    processes = []

    def start(program, *words):
        with (folder / f"{len(processes)}.log").open("wb") as log:
            command = [sys.executable, "-m", f"distributed.cli.{program}", *common, *words]
            processes.append(
                subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
            )

    start("dask_scheduler", "--port", "0")
    for _ in range(2):
        start("dask_worker", "--nthreads", "1", "--no-nanny")
    while not told.exists():
        assert processes[0].poll() is None, (folder / "0.log").read_text()
        time.sleep(0.05)
    address = json.loads(told.read_text(encoding="utf-8"))["address"]
    with cluster.connect(address) as connected:
        connected.client.wait_for_workers(2, timeout=60)
    yield address, processes[1:]
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def address(running, monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, running[0])
    return running[0]


def test_results_come_in_order_and_items_are_read_only_a_little_ahead(address):
    read = []

    def source():
        for number in range(1_000):
            read.append(number)
            yield number

    results = map_ordered(square, source())
    assert [next(results) for _ in range(40)] == [n * n for n in range(40)]
    assert len(read) <= N_AHEAD + 40 + CHUNK
    results.close()


def test_an_error_of_one_item_reaches_the_caller(address):
    with pytest.raises(ParamsError, match="forty is refused"):
        list(map_ordered(refuse, range(100)))


def test_a_worker_of_another_version_is_named(address, monkeypatch):
    here = cluster.describe()
    monkeypatch.setattr(cluster, "describe", lambda: {**here, "numpy": "1.0"})
    with pytest.raises(PipelineError, match=rf"has numpy {here['numpy']}, not 1\.0.*start it anew"):
        list(map_ordered(square, range(4)))


def test_a_worker_that_does_not_see_the_folder_is_named(address, monkeypatch):
    monkeypatch.setattr(Path, "cwd", lambda: Path("/nowhere"))
    with pytest.raises(PipelineError, match=r"cannot enter /nowhere.*Share the folder"):
        list(map_ordered(square, range(4)))


def test_a_killed_worker_changes_no_byte_and_without_any_there_is_one_line(
    running, address, tmp_path, monkeypatch
):
    rows = [image_row(number, draw_cell(number)[0]) for number in range(N_AHEAD + CHUNK)]
    monkeypatch.chdir(tmp_path)
    with IMAGES.writer("here") as append:
        append(rows)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())

    def measure(*command, **variables):
        told = environment(PYTHONPATH=str(ROOT), SMEARFLOW_WORKERS="2", **variables)
        subprocess.run([sys.executable, *command], env=told, check=True, timeout=120)
        written = [
            path
            for name in ("data/quality", "metrics/quality")
            for path in sorted(Path(name).rglob("*"))
            if path.is_file()
        ]
        return {path: path.read_bytes() for path in written}

    here = measure("-m", "stages.quality", "here", DASK_SCHEDULER_ADDRESS="")
    first, second = running[1]
    there = measure("-c", KILLING, "here", str(first.pid), DASK_SCHEDULER_ADDRESS=address)
    assert first.wait(10) == -signal.SIGKILL
    assert there == here
    assert len(here) == 5

    monkeypatch.setattr(cluster, "PATIENCE", 2)
    with pytest.raises(PipelineError, match="no worker is left at tcp:"):
        list(map_ordered(kill_own_process, [second.pid]))
    with pytest.raises(PipelineError, match=r"has no worker\. Start some"):
        list(map_ordered(square, range(4)))


def kill_own_process(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_scheduler_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, "tcp://127.0.0.1:9")
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with pytest.raises(PipelineError, match=r"at tcp://127.0.0.1:9 does not answer.*unset DASK"):
        list(map_ordered(square, range(4)))


@pytest.mark.parametrize("text", ["nonsense://x:1", "tcp://x", "8786"])
def test_what_is_no_address_is_told(monkeypatch, text):
    monkeypatch.setenv(cluster.ADDRESS, text)
    with pytest.raises(ParamsError, match="it takes an address such as"):
        list(map_ordered(square, range(4)))


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, "tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PipelineError, match="uv sync --extra cluster"):
        list(map_ordered(square, range(4)))
