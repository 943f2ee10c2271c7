"""What a person asks about is found wherever it lies, and made ready as for training."""

import dataclasses
import hashlib
import os
import warnings
import zipfile

import numpy as np
import pytest

from stages.answering import pictures
from stages.answering.pictures import Rule, find, make_ready
from stages.images import cell_masks
from stages.inputs import preparation
from tests.made.answering import FILTER, INPUTS, draw_cell, encode, lenet, pack, write_cells

RULE = Rule(INPUTS, FILTER, {"model": lenet().recipe})


def names(arguments):
    with find([str(one) for one in arguments]) as asked:
        return [(one.name, one.problem) for one in asked]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_folders_and_archives_stand_under_the_names_that_were_given(place):
    """A folder's pictures follow by name, also those of an archive in it and of one in that."""
    cell = encode(draw_cell("monocyte"))
    write_cells(place / "smears/b", "monocyte", 1)
    inner = pack({"deep/1.png": cell})
    (place / "smears/a.zip").write_bytes(pack({"x/2.png": cell, "in.zip": inner}))
    (place / "one.png").write_bytes(cell)
    assert names(["one.png", "smears/", "one.png", "smears/a.zip"]) == [
        ("one.png", None),
        ("smears/a.zip/in/deep/1.png", None),
        ("smears/a.zip/x/2.png", None),
        ("smears/b/monocyte_0.png", None),
    ]


def test_what_cannot_be_opened_is_told_and_the_others_are_there(place):
    """Each with its own reason, none lost: a missing file, an empty folder, a broken archive."""
    write_cells(place, "monocyte", 1)
    (place / "empty").mkdir()
    whole = pack({"1.png": encode(draw_cell("monocyte"))})
    (place / "cut.zip").write_bytes(whole[:-30])
    (place / "none.zip").write_bytes(pack({}))
    found = names(["gone.png", "empty", "cut.zip", "none.zip", "monocyte_0.png"])
    assert [name for name, _ in found] == [
        "gone.png", "empty", "cut.zip", "none.zip", "monocyte_0.png"
    ]  # fmt: skip
    problems = [problem for _, problem in found]
    for problem, words in zip(
        problems, ["no such file", "holds no file", "broken", "without a file", None], strict=True
    ):
        assert (problem is None) if words is None else words in problem
    assert "SMEARFLOW_MIRROR" not in "".join(filter(None, problems))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is text", "not_an_image"),
        (encode(draw_cell("monocyte"))[:300], "truncated"),
        (encode(draw_cell("monocyte")[:40, :40]), "undersized"),
        (encode(np.full((99, 99, 3), 9, np.uint8)), "blank"),
        (pack({"word/document.xml": b"x", "[Content_Types].xml": b"x"}), None),
    ],
)
def test_a_file_that_is_no_picture_has_its_reason(place, content, reason):
    """The reasons of the stage filter, in one line each."""
    (place / "x.png").write_bytes(content)
    with find(["x.png"]) as asked:
        [ready] = [make_ready(one, RULE) for one in asked]
    assert ready.problem is not None
    assert "\n" not in ready.problem
    assert reason is None or ready.problem.startswith(reason)
    assert "hospitals.yaml" not in ready.problem


def test_a_picture_is_prepared_as_for_training_at_its_own_scale_or_that_of_the_place(place):
    """Pixel for pixel what `preparation.prepare` gives for the cell's own radius, or another."""
    rgb = draw_cell("basophil", 3)
    (place / "x.png").write_bytes(encode(rgb))
    outlined = cell_masks.segment(rgb)
    for radius in (None, 40.0):
        with find(["x.png"]) as asked:
            ready = make_ready(asked[0], Rule(INPUTS, FILTER, RULE.recipes, radius))
        where = preparation.Geometry(
            outlined.centre, radius or outlined.cell_radius, outlined.white, outlined.packed
        )
        expected = preparation.prepare(rgb, where, INPUTS, 32, "none")
        assert np.array_equal(ready.pixels[32], expected[None])
        assert ready.radius == (radius or outlined.cell_radius)


def test_flags_tell_what_is_wrong_with_a_picture(place):
    """No cell; a cell at the border; a whole cell without a flag but that of its outline."""
    blank = np.full((120, 120, 3), 230, np.uint8)
    blank[::2] -= 3
    cut = draw_cell("monocyte", radius=58)
    for name, rgb in {"blank": blank, "cut": cut, "whole": draw_cell("monocyte")}.items():
        (place / f"{name}.png").write_bytes(encode(rgb))
    with find(["blank.png", "cut.png", "whole.png"]) as asked:
        blank, cut, whole = (make_ready(one, RULE).flags for one in asked)
    assert pictures.NO_CELL in blank
    assert pictures.AT_BORDER in cut
    assert {pictures.NO_CELL, pictures.AT_BORDER, pictures.BROKEN}.isdisjoint(whole)


def test_what_cannot_be_read_in_a_folder_does_not_hide_the_others(place):
    """A dead link, a link that leads to itself, a pipe: each has a line; no walk goes round."""
    cell = encode(draw_cell("monocyte"))
    for folder in ("whole", "hurt/sub"):
        (place / folder).mkdir(parents=True)
        (place / folder / "1.png").write_bytes(cell)
        (place / folder / "Thumbs.db").write_bytes(b"x")
        (place / folder / "loop").symlink_to("..", target_is_directory=True)
        os.mkfifo(place / folder / "pipe")
    (place / "hurt/a.png").symlink_to("gone.png")
    (place / "hurt/self").symlink_to("self")
    assert names(["whole"]) == [
        ("whole/1.png", None), ("whole/pipe", "a named pipe, which is never opened")
    ]  # fmt: skip
    assert names(["hurt"]) == [
        ("hurt/a.png", "there is no such file"),
        ("hurt/self", "there is no such file"),
        ("hurt/sub/1.png", None),
        ("hurt/sub/pipe", "is no file"),
        ("hurt/sub/loop", "a link to a folder beside what cannot be read"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_is_closed_hides_no_other(place):
    """Told by its name; the pictures beside it are there."""
    write_cells(place / "smears", "monocyte", 1)
    (place / "smears/closed").mkdir(mode=0)
    found = names(["smears"])
    (place / "smears/closed").chmod(0o700)
    assert found == [("smears/monocyte_0.png", None), ("smears/closed", "Permission denied")]


def test_odd_names_are_names(place):
    """Not a home, not this folder, not an end of everything; each stays in its line."""
    cell = encode(draw_cell("monocyte"))
    odd = ["~x.png", "a\nb.png", "a\\nb", "\x1b[31m.png", "\udcff.png", "é\u2028.png"]
    for name in odd:
        (place / name).write_bytes(cell)
    found = names([*odd, "", "x" * 300])
    shown = ["~x.png", r"a\nb.png", r"a\nb", r"\x1b[31m.png", r"\udcff.png", r"é\u2028.png"]
    assert [name for name, problem in found if problem is None] == shown
    assert found[-2:] == [("", "an empty name"), ("x" * 300, "File name too long")]


def test_an_archive_loses_no_file_and_shows_no_leftover(place):
    """Two files of one name are two, also where ``..`` or ``/`` is left out; macOS's are none."""
    one, two = encode(draw_cell("monocyte")), encode(draw_cell("basophil"))
    with zipfile.ZipFile(place / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, content in (("1.png", one), ("1.png", two), ("../1.png", two), ("/x/2.png", one),
                              ("__MACOSX/._1.png", b"x")):  # fmt: skip
            archive.writestr(name, content)
    (place / "mac.zip").write_bytes(pack({"__MACOSX/._1.png": b"x"}))
    assert names(["a.zip", "mac.zip"]) == [
        ("a.zip/1.png", None), ("a.zip/1.png (2)", None), ("a.zip/1.png (3)", None),
        ("a.zip/x/2.png", None), ("mac.zip", "an archive without a file"),
    ]  # fmt: skip
    with find(["a.zip"]) as asked:
        sums = [make_ready(each, RULE).sha256 for each in asked]
    assert sums[:3] == [hashlib.sha256(content).hexdigest() for content in (one, two, two)]


def test_a_way_out_is_one_of_a_person_who_gives_files(place):
    """For each archive that is refused: no word of a hospital's block or mirror."""
    locked = bytearray(pack({"1.png": b"x"}))
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1  # says that it is encrypted
    (place / "locked.zip").write_bytes(locked)
    (place / "piece.zip.001").write_bytes(pack({"1.png": b"x"}))
    for name, words in (("locked.zip", "is encrypted"), ("piece.zip.001", "is a piece")):
        [(_, problem)] = names([name])
        assert words in problem
        assert problem.endswith("give the folder.")


@pytest.mark.parametrize("change", ["gone", "shorter"])
def test_a_file_that_changes_after_it_was_listed_is_told(place, change):
    """Neither a traceback nor an archive's words."""
    [path] = write_cells(place, "monocyte", 1)
    with find([path.name]) as asked:
        path.unlink() if change == "gone" else path.write_bytes(path.read_bytes()[:100])
        problem = make_ready(asked[0], RULE).problem
    words = {"gone": "No such file", "shorter": "it became shorter"}
    assert words[change] in problem
    assert "archive" not in problem


def test_a_doubtful_outline_and_lost_rows_are_flags_too(place, monkeypatch):
    """As those who measure them say, each by its own name."""
    [path] = write_cells(place, "monocyte", 1)
    real = cell_masks.segment
    monkeypatch.setattr(
        cell_masks, "segment", lambda rgb: dataclasses.replace(real(rgb), certainty=0.0)
    )
    with find([path.name]) as asked:
        assert make_ready(asked[0], RULE).flags == (cell_masks.UNSURE,)
        monkeypatch.setattr(pictures.lost_parts, "has_break", lambda rgb: True)
        assert make_ready(asked[0], RULE).flags == (cell_masks.UNSURE, pictures.BROKEN)
