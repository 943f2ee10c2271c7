"""Run the shipped experiment again from an empty cache and compare every result's bytes.

``python -m tests.check_bytes`` wants the results of ``dvc repro`` in the working tree.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import yaml

from tests.projects import ROOT, Project


def result_files(folder: Path) -> list[str]:
    """All outputs that dvc.lock names, folders walked."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    named = [out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])]
    files = []
    for name in named:
        path = folder / name
        members = [path] if path.is_file() else list(path.rglob("*"))
        files += [str(member.relative_to(folder)) for member in members if member.is_file()]
    return sorted(files)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differing(first: Path, second: Path) -> list[str]:
    """Names of results that one folder lacks or that differ."""
    names = set(result_files(first)) | set(result_files(second))
    return sorted(
        name
        for name in names
        if not (first / name).is_file()
        or not (second / name).is_file()
        or digest(first / name) != digest(second / name)
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        again = Project(Path(folder))
        again.commit("copy")
        again.dvc("repro")
        different = differing(ROOT, again.folder)
    sys.stdout.write(f"{len(result_files(ROOT))} results, {len(different)} differ\n")
    for name in different:
        sys.stdout.write(f"differs: {name}\n")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
