"""Reviews: an answer of a person is applied, or listed with the reason; none is lost."""

import fcntl
import os
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import HospitalError
from stages.core.texts import clean
from stages.labels.reviews import Review, append, apply, parse, read, say, settle
from stages.labels.taxonomy import Taxonomy

ROOT = Path(__file__).resolve().parents[2]
HEADER = "image_id,cell_type,pixel_sha256,reviewer,note\n"
PIXELS = {f"h/{i}.jpg": str(i) * 64 for i in range(6)}
TWO = Taxonomy("two", "cell_type", {"monocyte": "mononuclear", "lymphocyte": "mononuclear",
                                    "basophil": "granulocyte"})  # fmt: skip
DISEASE = Taxonomy(
    "d", "diagnosis", {"AML": "sick", "healthy": "well"}, {"AML": frozenset({"monocyte"})}
)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the vocabulary is the project's


@pytest.fixture
def table(tmp_path):
    return tmp_path / "data" / "reviews.csv"


# -- the table ------------------------------------------------------------------------------------


def test_the_shipped_table_holds_no_review():
    assert Path("data/reviews.csv").read_text(encoding="utf-8") == HEADER
    assert read() == []


def test_a_table_of_a_spreadsheet_is_read():
    """With a byte order mark, Windows' line ends, blanks and empty cells."""
    text = HEADER + f' h/a  b.jpg ,monocyte,{"0" * 64},Dr. Berg,\nh/c.jpg,,,,"large, blue"\n'
    found = parse("t", text.replace("\n", "\r\n"))
    assert found == [
        Review("h/a b.jpg", "monocyte", "0" * 64, "Dr. Berg"),
        Review("h/c.jpg", "", "", "", "large, blue"),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("h/1.jpg,monocite,,,", "line 3: the cell type 'monocite' is unknown. Did you mean 'mono"),
        ("h/1.jpg,monocyte,,", r"line 3: has 4 cells, not 5"),
        ("h/1.jpg,monocyte,,,large, blue", r"line 3: has 6 cells, not 5.*double quotes"),
        (",monocyte,,,", "line 3: image_id is ''; it must be <hospital>/<path>"),
        ("1.jpg,monocyte,,,", "line 3: image_id is '1.jpg'; it must be"),
        ("=A1/1.jpg,monocyte,,,", "line 3: image_id is '=A1/1.jpg'; it must be"),
        ("h/1.jpg,monocyte,1.2E+63,,", "line 3: pixel_sha256 is '1.2E.63'; it has 64 digits"),
        ("h/0.jpg,monocyte,,Berg,", "line 3: Berg calls 'h/0.jpg' monocyte here and basophil in "
                                    "line 2. Leave one"),
        ("h/0.jpg,,,Berg,", "line 3: Berg calls 'h/0.jpg' no usable cell here and basophil in "),
        (f"h/1.jpg,,,,{'x' * 2001}", "line 3: note has 2,001 characters"),
        ('h/1.jpg,,,,"open', "line 3: a quote opens a cell and nothing closes it"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_with_its_number(line, told):
    with pytest.raises(HospitalError, match=f"^t, {told}"):
        parse("t", f"{HEADER}h/0.jpg,basophil,,Berg,\n{line}\n")


def test_a_missing_column_a_strange_encoding_and_no_file_are_told(table):
    with pytest.raises(HospitalError, match=r"reviews.csv is not here. .*git restore"):
        read(table)
    table.parent.mkdir()
    table.write_text("image_id,cell_type\nh/0.jpg,monocyte\n", encoding="utf-8")
    with pytest.raises(HospitalError, match=r"reviews.csv, line 1: the columns are image_id,cell_"):
        read(table)
    table.write_bytes(HEADER.encode() + "h/0.jpg,monocyte,,Müller,\n".encode("latin-1"))
    with pytest.raises(HospitalError, match=r"reviews.csv is no UTF-8 text"):
        read(table)


def test_two_equal_answers_of_one_reviewer_are_no_fault():
    assert len(parse("t", HEADER + "h/0.jpg,monocyte,,,\n" * 2)) == 2


# -- the writer -----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FORMULAS = st.sampled_from(["=", "+", "-", "@", "'", "''=", '"', "a,b", "\n"])
REVIEWS = st.builds(
    Review,
    st.sampled_from([f"h/{name}.jpg" for name in ("a", "ä", "b  c", "=d", 'e"', "f,g")]),
    st.sampled_from(["", "monocyte", "basophil"]),
    st.sampled_from(["", "0" * 64]),
    st.sampled_from(["", "Berg", "=Vos", "'-Lang"]),
    st.builds("{}{}".format, FORMULAS, TEXT) | TEXT,
)


@given(st.lists(REVIEWS, max_size=8), st.randoms())
def test_what_is_saved_is_read_again_in_one_order(tmp_path_factory, rows, random):
    """The last answer of each reviewer about each picture, and whoever saves first, equal bytes."""
    folder = tmp_path_factory.mktemp("reviews")
    append(folder / "one.csv", rows)
    latest = {(clean(one.image_id), clean(one.reviewer)): one for one in rows}
    expected = [
        Review(*map(clean, vars(latest[key]).values())) for key in sorted(latest)
    ]  # fmt: skip
    assert read(folder / "one.csv") == expected
    shuffled = random.sample(sorted(latest), len(latest))
    append(folder / "other.csv", [])
    for key in shuffled:
        append(folder / "other.csv", [latest[key]])
    assert (folder / "other.csv").read_bytes() == (folder / "one.csv").read_bytes()


def test_a_later_answer_takes_the_place_of_the_reviewers_own_alone(table):
    append(table, [Review("h/0.jpg", "monocyte", reviewer=name) for name in ("Berg", "Vos")])
    append(table, [Review("h/0.jpg", "basophil", reviewer="Berg", note="granules")])
    assert [(one.reviewer, one.cell_type) for one in read(table)] == [
        ("Berg", "basophil"), ("Vos", "monocyte"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "'=1", "''-"])
def test_a_note_is_no_formula_in_the_file(table, text):
    """An apostrophe stands before it, with which a spreadsheet runs nothing."""
    append(table, [Review("h/0.jpg", "", reviewer=text, note=text)])
    cells = table.read_text(encoding="utf-8").splitlines()[1].split(",")
    assert cells[3:] == [f"'{text}"] * 2
    assert (read(table)[0].reviewer, read(table)[0].note) == (text, text)


@pytest.mark.parametrize(
    "wrong", [Review("h/1.jpg", "monocite"), Review("1.jpg", ""), Review("h/1.jpg", "", "0" * 63)]
)
def test_a_wrong_answer_leaves_the_file_as_it_was(table, wrong):
    append(table, [Review("h/0.jpg", "monocyte")])
    before = table.read_bytes()
    with pytest.raises(HospitalError, match=r"reviews.csv, the new answer about '(h/)?1.jpg'"):
        append(table, [Review("h/2.jpg", ""), wrong])
    assert table.read_bytes() == before


def test_nothing_is_saved_over_a_table_that_cannot_be_read(table):
    table.parent.mkdir()
    table.write_text(HEADER + "h/0.jpg,monocite,,,\n", encoding="utf-8")
    with pytest.raises(HospitalError, match=r"reviews.csv, line 2: the cell type 'monocite'"):
        append(table, [Review("h/1.jpg", "")])
    assert "monocite" in table.read_text(encoding="utf-8")
    assert [path.name for path in table.parent.iterdir()] == ["reviews.csv"]


def test_a_saver_waits_for_another_and_reads_what_that_one_wrote(table):
    """Without the lock, or with rows read before it, the first answer would be lost."""
    table.parent.mkdir()
    place = os.open(table.parent, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)
    second = threading.Thread(target=append, args=(table, [Review("h/1.jpg", "")]))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    table.write_text(HEADER + "h/0.jpg,monocyte,,Berg,\n", encoding="utf-8")
    os.close(place)
    second.join()
    assert [one.image_id for one in read(table)] == ["h/0.jpg", "h/1.jpg"]


def test_half_a_character_of_a_browser_is_no_traceback(table):
    append(table, [Review("h/0.jpg", "", note="\ud83d")])
    assert read(table)[0].note == "?"


# -- what they come to ----------------------------------------------------------------------------


def test_each_reason_why_a_review_is_not_applied():
    gone, moved, left = "no such picture", "pixels have changed", "left out by filter: blank"
    reviews = [
        Review("h/0.jpg", "monocyte", PIXELS["h/0.jpg"]), Review("h/9.jpg", "monocyte"),
        Review("h/1.jpg", "monocyte", "f" * 64), Review("h/8.jpg", ""), Review("far/1.jpg", ""),
    ]  # fmt: skip
    found = settle(reviews, PIXELS, {"h/8.jpg": left}, ["h"])
    assert found.answers == {"h/0.jpg": "monocyte"}
    assert found.elsewhere == {"far": 1}
    told = dict(found.faults)
    assert list(told) == ["h/9.jpg", "h/1.jpg", "h/8.jpg"]
    assert told["h/9.jpg"] == gone
    assert moved in told["h/1.jpg"]
    assert told["h/8.jpg"] == left


def test_reviewers_who_disagree_are_listed_and_none_is_followed():
    reviews = [Review("h/0.jpg", "monocyte", "", name) for name in ("Berg", "Vos")]
    assert settle(reviews, PIXELS, {}, ["h"]).answers == {"h/0.jpg": "monocyte"}
    found = settle([*reviews, Review("h/0.jpg", "", "", "Lang")], PIXELS, {}, ["h"])
    assert found.answers == {}
    assert found.faults == [("h/0.jpg", "reviewers disagree: no usable cell, monocyte")] * 3


def test_a_review_of_other_pixels_disagrees_with_nobody():
    """It was of another picture under the same name."""
    reviews = [Review("h/0.jpg", "monocyte"), Review("h/0.jpg", "basophil", "f" * 64, "Vos")]
    found = settle(reviews, PIXELS, {}, ["h"])
    assert found.answers == {"h/0.jpg": "monocyte"}
    assert len(found.faults) == 1


ANY = st.builds(
    Review,
    st.sampled_from([*PIXELS, "h/gone.jpg", "h/bad.jpg", "far/1.jpg"]),
    st.sampled_from(["", "monocyte", "basophil"]),
    st.sampled_from(["", "0" * 64]),
)


@given(st.lists(ANY, max_size=12))
def test_every_review_is_applied_listed_or_elsewhere(reviews):
    found = settle(reviews, PIXELS, {"h/bad.jpg": "blank"}, ["h"])
    assert len(reviews) == found.n_applied + len(found.faults) + sum(found.elsewhere.values())
    assert not set(found.answers) & {image_id for image_id, _ in found.faults if "dis" in _}
    assert settle(reviews[::-1], PIXELS, {"h/bad.jpg": "blank"}, ["h"]).answers == found.answers


# -- applied to labels ----------------------------------------------------------------------------

REJECTED = pd.DataFrame(
    [("h/copy.jpg", "duplicate", "the same pixels as h/0.jpg")],
    columns=["image_id", "reason", "detail"],
)
LABELS = pd.DataFrame(
    {
        "image_id": list(PIXELS),
        "pixel_sha256": list(PIXELS.values()),
        "published_label": ["MO", "MO", "BA", "XX", None, "SM"],
        "diagnosis": ["AML", "healthy", "AML", "AML", "healthy", "AML"],
        "cell_type": pd.Series(
            ["monocyte", "monocyte", "basophil", None, None, "smudge_cell"], dtype="str"
        ),
        "label": pd.Series(
            ["mononuclear", "mononuclear", "granulocyte", None, None, None], dtype="str"
        ),
        "keep": [True, True, True, False, False, False],
        "drop_reason": [None, None, None, "not a cell", "no published label",
                        "no class for smudge_cell"],
    }
)  # fmt: skip
DECIDED = ["cell_type", "label", "keep", "drop_reason"]


def decide(*reviews, labels=LABELS, chosen=TWO):
    result, counts = apply(labels, reviews, REJECTED, ["h"], chosen)
    rows = result.set_index("image_id")[DECIDED].astype(object)
    return rows.where(rows.notna(), None), counts


@pytest.mark.parametrize(
    ("image_id", "cell_type", "expected"),
    [
        ("h/0.jpg", "basophil", ["basophil", "granulocyte", True, None]),
        ("h/0.jpg", "lymphocyte", ["lymphocyte", "mononuclear", True, None]),  # the same class
        ("h/0.jpg", "platelet", ["platelet", None, False, "no class for platelet"]),
        ("h/0.jpg", "", [None, None, False, "review"]),
        ("h/3.jpg", "monocyte", ["monocyte", "mononuclear", True, None]),  # the map drops it
        ("h/4.jpg", "monocyte", ["monocyte", "mononuclear", True, None]),  # nobody named it
    ],
)
def test_cell_type_class_and_reason_follow_the_review(image_id, cell_type, expected):
    """Of the picture that was reviewed, and of no other; the published label stays."""
    rows, _ = decide(Review(image_id, cell_type))
    untouched, _ = decide()
    assert rows.loc[image_id].tolist() == expected
    assert rows.drop(image_id).equals(untouched.drop(image_id))
    result, _ = apply(LABELS, [Review(image_id, cell_type)], REJECTED, ["h"], TWO)
    others = [name for name in LABELS if name not in DECIDED]
    pd.testing.assert_frame_equal(result[others], LABELS[others])


def test_without_a_review_nothing_changes():
    result, counts = apply(LABELS, [], REJECTED, ["h"], TWO)
    pd.testing.assert_frame_equal(result, LABELS)
    assert say(counts) == []


def test_a_class_by_diagnosis_takes_the_reviewed_cell_type():
    """A person who sees no cell drops the picture, though its patient has a diagnosis."""
    rows, _ = decide(
        Review("h/1.jpg", ""), Review("h/2.jpg", "monocyte"), Review("h/4.jpg", "basophil"),
        Review("h/5.jpg", "basophil"), chosen=DISEASE,
    )  # fmt: skip
    assert rows.loc["h/1.jpg"].tolist() == [None, None, False, "review"]
    assert rows.loc["h/2.jpg"].tolist() == ["monocyte", "sick", True, None]
    assert rows.loc["h/4.jpg"].tolist() == ["basophil", "well", True, None]
    assert rows.loc["h/5.jpg", "drop_reason"] == "only: d takes no basophil of AML"


def test_a_name_is_found_whatever_its_blanks_unless_two_pictures_share_it():
    labels = LABELS.assign(image_id=["h/a  b.jpg", "h/c d.jpg", "h/c  d.jpg", *"xyz"])
    rows, counts = decide(Review("h/a b.jpg", "basophil"), Review("h/c d.jpg", ""), labels=labels)
    assert rows["label"].tolist()[:3] == ["granulocyte", "mononuclear", "granulocyte"]
    [told] = counts["not_applied"]
    assert told == {"image_id": "h/c d.jpg", "reason": "two pictures have this name but for blanks"}


def test_counts_and_words():
    _, counts = decide(
        Review("h/0.jpg", "basophil"), Review("h/1.jpg", "monocyte"), Review("h/2.jpg", ""),
        Review("h/5.jpg", ""), Review("h/copy.jpg", ""), Review("h/gone.jpg", ""),
        Review("far/1.jpg", ""),
    )  # fmt: skip
    assert counts["n"] == 7
    assert (counts["n_applied"], counts["n_not_applied"]) == (4, 2)
    assert (counts["n_pictures"], counts["n_confirmed"], counts["n_type_changed"]) == (4, 1, 1)
    assert (counts["n_dropped"], counts["n_class_changed"]) == (2, 2)
    assert counts["changes"] == {
        "monocyte": {"basophil": 1}, "basophil": {"none": 1}, "smudge_cell": {"none": 1},
    }  # fmt: skip
    assert say(counts) == [
        "by reviews: as published 1, another cell type 1, no usable cell 2; class changed: 2",
        "reviews not applied (2): h/copy.jpg (left out by filter: duplicate, the same pixels as "
        "h/0.jpg), h/gone.jpg (no such picture)",
        "reviews of hospitals that are not in this experiment: far 1",
    ]
