"""Which images of an unseen hospital somebody labels, a few of each class; the rest tests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stages.core.errors import name_some
from stages.core.settings import seed_for

ONE_CLASS = "all of its images are of one class: there is nothing to learn to tell apart"
NOTHING_LEFT = (
    "no class can give an image: at most half of a class may go, with whole groups (patient, "
    "slide, twins), so that the rest can test"
)


@dataclass(frozen=True)
class Draw:
    """A few labels.

    Attributes
    ----------
    labelled : pandas.Series of str
        Class by image_id, of the images that are labelled.
    tested : list of str
        The images that are left to test: all of groups without a labelled image.
    n_by_class : dict of str to int
        How many of each class are labelled, 0 too.
    reason : str, optional
        Why there are none.
    note : str, optional
        Which classes gave fewer than was asked.
    """

    labelled: pd.Series
    tested: list[str]
    n_by_class: dict[str, int]
    reason: str | None
    note: str | None


def draw(images: pd.DataFrame, numbers: Sequence[int], seed: int) -> dict[int, Draw]:
    """Draw a few images of each class, out of as few groups as a person would label.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id``, ``label`` and ``group`` of one hospital, in any order.
    numbers : sequence of int
        How many of each class; one draw for each.
    seed : int

    Returns
    -------
    dict of int to Draw
        By number, rising; a greater draw holds the smaller ones.

    Notes
    -----
    Groups are gone through in an order of their names and the seed. One is opened if it has an
    image of a class that is short, and if every class keeps half of its images in groups that are
    not opened. So no group stands on both sides, and every class that can be tested without labels
    can be tested with them.
    """
    totals = Counter(images["label"])
    groups = {
        name: sorted(
            zip(rows["image_id"], rows["label"], strict=True),
            key=lambda image: seed_for(seed, image[0]),
        )
        for name, rows in images.groupby("group")
    }
    order = sorted(groups, key=lambda name: seed_for(seed, "group", str(name)))
    spent: Counter[str] = Counter()  # images of each class that can test no more
    given: Counter[str] = Counter()
    labelled: dict[str, str] = {}
    opened = set()
    draws = {}
    for number in sorted(numbers):
        for name in order:
            wanted = [one for one in groups[name] if given[one[1]] < number]
            own = Counter(label for _, label in groups[name])
            is_dear = any(2 * (spent[label] + n) > totals[label] for label, n in own.items())
            if not wanted or (name not in opened and is_dear):
                continue
            if name not in opened:
                opened.add(name)
                spent += own
            for image_id, label in wanted:
                if given[label] < number and image_id not in labelled:
                    labelled[image_id] = label
                    given[label] += 1
        is_tested = ~images["group"].isin(opened)
        draws[number] = _describe(labelled, images.loc[is_tested, "image_id"], totals, number)
    return draws


def _describe(
    labelled: dict[str, str], tested: pd.Series, totals: Counter[str], number: int
) -> Draw:
    counts = Counter(labelled.values())
    n_by_class = {label: counts[label] for label in sorted(totals)}
    reason = None
    if len(totals) < 2:
        reason = ONE_CLASS
    elif not labelled:
        reason = NOTHING_LEFT
    few = [f"{label} {n}" for label, n in n_by_class.items() if n < number]
    note = f"fewer than {number} of {name_some(few)}: half of each class tests" if few else None
    series = pd.Series(labelled, dtype=object)
    return Draw(series, sorted(tested), n_by_class, reason, None if reason else note)
