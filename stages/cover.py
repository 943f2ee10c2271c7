"""cover: hide the cell of scored images; its call must go. predictions -> metrics/cover.json."""

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stages.core import backbones, covering, examples, params, sheets, training, views
from stages.core.errors import ModelError, run_stage
from stages.core.params import FeaturesParams, InputsParams, Params, PixelRecipe
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import PREDICTIONS

MODEL = Path("data/model")
SHEET = Path("metrics/cover/examples.png")
N_EXAMPLES = 12

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/cover.json, and a sheet of images with the cell seen and hidden."""
    rule = params.load("hospitals", "features", "cover", "seed")
    card = training.read_card(MODEL)
    # The truth is not read: nothing here may depend on it.
    columns = ["image_id", "hospital", *covering.probability_columns(card.classes)]
    scored = PREDICTIONS.read(columns=columns)
    own = scored[scored["hospital"].isin(rule.hospitals)]
    drawn = covering.choose_images(own, rule.cover.max_images, rule.seed)
    before = covering.stored_calls(drawn, card.classes)
    after: pd.DataFrame | None = None
    tiles: list[sheets.Pixels] = []
    if card.inputs.hide != "cell":
        after, tiles = _hide(drawn, before, card, rule)
    confident = rule.cover.confident
    content = covering.report(before, after, drawn["hospital"], card.classes, confident)
    write_metrics("cover", content)
    write_bytes(SHEET, sheets.encode_sheet(tiles))
    if kept := content["all"]["keeps_confident_call"]:
        log.info("cover: %.3f of %d confident calls stay", kept["value"], kept["n"])


def _hide(
    drawn: pd.DataFrame, before: pd.DataFrame, card: training.Card, rule: Params
) -> tuple[pd.DataFrame, list[sheets.Pixels]]:
    """Call the images with their cells hidden; draw some of them in pairs."""
    confident, view = rule.cover.confident, card.inputs.white_balance[0]
    size = card.recipe.size if isinstance(card.recipe, PixelRecipe) else rule.features.size
    # Pixels are prepared by forked processes, so TensorFlow must not be running yet.
    hidden = _prepare(drawn, card.inputs.model_copy(update={"hide": "cell"}), size)
    sure = drawn[(before["p"] >= confident).to_numpy()]
    seen = _prepare(sure, card.inputs.model_copy(update={"white_balance": [view]}), size)
    after = covering.name_calls(_predict(hidden, rule.features))
    shown = covering.choose_examples(before, after, confident, N_EXAMPLES, rule.seed)
    pair = ((seen, before), (hidden, after))
    tiles = [_draw(rows, calls, image_id, view) for image_id in shown for rows, calls in pair]
    return after, tiles


def _prepare(images: pd.DataFrame, rule: InputsParams, size: int) -> examples.Examples:
    return examples.read_pixels(sorted(set(images["hospital"])), images["image_id"], rule, size)


def _predict(rows: examples.Examples, rule: FeaturesParams) -> pd.DataFrame:
    """Return the probabilities of prepared images; a head gets their features."""
    model = training.load(MODEL)
    if isinstance(model.recipe, PixelRecipe):
        return training.predict_images(model, rows)
    backbone = backbones.load_lite0(rule.size, rule.layers)
    given, taken = backbone.output_shape[-1], model.network.input_shape[-1]
    if given != taken:
        raise ModelError(
            f"{MODEL} takes {taken} features, but those of params.yaml (features.layers) are "
            f"{given}. Run 'uv run dvc repro', which trains the model on them."
        )
    return training.predict_images(model, replace(rows, x=views.embed(backbone, rows.x)))


def _draw(rows: examples.Examples, calls: pd.DataFrame, image_id: str, view: str) -> sheets.Pixels:
    """Return the tile of one view of an image, with its call and how sure that is."""
    place = list(zip(rows.image_ids, rows.views, strict=True)).index((image_id, view))
    return sheets.caption(
        rows.x[place], [calls.loc[image_id, "call"], f"p {calls.loc[image_id, 'p']:.2f}"]
    )


if __name__ == "__main__":
    run_stage(main)
