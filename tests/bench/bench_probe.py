"""Print what the probe's pass costs beside the pass of quality: python -m tests.bench.bench_probe.

Then the simple models, on as many images as the shipped params look at.
"""

import time

import cv2
import numpy as np
import pandas as pd

from stages.core import params
from stages.images import cell_masks
from stages.inputs import preparation
from stages.quality import measure_picture
from stages.shortcuts import contingency, measures, shortcut_scores
from stages.simulation.cells import CELL_TYPES, bank
from stages.simulation.pictures import Look, Style, draw, encode

N_IMAGES = 110


def main() -> None:
    """Draw some images, measure them both ways, ask the models; print rates and their ratio."""
    cv2.setNumThreads(1)
    rule = params.load("inputs", "probe")
    style, look = Style(width=360, height=363), Look()
    parts = bank(1, style.px_per_um, style.camera.noise)
    drawn = [
        draw(style, CELL_TYPES[number % len(CELL_TYPES)], [1, 2, number], look, parts).rgb
        for number in range(N_IMAGES)
    ]
    contents = [encode(rgb, style.camera.jpeg_quality) for rgb in drawn]
    found = [cell_masks.segment(rgb) for rgb in drawn]
    places = [
        preparation.Geometry(one.centre, one.cell_radius, one.white, one.packed) for one in found
    ]

    start = time.perf_counter()
    for content in contents:
        measure_picture(
            {"image_id": "", "hospital": "", "bytes": content, "mask": None, "shown": False}
        )
    quality = N_IMAGES / (time.perf_counter() - start)
    start = time.perf_counter()
    rows = [measures.measure(*one, rule.inputs) for one in zip(contents, places, strict=True)]
    probe = N_IMAGES / (time.perf_counter() - start)
    print(
        f"one core: quality {quality:.0f} images/s, probe {probe:.0f}: ratio {probe / quality:.2f}"
    )

    n = rule.probe.max_images
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rows).iloc[rng.integers(0, N_IMAGES, n)].to_numpy()
    images = pd.DataFrame(
        {
            "image_id": [f"h/{number:06d}" for number in range(n)],
            "hospital": [f"hospital{number % 3}" for number in range(n)],
            "label": [CELL_TYPES[number % len(CELL_TYPES)] for number in range(n)],
            "group": [f"patient{number % 300}" for number in range(n)],
        }
    )
    measured = pd.DataFrame(values, index=images["image_id"], columns=list(rows[0]))
    start = time.perf_counter()
    counts = contingency.count_classes(images)
    shortcut_scores.report(images, measured, counts, False, rule.probe.alarm, 1)
    seconds = time.perf_counter() - start
    print(f"simple models of {n} images, 3 hospitals, 11 classes: {seconds:.0f} s, one thread")
    print(f"that is the pass of {seconds * probe:.0f} images on one core")


if __name__ == "__main__":
    main()
