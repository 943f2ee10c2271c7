"""Text of disks and text of people: compared clean; CSV read strictly, each fault with its line."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import HospitalError
from stages.core.texts import clean, read_csv


@pytest.mark.parametrize(
    "written",
    [
        "blast, no lineage \u00e9", "blast, no lineage e\u0301",
        " blast,\u00a0no  lineage \u00e9\t",
        "\ufeffblast, no lineage \u00e9\u200b", "blast,\r\nno lineage e\u0301\u3000",
        "bl\u00adast, no lineage e\u2060\u0301",
    ],
)  # fmt: skip
def test_what_looks_the_same_is_the_same(written):
    """Accents in one or two characters, blanks of any kind, and what no one can see."""
    assert clean(written) == "blast, no lineage \u00e9"


@given(st.text())
def test_clean_text_stays_as_it_is(text):
    """Cleaned twice is cleaned once, composed, and what a message shows of it is it."""
    once = clean(text)
    assert clean(once) == once == " ".join(once.split())
    assert unicodedata.is_normalized("NFC", once)


@given(
    st.integers(2, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.text('ab"é 1', max_size=4).map(clean), min_size=width, max_size=width),
            min_size=1, max_size=5,
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_reads_what_a_spreadsheet_writes(rows, end):
    """Quotes, blanks and either line end; empty lines are passed over, and counted."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end + end).writerows(rows)
    found = list(read_csv("t.csv", text.getvalue()))
    expected = [(2 * n + 1, row) for n, row in enumerate(rows) if any(row)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,"x\n2,y\n', "line 2: a quote opens a cell and nothing closes it"),
        ('a,b\n1,x\n\n2,"' + "y" * 200_000 + '"\n', "line 4: a cell is longer than 131,072"),
        ('a,b\n1,"' + "y,\n" * 70_000, "line 2: a cell is longer than 131,072"),
        ('a,b\n1,"x\n2,"y"\n', "line 2: a quote closes before its cell ends"),
        ('a,b\n1,"5" x"\n', "line 2: a quote closes before its cell ends"),
        ('a,b,c\n1,"x,p\n2,o,p\n3,x",p\n', "line 2: a quoted cell goes on to line 4 and looks"),
        ('a,b,c\n1,"x,p\n2,x",q\n', "line 2: a quoted cell goes on to line 3 and looks"),
        ('"a,b\n1,x\n', "line 1: a quote opens a cell and nothing closes it"),
    ],
)
def test_a_quote_that_swallows_lines_is_refused(text, message):
    """The line where it opens, what is wrong and what to do; never fewer lines in silence."""
    with pytest.raises(HospitalError, match=rf"t\.csv, {message}.*twice"):
        list(read_csv("t.csv", text))


def test_a_note_of_several_lines_is_a_cell():
    """Line ends in quotes are right CSV, where what they hold does not look like lines of it."""
    text = 'a,b,c\n1,"pale,\nsmudged\nat the border",p\n2,"5"" wide",q\n'
    assert list(read_csv("t.csv", text)) == [
        (1, ["a", "b", "c"]), (2, ["1", "pale, smudged at the border", "p"]),
        (5, ["2", '5" wide', "q"]),
    ]  # fmt: skip
