"""A Python that has its libraries already, for tests that run a hundred commands.

A stage of the small experiment computes for a second and imports for two to six (TensorFlow, Great
Expectations, scikit-learn). A server imports once and forks a process for each command, which
imports our own modules from its own project as ever. The first run of the experiment and a queue
use the real Python: what a stage forgets to import is missed there.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = [
    "cv2", "dvc.cli.parser", "dvc.dvcfile", "dvc.render", "dvc.repo.checkout",
    "dvc.repo.reproduce", "dvc.stage.cache", "dvc_data.index", "dvc_objects",
    "great_expectations.expectations", "httpx", "keras", "pandas", "pyarrow.parquet", "pydantic",
    "pygit2", "scipy.stats", "skimage.segmentation", "sklearn.discriminant_analysis",
    "sklearn.ensemble", "sklearn.model_selection", "sklearn.svm", "tensorflow", "tqdm", "yaml",
]  # fmt: skip

# Hands command, folder, environment and the three streams over, and waits for the exit code.
CLIENT = """#!{python} -ISs
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(words).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(words)
    sys.exit(int(server.recv(4) or b"1"))
"""


@contextmanager
def start(libraries: Sequence[str] = LIBRARIES) -> Iterator[Path]:
    """Yield a command that runs ``-m MODULE ARGUMENTS`` as Python does, without its start."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        client = Path(folder) / "python"
        client.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
        client.chmod(0o755)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.made.warm_python", address, *libraries],
            cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        ) as server:  # fmt: skip
            try:
                assert server.stdout is not None
                assert server.stdout.readline(), "the warm Python did not start"
                yield client
            finally:
                server.terminate()


def serve(address: str, libraries: Sequence[str]) -> None:
    for name in libraries:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked ones
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(client)
            client.close()


def answer(client: socket.socket) -> None:
    """Run one command in a process of its own, and tell the client its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(client, 4, 3)
    left, words = int.from_bytes(length, "big"), b""
    while len(words) < left:
        words += client.recv(left - len(words))
    child = os.fork()
    if child == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(run(*json.loads(words)))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def run(argv: list[str], folder: str, environment: dict[str, str]) -> int:
    """Do what ``python -m`` does; return the exit code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    option, module, *arguments = argv
    assert option == "-m"
    sys.argv = [module, *arguments]
    sys.path[0] = folder
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(code + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
