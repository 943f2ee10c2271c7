"""The page as its user meets it, without a browser: ask, look, correct, take along."""

import gc
import json

import pytest
from streamlit.testing.v1 import AppTest

from stages.answering.model import AnsweringModel
from stages.labels import reviews
from stages.tools import page
from tests.answering.test_model import flipping_lenet
from tests.made.answering import draw_cell, encode, write_export
from tests.made.own_project import write_project

SCRIPT = "from stages.tools import page\npage.main({folders!r})"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return {
        "one": write_export(folder / "one", threshold=0.5),
        "other": write_export(folder / "other", flipping_lenet()),
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    page._list_pixels.clear()
    yield tmp_path
    gc.collect()  # as when a window is closed
    assert not list(tmp_path.glob("smearflow-*"))


def start(*folders):
    script = SCRIPT.format(folders=[str(one) for one in folders])
    app = AppTest.from_string(script, default_timeout=120).run()
    assert not app.exception
    return app


def press(app, label):
    [one] = [one for one in app.button if one.label == label]
    one.click().run()
    assert not app.exception
    return app


def send(app, files):
    app.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    return press(app, "Ask about these")


def see(app, view):
    [one] = [one for one in app.radio if one.label == "What to see"]
    one.set_value(view).run()
    assert not app.exception
    return app


def read(app):
    """All text of the page."""
    kinds = (app.title, app.subheader, app.caption, app.text, app.error, app.info, app.success,
             app.warning, app.markdown)  # fmt: skip
    texts = [one.value for kind in kinds for one in kind]
    shown = [one.proto.body for one in app.get("html")]
    bars = [one.proto.text for one in app.get("progress")]
    return "\n".join([*texts, *shown, *bars])


def cells(n=2):
    return [(f"{n}.png", encode(draw_cell(("basophil", "monocyte")[n % 2], n))) for n in range(n)]


def test_pictures_are_answered_looked_at_and_counted(place, exports):
    """Verdict, three classes in text, flags, maps, counts, promise, trace; bad files in words."""
    app = start(exports["one"])
    assert "Research use only" in read(app)
    send(app, [*cells(), ("bad.png", b"no picture"), ("none.png", b"")])
    told = read(app)
    assert "4 pictures:" in told
    assert "not an image" in told
    assert "the file has no bytes" in told
    assert "wrong calls among the accepted ones" in told
    press(app, "Look at 2")
    told = read(app)
    assert "monocyte: 99.9 %" in told
    assert "Flagged: " in told
    assert told.count('alt="evidence for ') == 3
    assert "Not shown: no training pictures lie here" in told
    table = see(app, page.COUNTS).table[0].value
    assert table["cells"].astype(int).sum() == 2
    assert "2 not known" in read(app)
    assert AnsweringModel(exports["one"]).about.model_sha256 in read(see(app, page.FILES))


def test_a_correction_of_a_picture_of_the_project_is_a_review(place, exports):
    """What harmonise reads afterwards; the examples are of the project; a name is asked for."""
    write_project(place)
    app = press(start(exports["one"]), "Ask about 12 examples")
    press(app, "Look at 1")
    assert "east/0.png" in app.selectbox(key="number").format_func(0)
    app.selectbox[-1].set_value("plasma_cell")
    assert "name or initials" in read(press(app, "Keep this correction"))
    assert not reviews.REVIEWS_FILE.exists()
    app.text_input[0].set_value("Dr. Berg")
    app.text_input[1].set_value("clock-face nucleus")
    assert "Kept in data/reviews.csv for east/0.png" in read(press(app, "Keep this correction"))
    [one] = reviews.read()
    assert (one.image_id, one.cell_type, one.reviewer, one.note) == (
        "east/0.png", "plasma_cell", "Dr. Berg", "clock-face nucleus"
    )  # fmt: skip
    assert one.pixel_sha256 in page.own_pictures.list_pixels()
    press(app, "Next")
    assert app.text_input[0].value == "Dr. Berg"
    press(app, "Previous")
    assert "Dr. Berg said before: plasma_cell" in read(app)
    assert "1 in this window" in read(see(app, page.FILES))


def test_a_strangers_picture_cannot_be_a_review_and_says_so(place, exports):
    write_project(place)
    app = send(start(exports["one"]), [("x.png", encode(draw_cell("monocyte", 99)))])
    press(app, "Look at 1")
    app.selectbox[-1].set_value("basophil")
    app.text_input[0].set_value("B")
    assert "none of the project" in read(press(app, "Keep this correction"))
    assert not reviews.REVIEWS_FILE.exists()
    assert "corrected by you" in read(see(app, page.WALL))
    assert "1 in this window" in read(see(app, page.FILES))


def test_two_models_are_seen_side_by_side(place, exports):
    """Both verdicts of a picture, both counts, both files; and where they differ."""
    app = send(start(exports["one"], exports["other"]), cells(3))
    [kinds] = [one for one in app.radio if one.label == "Which pictures"]
    assert page.DIFFERENT in kinds.options
    kinds.set_value(page.DIFFERENT).run()
    assert "other model: " in read(app) or "None." in read(app)
    told = read(see(app, page.ONE))
    assert "Model: " in told
    assert "Other model: " in told
    assert told.count("Flagged: ") == 2
    assert len(see(app, page.COUNTS).table) == 2


def test_a_model_that_is_not_whole_is_one_line(place, exports):
    """On the page as well: it may be trained anew while the page is open."""
    app = start(place / "gone")
    assert len(app.error) == 1
    folder = write_export(place / "broken")
    (folder / "model/more.txt").write_text("x")
    app = start(folder)
    assert "a file was changed" in app.error[0].value
    about = json.loads((folder / "about.json").read_text())
    assert about["version"] == 1


def test_nothing_was_chosen(place, exports):
    app = press(start(exports["one"]), "Ask about these")
    assert "Choose files first" in read(app)
    app = send(app, [("bad.png", b"x")])
    assert "None of the files could be read" in read(see(app, page.ONE))


def test_many_pictures_stand_on_several_screens(place, exports, monkeypatch):
    """Twelve at a time; another choice begins with the first screen."""
    monkeypatch.setattr(page, "N_CARDS", 2)
    app = send(start(exports["one"]), cells(5))
    assert app.selectbox(key="screen").options == ["1 of 3", "2 of 3", "3 of 3"]
    app.selectbox(key="screen").set_value(3).run()
    assert [one.label for one in app.button if one.label.startswith("Look at")] == ["Look at 5"]
    see(see(app, page.COUNTS), page.WALL)
    assert app.selectbox(key="screen").value == 3
    [kinds] = [one for one in app.radio if one.label == "Which pictures"]
    kinds.set_value("not read").run()
    assert not app.exception
    assert "None." in read(app)


def test_a_disk_that_is_full_is_one_line(place, exports, monkeypatch):
    app = start(exports["one"])

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stages.answering.uploads.keep", fail)
        send(app, cells())
        assert "No space left" in app.error[0].value
    assert "2 pictures" in read(press(app, "Ask about these"))
