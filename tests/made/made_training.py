"""Small recipes, rows and images, and what can be seen of a training on them."""

import numpy as np
import pandas as pd

from stages.core import backend
from stages.core.params import InputsParams
from stages.inputs.reading import Examples
from stages.models import trained
from stages.models.recipes import ClassifierRecipe, NetworkRecipe, Step
from stages.training import fitting, steps

CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)
SIDE = 16
MADE = "vgg19"  # the recipe's name of the small backbone
GREY = ClassifierRecipe(kind="classifier", vectors="grey", size=SIDE, classifier="knn")


def make_frozen(epochs=6, learning_rate=0.05, patience=3, **changes):
    """A frozen backbone, whose answers are stored, with a head that learns in a second."""
    step = Step(
        train="head", epochs=epochs, learning_rate=learning_rate, patience=patience,
        stop_patience=2 * patience,
    )  # fmt: skip
    content = {"hidden": [8], "dropout": 0.1, "batch": 16, "class_weights": "balanced"}
    return make_network(step, **(content | changes))


def make_network(*stretches, **changes):
    """A small backbone with a linear head, unless told otherwise."""
    content = {
        "kind": "network", "network": MADE, "size": 32, "weights": "imagenet", "dropout": 0.2,
        "batch": 8, "steps": list(stretches) or [Step(epochs=2, schedule="constant")],
    }  # fmt: skip
    return NetworkRecipe(**(content | changes))


def make_pixels(n_rows, seed=0, hospital="munich", margin=0, colours=((0,), (1,), (2,))):
    """Noisy images; bright channels tell the class, of which there are as many as `colours`."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_rows) % len(colours))
    side = SIDE + 2 * margin
    x = rng.integers(0, 120, (n_rows, side, side, 3), dtype=np.uint8)
    for row, code in zip(x, codes, strict=True):
        row[..., list(colours[code])] += 100
    ids = [f"{hospital}/{seed}_{row:04d}.jpg" for row in range(n_rows)]
    return Examples(ids, x, margin), codes


def no_rows(like):
    """A part without images."""
    return Examples([], like.x[:0], like.margin)


def labels_of(*parts, classes=CLASSES):
    """Class by image of (rows, codes)."""
    return pd.Series(
        {name: classes[code] for rows, codes in parts
         for name, code in zip(rows.image_ids, codes, strict=True)}, dtype=object,
    )  # fmt: skip


def task(classes=CLASSES, seed=5, partial=None):
    return fitting.Task(list(classes), INPUTS, seed, None, partial)


def fit(recipe, train=None, valid=None, labels=None, classes=CLASSES, seed=5, partial=None):
    """Train on made images."""
    wide = not isinstance(train, tuple) and recipe.learns_wide
    train = train or make_pixels(24, margin=4 * wide)
    valid = valid or make_pixels(12, 1)
    labels = labels if labels is not None else labels_of(train, valid)
    return fitting.fit(recipe, train[0], valid[0], labels, task(classes, seed, partial))


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


def wrong_labels(train, valid):
    """Labels of validation at war with those of training: its loss rises from the start."""
    return labels_of(train, (valid[0], (valid[1] + 1) % 3))


FIVE = ["band", "blast", "lymphocyte", "monocyte", "segmented"]
GROUPS = {"neutrophil": ["band", "segmented"]}


def make_five(n_rows, seed=0):
    """Images of five classes; in grey, the three of one bright channel look alike."""
    return make_pixels(n_rows, seed, colours=((0,), (1,), (2,), (0, 2), (0, 1)))


def by_member(rows, names=("first", "second")):
    return dict.fromkeys(names, rows)
