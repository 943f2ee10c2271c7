"""evaluate: score each test hospital apart. predictions, adapted, split -> metrics/evaluate."""

import logging
from pathlib import Path

from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import read_metrics, write_csv, write_metrics
from stages.core.tables import ADAPTED, IMAGES, LABELS, SPLIT
from stages.evaluation import doubt, metrics, on_site, predictions, scoring, screening
from stages.splits import leaks

PLOTS = Path("metrics/evaluate")
KNOWN = ["image_id", "unit", "patient", "slide", "official_part"]

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/evaluate.json and the tables behind its plots."""
    rule = params.load("hospitals", "split", "evaluate", "seed")
    split = SPLIT.read_all(rule.hospitals)
    chosen = predictions.choose_scored(split, rule.hospitals)
    found = predictions.read(rule.hospitals)
    classes = predictions.name_classes(found)
    metrics.require_known("data/split", chosen["label"], classes)
    constants = predictions.name_constants(split, rule.hospitals)
    predicted = predictions.add_truth(found, chosen)

    images = split.merge(LABELS.read(columns=KNOWN), on="image_id", how="left")
    scored = predicted.merge(images[[*KNOWN, "group"]], on="image_id", how="left")
    draw = (classes, constants, rule.evaluate.bootstrap, rule.seed)
    content = scoring.report(scoring.score_hospitals(scored, *draw), classes)
    content |= screening.report(
        scored,
        predictions.average_patients(scored, classes, ["hospital", "part"]),
        classes,
        rule.evaluate.bootstrap,
        rule.seed,
    )
    measured = leaks.measure(images)
    by_part = scoring.score_official_parts(scored, *draw)
    patients = scoring.score_patients(
        predictions.average_patients(scored, classes, ["hospital"]),
        predictions.average_patients(scored, classes, ["hospital", "official_part"]),
        classes,
    )
    told = {name: read_metrics("adapt", name) for name in content["by_hospital"]}
    valid = predictions.add_truth(found, predictions.choose_valid(split, rule.hospitals))
    metrics.require_known("data/split", valid["label"], classes)
    pictures = IMAGES.read_all(rule.hospitals, ["hospital", "place"])
    places = dict(zip(pictures["hospital"], pictures["place"], strict=True))
    doubted = doubt.score(scored, valid, places, classes, rule.evaluate, rule.seed)
    adapted = on_site.score(scored, ADAPTED.read_all(rule.hospitals), told, *draw)
    content["stranger"] = doubt.fit_for_strangers(scored, valid, classes, rule.evaluate.error)
    content["not_scored"] = sorted(set(rule.hospitals) - set(content["by_hospital"]))
    for hospital, block in content["by_hospital"].items():
        block |= by_part[hospital] | patients[hospital] | adapted[hospital]
        block |= doubted[hospital]
        block["leaks"] = measured["by_hospital"][hospital]
    if rule.split.method in leaks.LEAKY:
        scoring.mark_leaky(content, measured, leaks.describe)

    write_csv(PLOTS / "confusion.csv", predictions.list_confusions(predicted))
    write_csv(PLOTS / "scores.csv", scoring.list_class_scores(content))
    write_csv(PLOTS / "reliability.csv", doubt.list_reliability(scored, classes))
    write_csv(PLOTS / "risk.csv", doubt.list_risk(scored, classes))
    write_metrics("evaluate", content)
    for hospital, block in content["by_hospital"].items():
        macro_f1 = block["metrics"]["macro_f1"]["value"]
        leaky = f"; {block['leaky']}" if "leaky" in block else ""
        log.info("evaluate: %s (%s) macro F1 %.3f%s", hospital, block["part"], macro_f1, leaky)


if __name__ == "__main__":
    run_stage(main)
