"""bias: change scored pictures, see which calls survive. predictions -> metrics/bias.json."""

import logging
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.params import InputsParams
from stages.core.store import write_bytes, write_metrics
from stages.core.tables import PREDICTIONS, QUALITY, SCORED_PARTS, SPLIT
from stages.images import contact_sheets, decoding
from stages.inputs import preparation, reading
from stages.models import rows, trained
from stages.shortcuts import perturbations, survival

MODEL = Path("data/model")
SHEET = Path("metrics/bias/examples.png")
N_EXAMPLES = 8
N_OTHERS = 20  # pictures of each hospital that give backgrounds to the others
SHOWN = 112  # px, side of a tile
SEEN = "as it is"
BLIND = "the model was trained with inputs.hide: cell and never saw a cell that it could miss"
ALONE = "only one hospital has test images; this test needs another one's"

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/bias.json, and a sheet of pictures as they are and changed."""
    rule = params.load("hospitals", "bias", "seed")
    card = trained.read_card(MODEL)
    # Groups alone: the truth stands in the same table, and only evaluate knows it.
    groups = SPLIT.read_all(rule.hospitals, ["image_id", "group"])
    answers = PREDICTIONS.read_all(rule.hospitals)
    answers = answers[answers["part"].isin(SCORED_PARTS)]
    predicted = survival.add_groups(answers, groups)
    drawn = survival.choose_images(predicted, rule.bias.max_images, rule.seed)
    before = survival.stored_calls(drawn, card.classes)
    reasons = _say_impossible(rule.bias.tests, card, drawn)
    asked = [name for name in rule.bias.tests if name not in reasons]
    after = _ask(drawn, asked, card, rule.seed)
    content = {
        name: {"says": test.says, "bad": test.bad}
        | survival.report(
            before, after.get(name, reasons.get(name, "")), drawn, card.classes, test.bad,
            rule.bias.most_confident, rule.seed,
        )
        for name, test in perturbations.TESTS.items()
        if name in rule.bias.tests
    }  # fmt: skip
    tiles = _draw(drawn, {SEEN: before, **after}, card, rule.seed)
    write_metrics("bias", {"most_confident": rule.bias.most_confident, "tests": content})
    write_bytes(SHEET, contact_sheets.encode_sheet(tiles, 1 + len(after)))
    for name, block in content.items():
        if share := block["all"]["keeps_call"]:
            log.info("bias: %s: %.3f of %d calls stay", name, share["value"], share["n"])


def _say_impossible(
    tests: Collection[str], card: trained.Card, drawn: pd.DataFrame
) -> dict[str, str]:
    """Return the tests that cannot be made, with the reason."""
    if card.inputs.hide == "cell":
        return dict.fromkeys(tests, BLIND)
    if drawn["hospital"].nunique() > 1:
        return {}
    return {name: ALONE for name in tests if perturbations.TESTS[name].needs_other}


def _ask(
    drawn: pd.DataFrame, tests: Collection[str], card: trained.Card, seed: int
) -> dict[str, pd.DataFrame]:
    """Return what the model calls the changed pictures, by test."""
    if not tests:
        return {}
    stream = partial(_change, drawn, drawn, tests, card.inputs, seed)
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    changed = rows.read(card.recipe, stream, card.inputs, plain_only=True)
    answers = trained.predict_images(trained.load(MODEL), changed)
    names = {test: [_name(test, image_id) for image_id in drawn["image_id"]] for test in tests}
    index = pd.Index(drawn["image_id"])
    return {
        test: survival.name_calls(answers.loc[own].set_index(index)) for test, own in names.items()
    }


def _change(
    images: pd.DataFrame,
    drawn: pd.DataFrame,
    tests: Collection[str],
    inputs: InputsParams,
    seed: int,
) -> Iterator[reading.Changed]:
    """Yield some of the drawn pictures, each as each test changes it."""
    covered = inputs.model_copy(update={"hide": "cell"})
    columns = [*preparation.MEASURED, *perturbations.CYTOPLASM]
    quality = QUALITY.read_all(drawn["hospital"].unique().tolist(), columns)
    # The crop of a hidden cell must not tell the size of the cell.
    hidden = preparation.geometries(quality, covered)
    stains = perturbations.find_stains(quality)
    others = {
        str(hospital): [
            (decoding.decode(content).rgb, geometry)
            for _, content, geometry in _stream(own.head(N_OTHERS), inputs)
        ]
        for hospital, own in drawn.groupby("hospital", sort=True)
    }
    places = images.set_index("image_id")["hospital"]
    for image_id, content, geometry in _stream(images, inputs):
        rgb = decoding.decode(content).rgb
        for test in tests:
            place = hidden[image_id] if test == "hide" else geometry
            chance = perturbations.find_chance(seed, test, image_id)
            scene = perturbations.set_scene(
                rgb, place, str(places[image_id]), others, stains, chance
            )
            yield _name(test, image_id), perturbations.TESTS[test].change(scene), place


def _name(test: str, image_id: str) -> str:
    return f"{test} {image_id}"


def _stream(images: pd.DataFrame, rule: InputsParams) -> Iterator[reading.Picture]:
    for hospital, own in images.groupby("hospital", sort=True):
        yield from reading.stream_pictures(str(hospital), rule, set(own["image_id"]))


def _draw(
    drawn: pd.DataFrame, calls: dict[str, pd.DataFrame], card: trained.Card, seed: int
) -> list[contact_sheets.Pixels]:
    """Return a row of tiles for each picture that is shown: as it is, then by test."""
    tests = [name for name in calls if name != SEEN]
    if not tests:
        return []
    shown = survival.choose_examples(calls[SEEN], N_EXAMPLES, seed)
    images = drawn[drawn["image_id"].isin(shown)]
    plain = _stream(images, card.inputs)
    streams = chain(
        (
            (_name(SEEN, name), decoding.decode(content).rgb, place)
            for name, content, place in plain
        ),
        _change(images, drawn, tests, card.inputs, seed),
    )
    pictures = {name: (rgb, geometry) for name, rgb, geometry in streams}
    tiles = []
    for image_id in shown:
        for name, found in calls.items():
            rgb, geometry = pictures[_name(name, image_id)]
            view = card.inputs.white_balance[0]
            pixels = preparation.prepare(rgb, geometry, card.inputs, SHOWN, view)
            call = found.loc[image_id]
            lines = [name, call["call"], f"p {call['p']:.2f}"]
            tiles.append(contact_sheets.caption(pixels, lines))
    return tiles


if __name__ == "__main__":
    run_stage(main)
