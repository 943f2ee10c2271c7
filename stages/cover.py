"""cover: hide the cell of scored images; its call must go. predictions -> metrics/cover.json."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.params import InputsParams, Params
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import PREDICTIONS
from stages.images import contact_sheets
from stages.inputs import reading, views
from stages.models import backbones, trained
from stages.models.recipes import AnyRecipe, CascadeRecipe, EnsembleRecipe, HeadRecipe
from stages.shortcuts import hidden_cell

MODEL = Path("data/model")
SHEET = Path("metrics/cover/examples.png")
N_EXAMPLES = 12

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/cover.json, and a sheet of images with the cell seen and hidden."""
    rule = params.load("hospitals", "features", "cover", "seed", "weights_dir")
    card = trained.read_card(MODEL)
    # The truth is not read: nothing here may depend on it.
    columns = ["image_id", "hospital", *hidden_cell.probability_columns(card.classes)]
    scored = PREDICTIONS.read(columns=columns)
    own = scored[scored["hospital"].isin(rule.hospitals)]
    drawn = hidden_cell.choose_images(own, rule.cover.max_images, rule.seed)
    before = hidden_cell.stored_calls(drawn, card.classes)
    after: pd.DataFrame | None = None
    tiles: list[contact_sheets.Pixels] = []
    if card.inputs.hide != "cell":
        after, tiles = _hide(drawn, before, card, rule)
    confident = rule.cover.confident
    content = hidden_cell.report(before, after, drawn["hospital"], card.classes, confident)
    write_metrics("cover", content)
    write_bytes(SHEET, contact_sheets.encode_sheet(tiles))
    if kept := content["all"]["keeps_confident_call"]:
        log.info("cover: %.3f of %d confident calls stay", kept["value"], kept["n"])


def _hide(
    drawn: pd.DataFrame, before: pd.DataFrame, card: trained.Card, rule: Params
) -> tuple[pd.DataFrame, list[contact_sheets.Pixels]]:
    """Call the images with their cells hidden; draw some of them in pairs."""
    confident, view, size = rule.cover.confident, card.inputs.white_balance[0], rule.features.size
    covered = card.inputs.model_copy(update={"hide": "cell"})
    # Pixels are prepared by forked processes, so TensorFlow must not be running yet.
    hidden = _prepare(card.recipe, drawn, covered, size)
    sure = drawn[(before["p"] >= confident).to_numpy()]
    pair = [
        _read(sure, inputs.model_copy(update={"white_balance": [view]}), size)
        for inputs in (card.inputs, covered)
    ]
    after = hidden_cell.name_calls(_predict(card.recipe, hidden, rule))
    shown = hidden_cell.choose_examples(before, after, confident, N_EXAMPLES, rule.seed)
    both = list(zip(pair, (before, after), strict=True))
    tiles = [_draw(rows, calls, image_id) for image_id in shown for rows, calls in both]
    return after, tiles


def _prepare(recipe: AnyRecipe, images: pd.DataFrame, rule: InputsParams, size: int) -> Any:
    """Return prepared pixels as the recipe takes them; `size` where it takes features of them."""
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        return {n: _prepare(member, images, rule, size) for n, member in recipe.members.items()}
    own = size if isinstance(recipe, HeadRecipe) or recipe.uses_features else recipe.size
    return _read(images, rule, own)


def _read(images: pd.DataFrame, rule: InputsParams, size: int) -> reading.Examples:
    return reading.read_pixels(sorted(set(images["hospital"])), images["image_id"], rule, size)


def _predict(recipe: AnyRecipe, rows: Any, rule: Params) -> pd.DataFrame:
    """Return the probabilities of prepared images; what learnt from features gets theirs."""
    model = trained.load(MODEL)
    return trained.predict_images(model, _embed(recipe, rows, rule))


def _embed(recipe: AnyRecipe, rows: Any, rule: Params) -> Any:
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        return {n: _embed(member, rows[n], rule) for n, member in recipe.members.items()}
    if not recipe.uses_features:
        return rows
    features = rule.features
    extractor = backbones.load_extractor(
        features.backbone, features.size, features.layers, rule.weights_dir
    )
    return replace(rows, x=views.embed(extractor, rows.x))


def _draw(rows: reading.Examples, calls: pd.DataFrame, image_id: str) -> contact_sheets.Pixels:
    """Return the tile of one view of an image, with its call and how sure that is."""
    place = list(rows.image_ids).index(image_id)
    return contact_sheets.caption(
        rows.x[place], [calls.loc[image_id, "call"], f"p {calls.loc[image_id, 'p']:.2f}"]
    )


if __name__ == "__main__":
    run_stage(main)
