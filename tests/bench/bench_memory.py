"""Print what it costs to hand memory back after each array: python -m tests.bench.bench_memory.

The same drawn crops are measured by a worker process that keeps its memory, as ours do, and by one
that does not; seconds, and pages that the system had to clear. The workers take turns.
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core import parallel
from stages.images import morphology

SIDE = 160
N_CROPS = 40
ROUNDS = 3
KEEPERS = {"keeps": parallel.KEPT, "hands back": {}}


def draw() -> NDArray[np.uint8]:
    """Draw a cell with its nucleus, and noise."""
    crop = np.full((SIDE, SIDE, 3), 235, np.uint8)
    for radius, colour in ((50, (200, 170, 210)), (30, (100, 60, 140))):
        cv2.circle(crop, (SIDE // 2, SIDE // 2), radius, colour, -1)
    noise = np.random.default_rng(0).normal(0, 5, crop.shape)
    return np.clip(crop + noise, 0, 255).astype(np.uint8)


def time_crops(keeper: str) -> tuple[float, int]:
    """Return seconds, and cleared pages; the first crop, with its start, is left out."""
    parallel.KEPT = KEEPERS[keeper]
    parallel._settle()
    crop = draw()
    morphology.measure(crop)
    start = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(N_CROPS):
        morphology.measure(crop)
    end = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return end[0] - start[0], end[1] - start[1]


def main() -> None:
    for _ in range(ROUNDS):
        for keeper in KEEPERS:
            with ProcessPoolExecutor(1) as pool:
                seconds, pages = pool.submit(time_crops, keeper).result()
            sys.stdout.write(f"{keeper:10}  {seconds:.2f} s  {pages / N_CROPS:.0f} pages a crop\n")


if __name__ == "__main__":
    main()
