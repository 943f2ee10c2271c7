"""Print processor time and memory of finding near twins: python -m tests.bench.bench_twins [N ...].

Drawn hashes stand for pictures, 100,000 and 1,000,000 where nothing is said. ``random``: every bit
is thrown, and a hundredth are copies with 1 to 30 bits turned. ``alike``: the same, but a third of
the bits are nearly always 0. ``near white``: ``random``, and 20,000 that differ from one picture in
a tenth of their bits, and so from each other in more, as empty fields do. ``one cell``: 20,000 that
are mostly twins of each other. Each case runs in a process of its own; planted twins are looked up.
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from stages.images.near_duplicates import HASH_BITS, group_twins

TWIN_BITS = 24  # as shipped in params.yaml
N_UNKIND = 20_000
SIZES = (100_000, 1_000_000)
CASES = ("random", "alike", "near white", "one cell")
Bits = np.ndarray


def throw(rng: np.random.Generator, n: int, share: np.ndarray | float) -> Bits:
    """Throw n packed hashes whose bits are set with the probability `share`."""
    pieces = [
        np.packbits(rng.random((len(rows), HASH_BITS), np.float32) < share, axis=1)
        for rows in np.array_split(np.arange(n), max(1, n // 50_000))
    ]
    return np.concatenate(pieces)


def draw(case: str, n: int) -> tuple[Bits, np.ndarray]:
    """Draw packed hashes, and rows (picture, copy) that must be found as twins."""
    rng = np.random.default_rng(23)
    share: np.ndarray | float = 0.5
    if case == "alike":
        share = np.where(rng.random(HASH_BITS) < 1 / 3, 0.02, 0.5)
    hashes = throw(rng, n, share)
    copies = rng.choice(n, n // 100, replace=False)
    turned = np.arange(len(copies)) % 30 + 1
    flips = np.argsort(rng.random((len(copies), HASH_BITS)), axis=1) < turned[:, np.newaxis]
    planted = hashes[copies] ^ np.packbits(flips, axis=1)
    near = turned <= TWIN_BITS
    pairs = np.column_stack([copies[near], n + np.flatnonzero(near)])
    hashes = np.concatenate([hashes, planted])
    if case in ("near white", "one cell"):
        noise = 0.1 if case == "near white" else 0.04
        hashes = np.concatenate([hashes, hashes[0] ^ throw(rng, N_UNKIND, noise)])
    return hashes, pairs


def measure(case: str, n: int) -> tuple[float, float, int]:
    """Return seconds of processor time, peak memory in GB and the number of clusters."""
    drawn, pairs = draw(case, n)
    hashes = [row.tobytes() for row in drawn]
    del drawn
    ids = [f"h/{number:08d}" for number in range(len(hashes))]
    start = time.process_time()
    names = np.array(group_twins(ids, hashes, TWIN_BITS))
    seconds = time.process_time() - start
    assert (names[pairs[:, 0]] == names[pairs[:, 1]]).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return seconds, peak, len(np.unique(names))


def main() -> None:
    """Print a line for each case and number of pictures."""
    for n in map(int, sys.argv[1:] or SIZES):
        for case in CASES:
            with ProcessPoolExecutor(1) as pool:
                seconds, peak, clusters = pool.submit(measure, case, n).result()
            print(
                f"{n:9,} {case:10}  {seconds:7.1f} CPU s  {peak:.2f} GB  {clusters:,} clusters",
                flush=True,
            )


if __name__ == "__main__":
    main()
