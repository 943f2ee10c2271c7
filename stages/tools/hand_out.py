"""export: hand a model out, as a folder for 'smearflow predict' or in another program's format.

smearflow export --to folder|onnx|litert|savedmodel DIR
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from stages.answering import about
from stages.answering.model import AnsweringModel
from stages.core import store
from stages.core.errors import PipelineError, run_stage
from stages.evaluation.doubt import SMALLEST
from stages.models import portable, trained

MODEL = Path("data/export")
FORMATS: tuple[Literal["folder"] | portable.Kind, ...] = ("folder", *portable.FILES)


AFTERWARDS = (
    f"Probabilities p are corrected as softmax(log(max(p, {SMALLEST:g})) / temperature); "
    f"temperature and threshold stand in {about.FILE} under confidence."
)


def main(kind: Literal["folder"] | portable.Kind, target: Path, model: Path = MODEL) -> None:
    """Write a folder that holds the model, what is to be known of it, and its cards."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PipelineError(f"{target} is there already. Name a folder that is new or empty.")
    answering = AnsweringModel(model)
    told = answering.about.model_copy(update={"commit": answering.trace["commit"]})
    with store.replace_folder(target) as folder:
        if kind == "folder":
            shutil.copytree(model / about.MODEL, folder / about.MODEL)
        else:
            portable.write(trained.load(model / about.MODEL), kind, folder)
            contract = json.loads((folder / portable.CONTRACT).read_text(encoding="utf-8"))
            store.write_json(folder / portable.CONTRACT, contract | {"afterwards": AFTERWARDS})
        about.write(told, folder)
        for card in model.glob("*.md"):
            shutil.copy(card, folder)
    sys.stdout.write(f"wrote {target}\n")


def _parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("smearflow export", description=__doc__)
    parser.add_argument("--to", choices=FORMATS, required=True, dest="kind")
    parser.add_argument("target", metavar="DIR", type=Path, help="a folder that is new or empty")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    asked = _parse(arguments)
    del sys.argv[1:]  # run_stage names the timing by the arguments
    run_stage(partial(main, asked.kind, asked.target))


if __name__ == "__main__":
    run()
