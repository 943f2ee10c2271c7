"""evaluate: score each test hospital apart. model, split -> predictions, metrics/evaluate.json."""

import logging
from pathlib import Path

from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import write_csv, write_metrics
from stages.core.tables import LABELS, PREDICTIONS, SPLIT
from stages.evaluation import metrics, predictions, scoring, screening
from stages.models import rows, trained
from stages.splits import leaks

MODEL = Path("data/model")
PLOTS = Path("metrics/evaluate")
KNOWN = ["image_id", "unit", "patient", "slide", "official_part"]

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/predictions.parquet, metrics/evaluate.json and the tables behind its plots."""
    rule = params.load("hospitals", "split", "evaluate", "seed")
    card = trained.read_card(MODEL)
    split = SPLIT.read()
    chosen = predictions.choose_scored(split, rule.hospitals)
    metrics.require_known("data/split.parquet", chosen["label"], card.classes)
    constants = predictions.name_constants(split, rule.hospitals)

    # Pixels are prepared by forked processes, so TensorFlow must not be running yet.
    pictures = rows.read(
        card.recipe, rule.hospitals, list(chosen["image_id"]), card.inputs, plain_only=True
    )
    model = trained.load(MODEL)
    probabilities = trained.predict_images(model, pictures)
    predicted = predictions.name_predicted(chosen, probabilities, model.classes)
    PREDICTIONS.write(predicted)

    images = split.merge(LABELS.read(columns=KNOWN), on="image_id", how="left")
    scored = predicted.merge(images[[*KNOWN, "group"]], on="image_id", how="left")
    draw = (model.classes, constants, rule.evaluate.bootstrap, rule.seed)
    content = scoring.report(scoring.score_hospitals(scored, *draw), model.classes)
    content |= screening.report(
        scored,
        predictions.average_patients(scored, model.classes, ["hospital", "part"]),
        model.classes,
    )
    measured = leaks.measure(images)
    found = scoring.score_official_parts(scored, *draw)
    patients = scoring.score_patients(
        predictions.average_patients(scored, model.classes, ["hospital"]),
        predictions.average_patients(scored, model.classes, ["hospital", "official_part"]),
        model.classes,
    )
    content["not_scored"] = sorted(set(rule.hospitals) - set(content["by_hospital"]))
    for hospital, block in content["by_hospital"].items():
        block |= found[hospital] | patients[hospital]
        block["leaks"] = measured["by_hospital"][hospital]
    if rule.split.method in leaks.LEAKY:
        scoring.mark_leaky(content, measured, leaks.describe)

    write_csv(PLOTS / "confusion.csv", predictions.list_confusions(predicted))
    write_csv(PLOTS / "scores.csv", scoring.list_class_scores(content))
    write_metrics("evaluate", content)
    for hospital, block in content["by_hospital"].items():
        macro_f1 = block["metrics"]["macro_f1"]["value"]
        leaky = f"; {block['leaky']}" if "leaky" in block else ""
        log.info("evaluate: %s (%s) macro F1 %.3f%s", hospital, block["part"], macro_f1, leaky)


if __name__ == "__main__":
    run_stage(main)
