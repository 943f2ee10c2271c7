"""gallery: show calls, errors and look-alikes. predictions, model, training -> metrics/gallery.

One page that needs no network and no script.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import parallel, params
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.core.store import write_bytes
from stages.core.tables import SPLIT, TRAINING
from stages.evaluation import predictions
from stages.explanation import maps
from stages.images import contact_sheets, decoding
from stages.inputs import preparation, reading
from stages.models import novelty_scores, trained
from stages.pages import choosing, drawing
from stages.pages.drawing import Pixels
from stages.shortcuts import survival

MODEL = Path("data/model")
PAGE = Path("metrics/gallery/index.html")
SHEET = Path("metrics/gallery/errors.png")
SHOWN = 112  # px, side of a picture
N_CLASSES = 3  # the most probable ones of a picture
N_RIGHT, N_WRONG = 2, 4  # examples of each hospital and class
N_ERRORS, N_DOUBTS = 12, 8  # of each hospital
N_TILES = 6  # errors of each hospital on the sheet
N_NEAREST = 2  # training pictures of a class beside an error
N_TRAINING = 4000  # training pictures that are compared with the errors
N_GROUPS, N_TWINS = 8, 6  # groups of near twins, and pictures of a group
NO_NETWORK = "No similar training pictures are shown: the model has no network to compare them by."
NO_METHOD = (
    "No maps are drawn: none of the methods in explain.methods of params.yaml suits this model{}."
)

Nearest = dict[tuple[str, str], list[tuple[str, float]]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """The pictures of the page, and what is told of them.

    Attributes
    ----------
    calls : pandas.DataFrame, shape (n_images, n_columns)
        Of `choosing.name_calls`, with ``hospital``, ``part`` and ``label``, by image_id.
    chances : pandas.DataFrame, shape (n_images, n_classes)
        Probability of each class, by image_id.
    nearest : dict of (str, str) to list of (str, float), or None
        By error and class the most similar training pictures with their cosines; None where
        nothing is compared.
    seen : dict of str to numpy.ndarray of uint8, shape (112, 112, 3)
        By image_id: cropped and coloured as for the model.
    heat : dict of str to list of (numpy.ndarray of float64 or None), shape (112, 112)
        By image_id: a map for each of the most probable classes; None where no part of the model
        can have one.
    whole : dict of str to numpy.ndarray of uint8, shape (height, width, 3)
        By image_id: the published picture under the map of the class called.
    """

    calls: pd.DataFrame
    chances: pd.DataFrame
    nearest: Nearest | None
    seen: dict[str, Pixels] = field(default_factory=dict)
    heat: dict[str, list[maps.Map | None]] = field(default_factory=dict)
    whole: dict[str, Pixels] = field(default_factory=dict)

    def likeliest(self, image_id: str) -> pd.Series:
        """Return the probabilities of the most probable classes, the highest first."""
        return self.chances.loc[image_id].nlargest(N_CLASSES)

    def embed(self, image_id: str) -> str:
        """Return the picture as an address."""
        return drawing.embed(self.seen[image_id])


def main() -> None:
    """Write metrics/gallery/index.html, and a sheet of the most confident errors."""
    rule = params.load("hospitals", "explain", "seed")
    card = trained.read_card(MODEL)
    split = SPLIT.read_all(rule.hospitals)
    calls, chances = _read_calls(rule.hospitals, split, card.classes)
    examples = choosing.draw_examples(calls, N_RIGHT, N_WRONG, rule.seed)
    places = [own for _, own in calls.groupby(["part", "hospital"], sort=True)]
    errors = {image_id for own in places for image_id in choosing.rank_errors(own, N_ERRORS)}
    doubts = {image_id for own in places for image_id in choosing.rank_doubts(own, N_DOUBTS)}
    twins = choosing.group_twins(split, calls)
    paired = {image_id for own in twins[:N_GROUPS] for image_id in own.index[:N_TWINS]}
    wanted = split[split["image_id"].isin({*examples, *errors, *doubts, *paired})]

    labels, rows = _read_rows(wanted[wanted["image_id"].isin(errors)], card, rule.seed)
    explainer = maps.Explainer.of(trained.load(MODEL), rule.explain.methods, rule.seed)
    nearest = None if rows is None else _find_nearest(calls, labels, rows, explainer)
    shown = Shown(calls, chances, nearest)
    _look_at(wanted, set(examples), card, explainer, rule.seed, shown)
    _look_at_training(card, shown)

    content = {
        "classes": card.classes,
        "recipe": _say_recipe(card.recipe),
        "method": next(iter(explainer.methods), None),
        "no_maps": _say_no_maps(explainer),
        "left_out": explainer.left_out,
        "side": explainer.side,
        "inputs": card.inputs,
        "hospitals": [
            _show_hospital(own, card.classes, examples, set(labels), shown) for own in places
        ],
        "no_similar": NO_NETWORK if _find_looker(card) is None else None,
        "twins": [_show_twins(own, shown) for own in twins[:N_GROUPS]],
        "n_twins": len(twins),
        "n_training": len(labels),
    }
    page = drawing.render("gallery.html.jinja", **content).encode()
    write_bytes(PAGE, page)
    write_bytes(SHEET, _draw_sheet(places, shown))
    log.info("gallery: %d pictures, %.1f MB", page.count(b"<img "), len(page) / 1e6)


def _read_calls(
    hospitals: list[str], split: pd.DataFrame, classes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what each scored picture is called, and the probability of each class, by image_id."""
    chosen = predictions.choose_scored(split, hospitals)
    found = predictions.add_truth(predictions.read(hospitals), chosen)
    survival.stored_calls(found, classes)  # says so where another model made the predictions
    scored = found.set_index("image_id")
    chances = scored[survival.probability_columns(classes)].set_axis(classes, axis=1)
    return choosing.name_calls(scored[["hospital", "part", "label"]], chances), chances


def _find_looker(card: trained.Card) -> Any:
    """Return the recipe of the first network of the model, which tells what looks alike."""
    return next((one for one in card.recipe.singles.values() if one.has_network), None)


def _read_rows(
    errors: pd.DataFrame, card: trained.Card, seed: int
) -> tuple[pd.Series, reading.Examples | None]:
    """Return the classes of training pictures, and their rows with those of the errors.

    Without an error or a network there are none.
    """
    training = TRAINING.read(columns=["image_id", "label", "part"]).set_index("image_id")
    labels = training.loc[training["part"] == "train", "label"]
    labels = labels.loc[choosing.draw_training(labels, N_TRAINING, seed)]
    looker = _find_looker(card)
    if errors.empty or looker is None:
        return labels, None
    pictures = chain(_stream(errors, card), _stream_training(set(labels.index)))
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    return labels, reading.read_pixels(pictures, card.inputs, looker.side)


def _stream(images: pd.DataFrame, card: trained.Card) -> Iterator[reading.Picture]:
    for hospital, own in images.groupby("hospital", sort=True):
        yield from reading.stream_pictures(str(hospital), card.inputs, set(own["image_id"]))


def _stream_training(wanted: set[str]) -> Iterator[reading.Picture]:
    for row in TRAINING.stream(wanted=wanted):
        yield row["image_id"], row["bytes"], preparation.from_row(row)


def _find_nearest(
    calls: pd.DataFrame, labels: pd.Series, rows: reading.Examples, explainer: maps.Explainer
) -> Nearest:
    """Return by error and class the most similar training pictures with their cosines."""
    part = next(iter(explainer.parts.values()))
    vectors = novelty_scores.extract_images(part, rows)
    known = {name: vectors.loc[own.index] for name, own in labels.groupby(labels)}
    errors = calls.loc[vectors.index.difference(labels.index)]
    return {
        (image_id, name): choosing.find_nearest(
            vectors.loc[image_id].to_numpy(), known[name], N_NEAREST
        )
        for image_id, row in errors.iterrows()
        for name in (row["call"], row["label"])
        if name in known
    }


def _look_at(
    wanted: pd.DataFrame,
    examples: set[str],
    card: trained.Card,
    explainer: maps.Explainer,
    seed: int,
    shown: Shown,
) -> None:
    """Prepare the wanted pictures; find maps of those that are examples."""
    stream = parallel.show_progress(_stream(wanted, card), len(wanted), "gallery")
    for image_id, content, geometry in stream:
        rgb = decoding.decode(content).rgb
        look = cache(partial(_prepare, rgb, geometry, card))
        shown.seen[image_id] = look(SHOWN)
        if explainer.methods and image_id in examples:
            likeliest = list(shown.likeliest(image_id).index)
            own = seed_for(seed, "explain", image_id)
            found = _find_maps(explainer, look, likeliest, own)
            shown.heat[image_id] = found
            if found[0] is not None:
                back = preparation.bring_back(found[0], rgb, geometry, card.inputs)
                small = contact_sheets.shrink(contact_sheets.lay_over(back, rgb), SHOWN)
                shown.whole[image_id] = small


def _look_at_training(card: trained.Card, shown: Shown) -> None:
    wanted = {image_id for found in (shown.nearest or {}).values() for image_id, _ in found}
    for image_id, content, geometry in _stream_training(wanted):
        shown.seen[image_id] = _prepare(decoding.decode(content).rgb, geometry, card, SHOWN)


def _prepare(rgb: Pixels, geometry: preparation.Geometry, card: trained.Card, size: int) -> Pixels:
    return preparation.prepare(rgb, geometry, card.inputs, size, card.inputs.white_balance[0])


def _find_maps(
    explainer: maps.Explainer, look: Any, likeliest: list[str], seed: int
) -> list[maps.Map | None]:
    """Return a map for each class by the first method: the mean over the parts that know it."""
    found: dict[str, list[maps.Map]] = {name: [] for name in likeliest}
    for _, _, own in explainer.ask(explainer.methods[0], look, likeliest, seed):
        for name, values in own.items():
            found[name].append(maps.resize(values, SHOWN))
    return [np.mean(own, axis=0) if own else None for own in found.values()]


def _show_hospital(
    calls: pd.DataFrame,
    classes: Sequence[str],
    examples: Sequence[str],
    taught: set[str],
    shown: Shown,
) -> dict[str, Any]:
    """Return what the page says of a hospital."""
    names = [*classes, *sorted(set(calls["label"]) - set(classes))]
    by_class = [_show_class(name, calls, examples, shown) for name in names]
    return {
        "name": calls["hospital"].iloc[0],
        "part": calls["part"].iloc[0],
        "n": len(calls),
        "accuracy": float(calls["is_right"].mean()),
        "classes": [one for one in by_class if one["n"]],
        "absent": [one["name"] for one in by_class if not one["n"]],
        "untaught": sorted(set(calls["label"]) - taught),
        "n_errors": int((~calls["is_right"]).sum()),
        "errors": [_show_error(name, shown) for name in choosing.rank_errors(calls, N_ERRORS)],
        "doubts": [_show(name, shown) for name in choosing.rank_doubts(calls, N_DOUBTS)],
    }


def _show_class(
    name: str, calls: pd.DataFrame, examples: Sequence[str], shown: Shown
) -> dict[str, Any]:
    """Return examples of a class with their maps."""
    own = calls[calls["label"] == name]
    cases = [
        _show(image_id, shown)
        | {"maps": _show_maps(image_id, shown), "whole": _show_whole(image_id, shown)}
        for image_id in examples
        if image_id in own.index
    ]
    return {"name": name, "n": len(own), "n_right": int(own["is_right"].sum()), "cases": cases}


def _show_error(image_id: str, shown: Shown) -> dict[str, Any]:
    """Return an error with the training pictures like it, of the class called and the true one."""
    case = _show(image_id, shown)
    if shown.nearest is None:
        return case | {"similar": []}
    similar = []
    for name in (case["call"], case["label"]):
        tiles = [
            {"image_id": other, "src": shown.embed(other), "cosine": cosine}
            for other, cosine in shown.nearest.get((image_id, name), [])
        ]
        similar.append({"name": name, "tiles": tiles})
    return case | {"similar": similar}


def _show(image_id: str, shown: Shown) -> dict[str, Any]:
    """Return a picture with what it is and what it is called."""
    row = shown.calls.loc[image_id]
    return {
        "image_id": image_id,
        "src": shown.embed(image_id),
        "label": row["label"],
        "call": row["call"],
        "is_right": bool(row["is_right"]),
        "chances": list(shown.likeliest(image_id).items()),
    }


def _show_maps(image_id: str, shown: Shown) -> list[dict[str, Any]]:
    """Return the maps of a picture, none where the model has no method."""
    seen, found = shown.seen[image_id], shown.heat.get(image_id, [])
    return [
        {
            "name": name,
            "src": None if heat is None else drawing.embed(contact_sheets.lay_over(heat, seen)),
            "is_empty": heat is not None and not heat.any(),
        }
        for name, heat in zip(shown.likeliest(image_id).index, found, strict=False)
    ]


def _show_whole(image_id: str, shown: Shown) -> str | None:
    """Return the published picture under the map of the call; None without a map."""
    return drawing.embed(shown.whole[image_id]) if image_id in shown.whole else None


def _show_twins(own: pd.DataFrame, shown: Shown) -> dict[str, Any]:
    return {
        "n": len(own),
        "n_labels": own["label"].nunique(),
        "n_calls": own["call"].nunique(),
        "images": [
            {
                "image_id": row.Index, "src": shown.embed(row.Index),
                "part": row.part, "label": row.label,
                "call": row.call if row.is_scored else None,
            }
            for row in own.head(N_TWINS).itertuples()
        ],
    }  # fmt: skip


def _draw_sheet(places: list[pd.DataFrame], shown: Shown) -> bytes:
    """Return the most confident errors as a contact sheet, a row for each hospital."""
    tiles = []
    for own in places:
        errors = own.loc[choosing.rank_errors(own, N_TILES)]
        row = [
            contact_sheets.caption(
                shown.seen[one.Index],
                [one.hospital, f"called {one.call} {one.p:.2f}", f"published {one.label}"],
            )
            for one in errors.itertuples()
        ]
        blank = contact_sheets.caption(None, ["", "", ""])
        tiles += row + [blank] * (N_TILES - len(row)) if row else []
    none = contact_sheets.caption(None, ["no error", "", ""])
    return contact_sheets.encode_sheet(tiles or [none], N_TILES)


def _say_recipe(recipe: Any) -> str:
    """Return for example "ensemble of a (network lenet) and b (classifier knn of grey)"."""
    said = {
        name: f"network {one.network}" + (f", then {one.then.classifier}" if one.then else "")
        if one.kind == "network"
        else f"classifier {one.classifier} of {one.vectors}"
        for name, one in recipe.singles.items()
    }
    if recipe.kind in ("network", "classifier"):
        return said[""]
    return f"{recipe.kind} of " + " and ".join(f"{name} ({one})" for name, one in said.items())


def _say_no_maps(explainer: maps.Explainer) -> str | None:
    if explainer.methods:
        return None
    why = "; ".join(explainer.not_made.values())
    return NO_METHOD.format(f" ({why})" if why else ", as the list is empty")


if __name__ == "__main__":
    run_stage(main)
