"""choose and compare: commands over branches, DVC experiments and the working tree."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from dvc.repo import Repo

from stages.core import errors
from stages.core.errors import PipelineError
from stages.core.tables import PREDICTIONS, SPLIT
from stages.tools import choose

ROOT = Path(__file__).resolve().parents[2]
STORED = ["data/split", "data/predictions/lisbon.parquet"]  # a folder and a file
N = 400
N_SICK = 300
# As PyCell's three models: correct, sick called healthy, healthy called sick.
B0, B1, R101 = (370, 8, 5), (368, 1, 13), (366, 2, 8)


def write_evaluation(correct, missed, alarms, n=N):
    """The tables and the scores of an experiment, in the working folder."""
    ids = [f"lisbon/{place:04d}.png" for place in range(n)]
    label = ["leukaemia"] * N_SICK + ["healthy"] * (n - N_SICK)
    predicted = list(label)
    predicted[:missed] = ["healthy"] * missed
    predicted[N_SICK : N_SICK + alarms] = ["leukaemia"] * alarms
    n_others = n - correct - missed - alarms
    predicted[N_SICK - n_others : N_SICK] = ["another"] * n_others
    images = pd.DataFrame({"image_id": ids, "hospital": "lisbon", "part": "test"})
    split = images.assign(label=label, group=ids, twin_group=ids, left_out_reason=None)
    SPLIT.write(split, "lisbon")
    PREDICTIONS.write(images.assign(predicted=predicted, p_healthy=0.5), "lisbon")
    Path("metrics").mkdir(exist_ok=True)
    content = {"by_hospital": {"lisbon": {}}, "screening": {"test": {}}}
    Path("metrics/evaluate.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """B0 on main, B1 on the branch of an issue, R101 an experiment; B1 in the working tree."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            patch.delenv(name, raising=False)

        def git(*words):
            command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        git("init", "-q", "-b", "main")
        repo = Repo.init()

        def commit(name, counts):
            write_evaluation(*counts)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # DVC's own, of its library
                repo.add(STORED)
            git("add", ".")
            git("commit", "-q", "-m", name)

        commit("B0", B0)
        base = git("rev-parse", "HEAD")
        git("checkout", "-q", "-b", "issue/b1")
        commit("B1", B1)
        git("checkout", "-q", "--detach", "main")
        commit("R101", R101)
        git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/deep-r101", "HEAD")
        git("checkout", "-q", "main")
        write_evaluation(*B1)
        repo.close()
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(project, *words, tool="choose"):
    """A command as a person types it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", f"stages.tools.{tool}", *words],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def refuse(monkeypatch, capsys, *names):
    """The line that a person reads; that the real command ends so is tested below."""
    monkeypatch.setattr(sys, "argv", ["choose"])
    with pytest.raises(SystemExit, match="1"):
        errors.run_stage(partial(choose.main, 1.0, names))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_a_branch_an_experiment_and_the_main_line_are_compared(project):
    """The published choice, by the command as it is typed; nothing but a timing is written."""
    done = run(project, "1.0", "main", "issue/b1", "deep-r101")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert [line.split()[0] for line in lines[1:4]] == ["main", "issue/b1", "deep-r101"]
    assert "Chosen: issue/b1, which calls the fewest sick healthy (1)." in lines
    written = {path.relative_to(project).as_posix() for path in (project / "metrics").rglob("*")}
    assert written == {"metrics/evaluate.json", "metrics/timing", "metrics/timing/choose.json"}


@pytest.mark.parametrize(("tolerance", "name"), [(0.49, "main"), (0.5, ".")])
def test_a_dot_is_the_working_tree(project, capsys, tolerance, name):
    choose.main(tolerance, ["main", "."])
    assert f"Chosen: {name}" in capsys.readouterr().out


def test_a_working_tree_without_scores_is_refused(project):
    (project / "metrics/evaluate.json").unlink()
    with pytest.raises(PipelineError, match=r"evaluate\.json is missing.*dvc repro"):
        choose.main(0, ["main", "."])


def test_other_test_images_end_with_one_line(project, monkeypatch, capsys):
    write_evaluation(*B1, n=401)
    told = refuse(monkeypatch, capsys, "main", ".")
    assert told.startswith("choose: main has 400 test images (300 sick), . 401")


def test_an_experiment_without_screening_ends_with_one_line(project, monkeypatch, capsys):
    content = {
        "by_hospital": {"lisbon": {}},
        "screening": None,
        "screening_reason": "the classes tell no sick",
    }
    (project / "metrics/evaluate.json").write_text(json.dumps(content))
    told = refuse(monkeypatch, capsys, "main", ".")
    assert "choose: .: metrics/evaluate.json has no screening of test images (the classes" in told


def test_an_unknown_experiment_ends_with_one_line(project):
    done = run(project, "1", "main", "deep-r102")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'deep-r101'?" in done.stderr


def test_a_comparison_names_each_hospital(project):
    """The first against each other, on the same images, as it is typed."""
    done = run(project, "main", "issue/b1", "deep-r101", tool="compare")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.split("\n")]
    assert rows[1][:7] == ["issue/b1", "lisbon", "400", "400", "0.925", "0.920", "+0.005"]
    assert rows[2][:7] == ["deep-r101", "lisbon", "400", "400", "0.925", "0.915", "+0.010"]


def test_what_is_not_in_the_cache_is_told(project):
    """Tables that were never fetched end with one line, and the way to them."""
    shutil.rmtree(project / ".dvc/cache")
    with pytest.raises(
        PipelineError, match=r"^data/split/lisbon.parquet of main is not in DVC's cache.*exp pull"
    ):
        choose.main(1, ["main", "."])


@pytest.mark.parametrize(
    "words",
    [[], ["1"], ["1", "main"], ["one", "main", "."], ["nan", "main", "."], ["101", "main", "."]],
)
def test_wrong_usage_exits_2(capsys, monkeypatch, words):
    """No tolerance is assumed: without one the first name is taken for it, and refused."""
    monkeypatch.setattr(sys, "argv", ["choose", *words])
    with pytest.raises(SystemExit, match="2"):
        choose.parse_arguments()
    assert "usage: python -m stages.tools.choose" in capsys.readouterr().err
