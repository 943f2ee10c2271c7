"""evaluate: score each test hospital apart. model, split -> predictions, metrics/evaluate.json."""

import logging
from pathlib import Path

from stages.core import examples, metrics, params, predictions, training
from stages.core.errors import run_stage
from stages.core.store import write_csv, write_metrics
from stages.core.tables import LABELS, PREDICTIONS

MODEL = Path("data/model")
PLOTS = Path("metrics/evaluate")

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/predictions.parquet, metrics/evaluate.json and the tables behind its plots."""
    rule = params.load("hospitals", "evaluate", "seed")
    card = training.read_card(MODEL)
    split = examples.read_split(("train", *predictions.SCORED_PARTS))
    chosen = predictions.choose_scored(split, rule.hospitals)
    metrics.require_known("data/split.parquet", chosen["label"], card.classes)
    constants = predictions.name_constants(split, rule.hospitals)

    # Pixels are prepared by forked processes, so TensorFlow must not be running yet.
    pictures = examples.read(
        card.recipe, rule.hospitals, list(chosen["image_id"]), card.inputs, plain_only=True
    )
    model = training.load(MODEL)
    probabilities = training.predict_images(model, pictures)
    predicted = predictions.name_predicted(chosen, probabilities, model.classes)
    PREDICTIONS.write(predicted)

    units = LABELS.read(columns=["image_id", "unit"])
    grouped = predicted.assign(group=chosen["group"]).merge(units, on="image_id", how="left")
    scores = metrics.score_hospitals(
        grouped, model.classes, constants, rule.evaluate.bootstrap, rule.seed
    )
    content = metrics.report(scores, model.classes)
    write_csv(PLOTS / "confusion.csv", predictions.list_confusions(predicted))
    write_csv(PLOTS / "scores.csv", metrics.list_class_scores(content))
    write_metrics("evaluate", content)
    for entry in scores:
        macro_f1 = entry.points["macro_f1"]
        log.info("evaluate: %s (%s) macro F1 %.3f", entry.hospital, entry.part, macro_f1)


if __name__ == "__main__":
    run_stage(main)
