"""adapt: what a hospital's own images, and a few labels of them, are worth. -> data/adapted/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params
from stages.core.errors import TableError, run_stage
from stages.core.settings import seed_for
from stages.core.store import replace_folder, write_json, write_metrics
from stages.core.tables import ADAPTED, PREDICTIONS
from stages.inputs import reading
from stages.models import calibration, predicting, trained
from stages.models.trained import Card, Model
from stages.splits import few_labels
from stages.splits.few_labels import Draw
from stages.training import tuning

MODEL = Path("data/model")
TUNED_MODELS = Path("data/tuned_models")
NOT_UNSEEN = "no image of it is unseen: it trains, or none is kept"
NO_LABELS = "on_site.labels of params.yaml is empty"
COLUMNS = ["image_id", "hospital", "part", "label", "group"]


def main(hospital: str) -> None:
    """Write data/adapted/<hospital>, and the model that was tuned on the most labels.

    The labels of an unseen hospital are read here, to draw a few of each class. Those few alone
    reach the model.
    """
    rule = params.load("on_site", "seed")
    card = trained.read_card(MODEL)
    unseen = reading.read_split([hospital], ["unseen"], COLUMNS)
    seed = seed_for(rule.seed, "adapt", hospital)
    draws = few_labels.draw(unseen, rule.on_site.labels, seed) if len(unseen) else {}
    told = {_name(number): _tell(one, card) for number, one in draws.items()}
    usable = {number: one for number, one in draws.items() if "reason" not in told[_name(number)]}
    answers = {"calibrated": _calibrate(hospital, card)}
    kept: Model | str = _refuse(unseen, told)
    if usable:
        labelled = {number: one.labelled for number, one in usable.items()}
        tested = {image_id for one in usable.values() for image_id in one.tested}
        tunings = tuning.tune_each(hospital, MODEL, labelled, tested, rule.on_site, seed)
        for number, tuned, found in tunings:
            kept = tuned
            answers[_name(number)] = found.loc[usable[number].tested]
    _write(hospital, unseen, answers, card.classes)
    _keep(hospital, kept)
    content = {"methods": {"calibrated": {}, **told}}
    write_metrics("adapt", content if len(unseen) else {"reason": NOT_UNSEEN}, hospital)


def _name(number: int) -> str:
    return f"labels_{number}"


def _calibrate(hospital: str, card: Card) -> pd.DataFrame:
    """Return the model's probabilities of all images, shifted without a label."""
    known = PREDICTIONS.read(hospital).set_index("image_id")
    columns = [f"p_{name}" for name in card.classes]
    if not set(columns) <= set(known.columns):
        raise TableError(
            f"{PREDICTIONS.at(hospital)} has other classes than {MODEL}: two models made them. "
            "Run 'uv run dvc repro', which brings them into step."
        )
    return calibration.shift_to_even(known[columns].set_axis(card.classes, axis=1))


def _tell(draw: Draw, card: Card) -> dict[str, Any]:
    """Say what is labelled, or why nothing is tuned."""
    if reason := tuning.refuse(card.recipe) or draw.reason:
        return {"reason": reason}
    return {"n_labelled": draw.n_by_class} | ({"note": draw.note} if draw.note else {})


def _refuse(unseen: pd.DataFrame, told: Mapping[str, Mapping[str, Any]]) -> str:
    """Say why no model is kept, if none is."""
    reasons = [str(one["reason"]) for one in told.values() if "reason" in one]
    return reasons[-1] if reasons else NO_LABELS if len(unseen) else NOT_UNSEEN


def _write(
    hospital: str, unseen: pd.DataFrame, answers: Mapping[str, pd.DataFrame], classes: list[str]
) -> None:
    """Write what each image is called by each method."""
    pieces = [
        predicting.tabulate(unseen[unseen["image_id"].isin(found.index)], found, classes).assign(
            method=method
        )
        for method, found in answers.items()
    ]
    ADAPTED.write(pd.concat(pieces)[ADAPTED.schema.names], hospital)


def _keep(hospital: str, kept: Model | str) -> None:
    """Write the tuned model, or why there is none."""
    with replace_folder(TUNED_MODELS / hospital) as folder:
        if isinstance(kept, str):
            write_json(folder / "none.json", {"reason": kept})
        else:
            trained.save(kept, folder)


if __name__ == "__main__":
    run_stage(main, "hospital")
