"""Files from a browser: no name of a stranger is a path, and none is lost without a word."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.answering import uploads
from stages.answering.pictures import Rule, make_ready
from tests.made.answering import FILTER, INPUTS, draw_cell, encode, lenet, pack

CELL = encode(draw_cell("monocyte"))
RULE = Rule(INPUTS, FILTER, {"model": lenet().recipe})


@given(st.lists(st.text(max_size=30), max_size=4))
@example(["../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "a/../../b.png"])
@example(["", ".", "..", "\0", "x.png", "x.png"])
def test_no_name_leads_out_of_the_folder(names):
    """Every file lies in one temporary folder, named by its number; every name is shown clean."""
    with uploads.keep([(name, CELL) for name in names]) as asked:
        assert len(asked) == len(names)
        places = {one.member.source.parent for one in asked}
        assert all(place.name.startswith("smearflow-") for place in places)
        assert len(places) <= 1
        for number, one in enumerate(asked):
            assert one.member.source.name.startswith(f"upload_{number}")
            assert ".." not in one.name.split("/")
            assert not one.name.startswith("/")
        assert len({one.name for one in asked}) == len(names)
    assert not any(place.exists() for place in places)


def test_pictures_in_archives_stand_under_the_names_of_their_sender():
    """A zip, a zip in it, a tar, a packed picture; two files of one name are told apart."""
    inner = pack({"deep/1.png": CELL})
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        info = tarfile.TarInfo("t/3.png")
        info.size = len(CELL)
        archive.addfile(info, io.BytesIO(CELL))
    files = [
        ("my.zip", pack({"x/2.png": CELL, "in.zip": inner, "../../out.png": CELL})),
        ("b.tar.gz", tar.getvalue()),
        ("one.png", CELL),
        ("one.png", CELL),
    ]
    with uploads.keep(files) as asked:
        assert [one.name for one in asked] == [
            "my.zip/in/deep/1.png", "my.zip/out.png", "my.zip/x/2.png", "b.tar.gz/t/3.png",
            "one.png", "one.png (2)",
        ]  # fmt: skip
        assert all(make_ready(one, RULE).problem is None for one in asked)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.zip", pack({"1.png": CELL})[:-30], "broken"),
        ("cells.zip.001", pack({"1.png": CELL})[:200], "cells"),
        ("a.png", pack({"1.png": CELL}), "archive"),
        ("none.zip", pack({}), "without a file"),
        ("a.png", b"", "empty"),
    ],
)
def test_what_is_wrong_is_told_of_the_senders_name(name, content, words):
    """The name of our copy and its folder never show."""
    with uploads.keep([(name, content), ("good.png", CELL)]) as asked:
        bad, good = (make_ready(one, RULE) for one in asked)
    assert good.problem is None
    assert bad.name == name
    assert words in bad.problem
    assert "upload_" not in bad.problem
    assert "/tmp" not in bad.problem


def test_beyond_the_limits_the_others_are_answered(monkeypatch):
    """Number and size: what is left out is told, in one line each."""
    monkeypatch.setattr(uploads, "MAX_PICTURES", 3)
    with uploads.keep([("a.zip", pack({f"{n}.png": CELL for n in range(9)}))]) as asked:
        assert [one.name for one in asked][:3] == [f"a.zip/{n}.png" for n in range(3)]
        assert asked[3].name == "6 more"
        assert "3 pictures at a time" in asked[3].problem
        assert len(asked) == 4
    monkeypatch.setattr(uploads, "MAX_BYTES", 2 * len(CELL))
    with uploads.keep([("1.png", CELL), ("big.png", 3 * CELL), ("2.png", CELL)]) as asked:
        told = {one.name: one.problem for one in asked}
    assert told["1.png"] is None
    assert told["2.png"] is None
    assert "larger than 1 GiB" in told["big.png"]


def test_an_ending_that_says_what_a_file_claims_to_be_is_kept():
    assert uploads._find_ending("b.TAR.gz") == ".TAR.gz"
    assert uploads._find_ending("a/b.png/") == ""
    assert uploads._find_ending("x.png\n../y") == ""
    assert Path(f"upload_1{uploads._find_ending('a.p/../b')}").name == "upload_1"
