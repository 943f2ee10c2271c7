"""The command smearflow passes on what follows it, and tells what there is."""

import pytest

from stages.tools import answer, hand_out, serve, smearflow


def call(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["smearflow", *words])
    try:
        smearflow.main()
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_each_command_gets_its_words(monkeypatch):
    """And its exit code is passed on."""
    got = []
    monkeypatch.setattr(answer, "main", lambda words: got.append(list(words)) or 1)
    monkeypatch.setattr(serve, "main", lambda words: got.append(list(words)) or 0)
    monkeypatch.setattr(hand_out, "run", lambda words: got.append(list(words)))
    assert call(monkeypatch, "predict", "a.png", "--csv", "x") == 1
    assert call(monkeypatch, "page", "--port", "9000") == 0
    assert call(monkeypatch, "export", "--to", "onnx", "d") == 0
    assert got == [["a.png", "--csv", "x"], ["--port", "9000"], ["--to", "onnx", "d"]]


@pytest.mark.parametrize(("words", "code"), [([], 2), (["x"], 2), (["--help"], 0), (["-h"], 0)])
def test_usage_is_told(monkeypatch, capsys, words, code):
    """Exit code 2 where no command is meant."""
    assert call(monkeypatch, *words) == code
    assert "smearflow predict" in capsys.readouterr().err
