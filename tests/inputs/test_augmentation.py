"""Augmentation: ranges as declared, the same for the same seed, and always a picture."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import settings
from stages.core.params import InputsParams
from stages.inputs import augmentation, preparation
from stages.inputs.augmentation import Augmentation
from tests.made.strong import STRONG
from tests.projects import ROOT

# Of 60 views with STRONG, made with the code of the project's first experiments.
DRAWS = "b99178e0bd81f023a02f819ebb44b65ae15b4fbf9b2586f1a2d3077251f5a123"
PIXELS = "a5faaa962c71fb02057052643d73ccf2b3d96fd512b0abc7ccb2c403f87b0e32"
seeds = st.integers(0, 2**32 - 1)
rules = st.builds(
    Augmentation,
    rotation=st.sampled_from([0.0, 10.0, 90.0, 180.0]), flips=st.booleans(),
    shift=st.sampled_from([0.0, 0.05, 0.3]), shear=st.sampled_from([0.0, 1.0, 45.0]),
    zoom=st.sampled_from([0.0, 0.35, 0.7]), brightness=st.sampled_from([None, [0.1, 3.0]]),
    stain=st.sampled_from([0.0, 1.0, 2.0]), haze=st.sampled_from([0.0, 1.0]),
    gamma=st.sampled_from([0.0, 0.25, 1.0]), clip=st.sampled_from([0.0, 1.0]),
    colour=st.sampled_from([0.0, 0.5, 1.0]),
    grey=st.sampled_from([0.0, 0.5]), blur=st.sampled_from([0.0, 1.0]),
    noise=st.sampled_from([0.0, 1.0]), jpeg=st.sampled_from([0.0, 1.0]),
    hide=st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip


def prepared(side=48):
    image = np.full((side, side, 3), 240, np.uint8)
    cv2.circle(image, (side // 2, side // 2), 14, (190, 150, 200), -1)
    cv2.circle(image, (side // 2, side // 2), 8, (90, 50, 140), -1)
    return image


def textured(side, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0)


def changed(rule, seed=0, image=None):
    return augmentation.change_colours(
        prepared() if image is None else image, rule, np.random.default_rng(seed)
    )


def matrices(n, **changes):
    rng = np.random.default_rng(0)
    rule = Augmentation(**changes)
    return np.stack([augmentation.random_transform(rule, rng) for _ in range(n)])


def test_strong_draws_the_same_views_for_ever():
    """The same draws in the same order, and the same bytes, as before there were rules."""
    draws, pixels = hashlib.sha256(), hashlib.sha256()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        hides = augmentation.wants_mask(STRONG, rng)
        turn = augmentation.random_transform(STRONG, rng)
        view = augmentation.change_colours(prepared(), STRONG, rng)
        for drawn in (np.array([hides, *turn.ravel()]), np.array(rng.random())):
            draws.update(np.rint(drawn * 1e9).astype("<i8").tobytes())
        pixels.update(view.tobytes())
    assert draws.hexdigest() == DRAWS
    assert pixels.hexdigest() == PIXELS


def test_the_shipped_recipe_augments_as_strongly():
    """Ours all see the same kind of views, fresh or stored; only the zoom is their own."""
    models = settings.read_yaml(ROOT / "params.yaml")["models"]
    zooms = {"lite0_finetuned": 0.15, "lite0_finetuned_gpu": 0.15, "lite0_head": 0.35}
    for name, zoom in zooms.items():
        wide = STRONG.model_copy(update={"stain": 1.6, "haze": 0.3, "clip": 0.3, "zoom": zoom})
        assert Augmentation(**models[name]["augment"]) == wide


@given(seeds)
def test_strong_transform_is_a_similarity_within_the_ranges(seed):
    """Rotation, mirror and one zoom for both axes, within exp(+-.35); shifts are small."""
    matrix = augmentation.random_transform(STRONG, np.random.default_rng(seed))
    turn = matrix[:2, :2]
    zoom = np.sqrt(abs(np.linalg.det(turn)))
    assert np.allclose(turn @ turn.T, zoom**2 * np.eye(2))
    assert np.exp(-0.35) <= zoom <= np.exp(0.35)
    assert np.abs(matrix[:2, 2]).max() < 0.6
    assert matrix[2].tolist() == [0, 0, 1]


def test_strong_transform_covers_its_ranges():
    """Over many draws: half mirrored, all angles, shifts of 5 % of the side, zoom to both ends."""
    rng = np.random.default_rng(0)
    many = np.stack([augmentation.random_transform(STRONG, rng) for _ in range(4000)])
    determinants = np.linalg.det(many[:, :2, :2])
    assert (determinants < 0).mean() == pytest.approx(0.5, abs=0.03)
    angles = np.arctan2(many[:, 0, 1], many[:, 1, 1])
    assert np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0].min() > 400
    assert many[:, :2, 2].std() == pytest.approx(0.1, rel=0.05)
    zooms = np.sqrt(np.abs(determinants))
    assert zooms.min() < np.exp(-0.34)
    assert zooms.max() > np.exp(0.34)


@pytest.mark.parametrize("degrees", [10, 90, 170])
def test_rotation_goes_to_both_sides_evenly(degrees):
    """Up to the named degrees and no further, as often to the left as to the right."""
    turns = matrices(3000, rotation=degrees)
    angles = np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    assert np.abs(angles).max() <= degrees
    assert np.histogram(angles, bins=6, range=(-degrees, degrees))[0].min() > 400
    assert np.allclose(np.linalg.det(turns), 1)
    assert np.abs(turns[:, :2, 2]).max() == 0


def test_flips_are_at_both_axes_where_the_circle_is_not_full():
    """Unmirrored, at one axis, at the other and at both: a quarter of the views each."""
    turns = matrices(2000, flips=True)
    kinds, counts = np.unique(turns[:, [0, 1], [0, 1]], axis=0, return_counts=True)
    assert kinds.tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert counts.min() > 400
    assert np.abs(turns[:, [0, 1], [1, 0]]).max() == 0


def test_shear_is_in_degrees_and_zoom_in_the_logarithm():
    """A vertical line leans by up to the named degrees to both sides; scales are even in log."""
    sheared = matrices(2000, shear=20)
    leaning = np.degrees(np.arctan(sheared[:, 0, 1]))
    assert np.abs(leaning).max() <= 20
    assert np.histogram(leaning, bins=4, range=(-20, 20))[0].min() > 400
    assert (sheared[:, 0, 0] == 1).all()
    logs = np.log(matrices(2000, zoom=0.5)[:, 0, 0])
    assert np.histogram(logs, bins=4, range=(-0.5, 0.5))[0].min() > 400
    assert np.abs(logs).max() <= 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shear", 10.0),
        ("brightness", [0.5, 0.6]),
        ("stain", 2.0),
        ("gamma", 1.0),
        ("hide", 1.0),
        ("zoom", 0.7),
        ("haze", 1.0),
        ("clip", 1.0),
    ],
)
def test_one_change_does_not_move_the_draws_of_another(name, value):
    """A rule with one more change turns and lights the same; only its own part differs."""
    few = Augmentation(rotation=90, flips=True, shift=0.1, noise=1.0)
    more = few.model_copy(update={name: value})
    ends = []
    for rule in (few, more):
        rng = np.random.default_rng(5)
        augmentation.wants_mask(rule, rng)
        augmentation.random_transform(rule, rng)
        augmentation.change_colours(prepared(), rule, rng)
        ends.append(rng.random())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_mask_share(share):
    """The named share of views hides the neighbours."""
    rng, rule = np.random.default_rng(0), Augmentation(hide=share)
    drawn = [augmentation.wants_mask(rule, rng) for _ in range(3000)]
    assert np.mean(drawn) == pytest.approx(share, abs=0.03)


@given(rules, seeds, st.sampled_from([0, 8]), st.sampled_from([0.0, 0.5]))
def test_a_view_is_a_picture_and_its_sources_stay(rule, seed, margin, grey_share):
    """Any rule: shape and type stay, nothing given is written to, one seed gives one view."""
    wide, hidden = textured(48, 1), textured(48, 2)
    view, again = (
        augmentation.augment(wide, hidden, margin, rule, grey_share, np.random.default_rng(seed))
        for _ in range(2)
    )
    assert view.shape == (48 - 2 * margin, 48 - 2 * margin, 3)
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous
    assert not np.shares_memory(view, wide)
    assert not np.shares_memory(view, hidden)
    assert np.array_equal(view, again)
    assert np.array_equal(wide, textured(48, 1))
    assert np.array_equal(hidden, textured(48, 2))


def test_a_steep_power_of_a_dark_level_fits_into_floats():
    """No warning in any of 3,000 draws; no density is below paper's or above black's."""
    black, rule = np.zeros((4, 4, 3), np.uint8), Augmentation(gamma=1.0, stain=1.0)
    for seed in (326465, 49406, *range(3000)):  # the second: a power of 528
        changed(rule, seed, black)
        bent = augmentation._bend(rule, np.random.default_rng(seed))
        assert bent.min() == 0
        assert bent.max() <= augmentation.DENSITY[0]


@given(seeds)
def test_no_rule_gives_the_plain_middle(seed):
    """Without a change a view is the middle, byte for byte."""
    wide = textured(40)
    view = augmentation.augment(wide, None, 6, Augmentation(), False, np.random.default_rng(seed))
    assert np.array_equal(view, wide[6:34, 6:34])


def test_flips_alone_are_exact():
    """A mirrored view is the mirrored middle to the pixel, all four kinds."""
    wide, rule = textured(40), Augmentation(flips=True)
    middle = wide[6:34, 6:34]
    expected = [middle, middle[::-1], middle[:, ::-1], middle[::-1, ::-1]]
    found = set()
    for seed in range(40):
        view = augmentation.augment(wide, None, 6, rule, False, np.random.default_rng(seed))
        kinds = [n for n, kind in enumerate(expected) if np.array_equal(view, kind)]
        assert len(kinds) == 1
        found.add(kinds[0])
    assert found == {0, 1, 2, 3}


@given(seeds)
def test_a_view_shows_the_real_surroundings(seed):
    """Cut from a wide picture, a view is what the one preparation gives for the same transform."""
    rgb, size, margin = textured(200), 48, 12
    rule = InputsParams(
        crop="cell", scale="image", half_side=1.5, white_balance=["none"], hide="nothing"
    )
    place = preparation.Geometry((99.5, 99.5), 24.0, (230.0, 220.0, 200.0))
    outward = np.diag([1.5, 1.5, 1.0])
    wide = preparation.prepare(rgb, place, rule, size + 2 * margin, "none", outward)
    moves = Augmentation(rotation=180, flips=True, shift=0.02, shear=5)
    view = augmentation.augment(wide, None, margin, moves, False, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    augmentation.wants_mask(moves, rng)
    turn = augmentation.random_transform(moves, rng)
    reach = np.abs(turn @ np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, 1, 1, 1]]))[:2].max()
    if reach <= 1.45:
        direct = preparation.prepare(rgb, place, rule, size, "none", turn)
        assert np.abs(view.astype(int) - direct).mean() < 4
        assert np.corrcoef(view.ravel(), direct.ravel())[0, 1] > 0.98


def test_without_surroundings_the_border_is_repeated():
    """No margin: a shifted view shows the nearest border pixel, never black."""
    wide = np.full((32, 32, 3), 200, np.uint8)
    rule = Augmentation(rotation=180, shift=0.3, zoom=0.7)
    for seed in range(20):
        view = augmentation.augment(wide, None, 0, rule, False, np.random.default_rng(seed))
        assert (view == 200).all()


def test_smaller_views_average():
    """A fine checkerboard seen from afar becomes grey, not a moire of black and white."""
    board = (np.indices((96, 96)).sum(axis=0) % 2 * 255).astype(np.uint8)
    wide = np.repeat(board[..., None], 3, axis=2)
    contrast = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rng_zoom = np.random.default_rng(seed)
        rule = Augmentation(zoom=0.7)
        augmentation.wants_mask(rule, rng_zoom)
        zoom = augmentation.random_transform(rule, rng_zoom)[0, 0]
        view = augmentation.augment(wide, None, 24, rule, False, rng)
        if zoom > 1.6:
            contrast.append(view.std())
    assert len(contrast) > 2
    assert max(contrast) < 40


def test_a_share_of_views_comes_from_what_is_hidden():
    """The named share shows the hidden picture; where there is none, no view does."""
    wide, hidden = np.full((16, 16, 3), 10, np.uint8), np.full((16, 16, 3), 240, np.uint8)
    rule = Augmentation(hide=0.4)

    def draw(source, seed):
        return augmentation.augment(wide, source, 0, rule, False, np.random.default_rng(seed))[
            0, 0, 0
        ]

    assert np.mean([draw(hidden, s) == 240 for s in range(2000)]) == pytest.approx(0.4, abs=0.04)
    assert all(draw(None, s) == 10 for s in range(50))


def test_a_share_of_the_views_ends_with_grey_world():
    """That share is exactly what grey world makes of the others; all of them, or none, may be."""
    wide = textured(32)
    grey = preparation.to_grey_world(wide)
    for share in (0.0, 0.5, 1.0):
        views = [
            augmentation.augment(wide, None, 0, Augmentation(), share, np.random.default_rng(s))
            for s in range(600)
        ]
        is_grey = [np.array_equal(view, grey) for view in views]
        is_plain = [np.array_equal(view, wide) for view in views]
        assert np.mean(is_grey) == pytest.approx(share, abs=0.07)
        assert np.mean(is_grey) + np.mean(is_plain) == 1


def test_stain_changes_the_cell_not_the_background():
    """Clear background stays light, while nuclei vary widely and stay darker than it."""
    views = [changed(STRONG, seed) for seed in range(300)]
    corners = np.array([view[:6, :6].mean() for view in views])
    nuclei = np.array([view[20:28, 20:28].mean() for view in views])
    assert np.percentile(corners, 5) > 180
    assert nuclei.std() > 15
    assert (nuclei < corners).all()


def test_gamma_bends_density_and_leaves_the_background():
    """The oracle: a straight line between logarithms of density, in each channel, through .8."""
    ramp = np.repeat(np.arange(1, 257, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)[:15]
    before = -np.log((ramp[..., 0].ravel() + 2.0) / 242)
    dense = before > 0.05
    powers = []
    for seed in range(200):
        after = changed(Augmentation(gamma=0.25), seed, ramp).reshape(-1, 3)
        assert (after[before <= 0] == 240).all()
        for channel in (after[dense].astype(float) + 2.0).T:
            seen = (channel > 12) & (channel < 230)
            ratios = np.log(-np.log(channel[seen] / 242) / 0.8)
            line = np.log(before[dense][seen] / 0.8)
            power = (ratios * line).sum() / (line**2).sum()
            assert np.abs(ratios - power * line).max() < 0.1
            powers.append(power)
    per_view = np.log(powers).reshape(-1, 3)
    assert per_view.mean(axis=1).std() == pytest.approx(0.25 * np.sqrt(1 + 1 / 3), rel=0.15)
    assert per_view.std(axis=1, ddof=1).mean() == pytest.approx(0.25 * 0.886, rel=0.15)
    assert (np.diff(after.astype(int), axis=0) >= 0).all()  # never a lighter place made darker


@pytest.mark.parametrize("stain", [0.0, 1.0])
def test_haze_takes_contrast_and_leaves_the_background(stain):
    """Each level goes 10 to 60 % of the way to the background's, which stays; in so many views."""
    plain, hazy = (Augmentation(stain=stain, haze=share) for share in (0.0, 1.0))
    gone = []
    for seed in range(60):
        before, after = changed(plain, seed).astype(float), changed(hazy, seed).astype(float)
        assert np.abs(after[0, 0] - 240).max() <= 1
        way = (after[24, 24] - before[24, 24]) / (240 - before[24, 24])
        assert np.ptp(way) < 0.05
        gone.append(way.mean())
    assert 0.08 < min(gone) < 0.2
    assert 0.5 < max(gone) < 0.62
    some = Augmentation(stain=stain, haze=0.3)
    same = [np.array_equal(changed(some, seed), changed(plain, seed)) for seed in range(200)]
    assert np.mean(same) == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("stain", [0.0, 1.0])
def test_a_camera_that_clips_loses_both_ends(stain):
    """Levels up to 70 at most become 0, from 200 at least 255, and those between are spread."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    plain, clipped = (Augmentation(stain=stain, clip=share) for share in (0.0, 1.0))
    blacks, whites = [], []
    for seed in range(60):
        before = changed(plain, seed, ramp).astype(int).ravel()
        after = changed(clipped, seed, ramp).astype(int).ravel()
        blacks.append(before[after == 0].max(initial=0))
        whites.append(before[after == 255].min(initial=255))
        between = (after > 0) & (after < 255)
        slope, offset = np.polyfit(before[between], after[between], 1)
        assert slope >= 1
        assert np.abs(slope * before[between] + offset - after[between]).max() < 2
    assert 0 <= min(blacks) < 15 < 55 < max(blacks) <= 70
    assert 199 <= min(whites) < 215


def test_stain_scales_its_ranges():
    """Twice the stain varies the nucleus more, half of it less, none leaves every byte."""

    def spread(stain):
        return np.std([changed(Augmentation(stain=stain), s)[24, 24].mean() for s in range(200)])

    assert 5 < spread(0.5) < 0.8 * spread(1)
    assert spread(1) < 0.9 * spread(2)
    assert np.array_equal(changed(Augmentation()), prepared())


def test_a_change_of_stain_is_linear_in_optical_density():
    """The oracle: density times one 3 x 3 matrix, drawn within the declared ranges."""
    levels = np.random.default_rng(1).integers(60, 240, (20, 20, 3), dtype=np.uint8)
    after = changed(Augmentation(stain=1), 3, levels)
    before, now = (-np.log((image.reshape(-1, 3) + 2.0) / 242) for image in (levels, after))
    seen = (after.reshape(-1, 3) < 255).all(axis=1)
    matrix, *_ = np.linalg.lstsq(before[seen], now[seen], rcond=None)
    assert np.abs(before[seen] @ matrix - now[seen]).max() < 0.1
    rng = np.random.default_rng(3)
    mixing = np.eye(3) + rng.normal(0, 0.08, (3, 3))
    gain = np.exp(rng.normal(0, 0.28, 3)) * np.exp(rng.uniform(-0.5, 0.4))
    assert np.allclose(matrix, mixing.T * gain, atol=0.02)


@pytest.mark.parametrize("stain", [0.0, 1e-9])
def test_brightness_scales_by_a_factor_between_the_two(stain):
    """Every level times one factor, evenly drawn, clipped at white; with and without a stain."""
    rule = Augmentation(brightness=[0.2, 0.8], stain=stain)
    image = np.full((4, 4, 3), 200, np.uint8)
    factors = [changed(rule, seed, image)[0, 0, 0] / 200 for seed in range(1000)]
    assert min(factors) >= 0.2 - 0.005
    assert max(factors) <= 0.8 + 0.005
    assert np.histogram(factors, bins=4, range=(0.2, 0.8))[0].min() > 180
    assert (changed(Augmentation(brightness=[3, 3], stain=stain), 0, image) == 255).all()


@pytest.mark.parametrize("stain", [0.0, 1e-9])
def test_a_lamp_tints_its_share_of_views(stain):
    """Half of the views are tinted, each channel by a factor of its own between .78 and 1.06."""
    image = np.full((4, 4, 3), 200, np.uint8)
    views = [changed(Augmentation(colour=0.5, stain=stain), seed, image) for seed in range(1000)]
    factors = np.array([view[0, 0] / 200 for view in views])
    tinted = (factors != 1).any(axis=1)
    assert tinted.mean() == pytest.approx(0.5, abs=0.05)
    assert factors.min() >= 0.78 - 0.003
    assert factors.max() <= 1.06 + 0.003
    assert np.ptp(factors[tinted], axis=1).max() > 0.1


@pytest.mark.parametrize("name", ["grey", "blur", "noise", "jpeg"])
def test_shares_of_views(name):
    """Each change is made in its share of views, and alone leaves the others byte for byte."""
    image = textured(24)
    same = [
        np.array_equal(changed(Augmentation(**{name: 0.3}), seed, image), image)
        for seed in range(800)
    ]
    assert np.mean(same) == pytest.approx(0.7, abs=0.05)
    assert all(
        not np.array_equal(changed(Augmentation(**{name: 1.0}), seed, image), image)
        for seed in range(50)
    )


def test_each_camera_does_its_own():
    """Grey has equal channels; blur removes detail; noise has 1 to 7 levels; JPEG stays near."""
    image = textured(64)
    grey = changed(Augmentation(grey=1), 0, image)
    assert (grey == grey[..., :1]).all()
    blurred = changed(Augmentation(blur=1), 0, image)
    assert (
        np.abs(np.diff(blurred.astype(int), axis=0)).mean()
        < 0.8 * np.abs(np.diff(image.astype(int), axis=0)).mean()
    )
    flat = np.full((64, 64, 3), 128, np.uint8)
    spreads = [changed(Augmentation(noise=1), seed, flat).std() for seed in range(100)]
    assert 0.9 < min(spreads) < 1.6
    assert 6.4 < max(spreads) < 7.3
    assert 0 < np.abs(changed(Augmentation(jpeg=1), 0, image).astype(int) - image).mean() < 15
