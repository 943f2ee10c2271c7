"""Print what intake costs as a collection grows: python -m tests.bench.bench_scale_up N [FOLDER].

N pictures of 96 x 96 px, an eighth of them drawn and all turned and mirrored, go as a folder
through download, filter, harmonise, split and quality (the slowest, and so the last). For each
stage: seconds, seconds of processor time of all processes, pictures in a second of processor time,
peak memory of the stage's own process and of all its processes together (shared pages counted
once), and bytes on the disk. FOLDER keeps the project; without it all is removed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import yaml

from stages.core.parallel import map_ordered
from stages.simulation.cells import CELL_TYPES, bank
from stages.simulation.pictures import Look, Style, draw, encode

ROOT = Path(__file__).resolve().parents[2]
SIDE = 96
STYLE = Style(width=SIDE, height=SIDE, px_per_um=SIDE / 36)
WRITES = {
    "download": ("data/raw",),
    "filter": ("data/images", "data/rejected"),
    "harmonise": ("data/labels.parquet",),
    "split": ("data/split",),
    "quality": ("data/quality",),
}
FOR_ONE = ("download", "filter", "quality")


def write_eight(number: int, folder: Path) -> None:
    """Draw one cell, and write it in its eight positions."""
    kind = CELL_TYPES[number % len(CELL_TYPES)]
    parts = bank(1, STYLE.px_per_um, STYLE.camera.noise)
    rgb = draw(STYLE, kind, [23, number], Look(), parts).rgb
    for position in range(8):
        turned = np.rot90(rgb, position % 4)
        content = encode(np.ascontiguousarray(turned[:, :: 1 - 2 * (position // 4)]), 90)
        (folder / kind / f"{number:07d}_{position}.jpg").write_bytes(content)


def prepare(n: int, project: Path) -> None:
    """Make a project of one hospital with a folder of n pictures."""
    pictures = project / "published"
    for kind in CELL_TYPES:
        (pictures / kind).mkdir(parents=True)
    for _ in map_ordered(partial(write_eight, folder=pictures), range(n // 8)):
        pass
    (project / "data/labels").mkdir(parents=True)
    for name in ("taxonomies.csv", "reviews.csv"):
        shutil.copy(ROOT / "data" / name, project / "data")
    rows = [f"{kind},{kind},,,drawn\n" for kind in CELL_TYPES]
    header = "published_label,cell_type,reason,expected,source\n"
    (project / "data/labels/many.csv").write_text(header + "".join(rows), encoding="utf-8")
    block = {"title": "drawn", "licence": "MIT", "citation": "none", "folder": str(pictures)}
    (project / "data/hospitals.yaml").write_text(yaml.safe_dump({"many": block}), encoding="utf-8")
    rule = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rule["hospitals"] = rule["split"]["train_hospitals"] = ["many"]
    (project / "params.yaml").write_text(yaml.safe_dump(rule), encoding="utf-8")


def measure(stage: str, project: Path) -> tuple[float, float, int, int]:
    """Run a stage; return seconds, processor seconds, and peak bytes of one and of all."""
    words = [sys.executable, "-m", f"stages.{stage}", *["many"] * (stage in FOR_ONE)]
    start, before = time.perf_counter(), os.times()
    child = subprocess.Popen(words, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)})
    own, of_all = 0, 0
    while child.poll() is None:
        one, together = weigh(psutil.Process(child.pid))
        own, of_all = max(own, one), max(of_all, together)
        time.sleep(0.3)
    if child.returncode:
        raise SystemExit(f"{stage} ended with {child.returncode}")
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return time.perf_counter() - start, used, own, of_all


def weigh(process: psutil.Process) -> tuple[int, int]:
    """Return bytes in memory of a process, and of it and its children together."""
    try:
        own = process.memory_info().rss
        family = [process, *process.children(recursive=True)]
        return own, sum(one.memory_full_info().pss for one in family)
    except psutil.Error:  # one of them has just ended
        return 0, 0


def count_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    """Draw, run each stage, and print a line for each."""
    n = int(sys.argv[1])
    project = Path(sys.argv[2] if sys.argv[2:] else tempfile.mkdtemp())
    start = time.perf_counter()
    prepare(n, project)
    drawn = count_bytes(project / "published") / 1e9
    seconds = time.perf_counter() - start
    print(f"{n:,} pictures, {drawn:.2f} GB, drawn in {seconds:.0f} s", flush=True)
    for stage, paths in WRITES.items():
        seconds, used, own, of_all = measure(stage, project)
        disk = sum(count_bytes(project / path) for path in paths)
        print(
            f"{stage:9} {seconds:7.1f} s {used:7.1f} CPU s {n / used:8.0f}/CPU s "
            f"{own / 1e9:6.2f} GB {of_all / 1e9:6.2f} GB in all {disk / 1e6:6.0f} MB disk",
            flush=True,
        )
    if not sys.argv[2:]:
        shutil.rmtree(project)


if __name__ == "__main__":
    main()
