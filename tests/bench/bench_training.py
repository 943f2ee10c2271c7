"""Print what stored features and repeatable operations cost: python -m tests.bench.bench_training.

Ratios of one run: an epoch that reads stored features of a frozen EfficientNet-Lite0 at 112 px
beside one that runs the frozen layers, and a fine-tuning epoch with and without TensorFlow's
promise of the same bits. At the end the rates of the default recipe, for metrics/README.md.
"""

import subprocess
import sys
import time

import numpy as np
import pandas as pd

from stages.core import backend, params
from stages.core.params import InputsParams
from stages.core.settings import read_yaml
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples
from stages.models.recipes import NetworkRecipe, Step, choose
from stages.training import fitting

SIZE = 112
N_IMAGES = 1024
N_TUNED = 256  # images of a fine-tuning epoch
EPOCHS = 3  # the first one, with its tracing, is left out
PROMISED = 20
ROUNDS = 2
CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)
BOTH = ("with", "without")


def draw_rows(n_images: int) -> tuple[Examples, pd.Series]:
    """Draw noise and classes: nothing is to be learnt here."""
    rng = np.random.default_rng(0)
    ids = [f"h/{number:04d}" for number in range(n_images)]
    pixels = rng.integers(0, 256, (n_images, SIZE, SIZE, 3), dtype=np.uint8)
    labels = pd.Series([CLASSES[number % 3] for number in range(n_images)], index=ids)
    return Examples(ids, pixels), labels


def time_epoch(train: str, views: int, n_images: int) -> float:
    """Return the median seconds of an epoch, without the first one."""
    rows, labels = draw_rows(n_images)
    recipe = NetworkRecipe(
        kind="network",
        network="efficientnet_lite0",
        weights="imagenet",
        size=SIZE,
        views=views,
        augment=Augmentation(flips=True),
        steps=[Step(train=train, epochs=EPOCHS, schedule="constant")],
    )
    nothing = Examples([], rows.x[:0])
    trained = fitting.fit(recipe, rows, nothing, labels, fitting.Task(CLASSES, INPUTS, 1))
    return float(np.median(trained.seconds[1:]))


def time_fine_tuning(promise: str) -> None:
    """Print the seconds of a fine-tuning epoch, in a process of its own."""
    _, tf = backend.load_tensorflow()
    if promise == "without":
        tf.config.experimental.enable_op_determinism = lambda: None
    print(time_epoch("all", 0, N_TUNED))


def print_rates() -> None:
    """Print the views a second of the default recipe, with its augmentation, in each epoch."""
    chosen = params.parse(read_yaml(params.PARAMS_FILE))
    step = Step(learning_rate=0.0006, epochs=EPOCHS, schedule="cosine")
    for size in (SIZE, 2 * SIZE):
        recipe = choose("lite0_finetuned", chosen.models, chosen.features).model_copy(
            update={"size": size, "steps": [step]}
        )
        margin = round(size / 4)
        side = size + 2 * margin
        shape = (N_TUNED, side, side, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        _, labels = draw_rows(N_TUNED)
        rows = Examples(list(labels.index), pixels, margin, pixels)
        nothing = Examples([], pixels[:0])
        trained = fitting.fit(
            recipe, rows, nothing, labels, fitting.Task(CLASSES, chosen.inputs, 1)
        )
        rates = ", ".join(f"{N_TUNED / seconds:.0f}" for seconds in trained.seconds)
        print(f"the default at {size} px, views a second in each epoch: {rates}")


def main() -> None:
    """Time both pairs one after the other; print seconds and ratios."""
    start = time.perf_counter()
    run = time_epoch("head", 0, N_IMAGES)
    for views in (1, 4):
        stored = time_epoch("head", views, N_IMAGES)
        print(
            f"epoch of {N_IMAGES} images, frozen layers run: {run:.2f} s; {views} stored views: "
            f"{stored:.3f} s; ratio {run / stored:.0f} (promised: {PROMISED})"
        )
    seconds: dict[str, list[float]] = {promise: [] for promise in BOTH}
    for _ in range(ROUNDS):
        for promise in BOTH:
            command = [sys.executable, "-m", "tests.bench.bench_training", promise]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[promise].append(float(done.stdout))
    fastest = {promise: min(found) for promise, found in seconds.items()}
    print(
        f"fine-tuning epoch with the same bits every time: {fastest['with']:.2f} s; without the "
        f"promise: {fastest['without']:.2f} s; ratio {fastest['with'] / fastest['without']:.2f}"
    )
    print_rates()
    print(f"all took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        time_fine_tuning(sys.argv[1])
    else:
        main()
