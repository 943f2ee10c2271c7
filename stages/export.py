"""export: a model that answers strangers. model, metrics -> data/export.

With arguments it hands the model out: python -m stages.export --to FORMAT DIR
"""

import logging
import runpy
import shutil
import sys
from pathlib import Path

from stages.answering import about
from stages.answering.about import About, Confidence, Novelty
from stages.core import params
from stages.core.errors import run_stage
from stages.core.store import read_metrics, replace_folder
from stages.labels import taxonomy
from stages.models import trained
from stages.pages import cards

MODEL = Path("data/model")
EXPORT = Path("data/export")

log = logging.getLogger(__name__)


def main() -> None:
    """Write data/export: the model, how far it is to be believed, and its cards."""
    rule = params.load("hospitals", "taxonomy", "filter", "split", "model", "export", "seed")
    card = trained.read_card(MODEL)
    scheme = taxonomy.read_taxonomy(rule.taxonomy)
    cell_types: dict[str, list[str]] = {name: [] for name in card.classes}
    if scheme.by == "cell_type":
        for cell_type, name in sorted(scheme.class_of.items()):
            if name in cell_types:
                cell_types[name].append(cell_type)
    confidence = read_metrics("evaluate")["stranger"]
    novelty = read_metrics("novelty")["stranger"]
    spread = {name: tuple(ends) for name, ends in novelty["spread"].items()}
    told = About(
        taxonomy=rule.taxonomy,
        cell_types=cell_types,
        filter=rule.filter,
        confidence=Confidence(**confidence),
        novelty=Novelty(
            threshold=novelty["threshold"], spread=spread, reason=novelty.get("reason")
        ),
        reference={name: (low, high) for name, (low, high) in rule.export.reference.items()},
        model_sha256=about.hash_model(MODEL),
    )
    facts = cards.read_facts(rule)
    with replace_folder(EXPORT) as folder:
        shutil.copytree(MODEL, folder / about.MODEL)
        about.write(told, folder)
        (folder / "MODEL_CARD.md").write_text(cards.write_model_card(facts), encoding="utf-8")
        (folder / "DATA_CARD.md").write_text(cards.write_data_card(facts), encoding="utf-8")
    log.info("export: %s, model %s", EXPORT, told.model_sha256[:12])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # Not imported: an edit of what hands the model out exports nothing anew.
        runpy.run_module("stages.tools.hand_out", run_name="__main__", alter_sys=True)
    else:
        run_stage(main)
