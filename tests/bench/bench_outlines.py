"""Print how well cells are outlined where masks are published, and how well doubt is told.

``python -m tests.bench.bench_outlines``: Dice of cell and nucleus, and the share of cells below .8,
on ../shared/data. The network has learnt from none of these masks; the bound of the flag
(`cell_masks.SURE`) was chosen on those of raabin_krd. A basophil's mask at raabin_krd names no
nucleus, and is left out there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core import parallel
from stages.images import cell_masks, decoding

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MASKS = {
    "raabin_krd": ("raabin_krd/*/*.jpg", "_mask.png"),
    "jiangxi": ("jiangxi/**/*.bmp", ".png"),
    "cvb": ("cvb/**/*.bmp", ".png"),
}
CELL, NUCLEUS = 60, 190  # levels of a published mask above which cell and nucleus lie


def dice(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    return 2 * int((ours & theirs).sum()) / int(ours.sum() + theirs.sum())


def measure(job: tuple[str, Path, Path]) -> dict[str, object]:
    hospital, picture, mask = job
    found = cell_masks.segment(decoding.decode(picture.read_bytes()).rgb)
    published = decoding.decode(mask.read_bytes()).rgb.max(axis=2)
    cell, nucleus = published > CELL, published > NUCLEUS
    return {
        "hospital": hospital,
        "cell": dice(found.cell, cell) if cell.shape == found.cell.shape else np.nan,
        "unsure": found.is_unsure,
        "nucleus": dice(found.nucleus, nucleus) if nucleus.any() else np.nan,
    }


def list_jobs() -> Iterator[tuple[str, Path, Path]]:
    for hospital, (pattern, ending) in MASKS.items():
        for picture in sorted(SHARED.glob(pattern)):
            yield hospital, picture, picture.with_name(picture.stem + ending)


def main() -> None:
    rows = pd.DataFrame(list(parallel.map_ordered(measure, list_jobs())))
    for hospital, own in rows.groupby("hospital"):
        sys.stdout.write(
            f"{hospital}: {len(own)} pictures; cell Dice {own['cell'].mean():.3f}, "
            f"{(own['cell'] < 0.8).mean():.1%} below .8; nucleus {own['nucleus'].mean():.3f}; "
            f"{own['unsure'].mean():.1%} flagged as unsure, cell Dice of these "
            f"{own['cell'][own['unsure']].mean():.3f}, of the others "
            f"{own['cell'][~own['unsure']].mean():.3f}, "
            f"{(own['cell'][~own['unsure']] < 0.8).mean():.1%} below .8\n"
        )


if __name__ == "__main__":
    main()
