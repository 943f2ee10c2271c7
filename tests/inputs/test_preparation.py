"""Prepared pictures: the crop is where it should be, the balance as declared, the border filled."""

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.errors import ImageError
from stages.core.params import InputsParams
from stages.images import cell_masks
from stages.inputs import augmentation, preparation
from stages.inputs.preparation import Geometry
from tests.made.strong import STRONG

WHITE = (230.0, 220.0, 200.0)


def rule(**changes):
    settings = {
        "crop": "cell",
        "scale": "hospital",
        "half_side": 1.5,
        "white_balance": ["white_point", "grey_world"],
        "hide": "nothing",
    }
    return InputsParams(**(settings | changes))


def smear(side=300, centre=(150, 150), radius=40):
    rgb = np.full((side, side, 3), WHITE, np.uint8)
    cv2.circle(rgb, centre, radius, (120, 80, 160), -1)
    return rgb


def place_of(rgb, centre, radius, white=WHITE):
    """As stage quality writes it, with the cell's outline."""
    return Geometry(centre, radius, white, cell_masks.segment(rgb).packed)


def quality(**columns):
    n = len(next(iter(columns.values())))
    frame = {
        "image_id": [f"h/{i}" for i in range(n)],
        "cell_mask": [None] * n,
        "flags": [[]] * n,
        "hospital": ["h"] * n,
        "white_r": [230.0] * n,
        "white_g": [220.0] * n,
        "white_b": [200.0] * n,
    }
    return pd.DataFrame(frame | columns)


def test_geometry_by_hospital_and_by_image():
    """The hospital's radius is the median over found cells; the image's is its own."""
    table = quality(
        has_cell=[True, True, True, False],
        centre_x=[10.0, 20.0, 30.0, None],
        centre_y=[1.0, 2.0, 3.0, None],
        cell_radius=[40.0, 50.0, 90.0, None],
    )
    by_hospital = preparation.geometries(table, rule())
    by_image = preparation.geometries(table, rule(scale="image"))
    assert [g.radius for g in by_hospital.values()] == [50.0] * 4
    assert [g.radius for g in by_image.values()] == [40.0, 50.0, 90.0, 50.0]
    assert by_hospital["h/1"].centre == (20.0, 2.0)
    assert by_hospital["h/3"].centre is None
    assert by_hospital["h/0"].white == WHITE


def test_unsure_outlines_do_not_set_the_scale():
    """The median of the sure ones, hospital by hospital; of all where none is sure."""
    table = quality(
        has_cell=[True] * 4,
        centre_x=[1.0] * 4,
        centre_y=[1.0] * 4,
        cell_radius=[40.0, 80.0, 90.0, 100.0],
        flags=[[], ["at_border", "unsure_outline"], ["unsure_outline"], ["unsure_outline"]],
    )
    table["hospital"] = ["a", "a", "b", "b"]
    found = preparation.geometries(table, rule())
    assert [g.radius for g in found.values()] == [40.0, 40.0, 95.0, 95.0]


def test_geometry_keeps_hospitals_apart():
    """Another hospital's cells do not change the scale; a hospital without cells has none."""
    table = quality(
        has_cell=[True, True, False],
        centre_x=[1.0, 1.0, None],
        centre_y=[1.0, 1.0, None],
        cell_radius=[40.0, 80.0, None],
    )
    table["hospital"] = ["a", "b", "c"]
    assert [g.radius for g in preparation.geometries(table, rule()).values()] == [40.0, 80.0, None]


@pytest.mark.parametrize("radius", [15, 40, 120])
@pytest.mark.parametrize("size", [64, 112])
def test_cell_fills_its_share_of_the_crop(radius, size):
    """Centred and scaled: the cell is in the middle with 1 / 1.5 of half a side, at any scale."""
    side = 6 * radius
    rgb = smear(side, (2 * radius, 3 * radius), radius)
    crop = preparation.prepare(
        rgb, Geometry((2 * radius, 3 * radius), radius, WHITE), rule(), size, "none"
    )
    cell = crop[..., 1] < 150
    y, x = np.nonzero(cell)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    assert x.mean() == pytest.approx((size - 1) / 2, abs=1)
    assert y.mean() == pytest.approx((size - 1) / 2, abs=1)
    assert np.sqrt(cell.sum() / np.pi) == pytest.approx(size / 3, rel=0.04)


def test_two_magnifications_give_one_crop():
    """The same smear photographed twice as large gives nearly the same array."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8), (0, 0), 4)
    large = cv2.resize(texture, (400, 400), interpolation=cv2.INTER_CUBIC)
    small_crop = preparation.prepare(texture, Geometry((99.5, 99.5), 40, WHITE), rule(), 64, "none")
    large_crop = preparation.prepare(large, Geometry((199.5, 199.5), 80, WHITE), rule(), 64, "none")
    assert np.abs(small_crop.astype(int) - large_crop).mean() < 1.5


def test_strong_shrinking_averages():
    """A fine checkerboard becomes grey, not a moire of black and white."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = preparation.prepare(
        np.repeat(board[..., None], 3, 2), Geometry(None, None, WHITE), rule(), 48, "none"
    )
    assert crop.min() > 110
    assert crop.max() < 145


@settings(deadline=None, max_examples=60)
@example(height=400, width=800, period=2.2, across=True, is_turned=False)
@example(height=900, width=90, period=4.9, across=False, is_turned=True)
@given(
    height=st.integers(40, 1000),
    width=st.integers(40, 1000),
    period=st.floats(2.05, 6.0),
    across=st.booleans(),
    is_turned=st.booleans(),
)
def test_the_whole_picture_is_averaged_along_each_axis(height, width, period, across, is_turned):
    """Stripes keep hardly more contrast than area averaging leaves, along either axis.

    However long the picture, and in views that are turned by a quarter too. With one scale for
    both axes up to 35 of the stripes' 42 grey levels were left over.
    """
    size = 64
    place = np.arange(width if across else height)
    wave = np.rint(127.5 + 60 * np.sin(2 * np.pi * place / period)).astype(np.uint8)
    plane = np.broadcast_to(wave if across else wave[:, None], (height, width))
    rgb = np.ascontiguousarray(np.repeat(plane[..., None], 3, 2))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]) if is_turned else None
    crop = preparation.prepare(
        rgb, Geometry(None, None, WHITE), rule(crop="whole"), size, "none", turn
    )
    averaged = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
    inside = np.s_[2:-2, 2:-2]
    assert crop[inside].std() <= averaged[inside].std() + 10


def test_outside_is_background():
    """A crop that reaches beyond the picture is filled with the background's colour."""
    crop = preparation.prepare(smear(), Geometry((0, 0), 100, WHITE), rule(), 64, "none")
    assert crop[2, 2].tolist() == list(WHITE)
    balanced = preparation.prepare(smear(), Geometry((0, 0), 100, WHITE), rule(), 64, "white_point")
    assert balanced[2, 2].tolist() == [240, 240, 240]


def test_white_point_known_values():
    """The background becomes 240 in each channel; half of its light becomes 119."""
    rgb = np.full((60, 60, 3), (98, 200, 0), np.uint8)
    crop = preparation.prepare(rgb, Geometry(None, 20, (200, 200, 200)), rule(), 32, "white_point")
    assert crop[16, 16].tolist() == [119, 240, round(242 * 4 / 204 - 2)]


def test_grey_world_known_mean():
    """Each channel of the crop has a mean of 180."""
    rng = np.random.default_rng(0)
    rgb = (rng.random((64, 64, 3)) * (90, 120, 60) + 40).astype(np.uint8)
    crop = preparation.prepare(rgb, Geometry(None, 20, WHITE), rule(), 48, "grey_world")
    assert crop.mean(axis=(0, 1)) == pytest.approx([180] * 3, abs=0.6)


def test_black_picture_survives_grey_world():
    """A black picture stays black instead of dividing by zero."""
    rgb = np.zeros((40, 40, 3), np.uint8)
    crop = preparation.prepare(rgb, Geometry(None, 20, (0, 0, 0)), rule(), 32, "grey_world")
    assert crop.max() == 0


def test_unknown_balance_is_named():
    """A balance that does not exist ends with its name and the known ones."""
    with pytest.raises(ImageError, match=r"'reinhard' is unknown; known are white_point"):
        preparation.prepare(smear(), Geometry(None, None, WHITE), rule(), 32, "reinhard")


def test_whole_picture_is_stretched():
    """crop: whole shows all four corners, whatever the shape and the geometry."""
    rgb = np.full((100, 200, 3), 128, np.uint8)
    rgb[:50, :100], rgb[50:, 100:] = 0, 255
    crop = preparation.prepare(rgb, Geometry((5, 5), 3, WHITE), rule(crop="whole"), 64, "none")
    assert crop[8, 8].tolist() == [0, 0, 0]
    assert crop[8, 56].tolist() == [128] * 3
    assert crop[56, 56].tolist() == [255] * 3


def test_whole_picture_of_right_size_is_unchanged():
    """A picture of the wanted size goes through crop: whole without any change."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop = preparation.prepare(rgb, Geometry(None, None, WHITE), rule(crop="whole"), 64, "none")
    assert np.array_equal(crop, rgb)


def test_transform_turns_the_crop():
    """A quarter turn shows what a turned crop shows; the identity changes nothing."""
    rng = np.random.default_rng(2)
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (120, 120, 3), dtype=np.uint8), (5, 5), 0)
    place = Geometry((59.5, 59.5), 20, WHITE)
    plain = preparation.prepare(rgb, place, rule(), 60, "none")
    same = preparation.prepare(rgb, place, rule(), 60, "none", np.eye(3))
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    turned = preparation.prepare(rgb, place, rule(), 60, "none", quarter)
    assert np.array_equal(plain, same)
    # The result's right shows the crop's bottom: turned against the clock.
    assert np.abs(turned.astype(int) - np.rot90(plain)).max() <= 1


def test_mask_hides_neighbours_softly():
    """With the mask, a neighbour becomes white, the cell stays, and the edge is not a step."""
    rgb = smear(240, (120, 120), 36)
    cv2.circle(rgb, (120, 120), 24, (70, 40, 120), -1)
    cv2.circle(rgb, (185, 120), 14, (200, 150, 150), -1)
    place = place_of(rgb, (120, 120), 50)
    plain = preparation.prepare(rgb, place, rule(), 112, "white_point")
    hidden = preparation.prepare(rgb, place, rule(hide="background"), 112, "white_point")
    x = 56 + round(65 / 75 * 56)
    assert plain[56, x, 1] < 200
    assert hidden[56, x].tolist() == [240, 240, 240]
    assert np.array_equal(hidden[40:72, 40:72], plain[40:72, 40:72])


def test_mask_without_a_cell_changes_nothing():
    """Where no cell is found there is nothing to keep, so nothing is hidden."""
    rgb = np.full((80, 80, 3), 200, np.uint8)
    rgb[:8, :8] = 199
    place = place_of(rgb, None, 20, (200, 200, 200))
    plain = preparation.prepare(rgb, place, rule(), 32, "none")
    assert np.array_equal(
        preparation.prepare(rgb, place, rule(hide="background"), 32, "none"), plain
    )


def busy_smear(cell_radius, colours):
    """A cell of any size and colour, off the middle of a striped ground with a red cell far off."""
    rgb = np.full((240, 240, 3), WHITE, np.uint8)
    rgb[::6] -= 12
    cv2.circle(rgb, (30, 200), 16, (215, 165, 165), -1)
    cv2.circle(rgb, (105, 130), cell_radius, colours[0], -1)
    cv2.circle(rgb, (105, 130), cell_radius * 2 // 3, colours[1], -1)
    return rgb


CELLS = {
    "small and blue": (22, ((150, 160, 220), (60, 40, 130))),
    "large and red": (44, ((225, 150, 160), (130, 50, 90))),
    "pale": (36, ((205, 195, 205), (140, 110, 170))),
}


@pytest.mark.parametrize("balance", ["white_point", "grey_world", "none"])
@pytest.mark.parametrize("crop", ["cell", "centre", "whole"])
def test_a_hidden_cell_leaves_no_trace(balance, crop):
    """Cells of other sizes and colours in one and the same smear: the same array, bit for bit."""
    pictures = [busy_smear(*cell) for cell in CELLS.values()]
    covered, shown = rule(crop=crop, hide="cell"), rule(crop=crop)
    place = place_of(pictures[0], (105.0, 130.0), 40)
    first = preparation.prepare(pictures[0], place, covered, 64, balance)
    for rgb in pictures[1:]:
        place = place_of(rgb, (105.0, 130.0), 40)
        assert np.array_equal(preparation.prepare(rgb, place, covered, 64, balance), first)
        assert not np.array_equal(
            preparation.prepare(rgb, place, shown, 64, balance),
            preparation.prepare(pictures[0], place, shown, 64, balance),
        )


@pytest.mark.parametrize("balance", ["white_point", "none"])
def test_what_is_far_from_a_hidden_cell_stays(balance):
    """Beyond the disc and its soft edge nothing changes; within it there is background alone."""
    rgb = busy_smear(*CELLS["small and blue"])
    place = place_of(rgb, (105.0, 130.0), 40)
    covered = preparation.prepare(rgb, place, rule(half_side=3.0, hide="cell"), 240, balance)
    plain = preparation.prepare(rgb, place, rule(half_side=3.0), 240, balance)
    y, x = np.indices((240, 240)) - 119.5
    distance = np.hypot(x, y)
    far = distance > (preparation.COVER + 2 * preparation.MARGIN) * 40
    assert np.array_equal(covered[far], plain[far])
    assert len(np.unique(plain[far], axis=0)) > 2
    background = [240, 240, 240] if balance == "white_point" else list(WHITE)
    assert (covered[distance < preparation.COVER * 40] == background).all()


def test_a_cell_that_is_larger_than_the_disc_is_hidden_too():
    """Its outline is covered as well: no pixel of its colours is left."""
    rgb = smear(300, (150, 150), 80)
    cv2.circle(rgb, (150, 150), 55, (70, 40, 120), -1)
    place = place_of(rgb, (150.0, 150.0), 40)
    covered = preparation.prepare(rgb, place, rule(half_side=3.0, hide="cell"), 112, "none")
    assert np.abs(covered.astype(int) - WHITE).max() <= 3


@pytest.mark.parametrize(("radius", "usual"), [(30, 30), (None, 50)])
def test_without_a_cell_the_disc_stands_in_the_middle(radius, usual):
    """Nothing was found: a disc of the hospital's cell size, or of a quarter of the side."""
    rgb = np.random.default_rng(3).integers(190, 200, (200, 200, 3), dtype=np.uint8)
    place = place_of(rgb, None, radius, (250.0, 251.0, 252.0))
    covered = preparation.prepare(rgb, place, rule(crop="whole", hide="cell"), 200, "none")
    y, x = np.indices((200, 200)) - 99.5
    distance = np.hypot(x, y)
    far = distance > (preparation.COVER + 2 * preparation.MARGIN) * usual
    assert (covered[distance < preparation.COVER * usual] == (250, 251, 252)).all()
    assert np.array_equal(covered[far], rgb[far])


def test_a_hidden_cell_does_not_set_the_scale():
    """With scale: image the crop would be as large as the cell; hidden, it is as the hospital's."""
    table = quality(
        has_cell=[True, True, True],
        centre_x=[105.0] * 3,
        centre_y=[130.0] * 3,
        cell_radius=[22.0, 40.0, 44.0],
        cell_mask=[cell_masks.segment(busy_smear(*cell)).packed for cell in CELLS.values()],
    )
    hidden = rule(scale="image", hide="cell")
    found = preparation.geometries(table, hidden)
    assert [g.radius for g in found.values()] == [40.0] * 3
    prepared = [
        preparation.prepare(busy_smear(*cell), place, hidden, 64, "none")
        for cell, place in zip(CELLS.values(), found.values(), strict=True)
    ]
    assert all(np.array_equal(one, prepared[0]) for one in prepared)


def test_centre_crop_is_the_cell_crop_around_the_middle():
    """Same side as the cell crop, but wherever the cell is, the picture's middle is shown."""
    rng = np.random.default_rng(4)
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8), (5, 5), 0)
    centre = preparation.prepare(
        rgb, Geometry((31.0, 40.0), 20, WHITE), rule(crop="centre"), 60, "none"
    )
    middle = Geometry((99.5, 79.5), 20, WHITE)
    assert np.array_equal(centre, preparation.prepare(rgb, middle, rule(), 60, "none"))
    assert np.array_equal(centre, rgb[50:110, 70:130])


def test_centre_crop_has_one_scale_for_pictures_of_any_size():
    """A wider border around the same middle changes nothing, unlike with crop: whole."""
    rng = np.random.default_rng(5)
    large = rng.integers(0, 256, (220, 300, 3), dtype=np.uint8)
    small = np.ascontiguousarray(large[40:180, 60:240])
    crops = {
        crop: [
            preparation.prepare(rgb, Geometry(None, 40, WHITE), rule(crop=crop), 64, "grey_world")
            for rgb in (large, small)
        ]
        for crop in ("centre", "whole")
    }
    assert np.array_equal(*crops["centre"])
    assert not np.array_equal(*crops["whole"])


@settings(deadline=None, max_examples=150)
@given(
    shape=st.tuples(st.integers(6, 300), st.integers(6, 300)),
    place=st.tuples(st.floats(-50, 350), st.floats(-50, 350)),
    radius=st.floats(2, 200),
    size=st.integers(16, 130),
    seed=st.integers(0, 999),
)
def test_what_is_not_seen_does_not_matter(shape, place, radius, size, seed):
    """Only what reaches the view is averaged and blurred, and the view is as from the whole."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    turn = augmentation.random_transform(STRONG, rng)
    place = Geometry(place, radius, WHITE)
    cut = preparation.prepare(rgb, place, rule(), size, "none", turn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "_cut_to_what_is_seen", lambda rgb, matrix, *_: (rgb, matrix))
        whole = preparation.prepare(rgb, place, rule(), size, "none", turn)
    # The sampler rounds places, so that from another corner a few pixels differ by a level or two.
    off = np.abs(cut.astype(int) - whole)
    assert off.max() <= 2
    assert (off > 0).mean() < 0.01


@given(
    centre=st.none() | st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)),
    radius=st.none() | st.floats(1e-3, 1e4),
    white=st.tuples(*[st.floats(0, 255)] * 3),
    cell=st.none() | st.binary(),
)
def test_a_geometry_in_columns_is_the_same_geometry(centre, radius, white, cell):
    """To the last bit; its columns are those of the training table."""
    geometry = Geometry(centre, radius, white, cell)
    row = preparation.to_row(geometry)
    assert set(row) < set(tables.TRAINING.schema.names)
    assert preparation.from_row(row | {"image_id": "h/a", "bytes": b""}) == geometry


@pytest.mark.parametrize("crop", ["cell", "centre", "whole"])
def test_what_is_found_in_the_crop_comes_back_to_its_place(crop):
    """A dot, found in the crop, lies on the dot of the picture again; beside it is nothing."""
    rgb = np.zeros((90, 130, 3), np.uint8)
    rgb[50:53, 70:73] = 255
    geometry = preparation.Geometry((68.0, 47.0), 15.0, (0.0, 0.0, 0.0))
    own = rule(crop=crop)
    seen = preparation.prepare(rgb, geometry, own, 64, "none")[..., 0].astype(float)
    back = preparation.bring_back(seen, rgb, geometry, own)
    assert back.shape == (90, 130)
    rows, columns = np.nonzero(back > back.max() / 2)
    assert (rows.mean(), columns.mean()) == pytest.approx((51, 71), abs=0.5)
    ones = preparation.bring_back(np.ones((64, 64)), rgb, geometry, own)
    assert (ones.max(), ones.min() == 0) == (pytest.approx(1), crop != "whole")
