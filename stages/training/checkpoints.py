"""What a training has reached after each epoch, so that a killed one can go on."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import store

STATE = "state.json"
ARRAYS = "state.npz"
ROWS_AT_ONCE = 64

logger = logging.getLogger(__name__)


def fingerprint(settings: str, labels: Sequence[str], arrays: Sequence[np.ndarray]) -> str:
    """Say in 64 digits what a training is: its settings, its labels, its rows, and our code.

    Notes
    -----
    A training is only taken up again by the one that would have gone the same way. Every row is
    read once: little beside an epoch, and a single other image is another training.
    """
    digest = hashlib.sha256(settings.encode())
    digest.update("\0".join(labels).encode())
    for rows in arrays:
        digest.update(str((rows.shape, rows.dtype.str)).encode())
        for first in range(0, len(rows), ROWS_AT_ONCE):
            digest.update(np.ascontiguousarray(rows[first : first + ROWS_AT_ONCE]).data)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass
class Progress:
    """The state of one training.

    Attributes
    ----------
    folder : pathlib.Path, optional
        Where it is kept; None: nowhere.
    key : str
        Its `fingerprint`.
    step : int
        Which of the recipe's steps, from 1.
    is_over : bool
        Whether that step has ended early.
    history : list of dict
        One entry for each epoch of all steps so far.
    best : float, optional
        What the kept weights reached in this step: the lower the better.
    kept : dict of str to numpy.ndarray
        The weights that learn in this step, of its best epoch or of the last one.
    variables, optimiser : list of numpy.ndarray
        All numbers of the network and of its optimiser after the last epoch.
    """

    folder: Path | None
    key: str
    step: int = 1
    is_over: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    variables: list[np.ndarray] = field(default_factory=list)
    optimiser: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path | None, key: str) -> "Progress":
        """Take up what a killed training of the same fingerprint left, or start from nothing."""
        if folder is None or not (folder / STATE).is_file():
            return cls(folder, key)
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            if state.pop("key") != key:
                return cls(folder, key)
            with (
                (folder / ARRAYS).open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                parts: dict[str, Any] = {"kept": {}, "variables": [], "optimiser": []}
                for name in arrays.files:
                    part, _, rest = name.partition("/")
                    if part == "kept":
                        parts[part][rest] = arrays[name]
                    else:
                        parts[part].append(arrays[name])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return cls(folder, key)
        logger.info("train: going on after epoch %d", len(state["history"]))
        return cls(folder, key, **state, **parts)

    def epochs_of(self, step: int) -> list[dict[str, float]]:
        """Return the entries of one step."""
        return [row for row in self.history if row["step"] == step]

    def next_step(self, step: int) -> None:
        """Forget what belongs to the step before."""
        if step != self.step:
            self.step, self.is_over, self.best, self.kept = step, False, None, {}
            self.variables, self.optimiser = [], []

    def save(self) -> None:
        """Write everything; a kill while it is written leaves what was written before."""
        if self.folder is None:
            return
        state = {
            "key": self.key,
            "step": self.step,
            "is_over": self.is_over,
            "history": self.history,
            "best": self.best,
        }
        arrays = {f"kept/{name}": array for name, array in self.kept.items()}
        for part in ("variables", "optimiser"):
            arrays |= {f"{part}/{i:05d}": a for i, a in enumerate(getattr(self, part))}
        with store.replace_folder(self.folder) as folder:
            (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
            np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
