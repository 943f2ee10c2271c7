"""cover: hide the cell of scored images; its call must go. predictions -> metrics/cover.json."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.params import InputsParams, Params
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import PREDICTIONS, SCORED_PARTS, SPLIT
from stages.images import contact_sheets, decoding
from stages.inputs import preparation, reading
from stages.models import rows, trained
from stages.shortcuts import hidden_cell

MODEL = Path("data/model")
SHEET = Path("metrics/cover/examples.png")
N_EXAMPLES = 12
SHOWN = 112  # px, side of a tile

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/cover.json, and a sheet of images with the cell seen and hidden."""
    rule = params.load("hospitals", "cover", "seed")
    card = trained.read_card(MODEL)
    # Groups alone: the truth stands in the same table, and only evaluate knows it.
    groups = SPLIT.read_all(rule.hospitals, ["image_id", "group"])
    answers = PREDICTIONS.read_all(rule.hospitals)
    answers = answers[answers["part"].isin(SCORED_PARTS)]
    predicted = hidden_cell.add_groups(answers, groups)
    drawn = hidden_cell.choose_images(predicted, rule.cover.max_images, rule.seed)
    before = hidden_cell.stored_calls(drawn, card.classes)
    after: pd.DataFrame | None = None
    tiles: list[contact_sheets.Pixels] = []
    if card.inputs.hide != "cell":
        after, tiles = _hide(drawn, before, card, rule)
    share = rule.cover.most_confident
    content = hidden_cell.report(before, after, drawn, card.classes, share, rule.seed)
    write_metrics("cover", content)
    write_bytes(SHEET, contact_sheets.encode_sheet(tiles))
    if kept := content["all"]["keeps_confident_call"]:
        log.info("cover: %.3f of the %d most confident calls stay", kept["value"], kept["n"])


def _hide(
    drawn: pd.DataFrame, before: pd.DataFrame, card: trained.Card, rule: Params
) -> tuple[pd.DataFrame, list[contact_sheets.Pixels]]:
    """Call the images with their cells hidden; draw some of them in pairs."""
    view = card.inputs.white_balance[0]
    covered = card.inputs.model_copy(update={"hide": "cell"})
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    hidden = rows.read(card.recipe, partial(_stream, drawn, covered), covered, plain_only=True)
    after = hidden_cell.name_calls(trained.predict_images(trained.load(MODEL), hidden))
    confident = hidden_cell.find_confident(before, drawn["hospital"], rule.cover.most_confident)
    shown = hidden_cell.choose_examples(before, after, confident, N_EXAMPLES, rule.seed)
    ones = [card.inputs.model_copy(update={"white_balance": [view]}), covered]
    images = drawn[drawn["image_id"].isin(shown)]
    pair = [_prepare(images, one, view) for one in ones]
    both = list(zip(pair, (before, after), strict=True))
    tiles = [_draw(pixels[one], calls.loc[one]) for one in shown for pixels, calls in both]
    return after, tiles


def _stream(images: pd.DataFrame, rule: InputsParams) -> Iterator[reading.Picture]:
    for hospital, own in images.groupby("hospital", sort=True):
        yield from reading.stream_pictures(str(hospital), rule, set(own["image_id"]))


def _prepare(
    images: pd.DataFrame, rule: InputsParams, view: str
) -> dict[str, contact_sheets.Pixels]:
    """Return the few images that are shown, as the model sees them."""
    return {
        image_id: preparation.prepare(decoding.decode(content).rgb, geometry, rule, SHOWN, view)
        for image_id, content, geometry in _stream(images, rule)
    }


def _draw(pixels: contact_sheets.Pixels, call: pd.Series) -> contact_sheets.Pixels:
    """Return the tile of one view of an image, with its call and how sure that is."""
    return contact_sheets.caption(pixels, [call["call"], f"p {call['p']:.2f}"])


if __name__ == "__main__":
    run_stage(main)
