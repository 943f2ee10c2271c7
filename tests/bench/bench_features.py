"""Print what stage features adds to the bare network: python -m tests.bench.bench_features.

The stage reads pictures, prepares their views and asks the network, in several threads. The bare
network gets the same views, prepared before, in a process of its own: one batch after the other,
each on all cores, as TensorFlow does unless told otherwise. Beside it, the network alone in as
many threads as the stage has. They take turns, so that what else runs hits all alike.
"""

import logging
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import quality
from stages.core import backend, parallel, params
from stages.core.tables import IMAGES
from stages.images import decoding
from stages.inputs import preparation, reading, views
from stages.models import backbones
from stages.simulation.cells import CELL_TYPES, bank
from stages.simulation.pictures import Look, Style, draw, encode

HOSPITAL = "drawn"
N_IMAGES = 512
N_DRAWN = 64  # each several times: drawing is slow
N_TURNS = 5
BATCH = 32  # of the bare network: Keras' own
PIXELS = "views.npy"
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
            "simulated": True,
            "place": HOSPITAL,
        }
        rows.append({name: known.get(name) for name in IMAGES.schema.names})
    IMAGES.write(pd.DataFrame(rows), HOSPITAL)
    logging.disable()
    quality.main(HOSPITAL)


def _measure() -> None:
    rule = params.load("inputs", "features", "weights_dir")
    size = rule.features.size
    pictures = list(reading.stream_pictures(HOSPITAL, rule.inputs))
    start = time.thread_time()
    pixels = np.stack([one for picture in pictures for one in _prepare(picture, rule)])
    preparing = time.thread_time() - start
    n_views = len(pixels)
    np.save(PIXELS, pixels)
    near, far = get_context("spawn").Pipe()
    other = get_context("spawn").Process(target=_run_bare, args=(far,))
    other.start()
    backend.use_one_thread_an_operation()
    network = _load(rule)
    network.predict_on_batch(pixels[: views.BATCH])  # traces the graph
    stage, bare, threads, cpu = [], [], [], []
    expected = near.recv()
    for _ in range(N_TURNS):
        start = time.perf_counter()
        told = views.embed_pictures(network, HOSPITAL, rule.inputs, size)
        found = np.stack([vector for _, _, vector in told])
        stage.append(time.perf_counter() - start)
        near.send("run")
        seconds, busy = near.recv()
        bare.append(seconds)
        cpu.append(busy / seconds)
        start = time.perf_counter()
        with ThreadPoolExecutor(parallel.count_workers()) as pool:
            list(pool.map(network.predict_on_batch, _cut(pixels)))
        threads.append(time.perf_counter() - start)
        if not np.array_equal(found, expected):
            raise AssertionError("the stage and the bare network give other features")
    near.send("stop")
    other.join()
    print(f"{rule.features.backbone} at {rule.features.size} px, {len(pictures)} pictures")
    print(f"preparing: {1e3 * preparing / n_views:.2f} ms of one core a view")
    for name, seconds in (("stage", stage), ("bare network", bare), ("in threads", threads)):
        print(f"{name}: {n_views / min(seconds):.0f} views/s")
    n_cores = parallel.count_workers()
    print(f"the bare network keeps {statistics.median(cpu):.1f} of {n_cores} cores busy")
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"stage / in threads: {_ratio(stage, threads)[1]}")
    ratio, text = _ratio(stage, bare)
    verdict = "held" if ratio <= PROMISE else "NOT held"
    print(f"stage / bare: {text}; at most {PROMISE:.2f}: {verdict}")


def _prepare(picture: reading.Picture, rule: params.Params) -> list[np.ndarray]:
    _, content, geometry = picture
    rgb = decoding.decode(content).rgb
    balances = sorted(rule.inputs.white_balance)
    size = rule.features.size
    return [preparation.prepare(rgb, geometry, rule.inputs, size, name) for name in balances]


def _run_bare(connection: Any) -> None:
    """Send the features; then, whenever asked, run a pass and send its seconds and CPU seconds."""
    network = _load(params.load("features", "weights_dir"))
    pixels = np.load(PIXELS)
    connection.send(np.concatenate([network.predict_on_batch(part) for part in _cut(pixels)]))
    while connection.recv() == "run":
        start, busy = time.perf_counter(), time.process_time()
        for part in _cut(pixels):
            network.predict_on_batch(part)
        connection.send((time.perf_counter() - start, time.process_time() - busy))


def _load(rule: params.Params) -> Any:
    wanted = rule.features
    return backbones.load_extractor(wanted.backbone, wanted.size, wanted.layers, rule.weights_dir)


def _cut(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[first : first + BATCH] for first in range(0, len(pixels), BATCH)]


def _ratio(ours: list[float], theirs: list[float]) -> tuple[float, str]:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return ratio, f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
