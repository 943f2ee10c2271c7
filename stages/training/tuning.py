"""A trained network that goes on learning: from a few images of a new hospital, and from old ones.

Without images of the old hospitals a network forgets what it knew, and learns the few by heart.
Of an ensemble the networks go on learning; its other members stay as they are.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.errors import ModelError
from stages.core.params import OnSiteParams
from stages.core.settings import seed_for
from stages.core.tables import TRAINING
from stages.inputs import reading
from stages.inputs.reading import Examples
from stages.models import rows, trained
from stages.models.recipes import AnyRecipe, EnsembleRecipe, NetworkRecipe, Step
from stages.models.rows import Rows
from stages.models.trained import CompositeModel, Model, SingleModel
from stages.training import batches, fitting

OLD = "Replay/"  # no hospital's name; before the image_ids of old images
NO_NETWORK = "only a network is tuned; the model is {}"

logger = logging.getLogger(__name__)


def refuse(recipe: AnyRecipe) -> str | None:
    """Say why a model cannot be tuned, if so."""
    if isinstance(recipe, EnsembleRecipe):
        can = any(refuse(member) is None for member in recipe.members.values())
        return None if can else NO_NETWORK.format("an ensemble without one")
    if not isinstance(recipe, NetworkRecipe):
        return NO_NETWORK.format(f"of kind {recipe.kind}")
    return NO_NETWORK.format("a classifier on top of one") if recipe.then else None


def choose_replay(training: pd.DataFrame, n_views: int, seed: int) -> list[str]:
    """Choose the old images that are seen again: each class and hospital as often, if it can be.

    Parameters
    ----------
    training : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id`` and ``label`` of the images that the network learnt from.
    n_views : int
        Of the whole tuning; there are at most half as many old images.
    seed : int

    Returns
    -------
    list of str
        Image_ids, sorted.
    """
    ids = training["image_id"].tolist()
    codes, classes = pd.factorize(training["label"], sort=True)
    targets = np.eye(len(classes), dtype=np.float32)[codes]
    order = batches.draw_order(targets, ids, "balanced_by_hospital", seed, 0)
    return sorted({ids[row] for row in order[: max(1, n_views // 2)]} | _first_of_each(training))


def _first_of_each(training: pd.DataFrame) -> set[str]:
    """Return an image of every class: without one the network would forget the class."""
    return set(training.drop_duplicates("label")["image_id"])


def tune_each(
    hospital: str,
    folder: Path,
    labelled: Mapping[int, pd.Series],
    tested: Collection[str],
    rule: OnSiteParams,
    seed: int,
) -> Iterator[tuple[int, Model, pd.DataFrame]]:
    """Tune the saved model on each of several draws of labelled images; ask each of the rest.

    Parameters
    ----------
    hospital : str
        Of the labelled and of the tested images.
    folder : pathlib.Path
        The saved model, of a recipe that `refuse` does not refuse.
    labelled : mapping of int to pandas.Series of str
        By number of labels a class: class by image_id.
    tested : collection of str
        Image_ids that the tuned models are asked about.
    rule : OnSiteParams
    seed : int

    Yields
    ------
    number : int
    tuned : SingleModel or CompositeModel
    answers : pandas.DataFrame, shape (n_tested, n_classes)
        Its probabilities by image_id.

    Raises
    ------
    ModelError
        As `trained.load` and `fitting.fit`.
    TableError
        A picture is not in its table.
    """
    card = trained.read_card(folder)
    known = TRAINING.read(columns=["image_id", "label", "part"]).query("part == 'train'")
    replay = set(choose_replay(known, rule.views, seed))
    stream = partial(reading.stream_pictures, hospital, card.inputs)

    def stream_both(new: set[str]) -> Iterator[reading.Picture]:
        # As of one hospital: half of each class's views are the new one's, however many trained.
        for image_id, content, geometry in reading.stream_training("train"):
            if image_id in replay:
                yield OLD + image_id, content, geometry
        yield from stream(new)

    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    judged = rows.read(card.recipe, partial(stream, set(tested)), card.inputs, plain_only=True)
    learnt = {
        number: rows.read(card.recipe, partial(stream_both, set(own.index)), card.inputs, False)
        for number, own in labelled.items()
    }
    model = trained.load(folder)
    old = known.set_index(OLD + known["image_id"])["label"]
    for number, own in labelled.items():
        begun = time.monotonic()
        labels = pd.concat([old, own])
        tuned = _tune(model, learnt[number], labels, rule, seed_for(seed, str(number)))
        logger.info(
            "adapt: %s, %d labels a class: %.0f s", hospital, number, time.monotonic() - begun
        )
        yield number, tuned, trained.predict_images(tuned, judged)


def _tune(model: Model, rows: Rows, labels: pd.Series, rule: OnSiteParams, seed: int) -> Model:
    """Let the networks go on learning; what is given stays as it is."""
    if isinstance(model, CompositeModel):
        assert isinstance(rows, dict)
        members = {
            name: _tune_network(member, rows[name], labels, rule, seed_for(seed, name))
            if refuse(member.recipe) is None
            else member
            for name, member in model.members.items()
        }
        return replace(model, members=members)
    assert isinstance(rows, Examples)
    return _tune_network(model, rows, labels, rule, seed)


def _tune_network(
    model: SingleModel, examples: Examples, labels: pd.Series, rule: OnSiteParams, seed: int
) -> SingleModel:
    assert isinstance(model.recipe, NetworkRecipe)
    recipe = adjust(model.recipe, rule, len(examples.image_ids))
    start = trained.collect(model.network)
    task = fitting.Task(model.classes, model.inputs, seed, start=start)
    nothing = Examples([], examples.x[:0], examples.margin)
    try:
        found = fitting.fit(recipe, examples, nothing, labels, task).model
    except ModelError as error:
        raise ModelError(f"on_site of params.yaml, tuning: {error}") from None
    assert isinstance(found, SingleModel)
    return found


def adjust(recipe: NetworkRecipe, rule: OnSiteParams, n_rows: int) -> NetworkRecipe:
    """Return the recipe by which a network is tuned.

    Parameters
    ----------
    recipe : NetworkRecipe
        That it was trained by. Its input, its augmentation and what it smooths stay.
    rule : OnSiteParams
        Views and learning rate.
    n_rows : int
        That it is tuned on: an epoch has as many views.

    Notes
    -----
    Measured once, from Barcelona at chula (``python -m stages.adapt chula``, one seed, 431 images
    of slides without a label): ten labels a class, macro F1 .47 -> .75. Labels drawn image by
    image, so that their slides stand on both sides, would have shown .82.
    """
    step = Step(
        train="all",
        learning_rate=rule.learning_rate,
        epochs=max(1, round(rule.views / n_rows)),
        schedule="cosine",
    )
    return recipe.model_copy(
        update={
            "optimiser": "adamw",
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
            "average": 0.95,
            "batch": 32,
            "class_weights": "none",
            "sampling": "balanced_by_hospital",
            "views": 0,
            "steps": [step],
        }
    )
