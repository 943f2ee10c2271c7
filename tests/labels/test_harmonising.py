"""Every picture gets a class or a reason."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import HospitalError, ParamsError, TableError
from stages.labels.harmonising import (
    count_coarse,
    count_labels,
    label_images,
    list_unused,
    report,
    require_classes,
    require_partial_known,
)
from stages.labels.taxonomy import Taxonomy

MAP = pd.DataFrame(
    {
        "published_label": ["SNE", "BNE", "ART"],
        "cell_type": ["segmented_neutrophil", "band_neutrophil", ""],
        "reason": ["", "", "not a cell"],
        "expected": pd.array([3, None, None], dtype="Int64"),
        "source": "",
    }
)
SEGMENTED = Taxonomy("t", "cell_type", {"segmented_neutrophil": "neutrophil"})
DISEASE = Taxonomy("d", "diagnosis", {"AML": "AML", "healthy": "healthy"})
DISEASE_OF_ONE_TYPE = Taxonomy(
    "o", "diagnosis", {"AML": "AML", "healthy": "healthy"}, {"AML": frozenset({"band_neutrophil"})}
)


def pictures(rows):
    return pd.DataFrame(rows, columns=["published_label", "diagnosis"], dtype=object)


def test_each_drop_has_its_reason():
    labelled = label_images(
        "h", pictures([("SNE", None), ("BNE", None), ("ART", None), (None, None)]), MAP, SEGMENTED
    )
    assert labelled["label"].tolist()[0] == "neutrophil"
    assert labelled["keep"].tolist() == [True, False, False, False]
    assert labelled["drop_reason"].tolist() == [
        None, "no class for band_neutrophil", "not a cell", "no published label",
    ]  # fmt: skip


def test_a_taxonomy_by_diagnosis_keeps_untyped_pictures():
    """The class is the patient's, so that a picture without a cell type takes part."""
    rows = pictures([(None, "AML"), ("SNE", "healthy"), ("SNE", None), ("SNE", "CML")])
    labelled = label_images("h", rows, MAP, DISEASE)
    assert labelled["label"].tolist()[:2] == ["AML", "healthy"]
    assert labelled["drop_reason"].tolist() == [
        None, None, "no diagnosis published", "diagnosis CML is in no class",
    ]  # fmt: skip


def test_an_image_of_another_cell_type_is_dropped_by_name():
    """What the taxonomy takes of this diagnosis, and what the image is; the healthy are free."""
    rows = pictures([("BNE", "AML"), ("SNE", "AML"), (None, "AML"), ("ART", "AML"), (None, "CML")])
    labelled = label_images("h", rows, MAP, DISEASE_OF_ONE_TYPE)
    assert labelled["keep"].tolist() == [True, False, False, False, False]
    assert labelled["drop_reason"].tolist() == [
        None,
        "only: o takes no segmented_neutrophil of AML",
        "only: o takes no untyped image of AML",
        "only: o takes no untyped image of AML",
        "diagnosis CML is in no class",
    ]
    healthy = label_images("h", pictures([("SNE", "healthy")]), MAP, DISEASE_OF_ONE_TYPE)
    assert healthy["label"].tolist() == ["healthy"]


@given(
    st.lists(
        st.tuples(
            st.none() | st.sampled_from(["SNE", "BNE", "ART"]),
            st.none() | st.sampled_from(["AML", "healthy", "CML"]),
        ),
        max_size=20,
    ),
    st.sampled_from([SEGMENTED, DISEASE, DISEASE_OF_ONE_TYPE]),
)
def test_kept_or_dropped_with_a_reason_never_both(rows, chosen):
    labelled = label_images("h", pictures(rows), MAP, chosen)
    assert len(labelled) == len(rows)
    assert (labelled["keep"] == labelled["label"].notna()).all()
    assert (labelled["keep"] == labelled["drop_reason"].isna()).all()


def test_a_label_outside_the_map_stops(monkeypatch):
    monkeypatch.setattr("stages.labels.taxonomy.read_taxonomy", lambda _: SEGMENTED)
    with pytest.raises(HospitalError, match=r"data/labels/h.csv has no line for 1 .*'XYZ' \(1 im"):
        label_images("h", pictures([("XYZ", None)]), MAP, SEGMENTED)


def test_rejected_files_count_as_published():
    counted = count_labels(pd.Series(["a", "a", None]), pd.Series(["a", "b", None]))
    assert counted == {"a": 3, "b": 1}


def test_rows_of_the_map_without_an_image_are_listed():
    assert list_unused({"SNE": 3}, MAP) == ["ART", "BNE"]
    assert list_unused({"SNE": 1, "BNE": 1, "ART": 2}, MAP) == []


CELLS = pd.Series(["neutrophil"] * 3 + ["blast", None, "band_neutrophil"], dtype="str")
BOTH = {"band_neutrophil": "band", "segmented_neutrophil": "segmented"}


@pytest.mark.parametrize(
    ("class_of", "found"),
    [
        # dropped, while its finer types are classes
        (BOTH, (3, None, ["band", "segmented"])),
        # put into one of them: a guess
        (BOTH | {"neutrophil": "segmented"}, (3, "segmented", ["band", "segmented"])),
        # dropped, although all that it may be is one class
        (dict.fromkeys(BOTH, "n"), (3, None, ["n"])),
        # kept apart from what it may be
        (dict.fromkeys(BOTH, "n") | {"neutrophil": "other"}, (3, "other", ["n"])),
        # one class for all: nothing is coarse
        (dict.fromkeys([*BOTH, "neutrophil"], "n"), None),
        # no finer class at all
        ({"neutrophil": "n", "lymphocyte": "l"}, None),
    ],
)
def test_labels_too_coarse_for_the_classes_are_counted(class_of, found):
    counted = count_coarse(CELLS, Taxonomy("t", "cell_type", class_of))
    if found is None:
        assert counted == {}
    else:
        keys = ("n_images", "label", "finer_labels")
        assert counted == {"neutrophil": dict(zip(keys, found, strict=True))}


def test_no_label_is_too_coarse_for_a_diagnosis():
    assert count_coarse(CELLS, DISEASE) == {}
    assert count_coarse(CELLS[5:], Taxonomy("t", "cell_type", BOTH)) == {}


def test_partial_names_hospitals_of_the_experiment():
    """A misspelt name is refused with the nearest one."""
    require_partial_known(["b"], ["a", "b"])
    require_partial_known([], ["a"])
    with pytest.raises(
        ParamsError, match=r"partial: 'lisbn' is not in hospitals. Did you mean 'lisbon'\?"
    ):
        require_partial_known(["porto", "lisbn"], ["porto", "lisbon"])


def labels_of(rows):
    return pd.DataFrame(
        [
            (f"h/{i}", "h", "x", label, f"h/{i}", "image", label is not None, reason)
            for i, (label, reason) in enumerate(rows)
        ],
        columns=[
            "image_id", "hospital", "cell_type", "label", "group", "unit", "keep", "drop_reason",
        ],
    )  # fmt: skip


def test_the_report_sums_to_all_pictures():
    labels = labels_of([("a", None), ("b", None), ("b", None), (None, "not a cell")])
    counted = report(labels, SEGMENTED, {"h": {"unused_map_rows": ["x"]}})
    assert (counted["n_images"], counted["n_kept"], counted["n_dropped"]) == (4, 3, 1)
    own = counted["by_hospital"]["h"]
    assert own["n_by_class"] == {"a": 1, "b": 2}
    assert own["n_by_drop_reason"] == {"not a cell": 1}
    assert own["unused_map_rows"] == ["x"]
    assert counted["classes"] == ["a", "b"]


def test_one_class_is_no_task():
    with pytest.raises(TableError, match=r"taxonomy: 't' leaves the classes \['a'\]"):
        require_classes(labels_of([("a", None), (None, "x")]), "t")
