"""Files as they were at a Git revision or in a DVC experiment, read without checking it out."""

import argparse
import fnmatch
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.errors import PipelineError, did_you_mean

EXPERIMENTS = "refs/exps"  # refs/exps/<2 digits of the baseline>/<the others>/<name>, as DVC has it


def ask_for_names(tool: str, description: str, least: int = 2) -> list[str]:
    """Read names of experiments, 1 or 2 at least, from the command line of a tool."""
    parser = argparse.ArgumentParser(f"python -m stages.tools.{tool}", description=description)
    parser.add_argument("first", metavar="A", help="Git revision, branch or DVC experiment")
    some = "+" if least > 1 else "*"
    parser.add_argument("others", metavar="B", nargs=some, default=[], help="the same")
    asked = parser.parse_args()
    del sys.argv[1:]  # run_stage names the timing by the arguments; a branch's name has slashes
    return [asked.first, *asked.others]


def read_at(reference: str) -> str:
    """Return the text of a file as it was at a revision.

    Parameters
    ----------
    reference : str
        ``REVISION:path``. The revision is a commit, a branch, a tag or the name of a DVC
        experiment; the path is relative to the working folder. The first colon divides them.

    Returns
    -------
    str
        The file, which must be UTF-8; a byte order mark is taken off.

    Raises
    ------
    PipelineError
        There is no Git, no repository, no such revision, no such file in it, or it is no text.

    Notes
    -----
    Where a branch and an experiment bear one name, the branch is meant, as in DVC. Of two
    experiments of one name the one that was started from the present commit is meant.
    """
    revision, colon, path = reference.partition(":")
    if not colon or not revision or not path:
        raise PipelineError(
            f"{reference!r} names no file at a revision. Write REVISION:path, for example "
            "main:data/labels/demo_north.csv."
        )
    _require_repository()
    commit = _find_commit(revision)
    # "./" makes the path one of the working folder, also where the repository begins above it.
    content = _git("cat-file", "blob", f"{commit}:./{path}")
    if content is None:
        listed = _git("ls-tree", "-r", "--name-only", "-z", commit) or b""
        near = did_you_mean(path, listed.decode("utf-8", "replace").split("\0"))
        raise PipelineError(f"{reference}: {revision} holds no file {path!r}.{near}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{reference} is no UTF-8 text ({error.reason} at byte {error.start}). "
            "Name a revision in which it is."
        ) from None


def read_stored(revision: str, path: str) -> bytes:
    """Return a file that DVC keeps, as it was at a revision.

    Parameters
    ----------
    revision : str
        As `read_at` takes it.
    path : str
        Of a stage's output, relative to the working folder, which is the project's top.

    Raises
    ------
    PipelineError
        There is no such revision, or the file of then is neither in DVC's cache nor in a remote.
    """
    _require_repository()
    commit = _find_commit(revision)
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    try:
        content: bytes = _open_stored(Path.cwd(), commit).read_bytes(path)
    except (DvcException, DataIndexDirError, OSError) as error:
        raise PipelineError(
            f"{path} of {revision} is not in DVC's cache ({type(error).__name__}). Run that "
            "experiment here, or fetch it from a DVC remote: "
            f"uv run dvc fetch --all-commits, or uv run dvc exp pull REMOTE {revision}."
        ) from None
    return content


@cache
def _open_stored(folder: Path, commit: str) -> Any:
    """Return DVC's files of a commit; to open them costs more than to read one."""
    from dvc.api import DVCFileSystem

    return DVCFileSystem(str(folder), rev=commit)


def expand(names: Sequence[str]) -> list[str]:
    """Replace each name with ``*``, ``?`` or ``[`` by the names that match it.

    Parameters
    ----------
    names : sequence of str
        Of branches, tags, commits or DVC experiments.

    Returns
    -------
    list of str
        Each name once.

    Raises
    ------
    PipelineError
        Nothing matches.

    Notes
    -----
    Where experiments match that were started from the present commit, those of other commits are
    not meant, as with one name.
    """
    found: list[str] = []
    for name in names:
        if not set(name) & set("*?["):  # which no name of Git's may hold
            found.append(name)
            continue
        _require_repository()
        rows = [row for row in _list_experiments() if fnmatch.fnmatchcase(row.split("/")[-1], name)]
        experiments = [row.split("/")[-1] for row in _prefer_from_here(rows)]
        matching = [*fnmatch.filter(_list_branches(), name), *experiments]
        if not matching:
            raise PipelineError(
                f"no branch, tag or experiment is called {name!r} here. "
                "'git branch' and 'uv run dvc exp list' show the names."
            )
        found += matching
    return list(dict.fromkeys(found))


def _list_experiments() -> list[str]:
    rows = (_git("for-each-ref", "--format=%(refname)", EXPERIMENTS) or b"").decode().split()
    return [row for row in rows if len(row.split("/")) == 5]


def _list_branches() -> list[str]:
    found = _git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags") or b""
    return found.decode().split()


def _prefer_from_here(experiments: list[str]) -> list[str]:
    """Return those that were started from the present commit; all, where none was."""
    head = _resolve("HEAD") or ""
    return [row for row in experiments if "".join(row.split("/")[2:4]) == head] or experiments


def _find_commit(revision: str) -> str:
    # A name that begins with "-" would be an option to Git; no branch or experiment has such a one.
    found = None if revision.startswith("-") else _resolve(revision)
    if found:
        return found
    experiments = _list_experiments()
    matching = _prefer_from_here([row for row in experiments if row.split("/")[-1] == revision])
    if len(matching) > 1:
        raise PipelineError(
            f"{revision!r} names {len(matching)} experiments. Write the commit of one instead: "
            f"{', '.join((_resolve(row) or '')[:10] for row in matching)}."
        )
    if matching:
        return _resolve(matching[0]) or ""
    known = [*_list_branches(), *(row.split("/")[-1] for row in experiments)]
    raise PipelineError(
        f"{revision!r} is no commit, branch, tag or experiment here."
        f"{did_you_mean(revision, known)} 'git branch' and 'uv run dvc exp list' show the names."
    )


def _resolve(revision: str) -> str | None:
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    return found.decode().strip() if found else None


def _require_repository() -> None:
    try:
        done = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, check=False)
    except FileNotFoundError:
        raise PipelineError(
            "git is not on the PATH, and a file at a revision is read through it. Install Git."
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise PipelineError(
            f"no file at a revision can be read here: {said or 'git failed'}. "
            "Run from the project's top folder, in its Git repository."
        )


def _git(*words: str) -> bytes | None:
    """Return what Git writes, or None where it fails."""
    done = subprocess.run(["git", *words], capture_output=True, check=False)
    return None if done.returncode else done.stdout
