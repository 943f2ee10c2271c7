"""The bias tests' pictures: each changes what it says, and leaves the rest as it was."""

from typing import get_args

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.params import BiasParams
from stages.images import cell_masks
from stages.inputs.preparation import Geometry, find_cell
from stages.shortcuts import perturbations
from stages.shortcuts.perturbations import TESTS, Scene

GROUND, CELL, NEIGHBOUR = (232, 228, 220), (120, 60, 150), (170, 120, 120)
ON_CELL = [name for name in TESTS if name.startswith(("shapes", "isolate", "back", "neigh"))]


def draw(side=160, radius=30, centre=(80, 80), neighbours=((20, 20), (140, 70))):
    """A white cell with a nucleus in its middle, and red cells beside it."""
    rgb = np.full((side, side, 3), GROUND, np.uint8)
    for place in neighbours:
        cv2.circle(rgb, place, 14, NEIGHBOUR, cv2.FILLED)
    cv2.circle(rgb, centre, radius, (180, 160, 200), cv2.FILLED)
    cv2.circle(rgb, centre, radius * 2 // 3, CELL, cv2.FILLED)
    return rgb


def find(rgb, radius=30.0):
    mask = cell_masks.segment(rgb)
    assert mask.has_cell
    return Geometry(mask.centre, radius, mask.white, mask.packed)


def scene(rgb=None, geometry=None, seed=0, **changes):
    rgb = draw() if rgb is None else rgb
    made = geometry or find(rgb)
    return Scene(rgb, made, np.random.default_rng(seed), **changes)


def other(side=300, radius=60):
    """A picture of twice the scale with its own neighbours and no cell in reach of them."""
    rgb = draw(side, radius, (150, 150), ((30, 30), (270, 150)))
    return rgb, find(rgb, radius)


def full_scene(seed=0):
    return scene(seed=seed, other=other(), stain=(1.5, 0.7, 1.0))


def inside(made):
    """Pixels of the cell, but for its edge."""
    cell = find_cell(made.rgb, made.geometry).astype(np.uint8)
    return cv2.erode(cell, np.ones((5, 5), np.uint8)) > 0


def far(made):
    """Pixels farther from the cell than its margin."""
    cell = find_cell(made.rgb, made.geometry).astype(np.uint8)
    return cv2.dilate(cell, np.ones((31, 31), np.uint8)) == 0


def test_params_name_these_tests():
    names = get_args(get_args(BiasParams.model_fields["tests"].annotation)[0])
    assert names == tuple(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_each_test_changes_pictures_and_is_repeated(name):
    """The same bytes by the same seed, of the same shape, and no copy."""
    made = full_scene()
    before = made.rgb.copy()
    pixels = TESTS[name].change(made)
    assert pixels.dtype == np.uint8
    assert pixels.shape == made.rgb.shape
    assert (made.rgb == before).all()
    assert (pixels != made.rgb).mean() > 0.01
    assert (TESTS[name].change(full_scene()) == pixels).all()


@pytest.mark.parametrize("name", [name for name in ON_CELL if name != "isolate_sharpened"])
def test_what_changes_the_surroundings_leaves_the_cell(name):
    made = full_scene()
    pixels = TESTS[name].change(made)
    cell = inside(made)
    assert (pixels[cell] == made.rgb[cell]).all()


def test_an_isolated_cell_stands_on_one_colour():
    made = scene()
    for name, colour in (("isolate", made.white), ("isolate_on_colour", None)):
        ground = TESTS[name].change(made)[far(made)]
        expected = ground[0] if colour is None else colour
        assert (ground == expected).all()
    first, second = (TESTS["isolate_on_colour"].change(scene(seed=seed)) for seed in (1, 2))
    assert (first[0, 0] != second[0, 0]).any()


def test_sharpening_widens_the_step_at_the_nucleus():
    made = scene()
    pixels = TESTS["isolate_sharpened"].change(made).astype(int)
    assert pixels[80, 80 + 17, 1] < made.rgb[80, 80 + 17, 1] - 3
    assert pixels[80, 80 + 23, 1] > made.rgb[80, 80 + 23, 1] + 3
    assert (pixels[far(made)] == made.white).all()


def test_shapes_lie_around_the_cell():
    """Between one and 2.2 radii and half a radius: where any crop of the cell shows them."""
    made = scene()
    pixels = TESTS["shapes"].change(made)
    rows, columns = np.nonzero((pixels != made.rgb).any(axis=2))
    away = np.hypot(rows - 80, columns - 80) / 30
    assert 1 < away.max() < perturbations.REACH + 0.75
    colours = np.unique(pixels[far(made)], axis=0)
    assert len(colours) >= 5


def test_another_background_is_scaled_and_as_bright():
    """A red cell at two radii of the other cell comes to two radii of this one."""
    made = scene(other=other())
    pixels = TESTS["background"].change(made)
    dark = (pixels[..., 1] < 150) & far(made)
    rows, columns = np.nonzero(dark)
    expected = [(80 + (30 - 150) / 2, 80 + (30 - 150) / 2), (80 + (270 - 150) / 2, 80.0)]
    for x, y in expected:
        near = np.hypot(columns - x, rows - y) < 12
        assert near.sum() > 50
    assert not dark[70, 140 - 7 : 140 + 7].all()  # this picture's own is gone
    assert (np.abs(pixels[20, 120].astype(int) - made.white) <= 2).all()


def test_a_brighter_hospital_gives_its_background_as_bright_as_here():
    rgb, geometry = other()
    dim = (rgb * 0.8).astype(np.uint8)
    found = find(dim, geometry.radius)
    made = scene(other=(dim, found))
    pixels = TESTS["background"].change(made)
    assert (np.abs(pixels[20, 120].astype(int) - made.white) <= 3).all()


def test_neighbours_go_and_the_background_stays():
    rgb = draw()
    rgb[120:150, 20:60] -= 6  # faint dirt that is no cell
    cv2.circle(rgb, (80, 15), 12, (200, 185, 190), cv2.FILLED)  # a pale one
    made = scene(rgb)
    pixels = TESTS["neighbours"].change(made)
    assert (np.abs(pixels[20, 20].astype(int) - made.white) <= 1).all()
    assert (np.abs(pixels[70, 145].astype(int) - made.white) <= 1).all()
    assert (np.abs(pixels[15, 80].astype(int) - made.white) <= 1).all()
    assert (pixels[135, 40] == rgb[135, 40]).all()


def test_grey_has_one_density_and_keeps_the_background():
    made = scene()
    pixels = TESTS["grey"].change(made)
    white = np.array(made.geometry.white) + perturbations.OFFSET
    before, after = (np.log(white / (x.astype(float) + perturbations.OFFSET)) for x in
                     (made.rgb, pixels))  # fmt: skip
    assert np.ptp(after, axis=2).max() < 0.02
    np.testing.assert_allclose(after.mean(axis=2), before.mean(axis=2), atol=0.01)
    assert (np.abs(pixels[far(made)].astype(int).max(axis=0) - made.white) <= 1).all()


def test_blur_keeps_what_is_even_and_softens_edges():
    made = scene()
    pixels = TESTS["blur"].change(made)
    assert (pixels[155, 100] == made.rgb[155, 100]).all()
    assert (
        np.abs(np.diff(pixels[80].astype(int), axis=0)).max()
        < 0.5 * np.abs(np.diff(made.rgb[80].astype(int), axis=0)).max()
    )


@given(st.tuples(*[st.floats(0.4, 2.5)] * 3))
@settings(max_examples=25, deadline=None)
def test_a_stain_multiplies_densities(factors):
    """Known answer by pixel, up to rounding; back and forth is where it began."""
    made = scene(stain=factors)
    pixels = TESTS["stain"].change(made)
    white = np.array(made.geometry.white) + perturbations.OFFSET
    wanted = white * np.exp(
        np.array(factors) * np.log((made.rgb + perturbations.OFFSET) / white)
    ) - perturbations.OFFSET  # fmt: skip
    assert np.abs(pixels - np.clip(wanted, 0, 255)).max() <= 0.51


def test_stains_are_medians_of_hospitals():
    """A hospital of platelets alone has no cytoplasm; it neither gives nor takes a stain."""
    columns = [f"cytoplasm_od_{channel}" for channel in "rgb"]
    rows = [("a", 0.1, 0.2, 0.3), ("a", 0.3, 0.4, 0.5), ("a", None, None, None),
            ("b", 0.4, 0.6, 0.2), ("none", None, None, None)]  # fmt: skip
    quality = pd.DataFrame(rows, columns=["hospital", *columns])
    stains = perturbations.find_stains(quality)
    assert list(stains) == ["a", "b"]
    assert stains["a"] == pytest.approx((0.2, 0.3, 0.4))
    assert perturbations.compare_stains(stains["a"], stains["b"]) == pytest.approx((2, 2, 0.5))
    assert perturbations.compare_stains((0.01, 1, 0), (1, 0.01, 0)) == pytest.approx((3, 1 / 3, 1))
    rgb = draw()
    others = {name: [(rgb, find(rgb))] for name in ("a", "none")}
    made = perturbations.set_scene(rgb, find(rgb), "a", others, stains, np.random.default_rng(0))
    assert made.stain == (1, 1, 1)
    assert (TESTS["stain"].change(made) == rgb).all()


def test_the_other_hospital_is_another_one():
    """Each of the others is drawn now and then, the own one never; alone there is none."""
    rgb = draw()
    geometry = find(rgb)
    others = {name: [(rgb[:, :, :] + i, geometry)] for i, name in enumerate("abc")}
    stains = dict.fromkeys("abc", (0.2, 0.2, 0.2))
    chance = np.random.default_rng(0)
    drawn = [
        int(perturbations.set_scene(rgb, geometry, "b", others, stains, chance).other[0][0, 0, 0])
        for _ in range(40)
    ]
    assert set(drawn) == {GROUND[0], GROUND[0] + 2}
    alone = perturbations.set_scene(rgb, geometry, "a", {"a": others["a"]}, stains, chance)
    assert alone.other is alone.stain is None


def test_without_an_outline_a_disc_stands_for_the_cell():
    """No cell was found: the middle of the picture stays, and nothing else."""
    rgb = draw()
    made = scene(rgb, Geometry(None, None, GROUND, None))
    pixels = TESTS["isolate"].change(made)
    assert (pixels[80, 80] == rgb[80, 80]).all()
    assert (pixels[20, 20] == GROUND).all()
