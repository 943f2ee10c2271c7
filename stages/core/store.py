"""Atomic, byte-stable writing: temporary name first, then a rename; JSON and CSV in one form."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SIGNIFICANT_DIGITS = 6


def project_root() -> Path:
    """Return the project's top folder, also inside a queued experiment of DVC.

    A queued experiment runs in a copy below ``<project>/.dvc/tmp/exps/``, where no relative path
    of the person who queued it leads anywhere.
    """
    here = Path.cwd()
    for parent in [here, *here.parents]:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def resolve(text: str) -> Path:
    """Turn a path that a person wrote into an absolute one, from the project's top folder on."""
    return project_root() / Path(text).expanduser()


@contextmanager
def replace(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; on success it takes the place of `path`, else it goes.

    Parameters
    ----------
    path : pathlib.Path
        The final name. Its folder is made.

    Yields
    ------
    pathlib.Path
        ``<path>.tmp`` in the same folder, so that the rename is atomic. `.dvcignore` names
        ``*.tmp``: what a killed stage leaves is never hashed, and the next run overwrites it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give a temporary empty folder; on success it takes the place of the folder `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def plain(value: object) -> object:
    """Turn numpy and float values into JSON ones with at most six significant digits.

    NaN and infinities become None: what cannot be computed is null, never a number.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(number) else None
    return value


def to_json(content: Mapping[str, object]) -> str:
    """Return `content` as JSON with sorted keys, two spaces, six digits, and a final newline."""
    return json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write `content` to `path`, atomically and in the one form of `to_json`."""
    with replace(path) as temporary:
        temporary.write_text(to_json(content), encoding="utf-8")


def write_metrics(stage: str, content: Mapping[str, object], hospital: str | None = None) -> None:
    """Write ``metrics/<stage>.json``, or ``metrics/<stage>/<hospital>.json`` for one hospital."""
    write_json(metrics_path(stage, hospital), content)


def read_metrics(stage: str, hospital: str | None = None) -> dict[str, Any]:
    """Read what `write_metrics` wrote."""
    content: dict[str, Any] = json.loads(metrics_path(stage, hospital).read_text(encoding="utf-8"))
    return content


def metrics_path(stage: str, hospital: str | None = None) -> Path:
    """Return where a stage's metrics live."""
    return Path("metrics") / (f"{stage}/{hospital}.json" if hospital else f"{stage}.json")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a plot's data: no index, six significant digits, unix line ends."""
    with replace(path) as temporary:
        frame.to_csv(
            temporary, index=False, float_format=f"%.{SIGNIFICANT_DIGITS}g", lineterminator="\n"
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replace(path) as temporary:
        temporary.write_bytes(content)
