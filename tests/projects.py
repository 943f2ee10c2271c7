"""Copies of the project in temporary repositories, for tests that run the real commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def environment(python: str = sys.executable, **variables: str) -> dict[str, str]:
    """The environment of a user: our Python first on the PATH, no mirror but a given one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SMEARFLOW_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    path = os.pathsep.join([str(Path(python).parent), kept["PATH"]])
    return kept | {"PATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"} | variables


class Project:
    """A copy of the working tree as a Git repository of its own, without caches and results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = sys.executable
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "test@example.org")
        self.git("config", "user.name", "test")

    def run(
        self, *command: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run a command in the project; on failure show what it said."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False,
            env=environment(self.python, **variables),
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{command} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def git(self, *words: str) -> str:
        return self.run("git", *words).stdout

    def dvc(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
        return self.run(self.python, "-m", "dvc", *words, check=check, **variables)

    def stage(
        self, *words: str, check: bool = False, **variables: str
    ) -> subprocess.CompletedProcess:
        name, *arguments = words
        return self.run(self.python, "-m", f"stages.{name}", *arguments, check=check, **variables)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def edit_yaml(self, name: str, **changes: object) -> None:
        """Set keys of a YAML file; a double underscore goes one level down."""
        path = self.folder / name
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = content
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def stages_run(done: subprocess.CompletedProcess) -> list[str]:
    """The stages that DVC says it ran, in order."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]
