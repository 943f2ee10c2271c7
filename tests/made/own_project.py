"""A small project that holds pictures of cells, for what looks pictures up in it."""

import shutil

import pandas as pd

from stages.core.tables import IMAGES, SPLIT, TRAINING
from stages.datasets import filtering
from stages.images import cell_masks
from tests.made.answering import draw_cell, encode
from tests.projects import ROOT

TYPES = ("basophil", "monocyte")


def cell_of(number):
    return draw_cell(TYPES[number % 2], number)


def write_project(folder, n_images=6, hospital="east"):
    """Write images and split of one hospital, all its pictures tested; and the vocabulary."""
    (folder / "data").mkdir(exist_ok=True)
    shutil.copy(ROOT / "data/taxonomies.csv", folder / "data")
    cells = [cell_of(number) for number in range(n_images)]
    ids = [f"{hospital}/{number}.png" for number in range(n_images)]
    images = pd.DataFrame(
        {
            "image_id": ids, "hospital": hospital, "path": [f"{n}.png" for n in range(n_images)],
            "place": hospital, "bytes": [encode(one) for one in cells],
            "pixel_sha256": [filtering.hash_pixels(one) for one in cells],
            "sha256": "0", "width": 120, "height": 120, "format": "png", "mode": "RGB",
            "simulated": False, "phash": bytes(32), "twin_group": ids,
            "warnings": [[] for _ in ids],
        }
    )  # fmt: skip
    IMAGES.write(images.assign(**dict.fromkeys(_missing(IMAGES, images))), hospital)
    split = pd.DataFrame(
        {"image_id": ids, "hospital": hospital, "label": "x", "group": ids, "twin_group": ids,
         "part": ["test", "train", *["unseen"] * (n_images - 2)], "left_out_reason": None}
    )  # fmt: skip
    SPLIT.write(split, hospital)


def write_training(n_images=6):
    """Write the pictures that a model learnt from: each cell of `cell_of`, and one to validate."""
    rows = []
    for number in range(n_images + 1):
        rgb = cell_of(number)
        found = cell_masks.segment(rgb)
        name = f"west/{number}.png"
        rows.append({
            "image_id": name, "hospital": "west", "label": TYPES[number % 2], "group": name,
            "twin_group": name, "part": "valid" if number == n_images else "train",
            "bytes": encode(rgb), "centre_x": found.centre[0], "centre_y": found.centre[1],
            "radius": found.cell_radius, "white_r": found.white[0], "white_g": found.white[1],
            "white_b": found.white[2], "cell_mask": found.packed,
        })  # fmt: skip
    TRAINING.write(pd.DataFrame(rows))


def _missing(table, frame):
    return [name for name in table.schema.names if name not in frame]
