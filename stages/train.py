"""train: learn the chosen recipe. split, features or images -> data/model/, metrics/train.json."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params, store
from stages.core.errors import run_stage
from stages.core.settings import seed_for
from stages.inputs import reading
from stages.models import backbones, recipes, rows, trained
from stages.models.recipes import AnyRecipe, CascadeRecipe, EnsembleRecipe, NetworkRecipe
from stages.training import fitting

MODEL_FOLDER = Path("data/model")
PARTIAL_FOLDER = Path("data/model.partial")  # what a killed training has reached
HISTORY_FILE = Path("metrics/train/history.csv")
JUDGED_IMAGES = 1000  # of each part; all of a large collection would take as long as an epoch
EPOCHS_FILE = Path("metrics/timing/train_epochs.csv")


def main() -> None:
    """Train, and keep the weights with what was seen on the way."""
    chosen = params.load("hospitals", "inputs", "model", "models", "seed", "weights_dir")
    recipe, rule = recipes.choose(chosen.model, chosen.models), chosen.inputs
    split = reading.read_split(["train", "valid"]).set_index("image_id")
    parts = {part: split[split["part"] == part] for part in ("train", "valid")}
    read = {
        part: rows.read(recipe, _origins(of, chosen.hospitals), of.index, rule, part == "valid")
        for part, of in parts.items()
    }
    found = fitting.fit(
        recipe,
        read["train"],
        read["valid"],
        split["label"],
        sorted(set(parts["train"]["label"])),
        rule,
        seed_for(chosen.seed, "train"),
        chosen.weights_dir,
        PARTIAL_FOLDER,
    )
    with store.replace_folder(MODEL_FOLDER) as folder:
        trained.save(found.model, folder)
    shutil.rmtree(PARTIAL_FOLDER, ignore_errors=True)
    store.write_csv(HISTORY_FILE, found.history)
    store.write_csv(EPOCHS_FILE, pd.DataFrame({"seconds": found.seconds}))
    content = _describe(found, parts, read)
    content["published_weights"] = {
        name: backbones.identify(name, chosen.weights_dir) for name in _name_published(recipe)
    }
    store.write_metrics("train", content)


def _name_published(recipe: AnyRecipe) -> list[str]:
    """Return the backbones of a recipe that start from published weights."""
    if isinstance(recipe, CascadeRecipe | EnsembleRecipe):
        return sorted({name for one in recipe.members.values() for name in _name_published(one)})
    if isinstance(recipe, NetworkRecipe) and recipe.weights != "none":
        return [recipe.network]
    return []


def _origins(of: pd.DataFrame, hospitals: list[str]) -> list[str]:
    """Return the hospitals of this experiment that some images come from."""
    return [name for name in hospitals if (of["hospital"] == name).any()]


def _describe(
    found: fitting.Training, parts: dict[str, pd.DataFrame], read: dict[str, Any]
) -> dict[str, Any]:
    """Count, and score the kept weights on the plain views: the same weights for both parts."""
    model = found.model
    judged = {part: reading.sample(reading.plain(read[part]), JUDGED_IMAGES) for part in parts}
    content: dict[str, Any] = {
        "accuracy": {
            part: trained.accuracy(model, judged[part], of["label"]) for part, of in parts.items()
        },
        "n_judged": {part: min(len(of), JUDGED_IMAGES) for part, of in parts.items()},
        "epochs_run": len(found.history),
        "n_images": {
            part: {name: int((of["label"] == name).sum()) for name in model.classes}
            for part, of in parts.items()
        },
        "n_weights": model.n_weights,
        "steps": found.steps,
    }
    if content["accuracy"]["valid"] is None:
        content["accuracy"]["valid_reason"] = "the validation part is empty (split.valid)"
    return content


if __name__ == "__main__":
    run_stage(main)
