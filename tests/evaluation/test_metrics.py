import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import ModelError
from stages.evaluation import metrics
from tests.published import VGG19

LEUKAEMIA = ["AML", "APL", "healthy"]
# PyCell's report of 2021, section on results: rows truth, columns prediction.
PYCELL = {
    "B0": [[2014, 107, 3], [197, 1786, 5], [3, 2, 2757]],
    "B1": [[1975, 148, 1], [190, 1798, 0], [8, 5, 2749]],
    "R101": [[1967, 156, 1], [214, 1773, 1], [4, 4, 2754]],
}
PYCELL_KNOWN = {
    "B0": {"accuracy": 95.3884, "balanced": 94.83, "recall": (94.82, 89.84, 99.82)},
    "B1": {"accuracy": 94.8793, "balanced": 94.32, "recall": (92.98, 90.44, 99.53)},
    "R101": {"accuracy": 94.4719, "balanced": 93.83, "recall": (92.61, 89.19, 99.71)},
}
PYCELL_PRECISION = {
    "B0": (90.97, 94.25, 99.71),
    "B1": (90.89, 92.16, 99.96),
    "R101": (90.02, 91.72, 99.93),
}
PYCELL_F1 = {
    "B0": (0.9285, 0.9199, 0.9976),
    "B1": (0.9192, 0.9129, 0.9975),
    "R101": (0.9130, 0.9044, 0.9982),
}
CELLS = ["BA", "BNE", "EO", "ERB", "LY", "MMY", "MO", "MY", "PLT", "PMY", "SNE"]
VGG19_N = [189, 268, 432, 237, 168, 158, 206, 184, 363, 77, 262]
VGG19_F1 = [
    0.9661, 0.7993, 0.9977, 0.9872, 0.9736, 0.7382, 0.9600, 0.7688, 0.9986, 0.7619, 0.8417,
]  # fmt: skip
VGG19_PRECISION = [0.954, 0.789, 0.998, 0.996, 0.960, 0.736, 0.990, 0.789, 1, 0.703, 0.852]
VGG19_RECALL = [0.979, 0.810, 0.998, 0.979, 0.988, 0.741, 0.932, 0.750, 0.997, 0.831, 0.832]


def expand(matrix, classes):
    """Label vectors that have this confusion matrix."""
    truth, predicted = [], []
    for row, name in zip(matrix, classes, strict=True):
        for count, called in zip(row, classes, strict=True):
            truth += [name] * count
            predicted += [called] * count
    return truth, predicted


@pytest.mark.parametrize("model", PYCELL)
def test_pycell_matrices_give_the_recomputed_scores(model):
    """Accuracy, balanced accuracy, recall, precision and F1 of the three published matrices."""
    truth, predicted = expand(PYCELL[model], LEUKAEMIA)
    assert len(truth) == 6874
    np.testing.assert_array_equal(metrics.confusion(truth, predicted, LEUKAEMIA), PYCELL[model])
    scores = metrics.score(truth, predicted, LEUKAEMIA)
    assert scores["accuracy"] * 100 == pytest.approx(PYCELL_KNOWN[model]["accuracy"], abs=5e-5)
    assert scores["balanced_accuracy"] * 100 == pytest.approx(
        PYCELL_KNOWN[model]["balanced"], abs=5e-3
    )
    rows = metrics.score_classes(PYCELL[model], LEUKAEMIA)
    assert [rows[name]["n"] for name in LEUKAEMIA] == [2124, 1988, 2762]
    for key, known, unit in (
        ("recall", PYCELL_KNOWN[model]["recall"], 100),
        ("precision", PYCELL_PRECISION[model], 100),
        ("f1", PYCELL_F1[model], 1),
    ):
        ours = [rows[name][key] * unit for name in LEUKAEMIA]
        assert ours == pytest.approx(known, abs=5e-3 if unit == 100 else 5e-5)
    assert scores["macro_f1"] == pytest.approx(np.mean(PYCELL_F1[model]), abs=5e-5)


def test_vgg19_matrix_gives_the_published_table():
    """Accuracy 2322 of 2544, macro F1 .8903, and every class of the printed table."""
    truth, predicted = expand(VGG19, CELLS)
    scores = metrics.score(truth, predicted, CELLS)
    assert scores["accuracy"] == pytest.approx(2322 / 2544)
    assert scores["macro_f1"] == pytest.approx(0.8903, abs=5e-5)
    rows = metrics.score_classes(VGG19, CELLS)
    assert [rows[name]["n"] for name in CELLS] == VGG19_N
    assert [rows[name]["f1"] for name in CELLS] == pytest.approx(VGG19_F1, abs=5.1e-5)
    assert [rows[name]["precision"] for name in CELLS] == pytest.approx(VGG19_PRECISION, abs=5.1e-4)
    assert [rows[name]["recall"] for name in CELLS] == pytest.approx(VGG19_RECALL, abs=5.1e-4)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=40)
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_equal_those_of_sklearn(pairs):
    """Scikit-learn computes the same numbers, over the classes that the truth holds."""
    truth, predicted = (list(side) for side in zip(*pairs, strict=True))
    ours = metrics.score(truth, predicted, list("abcde"))
    present = sorted(set(truth))
    assert ours["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.recall_score(
            truth, predicted, labels=present, average="macro", zero_division=0
        )
    )
    assert ours["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    if len({*truth, *predicted}) > 1:
        theirs = sklearn.metrics.cohen_kappa_score(truth, predicted)
        assert ours["kappa"] == pytest.approx(theirs, abs=1e-12)
    else:
        assert np.isnan(ours["kappa"])


@given(st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_stack_of_matrices_scores_as_each_alone(seed):
    """The redrawn matrices of an interval go through the very code of the value."""
    stack = np.random.default_rng(seed).integers(0, 4, (7, 3, 3))
    for metric in metrics.METRICS.values():
        np.testing.assert_array_equal(metric(stack), [metric(one) for one in stack])


def test_renaming_and_reordering_classes_changes_no_score():
    truth, predicted = expand(PYCELL["B0"], LEUKAEMIA)
    known = metrics.score(truth, predicted, LEUKAEMIA)
    assert metrics.score(truth, predicted, LEUKAEMIA[::-1]) == pytest.approx(known)


def test_a_class_without_pictures_is_null_with_its_reason():
    """Absent is not zero: no recall and F1 without a picture, no precision without a call."""
    rows = metrics.score_classes([[3, 0, 1], [0, 0, 0], [2, 0, 0]], ["a", "b", "c"])
    assert rows["b"]["recall"] is rows["b"]["f1"] is rows["b"]["precision"] is None
    assert rows["b"]["reason"] == "no picture is of this class; no picture is called this class"
    assert rows["c"]["recall"] == rows["c"]["precision"] == rows["c"]["f1"] == 0.0
    assert "reason" not in rows["c"]
    rows = metrics.score_classes([[1, 0], [1, 0]], ["a", "b"])
    assert (rows["b"]["precision"], rows["b"]["recall"], rows["b"]["f1"]) == (None, 0.0, 0.0)


def test_an_absent_class_is_left_out_of_the_means():
    """A hospital without class c is not marked down for it, but calling c still costs."""
    assert metrics.macro_f1([[2, 0, 0], [0, 2, 0], [0, 0, 0]]) == 1.0
    assert metrics.balanced_accuracy([[1, 0, 1], [0, 2, 0], [0, 0, 0]]) == 0.75


def test_kappa_of_known_tables():
    """1 for full agreement, 0 for a constant answer, below 0 for the worst, and Cohen's middle."""
    assert metrics.kappa([[3, 0], [0, 5]]) == 1
    assert metrics.kappa([[3, 0], [5, 0]]) == 0
    assert metrics.kappa([[0, 4], [4, 0]]) == -1
    # 20 and 15 of 50 agree; by chance 0.5 would: (0.7 - 0.5) / (1 - 0.5).
    assert metrics.kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)


def test_a_draw_without_a_kappa_counts_with_the_observed_one():
    observed = np.array([[4, 0], [1, 1]], np.float64)
    draws = np.array([[[6, 0], [0, 0]], [[3, 0], [0, 3]]], np.float64)
    np.testing.assert_allclose(
        metrics.kappa(draws, observed), [metrics.kappa(observed), 1.0], rtol=1e-12
    )
    assert np.isnan(metrics.kappa(draws)[0])


def test_no_picture_gives_no_number():
    assert all(np.isnan(metric(np.zeros((2, 2)))) for metric in metrics.METRICS.values())


def test_a_label_that_the_model_never_learnt_stops():
    with pytest.raises(ModelError, match=r"the truth holds blast.*dvc repro"):
        metrics.confusion(["blast"], ["a"], ["a", "b"])
    with pytest.raises(ModelError, match=r"the prediction holds 7, which"):
        metrics.confusion(["a"], ["7"], ["a", "b"])
