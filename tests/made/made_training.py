"""Small recipes, rows and images, and what can be seen of a training on them."""

import numpy as np
import pandas as pd

from stages.core import backend
from stages.core.params import InputsParams
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples
from stages.models import trained
from stages.models.recipes import HeadRecipe, NetworkRecipe, Step
from stages.training import fitting, steps

CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)
SIDE = 16
MADE = "vgg19"  # the recipe's name of the small backbone of test_networks


def make_head(**changes):
    """A head that learns in a second."""
    content = {
        "kind": "head", "hidden": [8], "dropout": 0.1, "l2": 1e-4, "learning_rate": 0.01,
        "epochs": 6, "batch": 16, "patience": 3, "class_weights": "balanced",
    }  # fmt: skip
    return HeadRecipe(**(content | changes))


def make_network(*stretches, **changes):
    """A small backbone with a linear head, unless told otherwise."""
    content = {
        "kind": "network", "network": MADE, "size": 32, "weights": "imagenet", "dropout": 0.2,
        "batch": 8, "steps": list(stretches) or [Step(epochs=2, schedule="constant")],
    }  # fmt: skip
    return NetworkRecipe(**(content | changes))


def make_rows(n_rows, seed=0, hospital="munich", n_views=1):
    """Features whose first three of five tell the class, in a muddle of classes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(rng.permutation(np.arange(n_rows // n_views) % 3), n_views)
    x = rng.normal(size=(len(codes), 5)).astype(np.float32)
    x[np.arange(len(codes)), codes] += 4
    ids = [f"{hospital}/{seed}_{row // n_views:04d}.jpg" for row in range(len(codes))]
    views = [f"{'augmented_' if row % n_views else ''}{row % n_views}" for row in range(len(codes))]
    return Examples(ids, views, x), codes


def make_pixels(n_rows, seed=0, hospital="munich", margin=0):
    """Noisy images whose class is their brightest channel."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_rows) % 3)
    side = SIDE + 2 * margin
    x = rng.integers(0, 120, (n_rows, side, side, 3), dtype=np.uint8)
    x[np.arange(n_rows), :, :, codes] += 100
    ids = [f"{hospital}/{seed}_{row:04d}.jpg" for row in range(n_rows)]
    return Examples(ids, ["white_point"] * n_rows, x, margin), codes


def no_rows(like):
    """A part without images."""
    return Examples([], [], like.x[:0], like.margin)


def labels_of(*parts, classes=CLASSES):
    """Class by image of (rows, codes)."""
    return pd.Series(
        {name: classes[code] for rows, codes in parts
         for name, code in zip(rows.image_ids, codes, strict=True)}, dtype=object,
    )  # fmt: skip


def fit(recipe, train=None, valid=None, labels=None, classes=CLASSES, seed=5, partial=None):
    """Train on made rows of the recipe's kind."""
    make = make_rows if isinstance(recipe, HeadRecipe) else make_pixels
    margin = {} if isinstance(recipe, HeadRecipe) else {
        "margin": 4 * (not getattr(recipe, "augment", Augmentation()).is_empty)
    }  # fmt: skip
    train = train or make(60, **margin)
    valid = valid or make(24, 1)
    labels = labels if labels is not None else labels_of(train, valid)
    return fitting.fit(recipe, train[0], valid[0], labels, classes, INPUTS, seed, partial=partial)


def saved(model, folder):
    """Every byte of a saved model."""
    trained.save(model, folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def weights_of(model):
    return trained.collect(model.network)


def spy(monkeypatch, module, name, note):
    """Let `note` see the arguments and the answer of each call of a function."""
    real = getattr(module, name)

    def call(*arguments, **named):
        answer = real(*arguments, **named)
        note(arguments, answer)
        return answer

    monkeypatch.setattr(module, name, call)


def weights_by_epoch(monkeypatch):
    """Collect the network's weights at the end of each epoch."""
    seen = []
    real = steps._callbacks

    def callbacks(job, network, model, *others):
        keras = backend.load_keras()
        after = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: seen.append(trained.collect(network))
        )
        return [*real(job, network, model, *others), after]

    monkeypatch.setattr(steps, "_callbacks", callbacks)
    return seen


# -- a head on features ----------------------------------------------------------------------------


def wrong_labels(train, valid):
    """Labels of validation at war with those of training: its loss rises from the start."""
    return labels_of(train, (valid[0], (valid[1] + 1) % 3))


FIVE = ["band", "blast", "lymphocyte", "monocyte", "segmented"]
GROUPS = {"neutrophil": ["band", "segmented"]}


def make_five(n_rows, seed=0, **_):
    """Features of five classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_rows) % 5
    x = (rng.normal(size=(n_rows, 5)) + 3 * np.eye(5)[codes]).astype(np.float32)
    ids = [f"munich/{seed}_{row:04d}.jpg" for row in range(n_rows)]
    return Examples(ids, ["white_point"] * n_rows, x), codes


def by_member(rows, names=("first", "second")):
    return dict.fromkeys(names, rows)
