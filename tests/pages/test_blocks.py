"""Every kind of block on the page: shown, named for who cannot see it, and never as markup."""

from typing import get_args

from markupsafe import Markup

from stages.pages import blocks, drawing
from stages.pages.blocks import (
    Charts,
    Folded,
    Listing,
    Picture,
    Pictures,
    Section,
    Sentence,
    Table,
    Told,
)  # fmt: skip

EVIL = "<script>alert(1)</script>"


def render(*parts):
    section = Section("one", "A title", Told("A lead.", parts))
    return drawing.render("report.html.jinja", title="T", purpose="P", sections=[section])


def test_every_kind_is_shown():
    shown = [
        Sentence("a sentence"),
        Table("a table", ["h"], [["a cell"]], "l"),
        Charts("some charts", [("a caption", Markup("<svg></svg>"))]),
        Pictures("some pictures", [Picture("data:image/png;base64,", "alternative", ["a line"])]),
        Listing("a listing", "a: 1"),
    ]
    assert {type(one) for one in shown} == set(get_args(blocks.Block))
    page = render(*shown, Folded("folded away", [Sentence("inside")]))
    for text in (
        "a sentence", "a table", "a cell", "some charts", "a caption", "<svg>", "some pictures",
        'alt="alternative"', "a line", "a: 1", "folded away", "inside",
    ):  # fmt: skip
        assert text in page
    assert '<a href="#one">A title</a>' in page
    assert '<h2 id="one">1. A title</h2>' in page


def test_text_is_never_markup():
    page = render(
        Sentence(EVIL), Sentence(EVIL, is_warning=True), Table(EVIL, [EVIL], [[EVIL]], "l"),
        Charts(EVIL, [(EVIL, Markup(""))]), Pictures(EVIL, [Picture(EVIL, EVIL, [EVIL])]),
        Listing(EVIL, EVIL), Folded(EVIL, [Sentence(EVIL)]),
    )  # fmt: skip
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 16


def test_a_warning_says_so_in_words():
    assert "<strong>Caution:</strong> look" in render(Sentence("look", is_warning=True))
    assert "Caution" not in render(Sentence("look"))
