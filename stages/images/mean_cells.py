"""The mean cell of each class: its picture, and its stains from the centre to the rim."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.images.stains import RINGS, STAINS, THUMBNAIL

COLUMNS = ("image_id", "has_cell", "profile", "thumbnail")


@dataclass(frozen=True)
class MeanCell:
    """What pictures of a class have in common.

    Attributes
    ----------
    n : int
        Pictures with a cell.
    picture : numpy.ndarray of uint8, shape (40, 40, 3)
        The mean of their thumbnails.
    profile : numpy.ndarray of float64, shape (3, 8), or None
        Mean density of each of ``stains.STAINS`` in rings from the centre to the rim, in OD; None
        where no picture has one.
    """

    n: int
    picture: NDArray[np.uint8]
    profile: NDArray[np.float64] | None


def average(rows: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> dict[str, MeanCell]:
    """Average the cells of each class, with one picture in memory at a time.

    Parameters
    ----------
    rows : iterable of mapping
        `COLUMNS` of ``tables.QUALITY``.
    labels : mapping of str to str
        Class by image_id; other pictures are passed over, as those without a cell.

    Returns
    -------
    dict of str to MeanCell
        By class, in the order of names.
    """
    n_images: dict[str, int] = {}
    sums: dict[str, NDArray[np.int64]] = {}
    n_profiles: dict[str, int] = {}
    profiles: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        label = labels.get(row["image_id"])
        if label is None or not row["has_cell"]:
            continue
        n_images[label] = n_images.get(label, 0) + 1
        seen = np.frombuffer(row["thumbnail"], np.uint8)
        sums[label] = sums.get(label, np.zeros(seen.shape, np.int64)) + seen
        if row["profile"] is not None:
            n_profiles[label] = n_profiles.get(label, 0) + 1
            profiles[label] = profiles.get(label, 0.0) + np.array(row["profile"])
    return {
        label: MeanCell(
            n_images[label],
            np.rint(sums[label] / n_images[label])
            .astype(np.uint8)
            .reshape(THUMBNAIL, THUMBNAIL, 3),
            (profiles[label] / n_profiles[label]).reshape(len(STAINS), RINGS)
            if label in profiles
            else None,
        )
        for label in sorted(n_images)
    }
