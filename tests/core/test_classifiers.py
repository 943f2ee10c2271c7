"""Classifiers without a network: scikit-learn as the oracle, storage, and bad input."""

import sys
import zipfile
from functools import lru_cache

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from stages.core import classifiers, morphology
from stages.core.errors import ModelError
from stages.core.params import ClassifierRecipe, ClassifierSettings, seed_for

CLASSES = ["basophil", "eosinophil", "lymphocyte", "monocyte"]
SEED = 7
KINDS = {
    "svm": {"c": [0.5, 5.0]},
    "svm_pca": {"c": [2.0], "reduce": "pca", "components": 3},
    "knn": {"neighbours": 3},
    "knn_pca": {"neighbours": 4, "reduce": "pca", "components": 0.99},
    "logistic": {"c": [0.1, 1.0]},
    "logistic_l1": {"c": [0.5], "penalty": "l1"},
    "forest": {"trees": 12, "depth": 5},
    "extra_trees": {"trees": 12},
}


def settings_of(name):
    return ClassifierSettings(
        classifier=name.removesuffix("_pca").removesuffix("_l1"), **KINDS[name]
    )


@lru_cache
def rows(n=120, n_columns=6, n_classes=4, seed=0):
    """Overlapping clouds of different widths, in columns of very different units."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % n_classes)
    middles = rng.normal(0, 1.2, (n_classes, n_columns))
    x = middles[codes] + rng.normal(0, 1, (n, n_columns))
    return (x * 3.0 ** np.arange(-3, n_columns - 3)).astype(np.float32), codes


def labels_of(codes):
    return [CLASSES[code] for code in codes]


@lru_cache
def fitted(name, n_classes=4):
    x, codes = rows(n_classes=n_classes)
    return classifiers.fit(settings_of(name), x, labels_of(codes), CLASSES, SEED)


def in_fit_order(x, codes):
    order = classifiers._order_rows(x, codes)
    return x[order], codes[order]


def new_rows(n_classes=4):
    """Rows of the same clouds that no model has seen."""
    return rows(n=300, n_classes=n_classes)[0][120:] * np.float32(1.01)


# -- The oracle


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("name", ["forest", "extra_trees"])
def test_trees_are_those_of_sklearn(name, n_classes):
    """Our walk through the stored nodes gives scikit-learn's probabilities to the last bit."""
    x, codes = in_fit_order(*rows(n_classes=n_classes))
    if name == "forest":
        oracle = RandomForestClassifier(12, max_depth=5, random_state=seed_for(SEED, "classifier"))
    else:
        oracle = ExtraTreesClassifier(
            12, class_weight="balanced", random_state=seed_for(SEED, "classifier")
        )
    theirs = oracle.fit(x, codes).predict_proba(new_rows(n_classes))
    ours = fitted(name, n_classes).predict(new_rows(n_classes))
    assert (ours[:, :n_classes] == theirs).all()
    assert len(np.unique(ours.argmax(axis=1))) == n_classes


def test_a_threshold_itself_goes_left():
    """One stump, by hand: at most .1, as float32 knows it, is the first leaf."""
    arrays = {
        "roots": np.array([0]), "features": np.array([0, -1, -1]), "left": np.array([1, 0, 1]),
        "right": np.array([2, 0, 0]), "shares": np.array([[0.9, 0.1], [0.2, 0.8]]),
        "thresholds": np.array([np.float64(np.float32(0.1)), 0, 0]),
        "present": np.array([0, 1]), "n_inputs": np.array(1),
    }  # fmt: skip
    model = classifiers.Classifier(settings_of("forest"), ("a", "b"), arrays)
    at = np.array([[0.1], [np.nextafter(np.float32(0.1), np.float32(1))]], np.float32)
    assert model.predict(at).tolist() == [[0.9, 0.1], [0.2, 0.8]]


def test_extra_trees_weigh_classes_equally():
    """Among noise, nine in ten of one class: balanced trees still give the other near a half."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    codes = (np.arange(400) % 10 == 0).astype(int)
    shallow = {"trees": 60, "depth": 2}
    mean = {}
    for name in ("forest", "extra_trees"):
        model = classifiers.fit(
            ClassifierSettings(classifier=name, **shallow), x, labels_of(codes), CLASSES, SEED
        )
        mean[name] = model.predict(x)[:, 1].mean()
    assert mean["forest"] == pytest.approx(0.1, abs=0.03)
    assert mean["extra_trees"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_svm_is_that_of_sklearn(n_classes):
    """Own kernel, own duels: the values of scikit-learn, and its call is our arg-max."""
    x, codes = in_fit_order(*rows(n_classes=n_classes))
    model = fitted("svm", n_classes)
    scaler = StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(model.arrays["mean"], scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(model.arrays["scale"], scaler.scale_, rtol=1e-9)
    oracle = SVC(C=model.c, break_ties=n_classes > 2)
    oracle.fit(classifiers._scale(model.arrays, x.astype(np.float64)), codes)
    new = classifiers._scale(model.arrays, new_rows(n_classes).astype(np.float64))
    theirs = oracle.decision_function(new)
    ours = classifiers._svm_values(model.arrays, new)
    if n_classes == 2:
        ours = ours[:, 1]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    chances = model.predict(new_rows(n_classes))
    assert (chances.argmax(axis=1) == oracle.predict(new)).all()
    assert len(np.unique(chances.argmax(axis=1))) == n_classes


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", ["logistic", "logistic_l1"])
def test_logistic_is_that_of_sklearn(name, n_classes):
    x, codes = in_fit_order(*rows(n_classes=n_classes))
    model = fitted(name, n_classes)
    share, solver = (1.0, "saga") if name.endswith("l1") else (0.0, "lbfgs")
    oracle = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=model.c, l1_ratio=share, solver=solver, max_iter=5000,
            random_state=seed_for(SEED, "classifier"),
        ),
    )  # fmt: skip
    theirs = oracle.fit(x.astype(np.float64), codes).predict_proba(
        new_rows(n_classes).astype(np.float64)
    )
    np.testing.assert_allclose(model.predict(new_rows(n_classes))[:, :n_classes], theirs, atol=1e-9)


def test_l1_leaves_columns_out():
    """Six columns tell the classes, six are noise: l1 drops weights, l2 keeps all."""
    x, codes = rows()
    noisy = np.hstack([x, np.random.default_rng(3).normal(size=x.shape).astype(np.float32)])
    zeros = {}
    for penalty in ("l1", "l2"):
        setting = ClassifierSettings(classifier="logistic", c=[0.1], penalty=penalty)
        model = classifiers.fit(setting, noisy, labels_of(codes), CLASSES, SEED)
        zeros[penalty] = int((model.arrays["coefficients"][:, 6:] == 0).sum())
    assert zeros["l1"] > 12
    assert zeros["l2"] == 0


def test_neighbours_are_those_of_sklearn():
    """Votes as scikit-learn counts them, wherever one class has the most; rows standardised."""
    x, codes = rows()
    scaler = StandardScaler().fit(x.astype(np.float64))
    oracle = KNeighborsClassifier(3).fit(scaler.transform(x), codes)
    theirs = oracle.predict_proba(scaler.transform(new_rows().astype(np.float64)))
    ours = fitted("knn").predict(new_rows())
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    clear = theirs.max(axis=1) > 0.5
    assert clear.sum() > 50
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1))[clear].all()


def test_nearest_neighbour_decides_a_tie():
    """One vote each: the nearer class wins; without any nearer one, the first class."""
    x = np.array([[0.0], [1.0], [10.0], [12.0]], np.float32)
    labels = ["monocyte", "basophil", "lymphocyte", "eosinophil"]
    setting = ClassifierSettings(classifier="knn", neighbours=2)
    model = classifiers.fit(setting, x, labels, CLASSES, SEED)
    calls = model.predict(np.array([[0.1], [0.9], [10.1], [11.9]], np.float32)).argmax(axis=1)
    assert [CLASSES[call] for call in calls] == labels
    wide = ClassifierSettings(classifier="knn", neighbours=3)
    votes = classifiers.fit(wide, x, ["monocyte", "basophil", "basophil", "eosinophil"], CLASSES, 1)
    assert votes.predict(np.array([[0.1]], np.float32)).argmax() == 0  # two votes against one


def test_c_is_the_one_of_a_grid_search():
    """Folds choose as GridSearchCV does over the same parts, and not always the same place."""
    x, codes = in_fit_order(*rows(seed=2))
    grid = [0.0001, 0.5, 1000.0]
    setting = ClassifierSettings(classifier="svm", c=grid, folds=3)
    ours = classifiers.fit(setting, x, labels_of(codes), CLASSES, SEED).c
    oracle = GridSearchCV(
        make_pipeline(StandardScaler(), SVC()), {"svc__C": grid}, cv=StratifiedKFold(3)
    ).fit(x.astype(np.float64), codes)
    assert ours == oracle.best_params_["svc__C"]
    assert oracle.cv_results_["mean_test_score"].argmax() == 1
    flat = ClassifierSettings(classifier="svm", c=[5.0, 5.0001], folds=2)
    assert classifiers.fit(flat, x, labels_of(codes), CLASSES, SEED).c == 5.0


# -- What holds for each kind


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
def test_blocks_change_nothing(name, monkeypatch):
    """One row at a time gives the same calls and, but for rounding, the same probabilities."""
    whole = fitted(name).predict(new_rows())
    monkeypatch.setattr(classifiers.reduction, "BLOCK", 1)
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


def test_seed_reaches_the_trees():
    x, codes = rows()
    other = classifiers.fit(settings_of("forest"), x, labels_of(codes), CLASSES, SEED + 1)
    assert (other.predict(new_rows()) != fitted("forest").predict(new_rows())).any()


def test_reduction_sees_training_rows_only():
    """New rows, however far away, do not move the components, nor each other's predictions."""
    model = fitted("knn_pca")
    before = model.predict(new_rows()[:5])
    far = np.vstack([new_rows()[:5], np.full((3, 6), 1e6, np.float32)])
    np.testing.assert_array_equal(model.predict(far)[:5], before)
    assert model.arrays["pca_components"].shape[0] < 6


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
    ("forest", "left", lambda a: np.zeros_like(a), "leads nowhere"),  # a child before its parent
    ("forest", "right", lambda a: a + 10**6, "leads nowhere"),
    ("forest", "features", lambda a: np.where(a >= 0, 6, a), "leads nowhere"),
    ("forest", "roots", lambda a: a[:0], "leads nowhere"),
    ("forest", "roots", lambda a: a - 1, "leads nowhere"),
    ("forest", "thresholds", lambda a: a * np.nan, "thresholds is not finite"),
    ("forest", "thresholds", lambda a: a[1:], "of shape"),
    ("forest", "shares", lambda a: a[:1], "leads nowhere"),
    ("forest", "shares", lambda a: a[:, 1:], "of shape"),
    ("forest", "present", lambda a: a[::-1].copy(), "present"),
    ("forest", "present", lambda a: a + 1, "present"),
    ("svm", "n_support", lambda a: a + 1, "support vectors"),
    ("svm", "intercepts", lambda a: a[1:], "support vectors"),
    ("svm", "dual_coefficients", lambda a: a[1:], "support vectors"),
    ("svm", "gamma", lambda a: a.reshape(1), "of shape"),
    ("svm", "gamma", lambda a: np.array("0.1"), "gamma is <U3"),
    ("svm", "n_inputs", lambda a: a + 1, "mean does not fit"),
    ("svm_pca", "n_inputs", lambda a: a + 1, "n_inputs"),
    ("svm_pca", "pca_components", lambda a: a[1:], "mean does not fit"),
    ("knn", "codes", lambda a: a + 1, "codes"),
    ("knn", "codes", lambda a: np.minimum(a, 1), "codes"),
    ("knn", "codes", lambda a: a.astype(float), "codes is float64"),
    ("logistic", "coefficients", lambda a: a[1:], "of shape"),
    ("logistic", "classes", lambda a: a[::-1], "its classes"),
]


@pytest.mark.parametrize(("name", "array", "change", "match"), PLANTED)
def test_planted_faults_are_found(name, array, change, match, tmp_path):
    arrays = stored(name, tmp_path)
    arrays[array] = change(arrays[array])
    with (tmp_path / "classifier.npz").open("wb") as file:
        np.savez(file, **arrays)
    expect_foreign(tmp_path, name, match)


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


def test_features_are_not_made_of_pixels():
    with pytest.raises(ModelError, match="data/features"):
        classifiers.vectorise(recipe("features"), np.zeros((1, 16, 16, 3), np.uint8))


def test_prediction_needs_no_umap(tmp_path, monkeypatch):
    """A stored UMAP model predicts where umap-learn is not installed; fitting says what to do."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    arrays = {
        "pca_mean": np.zeros(4), "pca_components": np.eye(4, dtype=np.float32),
        "umap_vectors": vectors, "umap_places": vectors[:, :2] * 3,
        "mean": np.zeros(2), "scale": np.ones(2), "vectors": vectors[:, :2] * 3,
        "codes": np.arange(20) % 4, "present": np.arange(4), "n_inputs": np.array(4),
    }  # fmt: skip
    setting = ClassifierSettings(
        classifier="knn", reduce="umap", components=2, umap_neighbours=5, neighbours=1
    )
    classifiers.Classifier(setting, tuple(CLASSES), arrays).save(tmp_path)
    monkeypatch.setitem(sys.modules, "umap", None)
    model = classifiers.load(tmp_path, setting, CLASSES)
    assert model.predict(vectors).shape == (20, 4)
