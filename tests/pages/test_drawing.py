"""Pictures inside a page, and text that stays text."""

import base64

import cv2
import jinja2
import numpy as np
import pytest

from stages.pages import drawing


def test_an_embedded_picture_can_be_read_again():
    """Red stays red: OpenCV counts its channels the other way."""
    rgb = np.full((112, 112, 3), (220, 30, 60), np.uint8)
    head, _, code = drawing.embed(rgb).partition(",")
    assert head == "data:image/jpeg;base64"
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(code), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(pixels[..., ::-1].astype(int) - rgb).max() < 6


def test_a_name_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="undefined"):
        drawing.render("gallery.html.jinja")
