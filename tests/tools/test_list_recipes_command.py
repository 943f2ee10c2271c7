"""models: the table of recipes and replays, printed as it is counted, and one recipe by name."""

import subprocess
import sys

import pytest

from stages.core import params
from stages.core.errors import ModelError
from stages.tools import list_recipes, replays
from stages.tools.replays import Count
from tests.projects import ROOT


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def counted(monkeypatch):
    """No network is built; what was asked for is noted."""
    asked = []

    def count(part):
        asked.append(part)
        return [Count("all", 1, 1000 * len(asked), 7)]

    monkeypatch.setattr(replays, "count", count)
    return asked


def test_all_recipes_and_all_replays_are_told(counted, capsys):
    """Every name under models:, every row, and the command of each."""
    list_recipes.main(None)
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert max(map(len, lines)) <= 100
    starts = [line.split()[0] for line in lines if line and not line.startswith((" ", "-"))]
    names = list(params.load("models").models)
    assert [name for name in starts if name in names] == names
    plain = " ".join(told.replace("\\\n", " ").split())
    for name in names:
        assert f"-S model={name}" in plain
    for replay in replays.read():
        assert f"{replay.row}:" in starts
        assert " ".join(replay.command) in plain
        assert replay.paper in plain
    assert len(counted) < 50  # one for each part of a recipe, none for a replay


def test_the_first_rows_are_there_before_the_last_network_is_built(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(replays, "count", lambda *_: seen.append(capsys.readouterr().out) or [])
    list_recipes.main(None)
    assert seen[0].startswith("recipe ")
    assert all("-S model=" in text for text in seen[1:5])


def test_one_recipe_comes_with_the_weights_of_each_of_its_replays(capsys):
    """The same LeNet with 3, 11 and 8 classes: 129 weights for each class."""
    list_recipes.main("lenet")
    told = capsys.readouterr().out
    assert "pycell-lenet" in told
    assert "vgg19" not in told
    for n_weights in ("7,879,643", "7,880,675", "7,880,288"):
        assert f"weights: {n_weights}, of which learn {n_weights} (all)" in told


def test_a_replay_is_counted_with_its_own_network(counted, capsys):
    """Rows that change the network of a recipe are counted apart; the same one only once."""
    list_recipes.main("transfer")
    networks = [part.recipe.network for part in counted]
    assert len(networks) == len(set(networks))
    assert {"efficientnetb1", "vgg16", "nasnetlarge"} <= set(networks)
    assert capsys.readouterr().out.count("weights: ") == sum(
        replay.recipe == "transfer" for replay in replays.read()
    )


def test_an_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(ModelError, match=r"'vgg91' is not under models: .* Did you mean 'vgg19'\?"):
        list_recipes.main("vgg91")


@pytest.mark.parametrize(("words", "code"), [(["lennet"], 1), (["lenet", "vgg19"], 2)])
def test_as_a_command(words, code, tmp_path):
    """One line on error, without a traceback and without TensorFlow."""
    command = [sys.executable, "-X", "importtime", "-m", "stages.tools.list_recipes", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    imported = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert "pydantic" in imported
    assert "tensorflow" not in imported
    assert "Traceback" not in done.stderr
    if code == 1:
        assert said == [line for line in said if line.startswith("list_recipes: 'lennet' is not")]
        assert "Did you mean 'lenet'?" in said[0]
