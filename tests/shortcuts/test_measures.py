"""Shortcuts: known backgrounds, places and files are measured; the cell itself never is."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.core.params import InputsParams
from stages.images import cell_masks
from stages.inputs import preparation
from stages.inputs.preparation import Geometry
from stages.shortcuts import measures

WHITE = (236, 226, 208)
RULE = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point", "none"],
    hide="nothing",
)  # fmt: skip
GEOMETRY = Geometry(centre=(59.5, 59.5), radius=26.0, white=WHITE)
AROUND = {"colour", "corners", "background"}


def draw_cell(side=120, radius=26, colour=(186, 170, 200), nucleus=(84, 50, 130), white=WHITE):
    """A cell in the middle of an even ground."""
    rgb = np.full((side, side, 3), white, np.uint8)
    middle = (side // 2, side // 2)
    cv2.circle(rgb, middle, radius, colour, -1)
    cv2.circle(rgb, middle, radius - 9, nucleus, -1)
    return rgb


def encode(rgb, file_format="PNG", **options):
    sink = io.BytesIO()
    Image.fromarray(rgb).save(sink, file_format, **options)
    return sink.getvalue()


def outlined(rgb, geometry=GEOMETRY):
    """With the cell's mask, as stage quality writes it."""
    return replace(geometry, cell=cell_masks.segment(rgb).packed)


def measure(rgb, geometry=GEOMETRY, **rule):
    return measures.measure(encode(rgb), outlined(rgb, geometry), RULE.model_copy(update=rule))


def of(measures, family):
    return {
        name.removeprefix(f"{family}/"): value
        for name, value in measures.items()
        if name.startswith(f"{family}/")
    }


def families(measures):
    return {name.rsplit("/", 1)[0] for name in measures}


def test_an_even_ground_is_its_colour_everywhere():
    """With the cell covered, mean, corners and squares are the ground's colour; nothing varies."""
    found = measure(draw_cell())
    for channel, level in zip(measures.CHANNELS, WHITE, strict=True):
        assert found[f"published/colour/mean_{channel}"] == pytest.approx(level, abs=0.5)
        assert found[f"published/colour/sd_{channel}"] == pytest.approx(0, abs=0.5)
        assert found[f"published/corners/top_left_{channel}"] == level
        squares = [v for name, v in found.items() if "background/" in name and channel in name]
        assert len(squares) == 3 * 64  # published, and two white balances
        published = [
            found[f"published/background/{r}_{c}_{channel}"] for r in (0, 4) for c in (0, 7)
        ]
        assert published == pytest.approx([level] * 4, abs=1)


def test_each_corner_is_its_own():
    """Four coloured corners are read at their places, in the published image and in a view."""
    rgb = draw_cell()
    colours = {"top_left": (200, 10, 30), "top_right": (20, 210, 40), "bottom_left": (30, 40, 220),
               "bottom_right": (90, 90, 90)}  # fmt: skip
    for place, colour in colours.items():
        rows = slice(0, 20) if "top" in place else slice(100, 120)
        columns = slice(0, 20) if "left" in place else slice(100, 120)
        rgb[rows, columns] = colour
    found = measure(rgb, crop="whole")
    for place, colour in colours.items():
        for channel, level in zip(measures.CHANNELS, colour, strict=True):
            assert found[f"published/corners/{place}_{channel}"] == level
            assert found[f"seen/corners/none_{place}_{channel}"] == pytest.approx(level, abs=3)
            row, column = 7 * ("bottom" in place), 7 * ("right" in place)
            square = found[f"published/background/{row}_{column}_{channel}"]
            assert square == pytest.approx(level, abs=3)


def test_white_point_takes_an_even_tint_away():
    """A yellow and a blue ground differ as published, and hardly where the white point is set."""
    tints = [(236, 226, 160), (200, 226, 236)]
    found = [measure(draw_cell(white=t), Geometry((59.5, 59.5), 26.0, t)) for t in tints]
    for family, least, most in (("published/colour", 30, 90), ("seen/colour", 0, 90)):
        first, second = (of(one, family) for one in found)
        assert max(abs(first[name] - second[name]) for name in first) >= least
        assert max(abs(first[name] - second[name]) for name in first) <= most
    first, second = (of(one, "seen/background") for one in found)
    balanced = [name for name in first if name.startswith("white_point")]
    assert max(abs(first[name] - second[name]) for name in balanced) <= 2
    assert max(abs(first[name] - second[name]) for name in first) >= 30


@settings(max_examples=15, deadline=None)
@given(
    radius=st.integers(20, 27),
    colour=st.tuples(*[st.integers(120, 190)] * 3),
    nucleus=st.tuples(*[st.integers(20, 100)] * 3),
)
def test_the_cell_itself_is_never_measured(radius, colour, nucleus):
    """Cells of any colour, and of sizes near the hospital's, give the same measures to a level."""
    first = measure(draw_cell())
    second = measure(draw_cell(radius=radius, colour=colour, nucleus=nucleus))
    assert first.keys() == second.keys()
    seen = [name for name in first if not name.startswith("published/bytes")]
    assert max(abs(first[name] - second[name]) for name in seen) <= 1.5


@pytest.mark.parametrize("more", [(0, 0), (0, 70), (40, 0)])
def test_covered_once_is_covered_as_for_the_network(more):
    """In images of any shape the views are those of inputs.prepare with hide: cell, to the bit."""
    rng = np.random.default_rng(3)
    rgb = np.clip(draw_cell() + rng.normal(0, 6, (120, 120, 3)), 0, 255).astype(np.uint8)
    cv2.circle(rgb, (15, 100), 14, (190, 120, 130), -1)
    cv2.circle(rgb, (66, 66), 35, (84, 50, 130), -1)  # larger than the disc that covers
    rgb = cv2.copyMakeBorder(rgb, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT, value=WHITE)
    found = measure(rgb)
    hiding = RULE.model_copy(update={"hide": "cell"})
    for balance in RULE.white_balance:
        view = preparation.prepare(rgb, outlined(rgb), hiding, measures.SIDE, balance)
        for row, column in ((0, 0), (3, 4), (7, 2)):
            square = view[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].mean(axis=(0, 1))
            for channel, level in zip(measures.CHANNELS, square, strict=True):
                name = f"seen/background/{balance}_{row}_{column}_{channel}"
                assert found[name] == pytest.approx(level)
    already = measure(rgb, hide="cell")
    assert already == found


def test_images_that_are_not_square():
    """What lies beside the cell keeps its place where width and height differ."""
    rgb = np.full((90, 140, 3), WHITE, np.uint8)
    cv2.circle(rgb, (50, 40), 22, (84, 50, 130), -1)
    rgb[:, 130:] = (100, 30, 30)
    rgb[:8, :20] = (30, 30, 100)
    found = measure(rgb, Geometry((50.0, 40.0), 22.0, WHITE))
    assert of(found, "published/size") == {"width": 140, "height": 90, "aspect": 140 / 90}
    assert of(found, "published/position") == pytest.approx(
        {"x": 50.5 / 140 - 0.5, "y": 40.5 / 90 - 0.5}
    )
    assert found["published/corners/top_right_red"] == 100
    assert found["published/corners/top_left_red"] == 30
    assert found["published/corners/bottom_left_red"] == WHITE[0]
    assert found["published/background/3_2_green"] == pytest.approx(WHITE[1], abs=2)


def test_a_cell_in_a_corner_leaves_no_trace_there():
    """Corners are read after the cell is covered, of the image and of the views."""
    rgb = np.full((120, 120, 3), WHITE, np.uint8)
    cv2.circle(rgb, (16, 16), 24, (84, 50, 130), -1)
    found = measure(rgb, Geometry((16.0, 16.0), 24.0, WHITE), crop="whole")
    for name in ("published/corners/top_left_green", "seen/corners/none_top_left_green"):
        assert found[name] == pytest.approx(WHITE[1], abs=1)


def test_no_cell_has_no_place():
    """Where no cell was found its place is missing, and nothing else is."""
    found = measure(np.full((100, 100, 3), WHITE, np.uint8), Geometry(None, 20.0, WHITE))
    missing = {name for name, value in found.items() if np.isnan(value)}
    assert missing == {"published/position/x", "published/position/y"}


def test_how_a_jpeg_was_written():
    """Tables, sampling and comment of the header are read; the pixels play no part."""
    rgb = draw_cell()
    coarse = encode(rgb, "JPEG", quality=40, subsampling=2, comment=b"Intel(R) JPEG")
    fine = encode(rgb, "JPEG", quality=90, subsampling=0)
    first, second = (
        of(measures.measure(content, GEOMETRY, RULE), "published/file")
        for content in (coarse, fine)
    )
    with Image.open(io.BytesIO(coarse)) as image:
        luma, chroma = image.quantization[0], image.quantization[1]
    assert first == {
        "format": 1.0, "luma_mean": np.mean(luma), "luma_first": luma[0],
        "chroma_mean": np.mean(chroma), "chroma_first": chroma[0], "sampling": 2.0, "comment": 13.0,
    }  # fmt: skip
    assert second["luma_mean"] < first["luma_mean"]
    assert (second["sampling"], second["comment"]) == (0.0, 0.0)
    other = encode(draw_cell(radius=20), "JPEG", quality=90, subsampling=0)
    assert of(measures.measure(other, GEOMETRY, RULE), "published/file") == second


@pytest.mark.parametrize(("file_format", "number"), [("PNG", 2), ("BMP", 0), ("TIFF", 3)])
def test_other_formats_have_no_tables(file_format, number):
    """Outside of JPEG all but the format is 0."""
    content = encode(draw_cell(), file_format)
    found = of(measures.measure(content, GEOMETRY, RULE), "published/file")
    assert found.pop("format") == number
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("crop", ["cell", "centre", "whole"])
@pytest.mark.parametrize("hide", ["nothing", "background", "cell"])
def test_every_family_is_measured_or_absent_with_a_reason(crop, hide):
    """No family of the network's input is lost without a word; what the rule hides is absent."""
    rule = RULE.model_copy(update={"crop": crop, "hide": hide})
    found = {
        name for name in families(measure(draw_cell(), crop=crop, hide=hide)) if "seen" in name
    }
    missing = measures.absent(rule)
    assert not found & missing.keys()
    assert found | missing.keys() == {f"seen/{name}" for name in AROUND | {"size", "position"}}
    assert {f"seen/{name}" for name in AROUND} <= (
        missing.keys() if hide == "background" else found
    )
    assert ("seen/size" in found) == (crop == "whole")
    assert ("seen/position" in found) == (crop != "cell")
    assert all(reason.startswith("inputs.") for reason in missing.values())


def test_a_stretched_image_lets_its_size_through():
    """With the whole image as input, size and place of the cell reach the network."""
    found = measure(draw_cell(), crop="whole")
    assert of(found, "seen/size") == of(found, "published/size")
    assert of(found, "seen/position") == of(found, "published/position")


def test_the_length_of_the_file_is_told():
    """In bytes, and by pixel."""
    rgb = np.full((40, 50, 3), 230, np.uint8)
    content = cv2.imencode(".png", rgb)[1].tobytes()
    found = of(measures.measure(content, GEOMETRY, RULE), "published/bytes")
    assert found == {"file": len(content), "pixel": len(content) / 2000}
