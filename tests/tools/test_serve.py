"""smearflow page starts a server of this machine alone, or says in a line why it cannot."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from stages.tools import serve
from tests.dependencies import ROOT
from tests.made.answering import write_export


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_export(tmp_path / "data/export")
    return tmp_path


def refuse(arguments, capsys):
    """The exit code and what was said, on one line."""
    code = serve.main(arguments)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("page: ")
    return code, told


def find_port():
    with socket.socket() as one:
        one.bind((serve.ADDRESS, 0))
        return one.getsockname()[1]


def test_without_a_model_nothing_is_started(place, capsys):
    """The first and the other one."""
    assert refuse(["--other", "gone"], capsys)[1].startswith("page: gone/about.json is missing")
    shutil.rmtree(place / "data")
    code, told = refuse([], capsys)
    assert code == 1
    assert "dvc repro" in told


def test_a_missing_package_is_one_line_with_its_way_out(place, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "--extra page" in refuse([], capsys)[1]


def test_a_port_that_is_taken_is_told(place, capsys):
    with socket.socket() as other:
        other.bind((serve.ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is taken" in refuse(["--port", str(port)], capsys)[1]
    with pytest.raises(SystemExit):
        serve.main(["--port", "80"])
    assert "1024" in capsys.readouterr().err


def test_options_are_those_that_streamlit_knows():
    """A misspelt one would be dropped with the protection that it stands for."""
    from streamlit import config

    known = {name: one.default_val for name, one in config.get_config_options().items()}
    assert set(serve.OPTIONS) <= set(known)
    assert serve.OPTIONS["browser.gatherUsageStats"] == "false"
    assert serve.OPTIONS["server.address"] == "127.0.0.1"
    assert serve.OPTIONS["server.enableXsrfProtection"] == "true"


def test_the_server_answers_here_and_ends_when_told(place):
    """It says where it is; its health and its address are those asked for; no other host."""
    port = find_port()
    program = "import sys; from stages.tools.smearflow import main; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", program, "page", "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "STREAMLIT_SERVER_ADDRESS": "0.0.0.0"},
    )  # fmt: skip
    try:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if "started" in line:
                break
        assert f"http://127.0.0.1:{port}" in lines[0]
        assert f"started on 127.0.0.1:{port}" in lines[-1]
        url = f"http://127.0.0.1:{port}/_stcore"
        with urllib.request.urlopen(f"{url}/health", timeout=20) as reply:
            assert reply.read() == b"ok"
        with urllib.request.urlopen(f"{url}/host-config", timeout=20) as reply:
            assert json.loads(reply.read())
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=30)
    assert run.returncode == 0
