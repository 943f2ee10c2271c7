"""A drawn picture obeys its stain, camera and cell type, and depends on nothing else."""

import cv2
import numpy as np
import pytest

from stages.simulation.cells import CELL_TYPES, KINDS, bank
from stages.simulation.pictures import Camera, Look, Stain, Style, draw, encode, encode_anew, resize

SMALL = Style(width=150, height=140, px_per_um=5.0)
CLEAR = SMALL.model_copy(
    update={"camera": Camera(blur=0.0, sharpen=0.0, noise=0.0, unevenness=0.0)}
)
EMPTY_FIELD = Look(crowding=0.0)


def picture(cell_type="lymphocyte", number=0, style=SMALL, look=EMPTY_FIELD):
    parts = bank(1, style.px_per_um, style.camera.noise)
    return draw(style, cell_type, [1, 2, number], look, parts)


def with_camera(**settings):
    return SMALL.model_copy(update={"camera": CLEAR.camera.model_copy(update=settings)})


def edges(rgb):
    return np.abs(cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_16S)).mean()


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_a_picture_has_its_size_and_a_mask_in_three_levels(cell_type):
    drawn = picture(cell_type)
    assert drawn.rgb.shape == (140, 150, 3)
    assert drawn.rgb.dtype == drawn.mask.dtype == np.uint8
    assert drawn.mask.shape == (140, 150)
    levels = {0, 128} if cell_type == "platelet" else {0, 128, 255}
    assert set(np.unique(drawn.mask)) == levels


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_the_cell_stands_in_the_middle_with_the_size_of_its_type(cell_type):
    low, high = KINDS[cell_type].radius
    for number in range(6):
        mask = picture(cell_type, number).mask
        y, x = np.nonzero(mask)
        assert np.hypot(x.mean() - 75, y.mean() - 70) < 1.5 * SMALL.px_per_um
        radius = np.sqrt(len(x) / np.pi) / SMALL.px_per_um
        assert 0.85 * low - 0.2 < radius < 1.12 * high + 0.2


def test_the_same_names_give_the_same_picture_in_any_order():
    first = picture("monocyte", 5)
    picture("platelet", 6)
    again = picture("monocyte", 5)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.rgb, picture("monocyte", 7).rgb)


def test_an_empty_field_has_the_colour_of_the_background():
    drawn = picture("platelet", 1, CLEAR)
    median = np.median(drawn.rgb.reshape(-1, 3), axis=0)
    assert median == pytest.approx(CLEAR.stain.background, abs=3)


def test_a_red_cell_has_about_the_colour_of_its_stain():
    """One dose of stain gives the named colour; a cell holds a little less to a little more."""
    crowded = picture("platelet", 1, CLEAR, Look(crowding=1.0, pallor=0.0)).rgb.reshape(-1, 3)
    stained = crowded[crowded[:, 0] < 232]
    assert len(stained) > 0.3 * len(crowded)
    assert np.median(stained, axis=0) == pytest.approx(CLEAR.stain.red_cell, abs=25)


def test_the_nucleus_is_darker_than_the_cytoplasm_and_that_darker_than_the_background():
    for cell_type in CELL_TYPES[:-1]:
        drawn = picture(cell_type, 3)
        green = drawn.rgb[..., 1].astype(int)
        outside, inside, nucleus = (green[drawn.mask == level].mean() for level in (0, 128, 255))
        assert nucleus + 15 < inside < outside - 15, cell_type


def test_an_eosinophil_is_redder_than_a_neutrophil():
    def redness(cell_type):
        drawn = picture(cell_type, 2)
        red, _, blue = drawn.rgb[drawn.mask == 128].mean(axis=0)
        return red - blue

    assert redness("eosinophil") > redness("segmented_neutrophil") + 15


def test_stain_and_tint_change_the_colours_but_not_the_shapes():
    bluer = CLEAR.model_copy(update={"stain": Stain(background=[220, 228, 250])})
    plain, blue = picture(style=CLEAR), picture(style=bluer)
    tinted = picture(style=CLEAR, look=Look(crowding=0.0, tint=(-20.0, 0.0, 0.0)))
    assert np.array_equal(plain.mask, blue.mask)
    shift = np.median(blue.rgb.reshape(-1, 3) - plain.rgb.reshape(-1, 3).astype(int), axis=0)
    assert shift == pytest.approx([-33, -2, 46], abs=4)
    assert np.median(plain.rgb[..., 0]) - np.median(tinted.rgb[..., 0]) == pytest.approx(20, abs=2)


def test_blur_takes_edges_away_and_sharpening_brings_them_back():
    look = Look(crowding=0.9)
    sharp, blurred, restored = (
        edges(picture(style=with_camera(**settings), look=look).rgb)
        for settings in ({}, {"blur": 2.0}, {"blur": 2.0, "sharpen": 1.5})
    )
    assert blurred < 0.6 * sharp
    assert restored > 1.2 * blurred


def test_noise_has_the_asked_deviation():
    """Against the same picture without noise, away from the ends of the scale."""
    clear, noisy = picture(style=CLEAR).rgb, picture(style=with_camera(noise=5.0)).rgb
    difference = (noisy.astype(int) - clear)[(clear > 30) & (clear < 225)]
    assert difference.std() == pytest.approx(5.0, rel=0.15)


def test_uneven_light_darkens_one_side():
    def spread(style):
        blocks = [
            cv2.resize(
                picture(number=number, style=style).rgb, (3, 3), interpolation=cv2.INTER_AREA
            )
            for number in range(6)
        ]
        corners = np.array([block[::2, ::2, 0] for block in blocks], int)
        return np.median(corners.max(axis=(1, 2)) - corners.min(axis=(1, 2)))

    assert spread(with_camera(unevenness=0.3)) > spread(CLEAR) + 15


def test_scale_sets_the_size_in_pixels():
    large = SMALL.model_copy(update={"px_per_um": 10.0, "width": 300, "height": 280})
    areas = [
        np.mean([np.count_nonzero(picture(number=n, style=style).mask) for n in range(5)])
        for style in (SMALL, large)
    ]
    assert areas[1] / areas[0] == pytest.approx(4.0, rel=0.15)


def test_a_cell_larger_than_the_picture_is_cut():
    tiny = Style(width=48, height=48, px_per_um=10.0)
    assert np.count_nonzero(picture("promyelocyte", style=tiny).mask) > 0.95 * 48 * 48


def test_encoding_keeps_the_picture_and_its_channel_order():
    rgb = picture(style=CLEAR, look=Look(crowding=0.8)).rgb
    content = encode(rgb, 95)
    assert content[:2] == b"\xff\xd8"
    assert content[-2:] == b"\xff\xd9"
    seen = encode_anew(rgb, 95)
    assert np.abs(seen.astype(int) - rgb).mean() < 3


def test_scaling_a_mask_keeps_its_levels():
    mask = picture("band_neutrophil").mask
    assert set(np.unique(resize(mask, 333, 97))) == {0, 128, 255}
    assert resize(mask, 150, 140) is mask
    assert resize(picture().rgb, 60, 50).shape == (50, 60, 3)
