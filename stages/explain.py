"""explain: where the evidence for calls lies. predictions, model -> metrics/explain.json.

Of the scored images it takes the same number of each hospital and class called, by name.
"""

import inspect
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import parallel, params, progress
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import IMAGES, PREDICTIONS, SCORED_PARTS, SPLIT
from stages.explanation import map_scores, maps
from stages.explanation.maps import Map, Mask, Pixels
from stages.images import cell_masks, contact_sheets, decoding
from stages.inputs import preparation, reading
from stages.models import trained
from stages.shortcuts import survival

MODEL = Path("data/model")
SHEET = Path("metrics/explain/examples.png")
PARTIAL = Path("data/explain.partial")  # what a killed run has reached
N_CLASSES = 3  # the most probable ones of an image
N_EXAMPLES = 8
CHECKED = 2  # each how manieth image is also asked mirrored, and of a network that forgot

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/explain.json, and a sheet of images with their maps."""
    rule = params.load("hospitals", "explain", "seed")
    card = trained.read_card(MODEL)
    drawn = _draw_images(rule.hospitals, card.classes, rule.explain.images, rule.seed)
    explainer = maps.Explainer.of(trained.load(MODEL), rule.explain.methods, rule.seed)
    shown = set(survival.choose_examples(drawn, N_EXAMPLES, rule.seed))
    masks = _read_masks(drawn)
    scores: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    tiles: list[Pixels] = []
    with progress.keep(PARTIAL, *_list_inputs(drawn, explainer.methods, rule.seed)) as done:
        for image_id, content, geometry in parallel.show_progress(
            _stream(drawn, card), len(drawn), "explain"
        ):
            row = drawn.loc[image_id]
            mask = masks.get(image_id)
            picture = [image_id.encode(), content, mask or b"", repr(geometry).encode()]
            item = progress.digest(*picture)
            if image_id in shown or item not in done.known:
                likeliest = row[card.classes].astype(float).nlargest(N_CLASSES)
                rgb = decoding.decode(content).rgb
                look = cache(partial(_look, rgb, _outline(rgb, mask), geometry, card))
                seed = seed_for(rule.seed, "explain", image_id)
                found, own = _explain(explainer, look, likeliest, seed)
                done.add(item, [own, _compare(found)])
                if image_id in shown:
                    tiles += _draw(look(explainer.side)[0], row["hospital"], likeliest, found)
            own, pair = done.known[item]
            place = {"group": row["group"], "hospital": row["hospital"]}
            scores += [place | one for one in own]
            pairs.append(place | pair)
    report = {
        "n_images": len(drawn),
        "left_out": explainer.left_out,
        "methods": map_scores.summarise(pd.DataFrame(scores), explainer.methods),
        "not_made": explainer.not_made,
        "agreement": map_scores.average(pd.DataFrame(pairs)),
    }
    write_metrics("explain", report)
    columns = 1 + len(explainer.methods) * N_CLASSES
    write_bytes(SHEET, contact_sheets.encode_sheet(tiles, columns))
    _say(report)


def _draw_images(
    hospitals: Sequence[str], classes: Sequence[str], n_images: int, seed: int
) -> pd.DataFrame:
    """Return the images with the probability of each class, ``call``, ``hospital``, ``group``."""
    groups = SPLIT.read_all(hospitals, ["image_id", "group"])
    answers = PREDICTIONS.read_all(hospitals)
    scored = survival.add_groups(answers[answers["part"].isin(SCORED_PARTS)], groups)
    calls = survival.stored_calls(scored, classes)
    known = scored.set_index("image_id").rename(columns=lambda name: name.removeprefix("p_"))
    table = known[[*classes, "hospital", "group"]].join(calls)
    return table.loc[sorted(survival.choose_by_call(table, n_images, seed))]


def _list_inputs(drawn: pd.DataFrame, methods: Sequence[str], seed: int) -> list[bytes]:
    """Return what the maps and scores of all images depend on."""
    model = sorted(path for path in MODEL.rglob("*") if path.is_file())
    code = [Path(inspect.getfile(one)) for one in (maps, map_scores, preparation, main)]
    told = json.dumps([list(methods), seed, drawn.to_csv()])
    return [told.encode(), *(path.read_bytes() for path in [*model, *code])]


def _stream(drawn: pd.DataFrame, card: trained.Card) -> Iterator[reading.Picture]:
    for hospital, own in drawn.groupby("hospital", sort=True):
        yield from reading.stream_pictures(str(hospital), card.inputs, set(own.index))


def _read_masks(drawn: pd.DataFrame) -> dict[str, bytes]:
    """Return the published masks, by image_id."""
    rows = chain.from_iterable(
        IMAGES.stream(str(hospital), ["image_id", "mask"], set(own.index))
        for hospital, own in drawn.groupby("hospital")
    )
    return {row["image_id"]: row["mask"] for row in rows if row["mask"] is not None}


def _outline(rgb: Pixels, published: bytes | None) -> tuple[Mask, Mask]:
    """Return cell and nucleus as published, or else as we outline them."""
    told = cell_masks.read_published(decoding.decode(published).rgb) if published else None
    if told is None or told[0].shape != rgb.shape[:2]:
        outlined = cell_masks.segment(rgb)
        return outlined.cell, outlined.nucleus
    cell, nucleus = told
    return cell, cell_masks.segment(rgb).nucleus & cell if nucleus is None else nucleus


def _look(
    rgb: Pixels,
    outlines: tuple[Mask, Mask],
    geometry: preparation.Geometry,
    card: trained.Card,
    size: int,
) -> tuple[Pixels, Mask, Mask]:
    """Return the pixels that a network of this size sees, and cell and nucleus among them."""
    x = preparation.prepare(rgb, geometry, card.inputs, size, card.inputs.white_balance[0])
    rule = card.inputs.model_copy(update={"hide": "nothing"})
    nowhere = replace(geometry, white=(0.0, 0.0, 0.0))
    cell, nucleus = (
        preparation.prepare(np.stack([mask * np.uint8(255)] * 3, -1), nowhere, rule, size, "none")
        for mask in outlines
    )
    return x, cell[..., 0] > 127, nucleus[..., 0] > 127


def _explain(
    explainer: maps.Explainer, look: Any, likeliest: pd.Series, seed: int
) -> tuple[dict[str, list[Map | None]], list[dict[str, Any]]]:
    """Return the maps of an image by method, one for each class, and the scores of its call's."""
    found, scores = {}, []
    for method in explainer.methods:
        by_class: dict[str, list[Map]] = {name: [] for name in likeliest.index}
        asked = explainer.ask(method, lambda side: look(side)[0], list(likeliest.index), seed)
        for name, part, own in asked:
            for one, values in own.items():
                by_class[one].append(maps.resize(values, explainer.side))
            call = likeliest.index[0]
            if call in own:
                x, *masks = look(part.recipe.side)
                column = part.classes.index(call)
                again = partial(maps.explain, method, columns=[column], seed=seed)
                forgot = explainer.forgotten[name]
                judged = map_scores.judge(
                    again, part, forgot, x, own[call], column, masks, seed, seed % CHECKED == 0
                )
                scores.append({"method": method, **judged})
        found[method] = [np.mean(one, axis=0) if one else None for one in by_class.values()]
    return found, scores


def _compare(found: Mapping[str, Sequence[Map | None]]) -> dict[str, float | None]:
    """Return how alike the methods' maps of the call are, by pair."""
    calls = {name: own[0] for name, own in found.items()}
    return {
        f"{first} and {second}": map_scores.compare(one, other)
        for (first, one), (second, other) in combinations(calls.items(), 2)
        if one is not None and other is not None
    }


def _draw(
    seen: Pixels, hospital: str, likeliest: pd.Series, found: Mapping[str, Sequence[Map | None]]
) -> list[Pixels]:
    """Return a row of tiles: the image as it is seen, then its maps by method and class."""
    tiles = [contact_sheets.caption(seen, ["as it is", hospital, ""])]
    for method, own in found.items():
        for (label, p), values in zip(likeliest.items(), own, strict=True):
            heat = None if values is None else contact_sheets.lay_over(values, seen)
            tiles.append(contact_sheets.caption(heat, [method, str(label), f"p {p:.2f}"]))
    return tiles


def _say(content: Mapping[str, Any]) -> None:
    for name, block in content["methods"].items():
        share, area = (block["all"][one]["value"] for one in ("in_cell", "cell_area"))
        if share is not None:
            log.info("explain: %s: %.2f of the evidence in the cell's %.2f", name, share, area)
    for why in content["not_made"].values():
        log.info("explain: %s", why)


if __name__ == "__main__":
    run_stage(main)
