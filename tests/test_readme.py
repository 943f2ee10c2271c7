"""The documents: each command can run, each name in it exists, and the README stays short."""

import itertools
import json
import re

import pytest
import yaml

from stages.core import params
from stages.core.errors import PipelineError
from stages.datasets import hospitals
from stages.evaluation import scoreboard
from stages.labels import taxonomy
from stages.tools import results
from tests import documents
from tests.made.shipped import demo_params
from tests.projects import ROOT

README = documents.read("README.md")
CI = documents.read(".ci/run")
TEXTS = {
    name: documents.read(name).partition(documents.GENERATED)[0] for name in documents.NAMES
} | {"CONTRIBUTING.md": documents.read("CONTRIBUTING.md")}
# By people, for people; those of the generated tables are checked as what they were then.
WRITTEN = [(name, command) for name, text in TEXTS.items() for command in documents.commands(text)]
NAMED = [(name, command) for name, text in TEXTS.items() for command in documents.named(text)]
MEASURED = sorted(
    set(documents.commands(documents.read("metrics/README.md").partition(documents.GENERATED)[2]))
)
# Run word for word by tests/test_end_to_end.py, which reads them from these sections.
RUN_END_TO_END = (
    "Ask about pictures",
    "Compare experiments", "Labels", "Add your hospital",
)  # fmt: skip
# The reader's own hospitals of the examples.
OWN = {"lisbon", "porto"}


def apply(command, must_be_written=True):
    """params.yaml as a command makes it, checked by the schema that a run checks it by.

    A key that the command sets must be written in params.yaml, as DVC wants it.
    """
    content = demo_params()
    for setting in documents.settings(command):
        key, _, text = setting.partition("=")
        values = re.split(r",(?![^\[]*\])", re.sub(r"^range\((\d+),.*\)$", r"\1", text))
        *parents, last = key.removeprefix("+").split(".")
        place = content
        for parent in parents:
            assert parent in place, f"{key}: {parent!r} is not written in params.yaml"
            place = place[parent]
        assert last in place or not must_be_written, f"{key} is not written in params.yaml"
        place[last] = yaml.safe_load(values[0])
    return params.parse(content)


def look_up(checked):
    """The taxonomy, and each hospital's block and label map."""
    taxonomy.read_taxonomy(checked.taxonomy)
    assert set(checked.partial) <= set(checked.hospitals)
    for name in set(checked.hospitals) - OWN:
        hospitals.load(name)
        assert len(taxonomy.read_label_map(name))


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
    assert len(README.encode()) <= 9000


@pytest.mark.parametrize(
    ("name", "longest"),
    [("data/README.md", 120), ("stages/README.md", 80), ("CONTRIBUTING.md", 60)],
)
def test_the_other_documents_are_short(name, longest):
    assert len(TEXTS[name].splitlines()) <= longest


def test_what_is_written_before_the_results_is_short():
    assert len(TEXTS["metrics/README.md"].splitlines()) <= 100


def test_the_two_commands_stand_together_as_ci_runs_them():
    first = next(text for language, text in documents.blocks(README) if language == "bash")
    assert first == "pip install uv && uv run dvc repro\nuv run pytest\n"


def is_run(command):
    """In CI, or end to end."""
    pieces = [piece.strip() for piece in command.split("&&")]
    in_ci = all(
        piece in CI or piece.replace("pip install", "pip install --quiet") in CI for piece in pieces
    )
    sections = [" ".join(documents.find_section(title).split()) for title in RUN_END_TO_END]
    return in_ci or any(command in text for text in sections)


@pytest.mark.parametrize(("name", "command"), WRITTEN)
def test_a_command_is_run_somewhere(name, command):
    """In CI or end to end, or, where it needs published pictures or your own, checked below."""
    is_yours = {"barcelona", "porto"} & set(re.findall(r"\w+", command))
    assert is_run(command) or is_yours


@pytest.mark.parametrize(("name", "command"), WRITTEN + NAMED)
def test_a_command_names_what_exists(name, command):
    """Module, parameters, recipe, hospitals and taxonomy, each of today."""
    module = documents.module(command)
    if module is not None:
        path = ROOT / f"{module.replace('.', '/')}.py"
        assert path.is_file(), f"{name}: {command}"
    if documents.settings(command) and "..." not in command:
        checked = apply(command)
        assert checked.model in checked.models
        look_up(checked)


def test_a_command_that_names_nothing_is_noticed():
    """The check above can fail: by a key, a recipe, a hospital, a taxonomy and a module."""
    with pytest.raises(AssertionError, match="not written"):
        apply("uv run dvc exp run -S split.methd=random")
    with pytest.raises(PipelineError):
        apply("uv run dvc exp run -S model=lite0_haed")
    with pytest.raises(PipelineError):
        look_up(apply("uv run dvc exp run -S 'hospitals=[demo_north,demo_east,madrid]'"))
    with pytest.raises(PipelineError):
        look_up(apply("uv run dvc exp run -S taxonomy=cells12"))
    assert not (ROOT / f"{documents.module('python -m stages.tools.chose')}.py").is_file()


@pytest.mark.parametrize("command", MEASURED)
def test_the_command_of_a_result_can_be_understood(command):
    """Its hospitals, taxonomy and recipe are there; a recipe's keys are those of its commit."""
    if " exp run " not in command:
        assert command.startswith("uv run ")
        return
    kept = [one for one in documents.settings(command) if not one.startswith("models.")]
    recipes = yaml.safe_load(documents.read("params.yaml"))["models"]
    for one in set(documents.settings(command)) - set(kept):
        assert one.split(".")[1] in recipes, one
    look_up(apply(" ".join(f"-S {one!r}" for one in kept), must_be_written=False))


def test_each_dependency_says_what_it_is_for():
    """A comment in its line of pyproject.toml."""
    text = documents.read("pyproject.toml").split("\ndependencies = [\n")[1].split("\n]")[0]
    lines = text.splitlines()
    assert len(lines) > 15
    for line in lines:
        assert re.fullmatch(r' +"[a-z0-9-]+[>=][^"]+", +# \S.{3,}', line), line


@pytest.mark.parametrize("name", TEXTS)
def test_files_and_sections_that_a_document_links_exist(name):
    """A link goes to a file seen from the document's folder, or to a heading of its own."""
    text = documents.read(name)
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        assert not target or ((ROOT / name).parent / target).is_file(), target
        if anchor and not target:
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings]
            assert anchor in slugs


def test_every_stage_is_named():
    """In the README's diagram and in stages/README.md; besides those only what is to come."""
    stages = set(yaml.safe_load(documents.read("dvc.yaml"))["stages"])
    [diagram] = [text for language, text in documents.blocks(README) if language == "mermaid"]
    drawn = set(re.findall(r"\b\w+\b", re.sub(r"flowchart LR|subgraph.*|\bend\b", "", diagram)))
    listed = documents.read("stages/README.md").split("in order:\n\n")[1].split(".\n")[0]
    told = set(re.findall(r"\w+", listed))
    assert told == stages
    assert drawn | {"plots"} == told


def test_the_readme_shows_what_the_demo_scores():
    """Images, accuracy, macro F1 with interval and baseline of each hospital, as in metrics/."""
    scores = json.loads(documents.read("metrics/evaluate.json"))["by_hospital"]
    table = next(text for language, text in documents.blocks(README) if language == "text")
    assert len(table.splitlines()) <= 12
    for hospital, block in scores.items():
        line = next(line for line in table.splitlines() if line.startswith(hospital))
        macro_f1 = block["metrics"]["macro_f1"]
        wanted = [
            f"{block['metrics']['accuracy']['value']:.3f}", f"{macro_f1['value']:.3f}",
            f"{block['baseline']['macro_f1']:.3f}",
        ]  # fmt: skip
        shown = "too few" if macro_f1["low"] is None else scoreboard.outwards(macro_f1)
        assert f" {shown} " in line
        assert f" {block['n_images']} " in line
        assert [cell for cell in line.split() if cell in wanted][:2] == wanted[:2]
        assert set(wanted) <= set(line.split())


def test_the_six_results_are_measured_ones():
    """Each row of the README's table is one of data/results.csv, digit by digit."""
    known = {
        (one.experiment, one.hospital, str(one.n), one.metric, results.say(one))
        for one in results.read_results(results.read_sheets())
    }
    rows = re.findall(r"^\| (.+) \|$", documents.section(README, "Six results on real cells"), re.M)
    told = [tuple(row.split(" | ")[:5]) for row in rows[1:]]
    assert len(told) == 6
    assert set(told) <= known
    assert (*told[0][:4], ".983 (.965 to .995)") not in known


def test_the_vocabulary_is_told_where_label_maps_are_written():
    """data/README.md names every cell type, every published hospital and every key of a block."""
    text = documents.read("data/README.md")
    listed = text.split("The cell types are:")[1].split(". Use")[0]
    vocabulary = taxonomy.read_taxonomy(taxonomy.VOCABULARY).classes
    assert re.findall(r"`(\w+)`", listed) == vocabulary
    published = documents.section(text, "Published collections")
    blocks = yaml.safe_load(documents.read("data/hospitals.yaml"))
    assert {name for name, block in blocks.items() if "archives" in block} <= set(
        re.findall(r"`(\w+)`", published)
    )
    keys = set(hospitals.Hospital.model_fields) - {"layout"}
    keys |= {f"layout.{name}" for name in hospitals.Layout.model_fields}
    assert keys <= set(
        re.findall(r"`([\w.]+)`", documents.section(text, "A block in hospitals.yaml"))
    )


def test_an_example_is_the_same_in_both_documents():
    """The block of a hospital, which the end-to-end test adds from the README."""
    texts = map(documents.read, ("README.md", "data/README.md"))
    ours, theirs = (dict(documents.blocks(text))["yaml"] for text in texts)
    assert ours == theirs


def test_every_experiment_of_a_document_has_one_name():
    """Two commands of one name would overwrite one another's experiment."""
    for _, lines in itertools.groupby(sorted(WRITTEN), key=lambda pair: pair[0]):
        names = [found[1] for _, line in lines if (found := re.search(r" -n (\S+)", line))]
        assert len(names) == len(set(names))
