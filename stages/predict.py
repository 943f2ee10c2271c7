"""predict: what the model says of images that taught it nothing. model, split -> predictions.

With pictures in place of a hospital of params.yaml, it answers these: see stages/tools/answer.py.
"""

import logging
import re
import runpy
import sys
from functools import partial
from pathlib import Path

from stages.core import params
from stages.core.errors import ParamsError, run_stage
from stages.core.settings import NAME, read_yaml
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


def _is_for_stage(arguments: list[str]) -> bool:
    """Tell whether the one argument is a hospital of params.yaml, or could be: it is not read."""
    if len(arguments) != 1 or not re.fullmatch(NAME, arguments[0]):
        return False
    try:
        return arguments[0] in params.parse(read_yaml(params.PARAMS_FILE)).hospitals
    except ParamsError:
        return not Path(arguments[0]).exists()


if __name__ == "__main__":
    if _is_for_stage(sys.argv[1:]):
        run_stage(main, "hospital")
    else:  # not imported: an edit of what answers a person predicts no hospital anew
        runpy.run_module("stages.tools.answer", run_name="__main__", alter_sys=True)
