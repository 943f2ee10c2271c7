"""Pictures of the project are known by their pixels, and examples are of those never learnt."""

import cv2

from stages.answering import own_pictures
from stages.core.tables import IMAGES
from stages.datasets import filtering
from stages.images import decoding
from tests.made.answering import draw_cell
from tests.made.own_project import cell_of, write_project


def test_a_picture_is_known_by_its_pixels_in_any_file(tmp_path, monkeypatch):
    """Packed anew it is the same; at two hospitals it has two names; another one has none."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, hospital="east")
    write_project(tmp_path, hospital="west")
    found = own_pictures.list_pixels()
    anew = cv2.imencode(".bmp", cell_of(3)[..., ::-1])[1].tobytes()
    pixels = filtering.hash_pixels(decoding.decode(anew).rgb)
    assert found[pixels] == ["east/3.png", "west/3.png"]
    assert filtering.hash_pixels(draw_cell("monocyte", 99)) not in found


def test_examples_taught_the_model_nothing(tmp_path, monkeypatch):
    """Twelve at most, byte for byte, none of train; the same ones each time."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, n_images=20)
    assert own_pictures.list_tested() == ["east"]
    drawn = dict(own_pictures.read_examples("east"))
    assert len(drawn) == own_pictures.N_EXAMPLES
    assert "east/1.png" not in drawn  # train
    stored = IMAGES.read("east", ["image_id", "bytes"]).set_index("image_id")["bytes"]
    assert all(stored[name] == content for name, content in drawn.items())
    assert dict(own_pictures.read_examples("east")) == drawn


def test_outside_of_a_project_there_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own_pictures.list_pixels() == {}
    assert own_pictures.list_tested() == []
