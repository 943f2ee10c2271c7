"""Print what a place's scale is worth to a stranger: python -m tests.bench.bench_scale.

Run it in a project that was reproduced. Of each hospital that is scored, at most 25 pictures of a
class, drawn by a seed, are asked about as a stranger's: by each picture's own cell, and by the
usual cell of the hospital's pictures, as with --hospital. Labels are read after the answers.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from stages.answering import answers, pictures
from stages.answering.model import AnsweringModel
from stages.core import params
from stages.core.tables import IMAGES, QUALITY, SPLIT
from stages.inputs import preparation

N_OF_CLASS = 25
SEED = 1


def draw(hospital: str) -> pd.DataFrame:
    """Return image_id and label of the drawn pictures."""
    split = SPLIT.read(hospital)
    scored = split[split["part"].isin(["test", "unseen"])].sort_values("image_id")
    parts = [
        own.sample(min(N_OF_CLASS, len(own)), random_state=SEED)
        for _, own in scored.groupby("label", sort=True)
    ]
    return pd.concat(parts) if parts else scored


def write(hospital: str, folder: Path, wanted: set[str]) -> list[str]:
    """Write pictures under their number; return their image_ids."""
    rows = list(IMAGES.stream(hospital, ["image_id", "bytes"], wanted))
    for number, row in enumerate(rows):
        (folder / f"{number:06d}").write_bytes(row["bytes"])
    return [row["image_id"] for row in rows]


def share_right(
    model: AnsweringModel, folder: Path, labels: list[str], scale: float | None
) -> float:
    with pictures.find([str(folder)]) as asked:
        calls = [answer.call for _, answer in answers.stream(model, asked, scale)]
    return float(np.mean([call == label for call, label in zip(calls, labels, strict=True)]))


def main() -> None:
    model = AnsweringModel(answers.MODEL)
    found = []
    for hospital in params.load("hospitals").hospitals:
        drawn = draw(hospital).set_index("image_id")["label"]
        if drawn.empty:
            continue
        scale = next(
            iter(preparation.geometries(QUALITY.read(hospital), model.card.inputs).values())
        )
        with tempfile.TemporaryDirectory() as place:
            names = write(hospital, Path(place), set(drawn.index))
            labels = list(drawn.loc[names])
            own, usual = (
                share_right(model, Path(place), labels, one) for one in (None, scale.radius)
            )
        found.append((own, usual))
        sys.stdout.write(f"{hospital:16} {len(drawn):4}  own {own:.3f}  place {usual:.3f}\n")
        sys.stdout.flush()
    own, usual = np.mean(found, axis=0)
    sys.stdout.write(f"{'mean':16} {'':4}  own {own:.3f}  place {usual:.3f}\n")


if __name__ == "__main__":
    main()
