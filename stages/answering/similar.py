"""Training pictures that look like a picture to the model that learnt from them."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.answering import about
from stages.answering.model import AnsweringModel
from stages.answering.pictures import Ready
from stages.core import store
from stages.core.tables import TRAINING
from stages.images import decoding
from stages.inputs import preparation, reading
from stages.pages import choosing
from stages.pages.drawing import Pixels

N_TRAINING = 4000  # pictures that are compared
N_SHOWN = 4
AT_ONCE = 64  # pictures between two signs of progress
MODEL = Path("data/model")
NO_TABLE = "no training pictures lie here ({path}); start the page in the project that trained it"
NO_NETWORK = "the model has no network to compare pictures by"
ANOTHER = "the training pictures here ({path}) taught another model"


@dataclass(frozen=True)
class Similar:
    """A training picture beside one that is asked about.

    Attributes
    ----------
    image_id, label : str
    cosine : float
        1: the model sees the same in both; 0: nothing in common.
    """

    image_id: str
    label: str
    cosine: float


@dataclass(frozen=True)
class Known:
    """What the training pictures look like to a model.

    Attributes
    ----------
    labels : pandas.Series of str, shape (n_images,)
        By image_id.
    features : pandas.DataFrame of float32, shape (n_images, n_features)
        By image_id.
    """

    labels: pd.Series
    features: pd.DataFrame

    def find(self, features: np.ndarray) -> list[Similar]:
        """Return the four most similar training pictures, the most similar one first."""
        found = choosing.find_nearest(features, self.features, N_SHOWN)
        return [Similar(name, self.labels.loc[name], cosine) for name, cosine in found]


def say_lacking(model: AnsweringModel) -> str | None:
    """Return why no training pictures can be shown; None where they can."""
    path = TRAINING.at()
    if model.looker is None:
        return NO_NETWORK
    if not path.is_file():
        return NO_TABLE.format(path=path)
    is_own = MODEL.is_dir() and about.hash_model(MODEL) == model.about.model_sha256
    return None if is_own else ANOTHER.format(path=path)


def recall(model: AnsweringModel) -> Known | None:
    """Return what `learn` found for this model at an earlier time; None where it did not yet."""
    try:
        with _file(model).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            ids = kept["image_ids"]
            return Known(pd.Series(kept["labels"], ids), pd.DataFrame(kept["features"], ids))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, or cut short
        return None


def learn(model: AnsweringModel, tell: Callable[[float], object]) -> Known:
    """Ask the model about at most 4000 of its training pictures, and keep what it sees in them.

    Parameters
    ----------
    model : AnsweringModel
        `say_lacking` says nothing against it.
    tell : callable
        Is told the share that is done, 0..1.
    """
    assert model.looker is not None
    table = TRAINING.read(columns=["image_id", "label", "part"]).set_index("image_id")
    labels = table.loc[table["part"] == "train", "label"]
    labels = labels.loc[sorted(choosing.draw_training(labels, N_TRAINING, 0))]
    pieces: list[np.ndarray] = []
    names = list(labels.index)
    for start in range(0, len(names), AT_ONCE):
        own = set(names[start : start + AT_ONCE])
        # Sorted as the table is, so that rows and names go together.
        rows = reading.read_pixels(_stream(own), model.card.inputs, model.looker.side)
        pieces.append(model.describe(rows.x).astype(np.float32))
        tell(min(1.0, (start + AT_ONCE) / len(names)))
    features = np.concatenate(pieces)
    with store.replace(_file(model)) as temporary, temporary.open("wb") as file:
        np.savez(file, image_ids=np.array(names, str), labels=labels.to_numpy(str),
                 features=features)  # fmt: skip
    return Known(labels, pd.DataFrame(features, index=names))


def find(known: Known, model: AnsweringModel, picture: Ready) -> list[Similar]:
    """Return the training pictures that are most similar to a picture."""
    assert model.looker is not None
    return known.find(model.describe(picture.pixels[model.looker.side])[0])


def show(found: list[Similar], model: AnsweringModel, side: int) -> dict[str, Pixels]:
    """Return training pictures by image_id, cropped and coloured as for the model."""
    inputs = model.card.inputs
    balance = inputs.white_balance[0]
    return {
        name: preparation.prepare(decoding.decode(content).rgb, place, inputs, side, balance)
        for name, content, place in _stream({one.image_id for one in found})
    }


def _stream(wanted: set[str]) -> Iterator[reading.Picture]:
    for row in TRAINING.stream(wanted=wanted):
        yield row["image_id"], row["bytes"], preparation.from_row(row)


def _file(model: AnsweringModel) -> Path:
    folder = store.project_root() / ".dvc/tmp/smearflow"
    return folder / f"similar-{model.about.model_sha256[:16]}.npz"
