"""Every command of the README is run by a test or by CI, and every name in it exists."""

import itertools
import re
import shlex

import pytest
import yaml

from stages.core import params
from stages.datasets import hospitals
from stages.labels import taxonomy
from tests.projects import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
# Run word for word by tests/test_end_to_end.py, which reads them from these sections.
RUN_END_TO_END = (
    "## Compare experiments", "## Splits and leaks", "## Labels", "## Add your hospital",
)  # fmt: skip
# Needs a GPU; `uv lock` resolves the extra.
NEEDS_A_GPU = ["uv run --extra gpu dvc exp run -S model=lite0_finetuned_gpu"]


def section(title):
    start = README.index(title)
    end = README.find("\n## ", start + 4)
    return README[start:end]


def is_real(command):
    return command.startswith("SMEARFLOW_MIRROR=")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_run_somewhere(command):
    """In CI, end to end, or, for the real images, in CI's reduced form and checked below."""
    pieces = [piece.strip() for piece in command.split("&&")]
    in_ci = all(
        piece in CI or piece.replace("pip install", "pip install --quiet") in CI for piece in pieces
    )
    end_to_end = any(command in " ".join(section(title).split()) for title in RUN_END_TO_END)
    assert in_ci or end_to_end or is_real(command) or command in NEEDS_A_GPU


@pytest.mark.parametrize("command", [command for command in COMMANDS if is_real(command)])
def test_a_command_on_real_images_names_what_exists(command, monkeypatch):
    """Its parameters are valid; its hospitals have a block and a label map; so has its taxonomy."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for word, change in itertools.pairwise(words):
        if word == "-S":
            key, value = change.split("=", 1)
            *parents, last = key.split(".")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = yaml.safe_load(value)
    checked = params.parse(content)
    taxonomy.read_taxonomy(checked.taxonomy)
    for name in checked.hospitals:
        hospitals.load(name)
        assert len(taxonomy.read_label_map(name))


def test_each_dependency_has_its_line():
    """The table names exactly the packages that pyproject.toml asks for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = set(
        re.findall(r'^    "([a-z0-9-]+)[>=]', text.split("[project.optional")[0], re.MULTILINE)
    )
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section("## What each dependency"), re.MULTILINE)
    named = {name.strip() for row in rows for name in row.split(",")} - {"package", "---"}
    assert {name.lower() for name in named} == wanted


def test_files_that_it_names_exist():
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).is_file(), name
