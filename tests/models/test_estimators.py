"""Each classifier gives what scikit-learn gives, from arrays alone."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from stages.core.settings import seed_for
from stages.models import classifiers, estimators
from stages.models.recipes import ClassifierSettings
from tests.made.clouds import (
    CLASSES,
    SEED,
    fitted,
    in_fit_order,
    labels_of,
    new_rows,
    rows,
    settings_of,
)


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
    oracle.fit(estimators._scale(model.arrays, x.astype(np.float64)), codes)
    new = estimators._scale(model.arrays, new_rows(n_classes).astype(np.float64))
    theirs = oracle.decision_function(new)
    ours = estimators._svm_values(model.arrays, new)
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
