"""Print how wide red cells are at each hospital: python -m tests.bench.bench_red_cells.

Run it in a project that was reproduced. Of each hospital up to 400 pictures, drawn by a seed: how
many show at least two red cells whole; the median diameter with its quartiles over these, px of the
published pictures; the same as a share of the picture's width; and the median radius of the white
cells, which depends on the types that a hospital photographed. barcelona and jhu are exports of one
camera at one scale, and barcelona224 is somebody's smaller copy of barcelona's: the widths of the
first two, and all three shares of the width, should be equal.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from stages.core import parallel, params
from stages.core.tables import IMAGES
from stages.images import cell_masks, decoding, neighbours, working_size

N_OF_HOSPITAL = 400
SEED = 1


def list_pictures() -> Iterator[dict[str, Any]]:
    """Yield hospital and bytes of the drawn pictures."""
    for hospital in params.load("hospitals").hospitals:
        ids = np.array(IMAGES.read(hospital, ["image_id"])["image_id"])
        drawn = np.random.default_rng(SEED).permutation(len(ids))[:N_OF_HOSPITAL]
        yield from IMAGES.stream(hospital, ["hospital", "bytes"], set(ids[drawn]))


def measure(picture: dict[str, Any]) -> dict[str, object]:
    rgb = decoding.decode(picture["bytes"]).rgb
    found = cell_masks.segment(rgb)
    times = working_size.factor(*rgb.shape[:2])
    seen = neighbours.measure(working_size.reduce(rgb), found, times)
    return {
        "hospital": picture["hospital"],
        "diameter": seen["red_cell_diameter"],
        "width": rgb.shape[1],
        "radius": found.cell_radius,
    }


def main() -> None:
    measured = parallel.map_ordered(measure, list_pictures())
    rows = pd.DataFrame(measured)
    sys.stdout.write(
        "hospital        pictures  seen  red cell px (quartiles)    / width  white r\n"
    )
    for hospital, own in rows.groupby("hospital", sort=False):
        seen = own[own["diameter"].notna()].astype({"diameter": float})
        low, middle, high = (seen["diameter"].quantile(share) for share in (0.25, 0.5, 0.75))
        sys.stdout.write(
            f"{hospital:15} {len(own):8} {len(seen):5}  {middle:6.1f} ({low:5.1f} to {high:5.1f})"
            f"     {(seen['diameter'] / seen['width']).median():8.4f} "
            f"{own['radius'].median():8.1f}\n"
        )


if __name__ == "__main__":
    main()
