"""Pictures of the project that a page runs in: which one is it, and some to try."""

from collections import defaultdict
from pathlib import Path

from stages.core.settings import seed_for
from stages.core.tables import IMAGES, SCORED_PARTS, SPLIT

N_EXAMPLES = 12


def list_pixels() -> dict[str, list[str]]:
    """Return the image_ids of all usable pictures by the checksum of their pixels.

    Two hospitals may hold the same picture. Outside of a project there is none.
    """
    found = defaultdict(list)
    for hospital in _list_hospitals(IMAGES.path):
        for row in IMAGES.read(hospital, ["image_id", "pixel_sha256"]).itertuples():
            found[row.pixel_sha256].append(row.image_id)
    return dict(found)


def list_tested() -> list[str]:
    """Return the hospitals some of whose pictures taught the model nothing."""
    return [name for name in _list_hospitals(SPLIT.path) if _list_scored(name)]


def read_examples(hospital: str) -> list[tuple[str, bytes]]:
    """Return twelve pictures of a hospital that taught the model nothing: image_id and file.

    Drawn by their names, so whatever they show: their labels are not read.
    """
    drawn = sorted(_list_scored(hospital), key=lambda name: seed_for(0, "page", name))
    rows = IMAGES.stream(hospital, ["image_id", "bytes"], set(drawn[:N_EXAMPLES]))
    return [(row["image_id"], row["bytes"]) for row in rows]


def _list_hospitals(path: str) -> list[str]:
    return sorted(one.stem for one in Path(path).parent.glob("*.parquet"))


def _list_scored(hospital: str) -> list[str]:
    rows = SPLIT.read(hospital, ["image_id", "part"])
    return list(rows.loc[rows["part"].isin(SCORED_PARTS), "image_id"])
