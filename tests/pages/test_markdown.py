"""Text of people in Markdown: it stays text, on one line, in its cell."""

import re

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.texts import clean
from stages.pages import markdown

SPECIAL = "|`*_[]<>#&$~\\\n\r\t\u2028-+=1.) "


def read_back(text):
    """What a page of Markdown shows of it: escapes are what CommonMark says they are."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    return text.replace("&lt;", "<").replace("&amp;", "&")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("demo_north", "demo_north"),  # an underscore inside of a word marks nothing
        ("_so_", "\\_so\\_"),
        ("a|b\nc", "a\\|b c"),
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("AT&T &lt;", "AT&T &amp;lt;"),
        ("# title", "\\# title"),
        ("> quote", "\\> quote"),
        ("1. first", "1\\. first"),
        ("0.924 (0.911 to 0.967)*", "0.924 (0.911 to 0.967)\\*"),
        ("[here](http://x)", "\\[here\\](http://x)"),
        ("a\x00\x1b[31mb", "a\\[31mb"),
        ("\\|", "\\\\\\|"),
    ],
)
def test_escaped_by_example(text, shown):
    assert markdown.escape(text) == shown


@given(st.text(st.sampled_from(SPECIAL + "ab&lt;")) | st.text())
def test_any_text_is_read_back_from_one_line_that_marks_nothing(text):
    """No mark is left that is not escaped, and nothing is lost but what cannot be seen."""
    shown = markdown.escape(text)
    assert shown.isprintable()
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*\[\]$~]", shown)
    assert "<" not in shown
    assert not re.match(r"[#+=>-]|\d+[.)](\s|$)", shown)
    assert read_back(shown) == "".join(filter(str.isprintable, clean(text)))


def test_a_name_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="undefined"):
        markdown.render("data_card.md.jinja")
