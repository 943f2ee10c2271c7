"""Recipes and replays in words: complete, narrow, and the table of metrics/README.md."""

import pytest

from stages.core import params
from stages.models import recipes
from stages.tools import list_recipes, replays
from stages.tools.replays import Count
from tests.made.shipped import edit
from tests.projects import ROOT


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_recipe_is_described(content):
    rule = params.parse(content)
    told = {
        name: list_recipes.describe(recipe)
        for name, recipe in recipes.read_all(rule.models, rule.features).items()
    }
    assert told["vgg19"].startswith("vgg19, ImageNet weights, dense 1280, 640 (relu)")
    assert "from scratch" in told["efficientnetb3_scratch"]
    assert "brightness 0.1 to 2" in told["efficientnetb3_subclasses"]
    assert (
        told["knn_umap"]
        == "3 nearest neighbours on supervised UMAP (2) of grey of 120 px, no network"
    )
    assert "then SVM of the first hidden layer" in told["vgg16_svm"]
    assert "vgg16" in told["cascade"]
    assert "efficientnet_lite0" in told["ensemble"]
    assert "extra trees" in told["ensemble"]


def test_a_recipe_is_laid_out_narrow(content):
    """Every step has its line; the numbers of weights stand below one another."""
    rule = params.parse(content)
    recipe = recipes.choose("vgg19_block5", rule.models, rule.features)
    [part] = replays.list_parts(recipe, list("abc"))
    counts = [Count("head", 30, 123_456_789, 1_483_531), Count("block5", 26, 123_456_789, 9)]
    lines = list_recipes.recipe_lines("vgg19_block5", recipe, [(part, counts)], ["a-row"] * 12)
    assert max(map(len, lines)) <= list_recipes.WIDTH
    head = list_recipes.head_lines()[0]
    steps = [" ".join(line.split()) for line in lines[:2]]
    assert steps[0] == "vgg19_block5 360 px 3 123,456,789 1,483,531 head, 30 epochs"
    assert steps[1] == "9 block5, 26 epochs"
    assert lines[0].index("123,456,789") + 11 == head.index("weights") + 7
    assert lines[-1] == "  uv run dvc exp run -n vgg19-block5 -S model=vgg19_block5"
    assert "a-row, a-row" in " ".join(lines)


def test_a_replay_is_laid_out_with_its_command(rows):
    """Lines of at most 100 columns; the shell reads the broken command as the whole one."""
    for replay in rows.values():
        lines = list_recipes.replay_lines(replay)
        assert max(map(len, lines)) <= list_recipes.WIDTH
        start = next(i for i, line in enumerate(lines) if "SMEARFLOW_MIRROR" in line)
        pasted = " ".join("\n".join(lines[start:]).replace("\\\n", " ").split())
        assert pasted == " ".join(replay.command)
        assert "not run" in " ".join(lines) or "none yet" in " ".join(lines) or replay.n


def test_a_score_is_shown_with_interval_and_number(project):
    edit(
        project / "data/replays.csv", "pycell-lenet",
        ours="0.674", low="0.64", high="1.0", n="1768", ours_settings="5 epochs",
    )  # fmt: skip
    found = replays.read()
    lines = list_recipes.replay_lines(found[0])
    assert "  paper ~75 %; ours .674 (.640 to 1.000) of 1,768" in lines
    assert "  ours reduced: 5 epochs" in lines
    row = next(
        line for line in list_recipes.readme_table(found).split("\n") if "`-n pycell-lenet " in line
    )
    assert row == (
        "| LeNet (report) | `-n pycell-lenet -S model=lenet -S taxonomy=leukaemia3` | ~75 % "
        "| .674 (.640 to 1.000) | 1,768 | ours reduced: 5 epochs |"
    )


def test_the_table_for_the_readme_holds_every_command(rows):
    """The protocol's block and a row's second cell are, together, the command of the row."""
    table = list_recipes.readme_table(list(rows.values()))
    told = []
    for section in table.split("```bash\n")[1:]:
        base, rest = section.split("\n```\n")
        for line in rest.split("\n"):
            if line.startswith("| ") and not line.startswith("| system"):
                cells = line.split(" | ")
                assert len(cells) == 6, line
                told.append(f"{base} {cells[1].strip('`')}")
    assert sorted(told) == sorted(" ".join(replay.command) for replay in rows.values())
