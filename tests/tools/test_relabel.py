"""What a change of classes does: counted image by image, and against a published matrix."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import HospitalError
from stages.core.shares import describe_share
from stages.labels import taxonomy
from stages.labels.taxonomy import Taxonomy
from stages.tools import relabel
from tests.published import VGG19 as MATRIX

ROOT = Path(__file__).resolve().parents[2]
CELL_TYPES = [
    "basophil", "band_neutrophil", "eosinophil", "erythroblast", "lymphocyte", "metamyelocyte",
    "monocyte", "myelocyte", "platelet", "promyelocyte", "segmented_neutrophil",
]  # fmt: skip
VGG19 = np.array(MATRIX)


@pytest.fixture
def published(monkeypatch):
    """The images of that matrix and the answers of its model."""
    monkeypatch.chdir(ROOT)
    truth, answer = (place.ravel().repeat(VGG19.ravel()) for place in np.indices(VGG19.shape))
    names = np.array(CELL_TYPES, dtype=object)
    images = pd.DataFrame({"cell_type": names[truth]}, dtype="str")
    return images, pd.Series(names[answer], dtype="str")


def label(images, *names):
    """Two schemes beside the images, by name."""
    chosen = [taxonomy.read_taxonomy(name) for name in names]
    columns = zip(relabel.SCHEMES, chosen, strict=True)
    return images.assign(**{key: taxonomy.to_label(images, one) for key, one in columns}), chosen


def score(images, answers, source, *names):
    labelled, chosen = label(images, *names)
    translations = {
        key: relabel.translate(taxonomy.read_taxonomy(source), one, images)
        for key, one in zip(relabel.SCHEMES, chosen, strict=True)
    }
    rows = relabel.rescore(labelled, answers, translations)
    return {(row["images"], row["scheme"]): row for row in rows}


def merged(*groups):
    """Hits of the matrix where the classes of each group count as one."""
    place = {name: index for index, name in enumerate(CELL_TYPES)}
    joint = [{place[name] for name in group} for group in groups]
    return sum(
        int(VGG19[i, j])
        for i in range(11)
        for j in range(11)
        if i == j or any({i, j} <= group for group in joint)
    )


@pytest.mark.parametrize("eleven", ["cells11", "cells11_leukopy_lenet"])
def test_the_published_matrix_in_eleven_and_in_eight_classes(published, eleven):
    """2 322 of 2 544 are right; merging alone makes 2 479 of them right."""
    found = score(*published, eleven, eleven, "cells8_lenet")
    eight = merged(
        ["band_neutrophil", "segmented_neutrophil"], ["metamyelocyte", "myelocyte", "promyelocyte"]
    )
    assert eight == 2322 + 36 + 41 + 23 + 3 + 20 + 22 + 1 + 11 == 2479
    for which in ("both", "own"):
        assert found[which, "before"]["accuracy"] == describe_share(2322, 2544)
        assert found[which, "after"]["accuracy"] == describe_share(eight, 2544)
        assert found[which, "after"]["n_undetermined"] == 0


def test_two_meanings_of_eight_classes_are_two_accuracies(published):
    """Bands with the segmented, or with the immature: one model, one set of answers."""
    found = score(*published, "cells11", "cells8_lenet", "cells8_report_intro")
    intro = merged(["band_neutrophil", "metamyelocyte", "myelocyte", "promyelocyte"])
    assert found["both", "before"]["accuracy"]["value"] == pytest.approx(2479 / 2544)
    assert found["both", "after"]["accuracy"] == describe_share(intro, 2544)
    assert intro != 2479


def test_each_scheme_has_its_own_images(published):
    """Five shared classes drop five cell types; answers of these are no answer there."""
    found = score(*published, "cells11", "cells11", "shared5")
    inside = [place for place, name in enumerate(CELL_TYPES) if name in SHARED]
    n_kept = int(VGG19[inside].sum())
    n_told = int(VGG19[np.ix_(inside, inside)].sum())
    right = sum(int(VGG19[i, j]) for i in inside for j in inside if i == j)
    swapped = int(VGG19[1, 10] + VGG19[10, 1])
    assert found["both", "before"]["accuracy"] == describe_share(right, n_told)
    assert found["both", "after"]["accuracy"] == describe_share(right + swapped, n_told)
    assert found["both", "after"]["n_undetermined"] == n_kept - n_told > 0
    assert found["own", "before"]["accuracy"] == describe_share(2322, 2544)
    assert found["own", "after"]["n_undetermined"] == n_kept - n_told


SHARED = {
    "band_neutrophil", "segmented_neutrophil", "basophil", "eosinophil", "lymphocyte", "monocyte",
}  # fmt: skip


def test_a_coarser_answer_is_undetermined_in_finer_classes(published):
    """A model of eight classes, asked for eleven: its neutrophils and immature ones are open."""
    images, answers = published
    eight = taxonomy.read_taxonomy("cells8_lenet")
    answers = taxonomy.to_label(answers.rename("cell_type").to_frame(), eight)
    found = score(images, answers, "cells8_lenet", "cells8_lenet", "cells11")
    n_open = int(answers.isin(["neutrophil", "immature_granulocyte"]).sum())
    assert found["own", "before"]["accuracy"] == describe_share(2479, 2544)
    assert found["own", "after"]["n_undetermined"] == n_open
    settled = [place for place, name in enumerate(CELL_TYPES) if name in eight.classes]
    right = sum(int(VGG19[place, place]) for place in settled)
    assert found["own", "after"]["accuracy"] == describe_share(right, 2544 - n_open)


FINE = Taxonomy("fine", "cell_type", {"x1": "x1", "x2": "x2", "y": "y", "z": "z"})
JOINT = Taxonomy("joint", "cell_type", {"x1": "x", "x2": "x", "y": "y", "z": "y"})
PART = Taxonomy("part", "cell_type", {"x1": "x", "y": "y"})
SICK = Taxonomy("sick", "diagnosis", {"AML": "AML", "healthy": "healthy"})
LYMPHOCYTES = Taxonomy("ly", "diagnosis", {"AML": "ill"}, {"AML": frozenset({"lymphocyte"})})


@pytest.mark.parametrize(
    ("source", "target", "occurring", "found"),
    [
        (FINE, JOINT, ["x1", "x2", "y", "z"], {"x1": "x", "x2": "x", "y": "y", "z": "y"}),
        (JOINT, FINE, ["x1", "x2", "y"], {"y": "y"}),
        (JOINT, FINE, ["x1", None, "y"], {"x": "x1", "y": "y"}),
        (JOINT, PART, ["x1", "x2", "y"], {"y": "y"}),
        (FINE, PART, ["x1", "x2", "z"], {"x1": "x", "y": "y"}),
        (JOINT, FINE, ["x1"], {"x": "x1"}),
        (FINE, SICK, ["x1"], {}),
        (SICK, FINE, ["AML"], {}),
        (SICK, LYMPHOCYTES, ["AML", "healthy"], {"AML": "ill"}),
    ],
)
def test_an_answer_is_translated_where_all_that_it_may_mean_agrees(
    source, target, occurring, found
):
    """Cell types that no image is of do not make an answer ambiguous."""
    images = pd.DataFrame({source.by: occurring}, dtype="str")
    assert relabel.translate(source, target, images) == found


LABEL = st.none() | st.sampled_from(["a", "b"])


@given(st.lists(st.tuples(LABEL, LABEL, st.sampled_from(["p", "q", None])), max_size=12))
def test_every_change_is_listed_and_counted_once(rows):
    """None to a class and back are changes; the table's numbers sum to the list."""
    images = pd.DataFrame(rows, columns=["before", "after", "published_label"], dtype="str")
    images["hospital"] = "h"
    images["image_id"] = [f"h/{number:02d}" for number in reversed(range(len(rows)))]
    changes = relabel.list_changes(images)
    assert list(changes) == ["image_id", "hospital", "published_label", "before", "after"]
    assert len(changes) == sum(before != after for before, after, _ in rows)
    assert changes["image_id"].is_monotonic_increasing
    lines = relabel.lay_out_changes("A", "B", changes, len(rows))
    assert f"{len(changes)} of {len(rows)} images" in lines[2]
    lost = sum(after is None and before is not None for before, after, _ in rows)
    won = sum(before is None and after is not None for before, after, _ in rows)
    assert f"{lost} of them lose theirs, {won} had none" in lines[2]
    assert sum(int(line.split()[-1]) for line in lines[6:]) == len(changes)
    shuffled = relabel.list_changes(images.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shuffled, changes)


def test_the_tables_are_at_most_100_columns_wide():
    """Long names are cut with two dots, line ends and blanks in a label become one blank."""
    changes = pd.DataFrame(
        {
            "image_id": ["x"],
            "hospital": ["a_hospital_of_a_very_long_name"],
            "published_label": ["a label of\nmany  words, " * 5],
            "before": ["a_cell_type_with_a_very_long_name"],
            "after": [None],
        },
        dtype="str",
    )
    lines = relabel.lay_out_changes("A", "B", changes, 10_000_000)
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("a_hospital_of.. ")
    assert " a label of many words, a.. " in lines[-1]
    assert " none " in lines[-1]
    one = {"accuracy": describe_share(999_999_999, 1_000_000_000), "n_undetermined": 999_999_999}
    none = {"accuracy": describe_share(0, 0), "n_undetermined": 3}
    rows = [one | {"images": "both", "scheme": "before"}, none | {"images": "own", "scheme": "x"}]
    lines = relabel.lay_out_scores(rows, ["a_hospital_of_a_very_long_name"] * 2)
    assert max(map(len, lines)) <= 100
    assert "kept by both  before" in lines[4]
    assert lines[5].split()[-4:] == ["none", "none", "0", "3"]
    assert "Simulated" in lines[-2]
    assert "Simulated" not in "\n".join(relabel.lay_out_scores(rows, []))


def test_no_image_changes_class():
    empty = pd.DataFrame(columns=["image_id", "hospital", "published_label", "before", "after"])
    lines = relabel.lay_out_changes("A", "A", empty, 7)
    assert lines[2:] == ["0 of 7 images change class; 0 of them lose theirs, 0 had none."]


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ("cells11", "shared5", False),
        ("data/labels/h.csv", "other/h.csv", True),
        ("main:data/labels/h.csv", "data/labels/h.csv", True),
        ("main:x", "tarry-loon:x", True),
    ],
)
def test_maps_are_told_from_taxonomies_by_their_names(before, after, answer):
    assert relabel.are_maps(before, after) is answer


@pytest.mark.parametrize("names", [("cells11", "main:h.csv"), ("h.csv", "cells11")])
def test_a_map_is_not_compared_with_a_taxonomy(names):
    with pytest.raises(HospitalError, match=r"h\.csv' is a label map and 'cells11' is none"):
        relabel.are_maps(*names)


def test_the_hospital_is_named_by_the_file():
    assert relabel.name_hospital("main~1:data/labels/a.csv", "x/a.csv", ["b", "a"]) == "a"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.csv", "main:b.csv"), "label maps of two hospitals, 'a' and 'b'"),
        (("lisbn.csv", "x/lisbn.csv"), r"'lisbn', which is not in hospitals .* mean 'lisbon'\?"),
    ],
)
def test_maps_are_of_one_hospital_of_the_experiment(names, message):
    with pytest.raises(HospitalError, match=message):
        relabel.name_hospital(*names, ["lisbon", "a", "b"])


@pytest.mark.parametrize(
    ("predicted", "message"),
    [(["x1", "q"], "is of another taxonomy than fine .*holds q"), ([], "none of these images")],
)
def test_answers_of_another_taxonomy_are_not_scored(predicted, message):
    series = pd.Series(predicted, dtype="str")
    assert pd.Series([relabel.explain_unscored(series, FINE)]).str.contains(message).all()
    assert relabel.explain_unscored(pd.Series(["x1"]), FINE) is None
