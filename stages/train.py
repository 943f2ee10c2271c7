"""train: learn the chosen recipe. recipe.json, training -> data/model/, metrics/train.json."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params, store
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.core.tables import TRAINING
from stages.inputs import reading
from stages.models import backbones, recipes, rows, trained
from stages.models.recipes import AnyRecipe
from stages.models.rows import Rows
from stages.training import fitting

RECIPE = Path("data/recipe.json")
MODEL_FOLDER = Path("data/model")
PARTIAL_FOLDER = Path("data/model.partial")  # what a killed training has reached
HISTORY_FILE = Path("metrics/train/history.csv")
JUDGED_IMAGES = 300  # of each part; to measure all of a large collection takes minutes
EPOCHS_FILE = Path("metrics/timing/train_epochs.csv")


def main() -> None:
    """Train, and keep the weights with what was seen on the way."""
    chosen = params.load("inputs", "seed", "weights_dir")
    recipe = recipes.read(RECIPE)
    images = TRAINING.read(columns=["image_id", "label", "part"]).set_index("image_id")
    labels = {part: images.loc[images["part"] == part, "label"] for part in ("train", "valid")}
    read = {
        part: rows.read(
            recipe, partial(reading.stream_training, part), chosen.inputs, part == "valid"
        )
        for part in labels
    }
    task = fitting.Task(
        sorted(set(labels["train"])),
        chosen.inputs,
        seed_for(chosen.seed, "train"),
        chosen.weights_dir,
        PARTIAL_FOLDER,
    )
    found = fitting.fit(recipe, read["train"], read["valid"], images["label"], task)
    with store.replace_folder(MODEL_FOLDER) as folder:
        trained.save(found.model, folder)
    shutil.rmtree(PARTIAL_FOLDER, ignore_errors=True)
    store.write_csv(HISTORY_FILE, found.history)
    store.write_csv(EPOCHS_FILE, pd.DataFrame({"seconds": found.seconds}))
    content = _describe(found, labels, read)
    content["published_weights"] = {
        name: backbones.identify(name, chosen.weights_dir) for name in _name_published(recipe)
    }
    store.write_metrics("train", content)


def _name_published(recipe: AnyRecipe) -> list[str]:
    """Return the backbones of a recipe that start from published weights."""
    return sorted({name for one in recipe.singles.values() for name in one.published})


def _describe(
    found: fitting.Training, labels: dict[str, pd.Series], read: dict[str, Rows]
) -> dict[str, Any]:
    """Count, and score the kept weights on the plain views: the same weights for both parts."""
    model = found.model
    judged = {
        part: rows.apply(lambda one: reading.sample(reading.plain(one), JUDGED_IMAGES), read[part])
        for part in labels
    }
    content: dict[str, Any] = {
        "accuracy": {
            part: trained.accuracy(model, judged[part], of) for part, of in labels.items()
        },
        "n_judged": {part: min(len(of), JUDGED_IMAGES) for part, of in labels.items()},
        "epochs_run": len(found.history),
        "n_images": {
            part: {name: int((of == name).sum()) for name in model.classes}
            for part, of in labels.items()
        },
        "n_weights": model.n_weights,
        "steps": found.steps,
    }
    if content["accuracy"]["valid"] is None:
        content["accuracy"]["valid_reason"] = "the validation part is empty (split.valid)"
    return content


if __name__ == "__main__":
    run_stage(main)
