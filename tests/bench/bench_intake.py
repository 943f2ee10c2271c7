"""Print what intake costs: python -m tests.bench.bench_intake HOSPITAL [PYTHON].

Run it in a project whose data/raw holds the hospital. CPU seconds of the stages filter and quality,
with and without outlines, of bare decoding, and of cleanvision's checks, in turns; the same
pictures, each in a process of its own, imports not counted; then the two stages by two processes
against one, in seconds that pass. PYTHON is an interpreter that has cleanvision 0.3.7 (``uv venv``,
``uv pip install cleanvision==0.3.7``); without it that part is left out.

Each check of cleanvision, and what of ours covers it, without outlines:

dark, light         mean_r/g/b, value, lab_l; flag brightness_outlier
odd_aspect_ratio    width, height of images; warning odd_size
low_information     entropy; blank pictures are rejected by filter
exact_duplicates    pixel_sha256: rejected by filter as duplicate, or as conflicting_labels
near_duplicates     phash and twin_group of images; warning near_twin
blurry              sharpness, laplacian_variance, tenengrad; flag sharpness_outlier
grayscale           mode of images, saturation (0), lab_a and lab_b
odd_size            width, height of images; warning odd_size; min_side, max_side of filter
"""

import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, set_start_method
from pathlib import Path

import numpy as np

from stages import filter as filter_stage
from stages import quality
from stages.core.tables import IMAGES
from stages.images import cell_masks, decoding, segmentation

ROUNDS = 2
CHECKS = """
import sys, time
from cleanvision import Imagelab
start = time.process_time(), time.perf_counter()
Imagelab(data_path=sys.argv[1]).find_issues(n_jobs=1, verbose=False)
sys.stderr.write(f"{time.process_time() - start[0]} {time.perf_counter() - start[1]}")
"""


def leave_out_outlines(rgb: segmentation.Pixels) -> cell_masks.CellMask:
    """See no cell, and take white for white: the background is found for the outlines."""
    nothing = np.zeros(rgb.shape[:2], bool)
    white = (255.0, 255.0, 255.0)
    return cell_masks.CellMask(nothing, nothing, white, None, None, False, None, 0.0)


def run(what: str, hospital: str, workers: int) -> tuple[float, float]:
    """Return CPU seconds of this process and its workers, and seconds that passed."""
    logging.disable(logging.INFO)
    os.environ["SMEARFLOW_WORKERS"] = str(workers)
    set_start_method("fork", force=True)  # as the stages' processes begin; a spawned one spawns
    if what == "without outlines":
        cell_masks.segment = leave_out_outlines
    began = _cpu(), time.perf_counter()
    if what == "decoding":
        for row in IMAGES.stream(hospital, ["bytes"]):
            decoding.decode(row["bytes"])
    else:
        filter_stage.main(hospital)
        quality.main(hospital)
    return _cpu() - began[0], time.perf_counter() - began[1]


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def apart(what: str, hospital: str, workers: int = 1) -> tuple[float, float]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(run, what, hospital, workers).result()


def check(python: str, folder: Path) -> tuple[float, float]:
    """Let cleanvision check the pictures with everything that it has."""
    done = subprocess.run([python, "-c", CHECKS, str(folder)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cleanvision did not run: {done.stderr.strip().splitlines()[-1]}")
    cpu, passed = done.stderr.split()[-2:]
    return float(cpu), float(passed)


def prepare(hospital: str, folder: Path) -> None:
    """Make a project in `folder`, where nothing that exists is written over."""
    (folder / "data").mkdir()
    for name in ("params.yaml", "data/raw", "data/hospitals.yaml", "data/labels"):
        (folder / name).symlink_to(Path(name).resolve())
    os.chdir(folder)
    apart("without outlines", hospital)  # warms the disk, and makes the table for decoding
    (folder / "pictures").mkdir()
    for number, row in enumerate(IMAGES.stream(hospital, ["bytes", "format"])):
        (folder / "pictures" / f"{number:06}.{row['format']}").write_bytes(row["bytes"])


def main(hospital: str, python: str | None = None) -> None:
    spent: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        prepare(hospital, Path(place))
        n = IMAGES.count_rows(hospital)
        for _ in range(ROUNDS):
            for what in ("decoding", "without outlines", "with outlines"):
                spent.setdefault(what, []).append(apart(what, hospital))
            if python:
                spent.setdefault("cleanvision", []).append(check(python, Path(place) / "pictures"))
            for what in ("without outlines", "with outlines"):
                spent.setdefault(f"{what}, two processes", []).append(apart(what, hospital, 2))
    best = {what: tuple(map(min, zip(*own, strict=True))) for what, own in spent.items()}
    sys.stdout.write(f"{hospital}, {n} pictures; the better of {ROUNDS} rounds\n")
    for what, (cpu, passed) in best.items():
        line = f"{what:32} {cpu:7.2f} CPU s {passed:7.2f} s"
        line += f"   {cpu / best['decoding'][0]:5.1f} x decoding"
        if python:
            line += f"   {best['cleanvision'][0] / cpu:5.2f} x cleanvision's rate"
        one = best.get(what.removesuffix(", two processes"))
        if one and what.endswith("two processes"):
            line += f"   {one[1] / passed:.2f} x one process"
        sys.stdout.write(line + "\n")
    if not python:
        sys.stdout.write("cleanvision was left out: no interpreter was given that has it\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
