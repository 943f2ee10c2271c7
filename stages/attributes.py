"""attributes: can what experts see be read off the model? -> metrics/attributes.json."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import write_metrics
from stages.core.tables import PREDICTIONS, SCORED_PARTS, TRAINING
from stages.explanation import attributes
from stages.inputs import reading
from stages.models import novelty_scores, trained

MODEL = Path("data/model")
NOT_ASKED = "attributes.tables of params.yaml is empty"
NOT_TOLD = "attributes.tables name no picture of the {} images"

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/attributes.json."""
    rule = params.load("hospitals", "attributes")
    content = _tell(rule.hospitals, rule.attributes.tables)
    write_metrics("attributes", content)
    log.info("attributes: %s", content.get("reason") or ", ".join(_say(content["attributes"])))


def _tell(hospitals: list[str], tables: list[str]) -> dict[str, Any]:
    if not tables:
        return {"reason": NOT_ASKED}
    told = attributes.read(tables)
    training = TRAINING.read(columns=["image_id", "label", "part"]).set_index("image_id")
    answers = PREDICTIONS.read_all(hospitals, ["image_id", "hospital", "part", "predicted"])
    scored = answers[answers["part"].isin(SCORED_PARTS)].set_index("image_id")
    taught = attributes.find(training.index[training["part"] == "train"], told)
    asked = attributes.find(scored.index, told)
    for name, own in (("training", taught), ("scored", asked)):
        if own.empty:
            return {"reason": NOT_TOLD.format(name)}
    card = trained.read_card(MODEL)
    recipes = {name: one for name, one in card.recipe.singles.items() if one.has_network}
    if not recipes:
        return {"reason": novelty_scores.NO_NETWORK}
    name, recipe = next(iter(recipes.items()))
    learn = (one for one in reading.stream_training("train") if one[0] in taught.index)
    ask = (
        one
        for hospital, own in scored.loc[asked.index].groupby("hospital", sort=True)
        for one in reading.stream_pictures(str(hospital), card.inputs, set(own.index))
    )
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    read = partial(reading.read_pixels, rule=card.inputs, size=recipe.side)
    examples = [read(learn), read(ask)]
    model = trained.load(MODEL)
    part = model if isinstance(model, trained.SingleModel) else model.members[name]
    known, seen = (novelty_scores.extract_images(part, one) for one in examples)
    classes = pd.concat([training["label"], scored["predicted"]])
    return {
        "network": name or "model",
        "attributes": attributes.read_off(known, seen, pd.concat([taught, asked]), classes),
    }


def _say(content: dict[str, Any]) -> list[str]:
    """Return for example "granularity .97 (.98 by class)"."""
    return [
        f"{name} {block['kappa']['value']:.2f} ({block['kappa_of_class']['value']:.2f} by class)"
        for name, block in content.items()
        if "reason" not in block and None not in
        (block["kappa"]["value"], block["kappa_of_class"]["value"])
    ] or ["too few images"]  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
