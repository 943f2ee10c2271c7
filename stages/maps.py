"""maps: features and pixels on planes, by class and hospital. images, split -> metrics/maps.

One page that needs no network; its script shows the picture of a mark that is clicked.
"""

import base64
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from stages.core import params
from stages.core.errors import TableError, run_stage
from stages.core.params import InputsParams, Params
from stages.core.settings import seed_for
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import SCORED_PARTS
from stages.evaluation import bootstrap, mixing
from stages.inputs import reading, views
from stages.models import backbones, planes
from stages.models.planes import METHODS
from stages.pages import drawing, map_sections, scatter
from stages.pages.blocks import Charts

PAGE = Path("metrics/maps/index.html")
SHEET = Path("metrics/maps/maps.png")
SCRIPT = Path(__file__).parent / "pages/maps.js"
KINDS = {"features": "frozen features", "pixels": "pixels of small pictures"}
PIXELS = 24  # px, side of the pictures whose pixels are mapped
SHOWN = 56  # px, side of the picture of a mark
KNOWN = ["image_id", "hospital", "label", "group", "twin_group", "part"]
SAID = {"train": "training part: taught the maps", "test": "held back", "unseen": "unseen hospital"}
PURPOSE = (
    "Whether pictures of one class lie together, or pictures of one hospital: before any training, "
    "in what a frozen network sees and in the pixels themselves."
)

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/maps.json, the page, and all maps on one picture.

    Raises
    ------
    TableError, ModelError
        All training pictures are alike, or there is none to place.
    """
    rule = params.load("hospitals", "inputs", "features", "weights_dir", "maps", "seed")
    images = _draw(rule.hospitals, rule.maps.max_images, rule.seed)
    rows = reading.read_pixels(_stream(images, rule.inputs), rule.inputs, rule.features.size)
    balances = rule.inputs.white_balance
    seen = rows.x[sorted(balances).index(balances[0]) :: len(balances)]
    vectors = {
        "features": _embed(rows, rule).loc[images["image_id"]].to_numpy(np.float32),
        "pixels": np.stack([_shrink(one, PIXELS).ravel() / np.float32(255) for one in seen]),
    }
    learnt = {kind: _learn(x, images, rule.seed) for kind, x in vectors.items()}
    maps = {kind: places for kind, (places, _) in learnt.items()}
    is_placed = images["part"].isin(SCORED_PARTS).to_numpy()
    report = {
        "k": mixing.K,
        "interval": bootstrap.EXPANDED,
        "n_fitted": int((~is_placed).sum()),
        "n_placed": int(is_placed.sum()),
        "left_out": {kind: left_out for kind, (_, left_out) in learnt.items()},
        "mixing": {
            kind: {
                space: mixing.measure(x[is_placed], images[is_placed], rule.seed)
                for space, x in ({map_sections.ALL: vectors[kind]} | maps[kind]).items()
            }
            for kind in KINDS
        },
    }
    write_metrics("maps", report)
    page = _draw_page(report, images, maps, seen).encode()
    write_bytes(PAGE, page)
    write_bytes(SHEET, _draw_sheet(images, maps))
    log.info("maps: %d pictures, %.1f MB", len(images), len(page) / 1e6)


def _draw(hospitals: Sequence[str], n_images: int, seed: int) -> pd.DataFrame:
    """Return pictures of each hospital that teach the maps, and as many that do not, by name."""
    split = reading.read_split(hospitals, ["train", *SCORED_PARTS], KNOWN)
    lots = [seed_for(seed, "maps", image_id) for image_id in split["image_id"]]
    shuffled = split.assign(lot=lots).sort_values(["lot", "image_id"])
    turn = shuffled.groupby(["hospital", shuffled["part"] == "train"]).cumcount()
    drawn = shuffled[turn < n_images].drop(columns="lot")
    if not drawn["part"].isin(SCORED_PARTS).any():
        raise TableError(
            "data/split has no test or unseen picture, so nothing can be placed on a map. Add a "
            "hospital that is not in split.train_hospitals, or raise split.test."
        )
    return drawn.sort_values(["hospital", "image_id"], ignore_index=True)


def _stream(images: pd.DataFrame, rule: InputsParams) -> Iterator[reading.Picture]:
    """Yield the pictures in the order of `images`."""
    for hospital, own in images.groupby("hospital", sort=True):
        yield from reading.stream_pictures(str(hospital), rule, set(own["image_id"]))


def _embed(rows: reading.Examples, rule: Params) -> pd.DataFrame:
    """Return the mean vector of each picture's views, as stage features and gather make them."""
    wanted = rule.features
    network = backbones.load_extractor(
        wanted.backbone, wanted.size, wanted.layers, rule.weights_dir
    )
    starts = range(0, len(rows.x), views.BATCH)
    batches = [network.predict_on_batch(rows.x[at : at + views.BATCH]) for at in starts]
    return views.average(rows.image_ids, np.concatenate(batches))


def _shrink(view: drawing.Pixels, side: int) -> drawing.Pixels:
    if len(view) <= side:
        return view
    return cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _learn(
    x: NDArray[np.float32], images: pd.DataFrame, seed: int
) -> tuple[dict[str, planes.Places], dict[str, str]]:
    """Return the places of all pictures by method, in the order of `images`; what is left out."""
    is_fitted = (images["part"] == "train").to_numpy()
    labels = images.loc[is_fitted, "label"].tolist()
    found, left_out = planes.learn(x[is_fitted], labels, x[~is_fitted], seed)
    order = np.argsort(~is_fitted, kind="stable")  # the fitted rows come first
    places = {}
    for name, own in found.items():
        places[name] = np.empty_like(own)
        places[name][order] = own
    return places, left_out


def _draw_page(
    report: Mapping[str, Any],
    images: pd.DataFrame,
    maps: Mapping[str, Mapping[str, planes.Places]],
    seen: Iterable[drawing.Pixels],
) -> str:
    script = SCRIPT.read_text(encoding="utf-8")
    charts = {kind: _draw_charts(kind, maps[kind], images) for kind in KINDS}
    sections = map_sections.list_sections(report, KINDS, METHODS, charts)
    told = images[["image_id", "hospital", "label"]].assign(part=images["part"].map(SAID))
    jpegs = (drawing.embed(_shrink(one, SHOWN)).partition(",")[2] for one in seen)
    known = {
        "pictures": [
            [*row, jpeg] for row, jpeg in zip(told.to_numpy().tolist(), jpegs, strict=True)
        ],
        "places": {
            f"{kind}-{name}": scatter.to_page(own).tolist()
            for kind, found in maps.items()
            for name, own in found.items()
        },
    }
    return drawing.render(
        "maps.html.jinja",
        title="Maps of features and pixels",
        purpose=PURPOSE,
        sections=sections,
        colours=scatter.write_style(),
        known=known,
        script=Markup(script),
        script_hash=_hash(script),
    )


def _draw_charts(
    kind: str, maps: Mapping[str, planes.Places], images: pd.DataFrame
) -> list[Charts]:
    """Return a pair of maps for each method: by class, and by hospital."""
    is_placed = images["part"].isin(SCORED_PARTS).to_numpy()
    charts = []
    for name, own in maps.items():
        pair = []
        for told, (names, codes) in _list_keys(images).items():
            says = f"{METHODS[name]} of {KINDS[kind]}: {len(images)} pictures, marked by {told}"
            drawn = scatter.draw_map(f"{kind}-{name}", scatter.to_page(own), codes, is_placed, says)
            legend = scatter.draw_legend(names)
            pair.append((Markup("<span>By {}:</span> {}").format(told, legend), drawn))
        charts.append(Charts(map_sections.ABOUT[name], pair))
    return charts


def _draw_sheet(images: pd.DataFrame, maps: Mapping[str, Mapping[str, planes.Places]]) -> bytes:
    rows = {
        kind: [(METHODS[name], scatter.to_page(own)) for name, own in found.items()]
        for kind, found in maps.items()
    }
    is_placed = images["part"].isin(SCORED_PARTS).to_numpy()
    return scatter.draw_sheet(rows, _list_keys(images), is_placed)


def _list_keys(images: pd.DataFrame) -> dict[str, scatter.Key]:
    """Return by what marks tell the names, sorted, and which of them each picture has."""
    keys: dict[str, scatter.Key] = {}
    for told, column in mixing.ASKED.items():
        codes, names = pd.factorize(images[column].to_numpy(object), sort=True)
        keys[told] = (list(map(str, names)), codes.astype(np.int64))
    return keys


def _hash(script: str) -> str:
    """Return the one script that the page's policy lets run."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


if __name__ == "__main__":
    run_stage(main)
