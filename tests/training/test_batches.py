"""Feeding: every row as often as promised, each view its own, memory for a few batches alone."""

import tracemalloc
import warnings

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import backend
from stages.inputs import augmentation
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples
from stages.models.recipes import NetworkRecipe, Step
from stages.training import batches
from tests.made import strong

STRONG = strong.STRONG.model_dump()


def recipe(batch=4, sampling="shuffled", **augment):
    return NetworkRecipe(
        kind="network", network="lenet", size=32, batch=batch, sampling=sampling,
        augment=Augmentation(**augment), steps=[Step()],
    )  # fmt: skip


def make_rows(n, size=16, margin=0, with_hidden=False):
    """Rows whose pixels tell them apart: textured, around a level of their own."""
    rng = np.random.default_rng(n)
    side = size + 2 * margin
    noise = rng.integers(0, 60, (n, side, side, 3))
    x = (noise + np.arange(n)[:, None, None, None] * 150 // max(n, 1)).astype(np.uint8)
    ids = [f"h/{row:03d}" for row in range(n)]
    return Examples(ids, x, margin, 255 - x if with_hidden else None)


def make_targets(labels, n_classes=None):
    return np.eye(n_classes or max(labels) + 1, dtype=np.float32)[labels]


def ids_of(hospitals):
    return [f"h{hospital}/{row}" for row, hospital in enumerate(hospitals)]


def epochs_of(rows, chosen, seed, n_epochs, labels=None, first_epoch=0, grey_share=0.0):
    """Read epochs as arrays; the weight of a row is its number, so that rows can be told."""
    labels = labels if labels is not None else [row % 2 for row in range(len(rows.x))]
    numbers = np.arange(len(rows.x), dtype=np.float32)
    dataset = batches.make_dataset(
        rows, make_targets(labels), numbers, chosen, grey_share, seed, first_epoch
    )
    return [[tuple(part.numpy() for part in batch) for batch in dataset] for _ in range(n_epochs)]


def order_of(epoch):
    return np.concatenate([weights for _, _, weights in epoch]).astype(int).tolist()


def pixels_of(epoch):
    return np.concatenate([pixels for pixels, _, _ in epoch])


def test_without_a_seed_rows_come_plain_and_in_order():
    """Validation: the middle of each row, again in every pass, whatever the augmentation."""
    rows = make_rows(10, margin=4, with_hidden=True)
    for epoch in epochs_of(rows, recipe(sampling="balanced", **STRONG), None, 2, grey_share=0.5):
        assert order_of(epoch) == list(range(10))
        assert np.array_equal(pixels_of(epoch), rows.x[:, 4:-4, 4:-4])


def test_batches_have_the_promised_form():
    """Pixels, targets and weights of one row stand together; the last batch is smaller."""
    rows, labels = make_rows(10), [0, 2, 1, 0, 2, 1, 0, 2, 1, 1]
    (epoch,) = epochs_of(rows, recipe(batch=4), 3, 1, labels)
    assert [len(pixels) for pixels, _, _ in epoch] == [4, 4, 2]
    for pixels, targets, weights in epoch:
        assert (pixels.dtype, targets.dtype, weights.dtype) == (np.uint8, np.float32, np.float32)
        drawn = weights.astype(int)
        assert np.array_equal(pixels, rows.x[drawn])
        assert np.array_equal(targets, make_targets(labels)[drawn])


@pytest.mark.parametrize("n", [1, 7, 8, 9])
def test_the_cardinality_is_known(n):
    """Keras shows progress and plans schedules by it."""
    rows = make_rows(n)
    dataset = batches.make_dataset(
        rows, make_targets([0] * n, 2), np.ones(n, np.float32), recipe(batch=4), False, 1
    )
    assert int(dataset.cardinality()) == -(-n // 4) == len(list(dataset))


def test_every_epoch_has_a_new_order_and_new_views():
    """Each row once in each epoch; orders and views differ from epoch to epoch, and by the seed."""
    rows, chosen = make_rows(12), recipe(flips=True, noise=1.0)
    first, second = epochs_of(rows, chosen, 5, 2)
    (other,) = epochs_of(rows, chosen, 6, 1)
    orders = [order_of(epoch) for epoch in (first, second, other)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    views = [pixels_of(epoch)[np.argsort(order_of(epoch))] for epoch in (first, second, other)]
    assert all((views[0][row] != views[1][row]).any() for row in range(12))
    assert all((views[0][row] != views[2][row]).any() for row in range(12))


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(monkeypatch):
    """One thread, two, or more than there are rows in a batch."""
    rows, chosen = make_rows(10, margin=4, with_hidden=True), recipe(**STRONG)
    found = []
    for workers in ("1", "2", "7"):
        monkeypatch.setenv("SMEARFLOW_WORKERS", workers)
        (epoch,) = epochs_of(rows, chosen, 5, 1, grey_share=0.5)
        found.append((order_of(epoch), pixels_of(epoch)))
    assert found[0][0] == found[1][0] == found[2][0]
    assert np.array_equal(found[0][1], found[1][1])
    assert np.array_equal(found[0][1], found[2][1])


def test_a_stopped_training_goes_on_with_the_epoch_that_follows():
    """Epochs 2 and 3 are the same whether 0 and 1 were run before, or not."""
    rows, chosen = make_rows(10), recipe(sampling="balanced", **STRONG)
    whole = epochs_of(rows, chosen, 5, 4)
    rest = epochs_of(rows, chosen, 5, 2, first_epoch=2)
    for before, after in zip(whole[2:], rest, strict=True):
        assert order_of(before) == order_of(after)
        assert np.array_equal(pixels_of(before), pixels_of(after))


def test_keras_sees_one_epoch_after_the_other():
    """Keras' fit passes over the data once an epoch: no epoch is lost to a look ahead."""
    keras, _ = backend.load_tensorflow()
    rows = make_rows(6)
    seen = []

    class Spy(keras.Sequential):
        def train_step(self, data):
            seen.append(data[2].numpy().astype(int).tolist())
            return super().train_step(data)

    targets, numbers = make_targets([0, 1] * 3), np.arange(6, dtype=np.float32)
    for first_epoch, n_epochs in ((0, 3), (1, 2)):
        dataset = batches.make_dataset(
            rows, targets, numbers, recipe(batch=6), False, 5, first_epoch
        )
        spy = Spy([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        spy.compile(loss="mse", metrics=["accuracy"], run_eagerly=True)
        spy.fit(dataset, epochs=n_epochs, shuffle=False, verbose=0)
    orders = [
        batches.draw_order(targets, rows.image_ids, "shuffled", 5, epoch).tolist()
        for epoch in range(3)
    ]
    assert seen == [*orders, *orders[1:]]


def test_a_view_does_not_depend_on_the_batch():
    """Another batch, the same views in the same order."""
    rows = make_rows(10, margin=4)
    (small,), (large,) = (epochs_of(rows, recipe(batch=b, **STRONG), 5, 1) for b in (3, 10))
    assert order_of(small) == order_of(large)
    assert np.array_equal(pixels_of(small), pixels_of(large))


def test_a_view_is_the_one_that_augment_draws():
    """Wide row, hidden row, margin and grey world all reach the augmentation."""
    rows, chosen = make_rows(6, margin=4, with_hidden=True), recipe(**STRONG | {"hide": 0.5})
    for grey_share in (0.0, 0.5):
        (epoch,) = epochs_of(rows, chosen, 5, 1, grey_share=grey_share)
        expected = [
            augmentation.augment(
                rows.x[row], rows.hidden[row], 4, chosen.augment, grey_share,
                np.random.default_rng([5, 0, place, batches.VIEW]),
            )
            for place, row in enumerate(order_of(epoch))
        ]  # fmt: skip
        assert np.array_equal(pixels_of(epoch), np.stack(expected))


def test_without_augmentation_nothing_is_changed():
    """Also where the inputs name grey world: those rows are there already."""
    rows = make_rows(8, margin=4)
    (epoch,) = epochs_of(rows, recipe(), 5, 1, grey_share=0.5)
    assert np.array_equal(pixels_of(epoch), rows.x[order_of(epoch), 4:-4, 4:-4])


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
)
def test_balanced_epochs_draw_classes_equally_often(labels, seed, epoch):
    """As many draws as rows; classes within one of each other; no row again before all were."""
    order = batches.draw_order(
        make_targets(labels, 5), ids_of([0] * len(labels)), "balanced", seed, epoch
    )
    drawn = np.array(labels)[order]
    counts = np.bincount(drawn, minlength=5)[np.unique(labels)]
    assert len(order) == len(labels)
    assert counts.max() - counts.min() <= 1
    for name in set(labels):
        members = {row for row, label in enumerate(labels) if label == name}
        own = order[drawn == name].tolist()
        for start in range(0, len(own), len(members)):
            turn = own[start : start + len(members)]
            assert len(set(turn)) == len(turn)
            assert set(turn) <= members


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    names=st.permutations(range(4)),
    sampling=st.sampled_from(["shuffled", "balanced", "balanced_by_hospital"]),
)
def test_the_order_does_not_depend_on_names(labels, names, sampling):
    """Of classes, which stand elsewhere in the targets then, nor of hospitals: the same rows."""
    hospitals = [row % 3 for row in range(len(labels))]
    before, after = (
        batches.draw_order(
            make_targets([known[label] for label in labels], 4),
            ids_of([known[hospital] for hospital in hospitals]), sampling, 3, 0,
        )
        for known in (range(4), names)
    )  # fmt: skip
    assert np.array_equal(before, after)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
)
def test_epochs_balanced_by_hospital_draw_hospitals_equally_often(rows, seed, epoch):
    """Classes within one, hospitals within one inside a class, no row again before all were."""
    labels, hospitals = (np.array(one) for one in zip(*rows, strict=True))
    targets, ids = make_targets(labels, 4), ids_of(hospitals)
    order = batches.draw_order(targets, ids, "balanced_by_hospital", seed, epoch)
    assert len(order) == len(rows)
    by_class = np.bincount(labels[order], minlength=4)[np.unique(labels)]
    assert np.ptp(by_class) <= 1
    for name in np.unique(labels):
        here = order[labels[order] == name]
        known = np.unique(hospitals[labels == name])
        assert np.ptp(np.bincount(hospitals[here], minlength=3)[known]) <= 1
        for hospital in known:
            n_members = int(((labels == name) & (hospitals == hospital)).sum())
            own = here[hospitals[here] == hospital].tolist()
            for start in range(0, len(own), n_members):
                turn = own[start : start + n_members]
                assert len(set(turn)) == len(turn)


def test_balanced_by_hospital_is_balanced_where_there_is_one_hospital():
    """And it is not where there are two: ten rows of one then weigh as much as thirty."""
    targets, sampling = make_targets([0, 1] * 20), ("balanced", "balanced_by_hospital")
    alone, apart = ids_of([0] * 40), ids_of([0] * 30 + [1] * 10)
    first, second = (batches.draw_order(targets, alone, name, 3, 1) for name in sampling)
    assert np.array_equal(first, second)
    shares = [(batches.draw_order(targets, apart, name, 3, 1) >= 30).mean() for name in sampling]
    assert shares == [0.25, 0.5]


def test_every_class_gets_its_surplus_and_every_turn_mixes():
    """Over epochs each class is the one drawn once more, and classes do not come in blocks."""
    labels = [0] * 20 + [1] * 5 + [2] * 7
    targets = make_targets(labels)
    ids = ids_of([0] * 32)
    orders = [batches.draw_order(targets, ids, "balanced", 3, epoch) for epoch in range(60)]
    drawn = np.array([np.array(labels)[order] for order in orders])
    surplus = np.array([np.bincount(one) == 11 for one in drawn])
    assert surplus.sum(axis=1).tolist() == [2] * 60
    assert surplus.sum(axis=0).min() > 25
    # 32 draws of three classes: two neighbours differ in two thirds of the places.
    assert (drawn[:, 1:] != drawn[:, :-1]).mean() == pytest.approx(2 / 3, abs=0.04)
    firsts = [order[one == 0][0] for order, one in zip(orders, drawn, strict=True)]
    assert len(set(firsts)) > 15  # of 20 rows; a class has a new order in every epoch


def read_views(rows, chosen, n_views, seed, grey_share=0.0):
    parts = list(batches.stream_views(rows, chosen, grey_share, n_views, seed))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def test_stored_views_are_the_plain_one_and_augmented_ones():
    """All rows plain, then all rows augmented, again and again, in full batches."""
    rows, chosen = make_rows(10, margin=4), recipe(batch=4, **STRONG)
    indices, pixels = read_views(rows, chosen, 3, 5)
    assert indices.tolist() == list(range(10)) * 3
    assert np.array_equal(pixels[:10], rows.x[:, 4:-4, 4:-4])
    assert all((pixels[row] != pixels[row + 10]).any() for row in range(20))
    sizes = [len(part) for part, _ in batches.stream_views(rows, chosen, False, 3, 5)]
    assert sizes == [4] * 7 + [2]


def test_a_stored_view_does_not_depend_on_other_views():
    """More views, another batch or further rows: those that there were stay as they were."""
    rows = make_rows(10, margin=4)
    few = read_views(rows, recipe(batch=4, **STRONG), 2, 5, grey_share=0.5)
    more = read_views(rows, recipe(batch=7, **STRONG), 4, 5, grey_share=0.5)
    assert np.array_equal(few[1], more[1][:20])
    start = Examples(rows.image_ids[:3], rows.x[:3], rows.margin)
    alone = read_views(start, recipe(batch=4, **STRONG), 2, 5, grey_share=0.5)
    assert np.array_equal(alone[1], more[1][[0, 1, 2, 10, 11, 12]])
    other = read_views(rows, recipe(batch=4, **STRONG), 2, 6, grey_share=0.5)
    assert all((few[1][row] != other[1][row]).any() for row in range(10, 20))


def test_no_two_kinds_of_draws_share_a_generator():
    """NumPy takes [1, 2] and [1, 2, 0] for one seed; ours all end in a word that is not 0."""
    assert np.random.default_rng([1, 2]).random() == np.random.default_rng([1, 2, 0]).random()
    words = [
        batches.ORDER, batches.CLASS_ORDER, batches.HOSPITAL_ORDER, batches.VIEW,
        batches.STORED_VIEW,
    ]  # fmt: skip
    assert len(set(words)) == 5
    assert 0 not in words


@pytest.mark.parametrize("n_rows", [64, 512])
def test_memory_is_that_of_a_few_batches(tmp_path, n_rows):
    """Eight times the rows on disk, no more of them in memory."""
    rows = make_rows(8, size=64, margin=16)
    path = tmp_path / "pixels"
    np.tile(rows.x, (n_rows // 8, 1, 1, 1)).tofile(path)
    x = np.memmap(path, np.uint8, "r", shape=(n_rows, 96, 96, 3))
    many = Examples(["h/a"] * n_rows, x, 16)
    chosen = recipe(batch=8, rotation=180)
    for _ in batches.stream_views(many, chosen, False, 1, 5):  # what is loaded once
        pass
    tracemalloc.start()
    for _ in batches.stream_views(many, chosen, False, 2, 5):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_fault_in_a_thread_reaches_the_caller():
    """No batch is half filled in silence."""
    rows = make_rows(8, margin=4)
    broken = Examples(rows.image_ids, rows.x, 4, rows.x[:2])
    with pytest.raises(IndexError):
        list(batches.stream_views(broken, recipe(hide=1.0), False, 2, 5))


def test_an_epoch_may_be_left_early():
    """A reader that stops after a batch gets no warning, and the next epoch is whole."""
    rows = make_rows(40)
    dataset = batches.make_dataset(
        rows, make_targets([0, 1] * 20), np.ones(40, np.float32), recipe(**STRONG), False, 5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in dataset:
            break
        assert len(list(dataset)) == 10


def make_keras_generator(**settings):
    """What the two projects fed their networks with; only Keras' older half still has it."""
    backend.load_tensorflow()
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(**settings)


def test_keras_ignores_a_preprocessing_that_is_given_to_the_wrong_call(tmp_path):
    """Why ours is inside the network: passed with the table of files, it is dropped in silence."""
    cv2.imwrite(str(tmp_path / "a.png"), make_rows(1).x[0])
    frame = pd.DataFrame({"filename": ["a.png"], "class": ["a"]})
    ranges = []
    for there in ((False, False), (False, True), (True, False)):
        first, last = (
            {"preprocessing_function": lambda pixels: pixels / 255} if is_given else {}
            for is_given in there
        )
        flow = make_keras_generator(**first).flow_from_dataframe(
            frame, str(tmp_path), target_size=(16, 16), **last
        )
        ranges.append(float(flow[0][0].max()))
    assert ranges[0] == ranges[1] > 20
    assert ranges[2] == pytest.approx(ranges[0] / 255)


def test_keras_reads_a_zoom_of_more_than_one_as_a_mirror():
    """Why ours refuses it: 1.1 means factors from -0.1 to 2.1."""
    assert make_keras_generator(zoom_range=1.1).zoom_range == pytest.approx([-0.1, 2.1])


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # Keras asks SciPy so
def test_keras_shears_by_degrees():
    """Why ours refuses a tenth: it moves no pixel of a picture of 16."""
    generator = make_keras_generator(shear_range=0.1)
    image = make_rows(1).x[0].astype(np.float32)
    drawn = [generator.get_random_transform(image.shape, seed)["shear"] for seed in range(200)]
    assert 0.09 < max(drawn) <= 0.1
    sheared = generator.apply_transform(image, {"shear": 0.1})
    assert np.abs(sheared - image).max() < 2
