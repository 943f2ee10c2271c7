"""Measures of a prepared crop: drawn cells of known shape, and scikit-image as the oracle."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import graycomatrix, graycoprops

from stages.images import morphology
from tests.projects import SHARED

SIDE = 160
WHITE = (240, 240, 240)
RED_CELL = (214, 160, 166)
CYTOPLASM = (186, 176, 214)
NUCLEUS = (84, 50, 130)
MIDDLE = (80, 80)


def draw(side=SIDE, cell=50, parts=(((80, 80), 25),), cytoplasm=CYTOPLASM, red_cells=(), dots=()):
    """A cell in the middle of a prepared crop; lengths at 160 px."""
    scale = side / SIDE

    def disc(place, radius, colour):
        centre = (round((place[0] + 0.5) * scale - 0.5), round((place[1] + 0.5) * scale - 0.5))
        cv2.circle(rgb, centre, round(radius * scale), colour, -1)

    rgb = np.full((side, side, 3), WHITE, np.uint8)
    for place in red_cells:
        disc(place, 22, RED_CELL)
    disc(MIDDLE, cell, cytoplasm)
    for place, radius in parts:
        disc(place, radius, NUCLEUS)
    for place in dots:
        disc(place, 2, NUCLEUS)
    return cv2.GaussianBlur(rgb, (3, 3), 0)


def stain(rgb, factor):
    """The same smear with `factor` times the stain in each channel."""
    density = -np.log((rgb + 4.0) / 244) * factor
    return np.clip(np.rint(244 * np.exp(-density) - 4), 0, 255).astype(np.uint8)


LOBES = (((62, 70), 13), ((98, 70), 13), ((80, 104), 13))
ROUND = morphology.measure(draw())
LOBED = morphology.measure(draw(parts=LOBES))


def test_names_are_those_measured():
    """About 60, in one order, each once, all of them found on some drawing."""
    assert list(ROUND) == list(morphology.NAMES)
    assert 55 <= len(set(morphology.NAMES)) == len(morphology.NAMES) <= 75
    others = [(8, 8), (150, 10), (150, 150)]
    crop = draw(parts=(((90, 80), 30),), red_cells=others, dots=[(46, 80), (56, 110)])
    cv2.circle(crop, (90, 80), 12, CYTOPLASM, -1)
    cv2.circle(crop, (80, 118), 8, NUCLEUS, -1)
    crop -= np.random.default_rng(0).integers(0, 40, crop.shape, dtype=np.uint8)
    other = morphology.measure(crop)
    assert [name for name in ROUND if ROUND[name] == LOBED[name] == other[name] == 0] == []


def test_round_cell_with_round_nucleus():
    """Radii 50 and 25 in a crop of 160."""
    area = np.pi / SIDE**2
    assert ROUND["has_cell"] == 1
    assert ROUND["cell_area"] == pytest.approx(50**2 * area, rel=0.08)
    assert ROUND["nucleus_area"] == pytest.approx(25**2 * area, rel=0.1)
    assert ROUND["nucleus_share"] == pytest.approx(0.25, rel=0.08)
    assert ROUND["nucleus_hull_share"] == pytest.approx(0.25, rel=0.1)
    for region in ("cell", "nucleus"):
        assert ROUND[f"{region}_solidity"] > 0.95
        assert ROUND[f"{region}_eccentricity"] < 0.25
        assert ROUND[f"{region}_form_factor"] > 0.85
    assert ROUND["nucleus_offset"] < 0.03
    assert ROUND["nucleus_parts"] == ROUND["nucleus_lobes"] == 1
    assert ROUND["nucleus_thickness"] == pytest.approx(1, abs=0.06)
    assert ROUND["nucleus_mean_thickness"] == pytest.approx(1 / 3, abs=0.05)
    assert ROUND["nucleus_hole_share"] == 0
    assert ROUND["nucleus_indentation_1"] < 0.1
    assert ROUND["nucleus_hu_1"] == pytest.approx(np.log10(1 / (2 * np.pi)), abs=0.01)
    assert ROUND["nucleus_density_spread"] < 0.3
    # Half of the cell's depth is nucleus: the inner two rings wholly, the outer two not at all.
    assert [ROUND[f"nucleus_ring_{ring}"] for ring in (1, 2, 4, 5)] == pytest.approx(
        [0, 0, 1, 1], abs=0.05
    )
    assert ROUND["cell_ring_1"] < 1 < ROUND["cell_ring_5"]


def test_three_lobes():
    assert LOBED["nucleus_parts"] == LOBED["nucleus_lobes"] == 3
    assert LOBED["nucleus_solidity"] < 0.75 < ROUND["nucleus_solidity"]
    assert LOBED["nucleus_thickness"] == pytest.approx(1 / np.sqrt(3), abs=0.08)
    joined = morphology.measure(draw(parts=(((64, 80), 18), ((96, 80), 18))))
    assert joined["nucleus_parts"] == 1
    assert joined["nucleus_lobes"] == 2
    assert joined["nucleus_eccentricity"] > 0.7


def test_bean_and_ring():
    """A bite out of the nucleus is an indentation; a hole in it is not."""
    bean = draw(parts=(((80, 80), 30),))
    cv2.circle(bean, (108, 80), 14, CYTOPLASM, -1)
    ring = draw(parts=(((80, 80), 30),))
    cv2.circle(ring, MIDDLE, 12, CYTOPLASM, -1)
    bitten, holed = morphology.measure(bean), morphology.measure(ring)
    assert bitten["nucleus_indentation_1"] > 0.25
    assert bitten["nucleus_indentation_2"] < 0.1
    assert bitten["nucleus_hole_share"] == 0
    assert holed["nucleus_hole_share"] == pytest.approx((12 / 30) ** 2, abs=0.05)
    assert holed["nucleus_form_factor"] > bitten["nucleus_form_factor"]


def test_nucleus_to_one_side():
    aside = morphology.measure(draw(parts=(((100, 80), 20),)))
    assert aside["nucleus_offset"] == pytest.approx(20 / 50, abs=0.05)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_strength_of_the_stain_hardly_matters(factor):
    """A fifth less or a quarter more stain: no ratio moves by more than a tenth of its range."""
    crop = draw(parts=LOBES, red_cells=[(8, 8), (150, 10)], dots=[(80, 50), (60, 100)])
    plain, other = morphology.measure(crop), morphology.measure(stain(crop, factor))
    assert abs(other["nucleus_area"] / plain["nucleus_area"] - 1) < 0.06
    for name in morphology.NAMES:
        assert abs(other[name] - plain[name]) < 0.06 + 0.15 * abs(plain[name]), name


def test_turning_and_mirroring_hardly_matter():
    crop = draw(parts=(((70, 72), 16), ((95, 88), 14)), red_cells=[(8, 8), (150, 10)])
    plain = morphology.measure(crop)
    for other in (np.rot90(crop), crop[::-1], crop[:, ::-1]):
        turned = morphology.measure(np.ascontiguousarray(other))
        for name in morphology.NAMES:
            assert abs(turned[name] - plain[name]) < 0.05 + 0.1 * abs(plain[name]), name


def test_size_of_the_crop_hardly_matters():
    """The same picture at 160 and 240 px: lengths are shares."""
    small, large = (
        morphology.measure(draw(side, parts=LOBES, red_cells=[(8, 8), (150, 10)]))
        for side in (160, 240)
    )
    for name in morphology.SHAPE + morphology.DENSITY:
        assert abs(large[name] - small[name]) < 0.08 + 0.15 * abs(small[name]), name


def test_granules_show_in_the_cytoplasm():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 30)
    dots = [(80 + 40 * np.cos(angle), 80 + 40 * np.sin(angle)) for angle in angles]
    dotted = morphology.measure(draw(dots=dots, parts=(((80, 80), 25),)))
    for name in ("granularity_1", "granularity_3", "contrast_1", "density_spread"):
        assert dotted[f"cytoplasm_{name}"] > 1.5 * ROUND[f"cytoplasm_{name}"], name
    assert dotted["cytoplasm_homogeneity_1"] < ROUND["cytoplasm_homogeneity_1"]


def test_eosin_is_told_by_the_red_cells():
    """Cytoplasm of the red cells' colour has no step to them; a blue one absorbs more red."""
    red_cells = [(8, 8), (150, 10), (150, 150)]
    eosin = morphology.measure(draw(cytoplasm=RED_CELL, red_cells=red_cells))
    blue = morphology.measure(draw(red_cells=red_cells))
    assert eosin["red_share_to_others"] == pytest.approx(0, abs=0.03)
    assert eosin["blue_share_to_others"] == pytest.approx(0, abs=0.03)
    assert blue["red_share_to_others"] > 0.08
    assert blue["blue_share_to_others"] < -0.08
    assert ROUND["red_share_to_others"] == ROUND["blue_share_to_others"] == 0  # nothing beside it


def test_no_cell_measures_nothing():
    """An empty field: all 0, so that trees have a number."""
    empty = morphology.measure(np.full((SIDE, SIDE, 3), 240, np.uint8))
    assert set(empty.values()) == {0.0}
    assert list(empty) == list(morphology.NAMES)


def test_nucleus_that_fills_the_cell():
    """Without cytoplasm its measures are 0, the others stand."""
    bare = morphology.measure(draw(cell=30, parts=(((80, 80), 30),)))
    assert bare["nucleus_share"] > 0.85
    assert np.isfinite(list(bare.values())).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([16, 33, 64]), st.booleans())
def test_any_picture_gives_finite_measures(seed, side, flat):
    """Noise, blocks, black, white: no error, no NaN, shares within 0..1."""
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) // (32 if flat else 1)
    crop = cv2.resize(block, (side, side), interpolation=cv2.INTER_NEAREST)
    measures = morphology.measure(crop)
    assert np.isfinite(list(measures.values())).all()
    shares = [
        name for name in morphology.NAMES if name.endswith(("area", "solidity", "_dark_share"))
    ]
    for name in [*shares, "nucleus_share", "nucleus_hole_share", "nucleus_eccentricity"]:
        assert 0 <= measures[name] <= 1, name


def test_pairs_are_those_of_scikit_image():
    """Over a whole picture, in each of the four directions and in the four properties."""
    levels = np.random.default_rng(0).integers(0, 16, (24, 31))
    levels[5:15] //= 4
    ours = morphology.count_pairs(levels.astype(np.int64), np.ones(levels.shape, bool), 3)
    # A diagonal of two pixels is about as long as a step of three: as scikit-image rounds it.
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    theirs = graycomatrix(levels.astype(np.uint8), [3], angles, levels=16, symmetric=True)
    pooled = theirs.sum(axis=3, keepdims=True)
    np.testing.assert_allclose(ours, (pooled / pooled.sum())[:, :, 0, 0], atol=1e-12)
    described = morphology.describe_pairs(ours)
    for name, value in described.items():
        assert value == pytest.approx(graycoprops(pooled / pooled.sum(), name)[0, 0]), name
    assert set(described) == {"contrast", "homogeneity", "energy", "correlation"}


def test_pairs_that_leave_the_region_do_not_count():
    levels = np.zeros((10, 10), np.int64)
    levels[:, 5:] = 9
    left = np.zeros((10, 10), bool)
    left[:, :5] = True
    pairs = morphology.count_pairs(levels, left, 2)
    assert pairs[0, 0] == 1
    assert morphology.describe_pairs(pairs)["contrast"] == 0
    assert morphology.describe_pairs(pairs)["correlation"] == 1
    nothing = morphology.count_pairs(levels, np.zeros((10, 10), bool), 2)
    assert nothing.sum() == 0
    assert np.isfinite(list(morphology.describe_pairs(nothing).values())).all()
    assert morphology.count_pairs(levels[:2, :2], left[:2, :2], 9).sum() == 0


def test_workers_change_nothing(monkeypatch):
    """One process or two: the same table, in picture order."""
    crops = np.stack([draw(96, 40 + n % 20, (((80, 80), 15 + n % 9),)) for n in range(36)])
    monkeypatch.setattr(morphology, "FEW", 20)
    expected = np.array([list(morphology.measure(crop).values()) for crop in crops], np.float32)
    for workers in ("1", "2"):
        monkeypatch.setenv("SMEARFLOW_WORKERS", workers)
        np.testing.assert_array_equal(morphology.measure_all(crops), expected)
    assert morphology.measure_all(crops[:0]).shape == (0, len(morphology.NAMES))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared images")
def test_real_cells_differ_as_the_textbook_says():
    """Whole pictures of barcelona: neutrophils have more lobes, lymphocytes fuller cells."""
    medians = {}
    for kind in ("lymphocyte", "neutrophil"):
        files = sorted(path for path in (SHARED / "barcelona").rglob("*.jpg") if kind in str(path))
        pictures = [cv2.imread(str(path))[..., ::-1] for path in files[:12]]
        crops = [
            cv2.resize(np.ascontiguousarray(p[60:300, 60:300]), (SIDE, SIDE)) for p in pictures
        ]
        table = [morphology.measure(crop) for crop in crops]
        medians[kind] = {n: np.median([row[n] for row in table]) for n in morphology.NAMES}
    assert medians["neutrophil"]["nucleus_lobes"] > medians["lymphocyte"]["nucleus_lobes"]
    assert medians["neutrophil"]["nucleus_share"] < medians["lymphocyte"]["nucleus_share"]
    assert medians["neutrophil"]["nucleus_solidity"] < medians["lymphocyte"]["nucleus_solidity"]
