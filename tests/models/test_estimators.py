"""Each classifier gives what scikit-learn's fitted object gives, from arrays alone."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from stages.core.settings import seed_for
from stages.models import classifiers
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
    """The walk through the stored nodes gives scikit-learn's probabilities to the last bit."""
    x, codes = rows(n=200, n_classes=n_classes)
    kept = (codes > 0) | (np.arange(200) % 3 == 0)  # extra trees weigh the rarer class more
    x, codes = in_fit_order(x[kept], codes[kept])
    seed = seed_for(SEED, "classifier")
    if name == "forest":
        oracle = RandomForestClassifier(12, max_depth=5, random_state=seed)
    else:
        oracle = ExtraTreesClassifier(12, class_weight="balanced", random_state=seed)
    theirs = oracle.fit(x, codes).predict_proba(new_rows(n_classes))
    model = classifiers.fit(settings_of(name), x, labels_of(codes), CLASSES, SEED)
    ours = model.predict(new_rows(n_classes))
    assert (ours[:, :n_classes] == theirs).all()
    assert len(np.unique(ours.argmax(axis=1))) == n_classes


def test_a_threshold_itself_goes_left():
    """One stump, by hand: at most .1, as float32 knows it, is the first leaf."""
    arrays = {
        "roots": np.array([0]), "features": np.array([0, 0, 0]),
        "children": np.array([[1, 2], [1, 1], [2, 2]]),
        "shares": np.array([[0.9, 0.1], [0.2, 0.8]]),
        "thresholds": np.array([np.float64(np.float32(0.1)), 0, 0]), "leaves": np.array([0, 0, 1]),
        "present": np.array([0, 1]), "mean": np.zeros(1), "scale": np.ones(1),
    }  # fmt: skip
    model = classifiers.Classifier(settings_of("forest"), ("a", "b"), arrays)
    at = np.array([[0.1], [np.nextafter(np.float32(0.1), np.float32(1))]], np.float32)
    assert model.predict(at).tolist() == [[0.9, 0.1], [0.2, 0.8]]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_svm_is_that_of_sklearn(n_classes):
    """The values of scikit-learn, and its call is our arg-max."""
    x, codes = in_fit_order(*rows(n_classes=n_classes))
    model, new = fitted("svm", n_classes), new_rows(n_classes)
    oracle = make_pipeline(StandardScaler(), SVC(C=model.c, break_ties=n_classes > 2))
    oracle.fit(x.astype(np.float64), codes)
    values = oracle.decision_function(new.astype(np.float64))
    if n_classes == 2:
        values = np.stack([-values, values], axis=1)
    chances = model.predict(new)
    np.testing.assert_allclose(chances[:, :n_classes], softmax(values, axis=1), atol=1e-12)
    assert (chances.argmax(axis=1) == oracle.predict(new.astype(np.float64))).all()
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
    ours = model.predict(new_rows(n_classes))[:, :n_classes]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


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
    same = classifiers.fit(setting, x[[0, 0, 2, 2]], labels, CLASSES, SEED)
    assert same.predict(x[[0, 2]]).argmax(axis=1).tolist() == [0, 1]


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
