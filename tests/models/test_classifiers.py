"""Classifiers without a network: what all kinds have in common, storage, and bad input."""

import sys
import zipfile

import numpy as np
import pytest

from stages.core.errors import ModelError
from stages.images import morphology
from stages.models import classifiers
from stages.models.recipes import ClassifierRecipe, ClassifierSettings
from tests.made.clouds import CLASSES, KINDS, SEED, fitted, labels_of, new_rows, rows, settings_of


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_learns_and_gives_probabilities(name):
    x, codes = rows(n=300)
    model = classifiers.fit(settings_of(name), x[:120], labels_of(codes[:120]), CLASSES, SEED)
    chances = model.predict(x[120:])
    assert chances.shape == (180, 4)
    assert chances.dtype == np.float64
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-12)
    assert (chances.argmax(axis=1) == codes[120:]).mean() > 0.55  # by chance .25
    assert model.predict(x[:0]).shape == (0, 4)


@pytest.mark.parametrize("name", KINDS)
def test_row_order_and_class_names_do_not_matter(name, tmp_path):
    """Shuffled rows give the same bytes; other names of the classes the same probabilities."""
    x, codes = rows()
    order = np.random.default_rng(9).permutation(len(x))
    again = classifiers.fit(settings_of(name), x[order], labels_of(codes[order]), CLASSES, SEED)
    fitted(name).save(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one/classifier.npz").read_bytes() == (
        tmp_path / "two/classifier.npz"
    ).read_bytes()
    renamed = classifiers.fit(
        settings_of(name), x, [f"z{3 - code}" for code in codes], ["z3", "z2", "z1", "z0"], SEED
    )
    assert (renamed.predict(new_rows()) == fitted(name).predict(new_rows())).all()


@pytest.mark.parametrize("name", KINDS)
def test_a_stored_model_is_the_same_model(name, tmp_path):
    fitted(name).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.npz"]
    loaded = classifiers.load(tmp_path, settings_of(name), CLASSES)
    assert (loaded.predict(new_rows()) == fitted(name).predict(new_rows())).all()
    assert loaded.c == fitted(name).c


@pytest.mark.parametrize("name", KINDS)
def test_batches_change_nothing(name, monkeypatch):
    """One row at a time gives the same calls and, but for rounding, the same probabilities."""
    whole = fitted(name).predict(new_rows())
    monkeypatch.setattr(classifiers.reduction, "BATCH", 1)
    split = fitted(name).predict(new_rows())
    np.testing.assert_allclose(split, whole, atol=1e-9)


def test_a_class_without_rows_gets_nothing():
    """Class 1 has no training rows: its column is 0, the others keep their places."""
    x, codes = rows(n_classes=3)
    shifted = np.where(codes == 0, 0, codes + 1)
    for name in KINDS:
        model = classifiers.fit(settings_of(name), x, labels_of(shifted), CLASSES, SEED)
        chances = model.predict(x)
        assert (chances[:, 1] == 0).all()
        assert (chances.argmax(axis=1) == shifted).mean() > 0.6


# -- Bad input


@pytest.mark.parametrize("place", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite(place):
    x, codes = rows()
    broken = x.copy()
    broken[17, 3] = place
    with pytest.raises(ModelError, match=r"1 vectors hold numbers that are not finite.*row 17"):
        classifiers.fit(settings_of("knn"), broken, labels_of(codes), CLASSES, SEED)
    with pytest.raises(ModelError, match="not finite"):
        fitted("knn").predict(broken)


def test_vectors_of_another_length():
    with pytest.raises(ModelError, match="5 columns, those of training had 6"):
        fitted("forest").predict(new_rows()[:, :5])
    with pytest.raises(ModelError, match="no table"):
        fitted("forest").predict(new_rows()[0])


def test_labels_that_do_not_fit():
    x, codes = rows()
    labels = labels_of(codes)
    with pytest.raises(ModelError, match="labels blast are none of the classes"):
        classifiers.fit(settings_of("knn"), x, ["blast", *labels[1:]], CLASSES, SEED)
    with pytest.raises(ModelError, match="120 vectors have 119 labels"):
        classifiers.fit(settings_of("knn"), x, labels[1:], CLASSES, SEED)
    with pytest.raises(ModelError, match="hold 1 of the classes"):
        classifiers.fit(settings_of("svm"), x, ["monocyte"] * 120, CLASSES, SEED)


def test_too_few_rows():
    x, codes = rows()
    labels = labels_of(np.where(np.arange(120) < 2, 3, codes % 3))
    setting = ClassifierSettings(classifier="svm", c=[1.0, 2.0], folds=3)
    with pytest.raises(
        ModelError, match=r"folds is 3, and a class has 2 training rows\. Lower folds"
    ):
        classifiers.fit(setting, x, labels, CLASSES, SEED)
    single = ClassifierSettings(classifier="svm", c=[1.0], folds=3)
    assert classifiers.fit(single, x, labels, CLASSES, SEED).c == 1.0  # needs no folds
    many = ClassifierSettings(classifier="knn", neighbours=121)
    with pytest.raises(ModelError, match="neighbours is 121; there are 120"):
        classifiers.fit(many, x, labels, CLASSES, SEED)


# -- Files that are not ours


def stored(name, folder):
    fitted(name).save(folder)
    with np.load(folder / "classifier.npz") as file:
        return dict(file)


def expect_foreign(folder, name, match):
    with pytest.raises(ModelError, match=match) as caught:
        classifiers.load(folder, settings_of(name), CLASSES)
    assert "\n" not in str(caught.value)
    assert "repro" in str(caught.value)


def test_missing_or_damaged_file(tmp_path):
    expect_foreign(tmp_path, "svm", "classifier.npz is missing")
    path = tmp_path / "classifier.npz"
    path.write_bytes(b"")
    expect_foreign(tmp_path, "svm", "cannot be read")
    path.write_bytes(b"not a model at all")
    expect_foreign(tmp_path, "svm", "cannot be read")
    np.save(tmp_path / "table.npy", np.ones(3))
    (tmp_path / "table.npy").replace(path)
    expect_foreign(tmp_path, "svm", "cannot be read")
    fitted("svm").save(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    expect_foreign(tmp_path, "svm", "cannot be read")
    for place in range(40, len(whole), len(whole) // 23):
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        path.write_bytes(bytes(flipped))
        try:  # a flipped byte is found, or harmless: zip headers hold unused fields
            loaded = classifiers.load(tmp_path, settings_of("svm"), CLASSES)
        except ModelError:
            continue
        assert (loaded.predict(new_rows()) == fitted("svm").predict(new_rows())).all()


def test_nothing_is_unpickled(tmp_path):
    """A pickle among the arrays, and one in place of the file, are refused and not run."""
    arrays = stored("forest", tmp_path)
    trap = {"roots": np.array([Trap(tmp_path / "sprung")], dtype=object)}
    with (tmp_path / "classifier.npz").open("wb") as file:
        np.savez(file, **(arrays | trap))
    expect_foreign(tmp_path, "forest", "cannot be read")
    with (tmp_path / "classifier.npz").open("wb") as file:
        np.save(file, trap["roots"], allow_pickle=True)
    expect_foreign(tmp_path, "forest", "cannot be read")
    with zipfile.ZipFile(tmp_path / "classifier.npz", "w") as packed:
        packed.writestr("roots", b"\x80\x04no array")
    expect_foreign(tmp_path, "forest", "not a classifier")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


PLANTED = [
    ("forest", "children", lambda a: np.zeros_like(a), "leads back"),  # before its parent
    ("forest", "children", lambda a: a + 10**6, "children leads nowhere"),
    ("forest", "features", lambda a: a + 5, "features leads nowhere"),
    ("forest", "roots", lambda a: a[:0], "of shape"),
    ("forest", "thresholds", lambda a: a * np.nan, "thresholds is not finite"),
    ("forest", "shares", lambda a: a[:, 1:], "of shape"),
    ("forest", "present", lambda a: a[::-1].copy(), "present"),
    ("forest", "present", lambda a: a + 1, "present"),
    ("svm", "intercepts", lambda a: a[1:], "intercepts is float64 of shape"),
    ("svm", "gamma", lambda a: a.reshape(1), "of shape"),
    ("svm", "gamma", lambda a: np.array("0.1"), "gamma is <U3"),
    ("svm", "mean", lambda a: a.astype(">f8"), "mean is >f8"),
    ("svm", "scale", lambda a: a * 0, "scale"),
    ("svm_pca", "pca_mean", lambda a: a[1:], "of shape"),
    ("knn", "codes", lambda a: a + 1, "codes"),
    ("knn", "codes", lambda a: a.astype(float), "codes is float64"),
    ("logistic", "classes", lambda a: a[::-1], "its classes"),
]


@pytest.mark.parametrize(("name", "array", "change", "match"), PLANTED)
def test_planted_faults_are_found(name, array, change, match, tmp_path):
    arrays = stored(name, tmp_path)
    arrays[array] = change(arrays[array])
    with (tmp_path / "classifier.npz").open("wb") as file:
        np.savez(file, **arrays)
    expect_foreign(tmp_path, name, match)


@pytest.mark.parametrize("name", KINDS)
def test_foreign_numbers_are_refused_or_do_no_harm(name, tmp_path):
    """Numbers by chance in place of each array: one line, or an answer; no crash, no end."""
    rng, arrays = np.random.default_rng(0), stored(name, tmp_path)
    far = np.copysign(np.finfo(np.float32).max, new_rows())
    for array in arrays.keys() - {"classes"}:
        shape, is_index = arrays[array].shape, arrays[array].dtype.kind == "i"
        for bound in (2, *shape[:1], 10**9):
            chance = rng.integers(0, bound, shape)
            changed = arrays | {array: np.asarray(chance if is_index else (chance - 1) * 1e18)}
            with (tmp_path / "classifier.npz").open("wb") as file:
                np.savez(file, **changed)
            with np.errstate(all="ignore"):
                try:
                    loaded = classifiers.load(tmp_path, settings_of(name), CLASSES)
                except ModelError:
                    continue
                assert loaded.predict(far).shape == (180, 4)


def test_file_of_another_recipe(tmp_path):
    fitted("svm").save(tmp_path)
    expect_foreign(tmp_path, "knn", "it holds .*not")
    expect_foreign(tmp_path, "svm_pca", "it holds")
    with pytest.raises(ModelError, match="its classes"):
        classifiers.load(tmp_path, settings_of("svm"), CLASSES[::-1])
    arrays = stored("svm", tmp_path)
    del arrays["gamma"]
    with (tmp_path / "classifier.npz").open("wb") as file:
        np.savez(file, **arrays)
    expect_foreign(tmp_path, "svm", "it holds")


# -- Vectors


def recipe(vectors):
    return ClassifierRecipe(
        kind="classifier", classifier="knn", vectors=vectors, size=16, neighbours=1
    )


def test_grey_is_the_mean_of_the_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    pixels[0] = 255
    grey = classifiers.vectorise(recipe("grey"), pixels)
    assert grey.dtype == np.float32
    assert (grey[0] == 1).all()
    expected = pixels.astype(np.float64).mean(axis=3).reshape(5, -1) / 255
    np.testing.assert_allclose(grey, expected, atol=1e-7)
    assert grey[1, 16] == pytest.approx(pixels[1, 1, 0].mean() / 255)  # row by row


def test_measures_are_those_of_morphology(monkeypatch):
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    pixels = np.full((2, 64, 64, 3), 240, np.uint8)
    pixels[1, 24:40, 24:40] = (90, 60, 130)
    vectors = classifiers.vectorise(recipe("measures"), pixels)
    assert vectors.shape == (2, len(morphology.NAMES))
    assert vectors[:, 0].tolist() == [0, 1]  # has_cell


def test_prediction_needs_no_umap(tmp_path, monkeypatch):
    """A stored UMAP model predicts where umap-learn is not installed; fitting says what to do."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    arrays = {
        "pca_mean": np.zeros(4), "pca_components": 2 * np.eye(4, dtype=np.float32),
        "umap_vectors": vectors, "umap_places": vectors[:, :2] * 3,
        "mean": np.zeros(2), "scale": np.ones(2), "vectors": vectors[:, :2] * 3,
        "codes": np.arange(20) % 4, "present": np.arange(4),
    }  # fmt: skip
    setting = ClassifierSettings(
        classifier="knn", reduce="umap", components=2, umap_neighbours=5, neighbours=1
    )
    classifiers.Classifier(setting, tuple(CLASSES), arrays).save(tmp_path)
    monkeypatch.setitem(sys.modules, "umap", None)
    model = classifiers.load(tmp_path, setting, CLASSES)
    assert model.predict(vectors).shape == (20, 4)
    assert model.predict(np.copysign(np.float32(3e38), vectors)).shape == (20, 4)
