"""Print what stage features adds to the bare network: python -m tests.bench.bench_features.

The stage reads pictures, prepares their views on threads and asks the network; the bare network
gets the same views, prepared before. They take turns, so that what else runs hits both alike.
"""

import logging
import os
import shutil
import statistics
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import quality
from stages.core import backbones, parallel, params, views
from stages.core.cells import CELL_TYPES, bank
from stages.core.drawing import Look, Style, draw, encode
from stages.core.tables import IMAGES

HOSPITAL = "drawn"
N_IMAGES = 512
N_DRAWN = 64  # each several times: drawing is slow
N_TURNS = 5
PROMISE = 1.10


def main() -> None:
    """Draw a hospital, extract its features both ways in turns; print rates and their ratio."""
    project = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy("params.yaml", folder)
        os.chdir(folder)
        try:
            _write_hospital()
            _measure()
        finally:
            os.chdir(project)


def _write_hospital() -> None:
    """Write drawn cells as stage filter leaves them, and their quality."""
    style, look = Style(width=360, height=363), Look()
    parts = bank(1, style.px_per_um, style.camera.noise)
    drawn = [
        draw(style, CELL_TYPES[number % len(CELL_TYPES)], [1, 2, number], look, parts).rgb
        for number in range(N_DRAWN)
    ]
    contents = [encode(rgb, style.camera.jpeg_quality) for rgb in drawn]
    rows = []
    for number in range(N_IMAGES):
        content = contents[number % N_DRAWN]
        digest = sha256(content).hexdigest()
        path = f"{number:04d}.jpg"
        known = {
            "image_id": f"{HOSPITAL}/{path}",
            "hospital": HOSPITAL,
            "path": path,
            "sha256": digest,
            "pixel_sha256": digest,
            "width": style.width,
            "height": style.height,
            "format": "jpeg",
            "mode": "RGB",
            "bytes": content,
            "phash": digest[:32].encode(),
            "twin_group": f"{HOSPITAL}/{path}",
            "warnings": [],
        }
        rows.append({name: known.get(name) for name in IMAGES.schema.names})
    IMAGES.write(pd.DataFrame(rows), HOSPITAL)
    logging.disable()
    quality.main(HOSPITAL)


def _measure() -> None:
    rule = params.load("inputs", "features", "weights_dir", "seed")
    wanted = rule.features
    network = backbones.load_extractor(
        wanted.backbone, wanted.size, wanted.layers, rule.weights_dir
    )
    groups = [pixels for _, _, pixels in views.gather(views.prepare_ahead(HOSPITAL, rule))]
    n_views = sum(map(len, groups))
    views.embed(network, groups[0])  # traces the graph
    stage, bare, cpu = [], [], []
    for _ in range(N_TURNS):
        start = time.perf_counter()
        found = _as_the_stage(network, rule)
        stage.append(time.perf_counter() - start)
        start, busy = time.perf_counter(), time.process_time()
        expected = np.concatenate([views.embed(network, pixels) for pixels in groups])
        bare.append(time.perf_counter() - start)
        cpu.append((time.process_time() - busy) / bare[-1])
        if not np.array_equal(found, expected):
            raise AssertionError("the stage and the bare network give other features")
    start = time.thread_time()
    pictures = list(views.read_pictures(HOSPITAL, rule.inputs))
    for picture in pictures:
        views.prepare_views(picture, rule)
    alone = (time.thread_time() - start) / n_views
    ratios = [one / other for one, other in zip(stage, bare, strict=True)]
    ratio = statistics.median(ratios)
    print(f"{wanted.backbone} at {wanted.size} px, {N_IMAGES} pictures, {n_views} views")
    print(f"bare network {n_views / min(bare):.0f} views/s, stage {n_views / min(stage):.0f}")
    print(f"preparing: {1e3 * alone:.2f} ms of one core a view")
    n_cores = parallel.count_workers()
    print(f"the bare network keeps {statistics.median(cpu):.1f} of {n_cores} cores busy")
    print(f"load average {os.getloadavg()[0]:.1f}")
    verdict = "held" if ratio <= PROMISE else "NOT held"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"stage / bare: {ratio:.2f} ({spread}); at most {PROMISE:.2f}: {verdict}")


def _as_the_stage(network: Any, rule: params.Params) -> np.ndarray:
    """Extract features as `features.main` does."""
    parts = [
        views.embed(network, pixels)
        for _, _, pixels in views.gather(views.prepare_ahead(HOSPITAL, rule))
    ]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
