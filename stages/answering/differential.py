"""A differential count: of each folder the percentages of the white cells, beside usual ones."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.answering.model import NOT_READ, UNKNOWN, Answer
from stages.core.shares import wilson

NO_WHITE_CELLS = {"artefact", "erythroblast", "giant_platelet", "platelet", "platelet_clump",
                  "smudge_cell"}  # fmt: skip


@dataclass(frozen=True)
class Share:
    """A class of a folder.

    Attributes
    ----------
    label : str
    n : int
    percent, low, high : float, optional
        Of the white cells, with the 95 % interval by Wilson; None for a class that is none of
        them. Errors of the model are not in it.
    usual : tuple of float, optional
        Percentages that are usual in adults.
    place : str, optional
        ``below``, ``within`` or ``above`` the usual ones where the whole interval is; else
        ``perhaps below``, ``perhaps above``.
    """

    label: str
    n: int
    percent: float | None = None
    low: float | None = None
    high: float | None = None
    usual: tuple[float, float] | None = None
    place: str | None = None


@dataclass
class Counts:
    """What was called in each folder; answers are added one by one.

    Attributes
    ----------
    by_folder : dict of str to Counter
        Calls of each class; of pictures that are not known and not read, under these verdicts.
    verdicts : Counter
        Of all pictures.
    """

    by_folder: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Count a picture."""
        self.verdicts[answer.verdict] += 1
        is_counted = answer.verdict not in (UNKNOWN, NOT_READ)
        called = answer.call if is_counted and answer.call else answer.verdict
        self.by_folder[answer.folder][called] += 1


def describe(
    counts: Mapping[str, int],
    cell_types: Mapping[str, Sequence[str]],
    usual: Mapping[str, tuple[float, float]],
) -> list[Share]:
    """Return the share of each class of a folder.

    Parameters
    ----------
    counts : mapping of str to int
        By class, and by verdict where there is no call.
    cell_types : mapping of str to sequence of str
        By class, what it stands for. Platelets, erythroblasts and artefacts are no white cells.
    usual : mapping of str to tuple of float
        By class, in percent.

    Returns
    -------
    list of Share
        In the order of `cell_types`.
    """
    white = [name for name, types in cell_types.items() if not set(types) <= NO_WHITE_CELLS]
    total = sum(counts.get(name, 0) for name in white)
    found = []
    for name in cell_types:
        n = counts.get(name, 0)
        if name not in white or not total:
            found.append(Share(name, n))
            continue
        low, high = (100 * end for end in wilson(n, total))
        share = 100 * n / total
        range_ = usual.get(name)
        place = None if range_ is None else _place(share, low, high, range_)
        found.append(Share(name, n, share, low, high, range_, place))
    return found


def _place(share: float, low: float, high: float, usual: tuple[float, float]) -> str:
    least, most = usual
    if share < least:
        return "below" if high < least else "perhaps below"
    if share > most:
        return "above" if low > most else "perhaps above"
    return "within"
