"""A model that answers, made by hand, and pictures of cells that it knows."""

import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.answering import about
from stages.answering.about import About, Confidence, Novelty
from stages.core.params import FilterParams, InputsParams
from stages.models import trained
from tests.made.lenets import CLASSES, LENET, MIDDLE, made_lenet

INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["none"], hide="nothing"
)
FILTER = FilterParams(min_side=64, max_side=1024, twin_bits=24, max_lost=0.1)
COLOURS = {"basophil": (80, 110, 190), "monocyte": (190, 110, 80)}
CELL_TYPES = {name: [name] for name in CLASSES}


def draw_cell(cell_type: str, number: int = 0, radius: int = 27, side: int = 120) -> Any:
    rng = np.random.default_rng(number)
    rgb = np.full((side, side, 3), (232, 232, 232), np.uint8)
    place = tuple(map(int, rng.integers(side // 2 - 4, side // 2 + 4, 2)))
    colour = tuple(int(level) for level in rng.normal(COLOURS[cell_type], 4))
    cv2.circle(rgb, place, radius, colour, -1)
    return rgb


def encode(rgb: Any) -> bytes:
    content: bytes = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    return content


def pack(files: dict[str, bytes]) -> bytes:
    """Return a zip of these files, written in memory."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def write_cells(folder: Path, cell_type: str, n: int, start: int = 0) -> list[Path]:
    """Write so many pictures; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{cell_type}_{number}.png" for number in range(start, start + n)]
    for number, path in enumerate(paths, start):
        path.write_bytes(encode(draw_cell(cell_type, number)))
    return paths


def lenet() -> trained.SingleModel:
    return trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), made_lenet("cell", MIDDLE))


def write_export(
    folder: Path,
    model: Any = None,
    threshold: float | None = 0.6,
    temperature: float = 1.0,
    strange: float | None = None,
    spread: dict[str, tuple[float, float]] | None = None,
) -> Path:
    """Write what the stage export writes; `strange` is the threshold of the energy."""
    trained.save(model or lenet(), folder / about.MODEL)
    told = About(
        taxonomy="shared5",
        cell_types=CELL_TYPES,
        filter=FILTER,
        confidence=Confidence(
            temperature=temperature,
            threshold=threshold,
            wished_error=0.1,
            learnt_from="unseen",
            hospitals=["east"],
            n_images=50,
        ),
        novelty=Novelty(threshold=strange, spread=spread or {"model": (0.0, 1.0)}),
        reference={"basophil": (0, 2), "monocyte": (2, 10)},
        model_sha256=about.hash_model(folder / about.MODEL),
    )
    about.write(told, folder)
    return folder
