"""The check of the committed dvc.lock: order is nothing, any other difference is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import check_lock

ROOT = Path(__file__).resolve().parents[1]


def lock(**changed: dict) -> dict:
    stages = {
        "filter@north": {
            "cmd": "python -m stages.filter north",
            "deps": [{"path": "data/raw/north", "md5": "1.dir", "size": 3, "nfiles": 1}],
            "params": {"params.yaml": {"filter": {"min_side": 64}}},
            "outs": [
                {"path": "data/images/north.parquet", "md5": "2"},
                {"path": "metrics/filter/north.json", "md5": "3"},
            ],
        },
        "split": {"cmd": "python -m stages.split", "outs": [{"path": "data/split.parquet"}]},
        "train": {"cmd": "python -m stages.train", "outs": [{"path": "data/model", "md5": "4"}]},
    }
    return {"schema": "2.0", "stages": stages | changed}


def differences(committed: dict, made: dict) -> list[str]:
    facts = [check_lock.read_facts(yaml.safe_dump(each)) for each in (committed, made)]
    return check_lock.compare(*facts)


def test_order_of_entries_and_outputs_is_nothing() -> None:
    """DVC orders the file by the history of runs; that alone is no difference."""
    made = lock()
    made["stages"]["filter@north"]["outs"].reverse()
    made["stages"] = dict(reversed(made["stages"].items()))
    assert differences(lock(), made) == []


def test_stages_that_learn_are_left_out() -> None:
    """The weights' last bits depend on the processor, so they are not compared."""
    assert differences(lock(), lock(train={"cmd": "other"})) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("outs", 0, "md5"), "9", "outs data/images/north.parquet: committed 2, now 9"),
        (("deps", 0, "md5"), "9.dir", "deps data/raw/north: committed 1.dir, now 9.dir"),
        (("cmd",), "true", "cmd: committed python -m stages.filter north, now true"),
        (
            ("params", "params.yaml", "filter"),
            {"min_side": 8},
            "params params.yaml:filter: committed {'min_side': 64}, now {'min_side': 8}",
        ),
    ],
)
def test_each_difference_is_named(path: tuple, value: object, said: str) -> None:
    """Another byte, dependency, command or parameter is told with what was and what is."""
    made = lock()
    place = made["stages"]["filter@north"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert differences(lock(), made) == [f"filter@north, {said}"]


def test_a_missing_or_new_stage_is_named() -> None:
    """A stage that only one of the two files has is a difference, too."""
    fewer = lock()
    del fewer["stages"]["split"]
    assert differences(lock(), fewer) == ["split: not in the reproduced dvc.lock"]
    assert differences(fewer, lock()) == ["split: not in the committed dvc.lock"]


@pytest.fixture
def _own_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a Git hook, GIT_DIR names the project's repository; here it must not."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


def run_in(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "check_lock.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("_own_repository")
def test_the_command_compares_with_the_last_commit(tmp_path: Path) -> None:
    """Exit code 0 where the lock is that of HEAD, 1 with the way out where it is not."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    file = tmp_path / "dvc.lock"
    file.write_text(yaml.safe_dump(lock()), encoding="utf-8")
    subprocess.run([*git, "init", "-q"], check=True)
    run = run_in(tmp_path)
    assert (run.returncode, run.stderr[:30]) == (1, "There is no dvc.lock in HEAD. ")
    subprocess.run([*git, "add", "dvc.lock"], check=True)
    subprocess.run([*git, "commit", "-qm", "Lock"], check=True)
    run = run_in(tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "dvc.lock is up to date: 2 data stages give the same bytes.\n"
    changed = lock(split={"cmd": "python -m stages.split --other"})
    file.write_text(yaml.safe_dump(changed), encoding="utf-8")
    run = run_in(tmp_path)
    assert run.returncode == 1
    assert "split, cmd: committed python -m stages.split, now " in run.stderr
    assert "commit dvc.lock and metrics/" in run.stderr
