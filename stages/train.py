"""train: learn the chosen recipe. split, features or images -> data/model/, metrics/train.json."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import examples, params, store, training
from stages.core.errors import run_stage

MODEL_FOLDER = Path("data/model")
HISTORY_FILE = Path("metrics/train/history.csv")


def main() -> None:
    """Train, and keep the weights of the best epoch with what was seen on the way."""
    chosen = params.load("hospitals", "inputs", "model", "models", "seed")
    recipe, rule = chosen.recipe, chosen.inputs
    split = examples.read_split(["train", "valid"]).set_index("image_id")
    parts = {part: split[split["part"] == part] for part in ("train", "valid")}
    rows = {
        part: examples.read(recipe, _origins(of, chosen.hospitals), of.index, rule, part == "valid")
        for part, of in parts.items()
    }
    labels = {part: split["label"].loc[rows[part].image_ids].tolist() for part in parts}
    model, history = training.fit(
        recipe,
        rows["train"],
        labels["train"],
        rows["valid"],
        labels["valid"],
        sorted(set(split.loc[split["part"] == "train", "label"])),
        rule,
        params.seed_for(chosen.seed, "train"),
    )
    with store.replace_folder(MODEL_FOLDER) as folder:
        training.save(model, folder)
    store.write_csv(HISTORY_FILE, history)
    store.write_metrics("train", _describe(model, history, parts, rows))


def _origins(of: pd.DataFrame, hospitals: list[str]) -> list[str]:
    """Return the hospitals of this experiment that some pictures come from."""
    return [name for name in hospitals if (of["hospital"] == name).any()]


def _describe(
    model: training.TrainedModel,
    history: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    rows: dict[str, examples.Examples],
) -> dict[str, Any]:
    """Count, and score the kept weights on the plain views: the same weights for both parts."""
    accuracy = {
        part: training.accuracy(model, examples.plain(rows[part]), of["label"])
        for part, of in parts.items()
    }
    content: dict[str, Any] = {
        "accuracy": accuracy,
        "best_epoch": training.best_epoch(history),
        "epochs_run": len(history),
        "n_images": {
            part: {name: int((of["label"] == name).sum()) for name in model.classes}
            for part, of in parts.items()
        },
        "n_rows": {part: len(rows[part].image_ids) for part in parts},
        "n_weights": int(model.network.count_params()),
    }
    if accuracy["valid"] is None:
        content["accuracy"]["valid_reason"] = "the validation part is empty (split.valid)"
    return content


if __name__ == "__main__":
    run_stage(main)
