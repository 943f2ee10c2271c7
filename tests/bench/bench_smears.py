"""Print how many pictures one core draws a second: python -m tests.bench.bench_smears."""

import time

import cv2

from stages.simulation.cells import CELL_TYPES, bank
from stages.simulation.pictures import Look, Style, draw, encode

N_PICTURES = 330


def main() -> None:
    """Draw as many pictures of each cell type and print the rate."""
    cv2.setNumThreads(1)
    style, look = Style(width=360, height=360), Look()
    start = time.perf_counter()
    parts = bank(1, style.px_per_um, style.camera.noise)
    print(f"textures of one hospital: {time.perf_counter() - start:.2f} s, once a process")
    start, cpu = time.perf_counter(), time.process_time()
    n_bytes = 0
    for index in range(N_PICTURES):
        picture = draw(style, CELL_TYPES[index % len(CELL_TYPES)], [1, 2, index], look, parts)
        n_bytes += len(encode(picture.rgb, style.camera.jpeg_quality))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{N_PICTURES} pictures of 360 x 360 px, {n_bytes / N_PICTURES / 1000:.0f} kB each: "
        f"{N_PICTURES / wall:.0f} a second ({N_PICTURES / cpu:.0f} a second of processor time)"
    )


if __name__ == "__main__":
    main()
