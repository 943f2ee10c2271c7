"""choose: PyCell's rule over branches, DVC experiments and the working tree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import PipelineError
from stages.tools import choose

ROOT = Path(__file__).resolve().parents[2]
# PyCell's three models: correct, sick called healthy, healthy called sick.
B0, B1, R101 = (6557, 8, 5), (6522, 1, 13), (6494, 2, 8)


def write_evaluation(folder, correct, missed, alarms, n=6874):
    block = {
        "n": n, "n_sick": 4112, "correct": correct, "sick_called_healthy": missed,
        "healthy_called_sick": alarms,
    }  # fmt: skip
    (folder / "metrics").mkdir(exist_ok=True)
    path = folder / "metrics/evaluate.json"
    path.write_text(json.dumps({"screening": {"test": block}}), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """B0 on main, B1 on the branch of an issue, R101 an experiment; B1 in the working tree."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*words):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(name, counts):
        write_evaluation(tmp_path, *counts)
        git("add", "metrics")
        git("commit", "-q", "-m", name)

    git("init", "-q", "-b", "main")
    commit("B0", B0)
    base = git("rev-parse", "HEAD")
    git("checkout", "-q", "-b", "issue/b1")
    commit("B1", B1)
    git("checkout", "-q", "--detach", "main")
    commit("R101", R101)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/deep-r101", "HEAD")
    git("checkout", "-q", "main")
    write_evaluation(tmp_path, *B1)
    return tmp_path


def run(project, *words):
    """The command as a person types it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "stages.tools.choose", *words],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_branch_an_experiment_and_the_main_line_are_compared(project):
    """The published choice, by the command as it is typed; nothing but a timing is written."""
    done = run(project, "1.0", "main", "issue/b1", "deep-r101")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert [line.split()[0] for line in lines[1:4]] == ["main", "issue/b1", "deep-r101"]
    assert "Chosen: issue/b1, which calls the fewest sick healthy (1)." in lines
    written = {path.relative_to(project).as_posix() for path in (project / "metrics").rglob("*")}
    assert written == {"metrics/evaluate.json", "metrics/timing", "metrics/timing/choose.json"}


@pytest.mark.parametrize(("tolerance", "name"), [(0.5, "main"), (0.51, ".")])
def test_a_dot_is_the_working_tree(project, capsys, tolerance, name):
    choose.main(tolerance, ["main", "."])
    assert f"Chosen: {name}" in capsys.readouterr().out


def test_a_working_tree_without_scores_is_refused(project):
    (project / "metrics/evaluate.json").unlink()
    with pytest.raises(PipelineError, match=r"evaluate\.json is missing.*dvc repro"):
        choose.main(0, ["main", "."])


def test_other_test_images_end_with_one_line(project):
    write_evaluation(project, *B1, n=7000)
    done = run(project, "1", "main", ".")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("choose: main has 6874 test images (4112 sick), . 7000")


def test_an_experiment_without_screening_ends_with_one_line(project):
    content = {"screening": None, "screening_reason": "the classes tell no sick from healthy: a"}
    (project / "metrics/evaluate.json").write_text(json.dumps(content))
    done = run(project, "1", "main", ".")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "choose: .: metrics/evaluate.json has no screening of test images (the" in done.stderr


def test_an_unknown_experiment_ends_with_one_line(project):
    done = run(project, "1", "main", "deep-r102")
    assert done.returncode == 1
    assert "Did you mean 'deep-r101'?" in done.stderr


@pytest.mark.parametrize(
    "words",
    [[], ["1"], ["1", "main"], ["one", "main", "."], ["nan", "main", "."], ["101", "main", "."]],
)
def test_wrong_usage_exits_2(project, words):
    """No tolerance is assumed: without one the first name is taken for it, and refused."""
    done = run(project, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m stages.tools.choose" in done.stderr
