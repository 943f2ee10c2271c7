"""predict: what the model says of images that taught it nothing. model, split -> predictions."""

import logging
from functools import partial
from pathlib import Path

from stages.core.errors import run_stage
from stages.core.tables import PREDICTIONS
from stages.inputs import reading
from stages.models import predicting, rows, trained

MODEL = Path("data/model")
PARTS = ("valid", "test", "unseen")

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/predictions/<hospital>. No label is read here."""
    card = trained.read_card(MODEL)
    chosen = reading.read_split([hospital], PARTS, ["image_id", "hospital", "part"])
    stream = partial(reading.stream_pictures, hospital, card.inputs, set(chosen["image_id"]))
    # Before TensorFlow is loaded: until then processes are forked, afterwards they start anew.
    pictures = rows.read(card.recipe, stream, card.inputs, plain_only=True)
    found = trained.no_answers(card)
    if len(chosen):
        found = trained.predict_images(trained.load(MODEL), pictures)
    PREDICTIONS.write(predicting.tabulate(chosen, found, card.classes), hospital)
    log.info("predict: %s, %d images", hospital, len(chosen))


if __name__ == "__main__":
    run_stage(main, "hospital")
