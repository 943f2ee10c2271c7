"""The structure: dvc.yaml says exactly what the code imports and reads; imports go one way."""

import ast
import difflib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.utils.serialize import modify_yaml

from tests.dependencies import ROOT, closure, imported_modules, parse, rewrite, stage_names

# Which package imports which; none of them a stage, and no module itself over others.
ALLOWED = {
    "core": set(),
    "datasets": {"core"},
    "simulation": {"core"},
    "images": {"core"},
    "labels": {"core"},
    "splits": {"core"},
    "validation": {"core"},
    "inputs": {"core", "images"},
    "models": {"core", "images", "inputs"},
    "training": {"core", "inputs", "models"},
    "evaluation": {"core", "labels"},
    "explanation": {"core", "evaluation", "models"},
    "answering": {
        "core",
        "datasets",
        "evaluation",
        "explanation",
        "images",
        "inputs",
        "models",
        "pages",
    },
    "pages": {"core", "evaluation", "labels"},
    "shortcuts": {"core", "images", "inputs", "evaluation"},
    "tools": {
        "answering",
        "core",
        "datasets",
        "evaluation",
        "images",
        "labels",
        "models",
        "pages",
        "simulation",
        "validation",
    },
}
HEAVY = ("tensorflow", "keras", "great_expectations", "matplotlib")
MAY_BE_HEAVY = {
    "features", "validate", "maps", "train", "evaluate", "bias", "explain", "novelty",
}  # fmt: skip
REFUSED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}


@cache
def stage_block(stage: str) -> dict:
    """One stage of dvc.yaml, with ${item} as it stands there."""
    block = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    return block.get("do", block)


def code_dependencies(block: dict) -> set[str]:
    return {name for name in block.get("deps", []) if name.endswith(".py")}


def loaded_groups(tree: ast.Module) -> set[str]:
    """The literal names in every ``params.load(...)`` call."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "load"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "params"
    ]
    return {argument.value for call in calls for argument in call.args}


def declared_groups(block: dict) -> set[str]:
    names = {name for name in block.get("params", []) if isinstance(name, str)}
    return {name.partition(".")[0] for name in names}


def reads_hospitals_file(stage: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "load"
        and isinstance(node.value, ast.Name)
        and node.value.id == "hospitals"
        for node in ast.walk(parse(ROOT / f"stages/{stage}.py"))
    )


@pytest.mark.parametrize("stage", stage_names())
def test_code_dependencies_are_the_import_closure(stage):
    """A module that a stage reaches is its dependency, and nothing else is."""
    expected = closure(f"stages/{stage}.py")
    assert code_dependencies(stage_block(stage)) == expected, "run python -m tests.dependencies"


def test_the_script_that_writes_the_dependencies_changes_nothing_more():
    """What it writes is what is there; a line that is missing or too many is put right."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert rewrite(text) == text
    lines = text.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line.endswith("/errors.py\n")]
    del lines[places[0]]
    lines[places[2]] = lines[places[2]].replace("errors", "terrors")
    assert rewrite("".join(lines)) == text


@pytest.mark.parametrize("stage", stage_names())
def test_parameters_are_those_that_the_stage_reads(stage):
    """A stage declares the groups that it loads, and no other."""
    assert declared_groups(stage_block(stage)) == loaded_groups(parse(ROOT / f"stages/{stage}.py"))


@pytest.mark.parametrize("stage", stage_names())
def test_hospital_blocks_are_declared_where_they_are_read(stage):
    """A stage that reads data/hospitals.yaml tracks it: one block, or the file."""
    block = stage_block(stage)
    by_block = {"data/hospitals.yaml": ["${item}"]} in block.get("params", [])
    whole = "data/hospitals.yaml" in block.get("deps", [])
    assert (by_block or whole) == reads_hospitals_file(stage)


def is_uncached(settings):
    return settings.get("cache") is False


def overlooked(value):
    """Whether DVC's run cache leaves something out of a parameter: keys called size or nfiles.

    dvc.stage.cache hashes a stage without what it takes for facts of a file, at any depth: a run
    with another size is then "cached", and the result of the old one comes back.
    """
    if isinstance(value, dict):
        return bool({"size", "nfiles"} & set(value)) or any(map(overlooked, value.values()))
    return False


@pytest.mark.parametrize("stage", stage_names())
def test_no_run_is_taken_for_another_one(stage):
    """A stage whose results are cached tracks no group of parameters that holds a size."""
    block = stage_block(stage)
    outs = block.get("outs", []) + block.get("plots", [])
    if not [
        out for out in outs if isinstance(out, str) or True not in map(is_uncached, out.values())
    ]:
        return  # nothing that could come back
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name in block.get("params", []):
        if isinstance(name, str):
            value = content
            for part in name.split("."):
                value = value[part]
            assert not overlooked(value), f"{stage}: name the leaves of {name}"


def test_an_overlooked_size_is_noticed():
    assert overlooked({"size": 1})
    assert overlooked({"a": {"b": {"size": 1}}})
    assert not overlooked({"a": {"side": 1}})
    assert not overlooked(112)


@pytest.mark.parametrize("stage", stage_names())
def test_stage_has_a_description_and_runs_its_own_module(stage):
    block = stage_block(stage)
    assert len(block["desc"]) > 20
    assert block["cmd"].startswith(f"python -m stages.{stage}")


def plotted() -> list[tuple[str, dict]]:
    """The plots whose data are in Git, with what dvc.yaml says of each."""
    return [
        (name, shown)
        for stage in stage_names()
        for plot in stage_block(stage).get("plots", [])
        if isinstance(plot, dict)
        for name, shown in plot.items()
        if shown.get("cache") is False
    ]


@pytest.mark.parametrize(("name", "shown"), plotted())
def test_plots_draw_columns_that_are_there(name, shown):
    """DVC draws an empty picture of a column that the table lacks, and says nothing."""
    path = ROOT / name.replace("${item}", "demo_north")
    columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {shown["x"], shown["y"]} <= set(columns)
    template = shown.get("template")
    assert template is None or (ROOT / f".dvc/plots/{template}.json").is_file()


def test_an_added_import_is_noticed(tmp_path):
    """The closure grows when a module imports another one: the test above can fail."""
    (tmp_path / "stages/images").mkdir(parents=True)
    for name in ("sharpness", "colour"):
        (tmp_path / f"stages/images/{name}.py").write_text("")
    stage = tmp_path / "stages/quality.py"
    stage.write_text("from stages.images import colour\n")
    before = closure("stages/quality.py", tmp_path)
    imported_modules.cache_clear()
    stage.write_text(
        "from stages.images import colour\n\ndef f():\n    import stages.images.sharpness\n"
    )
    assert closure("stages/quality.py", tmp_path) - before == {"stages/images/sharpness.py"}


def test_an_undeclared_parameter_is_noticed():
    tree = ast.parse('rule = params.load("split", "seed")')
    assert loaded_groups(tree) == {"split", "seed"}
    assert declared_groups({"params": ["split", "models.${model}"]}) == {"split", "models"}


def modules(root: Path = ROOT) -> list[str]:
    """The files of all packages; not the stages."""
    files = [path for path in (root / "stages").glob("*/*.py") if path.stem != "__init__"]
    return sorted(path.relative_to(root).as_posix() for path in files)


def strange_imports(root: Path = ROOT) -> list[str]:
    """Imports against the order of the packages, and modules that reach themselves."""
    found = []
    for file in modules(root):
        package = file.split("/")[1]
        for other in sorted(imported_modules(root / file, root)):
            theirs = other.split("/")[1]
            if theirs.endswith(".py") or theirs not in {package, *ALLOWED[package]}:
                found.append(f"{file} imports {other}")
            if file in closure(other, root):
                found.append(f"{file} and {other} reach each other")
    return found


def test_imports_go_one_way():
    """From package to package as ALLOWED says; nothing imports a stage, or itself over others."""
    assert {file.split("/")[1] for file in modules()} == set(ALLOWED)
    assert strange_imports() == []


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("stages/core/store.py", "from stages.images import colour", "imports stages/images"),
        ("stages/core/store.py", "import stages.core.tables", "reach each other"),
        ("stages/labels/taxonomy.py", "from stages.splits.leaks import x", "imports stages/spl"),
        (
            "stages/images/colour.py",
            "def f():\n    from stages import train",
            "imports stages/train",
        ),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path, file, line, says):
    """Sideways, backwards, in a circle or inside a function."""
    for name in [*modules(), "stages/train.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert strange_imports(tmp_path) == []
    imported_modules.cache_clear()
    with (tmp_path / file).open("a", encoding="utf-8") as opened:
        opened.write(f"\n{line}\n")
    assert any(says in told for told in strange_imports(tmp_path))


def test_the_files_in_stages_are_exactly_the_stages():
    """`ls stages` shows the pipeline; each stage runs on its own, and commands lie in tools."""
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert files == set(stage_names())
    for name in files:
        reached = imported_modules(ROOT / f"stages/{name}.py")
        assert not [other for other in reached if other.count("/") == 1 or "/tools/" in other]


def test_modules_are_nouns():
    names = {path.stem for path in (ROOT / "stages").rglob("*.py")}
    assert not names & REFUSED_NAMES


def test_every_module_has_its_tests():
    """In the folder and under the name of its own."""
    for file in modules():
        package, name = file.split("/")[1:]
        assert (ROOT / f"tests/{package}/test_{name}").is_file(), file


def test_every_stage_has_its_tests():
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests/stages").glob("test_*.py")}
    assert set(stage_names()) <= tested


def test_light_stages_never_load_heavy_packages():
    """From download to split nothing imports TensorFlow, Great Expectations or a plotter."""
    light = [name for name in stage_names() if name not in MAY_BE_HEAVY]
    imports = "; ".join(f"import stages.{name}" for name in light)
    code = f"import sys; {imports}; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["models", "lite0_finetuned", "size"], 96),
        (["models", "vgg19_svm", "then", "c"], [1.0]),
        (["models", "ensemble", "members"], ["lite0_head", "measures_trees"]),
        (["split", "train_hospitals"], ["demo_north"]),
        (["weights_dir"], "weights"),
        (["on_site", "labels"], [1, 10]),
    ],
)
def test_an_override_changes_the_lines_of_its_own_key(tmp_path, path, value):
    """params.yaml is written as DVC writes it: `exp run -S` leaves no other line changed."""
    before = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    copy = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", copy)
    with modify_yaml(str(copy)) as content:
        place = content
        for name in path[:-1]:
            place = place[name]
        old, place[path[-1]] = place[path[-1]], value
    after = copy.read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line.startswith(("+ ", "- "))]
    n_lines = sum(len(one) + 1 if isinstance(one, list) else 1 for one in (old, value))
    assert 1 <= len(changed) <= n_lines, changed


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_lines_fit_a_screen(name):
    assert max(map(len, (ROOT / name).read_text(encoding="utf-8").splitlines())) <= 100


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC
def test_labels_are_looked_at_before_minutes_of_measuring():
    """DVC goes by the order in dvc.yaml: maps, classes and shares are checked once names are known.

    A label without a line was found after quality and features only, many minutes later.
    """
    with Repo(str(ROOT)) as repo:
        order = [stage.addressing.partition("@")[0] for stage in plan_repro(repo.index.graph)]
    assert list(dict.fromkeys(order)) == stage_names()
    assert order.index("harmonise") < order.index("quality")
