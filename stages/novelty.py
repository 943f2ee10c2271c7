"""novelty: is it noticed that an image shows no known type? model, labels -> metrics/novelty.json.

Images of types that the taxonomy drops, and blank fields, against images of known types. Nothing
is learnt from the former: thresholds come from the validation images.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import LABELS, SCORED_PARTS, TRAINING
from stages.evaluation import unknown_types
from stages.evaluation.unknown_types import BLANK, KNOWN, UNKNOWN, VALID
from stages.images import contact_sheets, decoding
from stages.inputs import preparation, reading
from stages.models import novelty_scores, rows, trained
from stages.shortcuts import survival

MODEL = Path("data/model")
SHEET = Path("metrics/novelty/examples.png")
N_TRAINING = 4000  # images that features are compared with
N_BLANK = 20  # fields of each hospital
NOISE = 2.0  # grey levels: standard deviation within a blank field
N_SHOWN = 4  # of each kind and score
SHOWN = 112  # px, side of a tile

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/novelty.json, and a sheet of the images that are told worst."""
    rule = params.load("hospitals", "novelty", "seed")
    card = trained.read_card(MODEL)
    images = _choose_images(rule.hospitals, rule.novelty.max_images, rule.seed)
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    stream = partial(_stream, images, card)
    pictures = rows.read(card.recipe, stream, card.inputs, plain_only=True)
    recipes = {name: one for name, one in card.recipe.singles.items() if one.has_network}
    taught = {name: _read_training(one.side, card) for name, one in recipes.items()}
    scored, spread = _score(trained.load(MODEL), images, pictures, taught)
    lacking = novelty_scores.say_lacking(recipes)
    scores: dict[str, Any] = {
        name: {"says": says}
        | (
            {"reason": lacking[name]}
            if name in lacking
            else unknown_types.report(scored, name, rule.novelty.known, rule.seed)
        )
        for name, says in novelty_scores.SCORES.items()
    }
    counts = scored["kind"].value_counts()
    write_metrics(
        "novelty",
        {
            "known": rule.novelty.known,
            "n_images": {kind: int(counts.get(kind, 0)) for kind in (VALID, KNOWN, UNKNOWN, BLANK)},
            "scores": scores,
            "stranger": unknown_types.describe_stranger(scored, spread, rule.novelty.known),
        },
    )
    made = [name for name in scores if name not in lacking]
    tiles = _draw(scored, made, card)
    write_bytes(SHEET, contact_sheets.encode_sheet(tiles, 2 * N_SHOWN))
    _say(scores)


def _choose_images(hospitals: list[str], max_images: int, seed: int) -> pd.DataFrame:
    """Return image_id, hospital, part, group, kind and cell_type, on names of the rows."""
    columns = ["image_id", "hospital", "part", "group"]
    split = reading.read_split(hospitals, ["valid", *SCORED_PARTS], columns)
    is_valid = split["part"] == "valid"
    known = survival.choose_images(split[~is_valid], max_images, seed)
    labels = LABELS.read(columns=["image_id", "hospital", "group", "cell_type", "keep"])
    unknown = unknown_types.find_unknown(labels[labels["hospital"].isin(hospitals)])
    unknown = survival.choose_images(unknown.drop(columns="keep"), max_images, seed)
    kinds = {
        VALID: split[is_valid],
        KNOWN: known,
        UNKNOWN: unknown,
        BLANK: survival.choose_images(known, N_BLANK, seed),
    }
    images = pd.concat([own.assign(kind=kind) for kind, own in kinds.items()], ignore_index=True)
    names = images["image_id"].where(images["kind"] != BLANK, "blank " + images["image_id"])
    return images.set_index(names.rename("name"))


def _stream(images: pd.DataFrame, card: trained.Card) -> Iterator[Any]:
    """Yield the pictures, and blank fields in the background's colour of some."""
    for hospital, own in images.groupby("hospital", sort=True):
        wanted = set(own["image_id"])
        for name, content, place in reading.stream_pictures(str(hospital), card.inputs, wanted):
            if name in own.index:
                yield name, content, place
            if (blank := f"{BLANK} {name}") in own.index:
                yield blank, _empty(decoding.decode(content).rgb, place, name), place


def _empty(rgb: preparation.Pixels, place: preparation.Geometry, name: str) -> preparation.Pixels:
    """Return a picture of the same size in which nothing but background is seen."""
    noise = np.random.default_rng(seed_for(0, "blank", name)).normal(0, NOISE, rgb.shape)
    return np.clip(np.rint(np.asarray(place.white) + noise), 0, 255).astype(np.uint8)


def _read_training(side: int, card: trained.Card) -> reading.Examples:
    """Read so many of the training images, spread evenly over their names."""
    rows_ = TRAINING.read(columns=["image_id", "part"])
    names = sorted(rows_.loc[rows_["part"] == "train", "image_id"])
    places = np.linspace(0, len(names) - 1, min(len(names), N_TRAINING), dtype=int)
    wanted = {names[place] for place in places}
    stream = (one for one in reading.stream_training("train") if one[0] in wanted)
    return reading.read_pixels(stream, card.inputs, side)


def _score(
    model: trained.Model,
    images: pd.DataFrame,
    pictures: rows.Rows,
    taught: dict[str, reading.Examples],
) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """Put beside each image its scores; of several networks their mean, in deviations of valid.

    The second is the mean and the deviation of each network's energy.
    """
    answers = trained.predict_images(model, pictures)
    labels = TRAINING.read(columns=["image_id", "label"]).set_index("image_id")["label"]
    pieces = []
    spreads = {}
    for name, training in taught.items():
        part = model if isinstance(model, trained.SingleModel) else model.members[name]
        own = pictures[name] if isinstance(pictures, dict) else pictures
        known = novelty_scores.extract_images(part, training)
        features = novelty_scores.extract_images(part, own).loc[images.index]
        learnt = novelty_scores.learn(known.to_numpy(), labels.loc[known.index].to_numpy())
        measured = novelty_scores.measure(part, learnt, features.to_numpy())
        piece = pd.DataFrame(measured, index=images.index)
        valid = piece[images["kind"] == VALID]
        mean, spread = valid.mean(), valid.std(ddof=0).replace(0, 1)
        if valid.empty:
            mean, spread = 0 * piece.mean(), 0 * piece.mean() + 1
        pieces.append((piece - mean) / spread)
        if "energy" in piece:
            spreads[name] = (float(mean["energy"]), float(spread["energy"]))
    found = images.assign(softmax=-answers.max(axis=1).loc[images.index])
    scored = found.join(pd.concat(pieces).groupby(level=0).mean()) if pieces else found
    return scored, spreads


def _draw(
    scored: pd.DataFrame, scores: list[str], card: trained.Card
) -> list[contact_sheets.Pixels]:
    """Return a row for each score: unknown images that it finds known, known ones found strange."""
    order = []
    for name in scores:
        ranked = scored.sort_values([name, "image_id"])
        unknown, known = (list(ranked.index[ranked["kind"] == kind]) for kind in (UNKNOWN, KNOWN))
        least, most = unknown[:N_SHOWN], known[::-1][:N_SHOWN]
        gap = [None] * (N_SHOWN - len(least))
        order += [(name, image) for image in [*least, *gap, *most]]
        order += [(name, None)] * (N_SHOWN - len(most))
    shown = scored.loc[sorted({image for _, image in order if image is not None})]
    seen = {
        name: preparation.prepare(
            decoding.decode(content).rgb, place, card.inputs, SHOWN, card.inputs.white_balance[0]
        )
        for name, content, place in _stream(shown, card)
    }
    tiles = []
    for name, image in order:
        lines = [name, "", ""]
        if image is not None:
            row = scored.loc[image]
            what = row["cell_type"] if row["kind"] == UNKNOWN else "a known type"
            lines = [name, str(what), str(row["hospital"])]
        tiles.append(contact_sheets.caption(seen.get(image), lines))
    return tiles


def _say(scores: dict[str, Any]) -> None:
    for name, block in scores.items():
        if "reason" in block:
            log.info("novelty: %s: %s", name, block["reason"])
            continue
        told = [
            f"{where.replace('_', ' ')} {one['value']:.2f} ({one['n_hospitals']} hospitals)"
            for where, one in block["mean_auc"].items()
            if one["value"] is not None
        ]
        if told:
            log.info("novelty: %s: AUC of unknown types %s", name, ", ".join(told))
        else:
            log.info("novelty: %s: too few images of unknown types to tell", name)


if __name__ == "__main__":
    run_stage(main)
