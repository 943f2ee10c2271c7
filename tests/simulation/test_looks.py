"""Smears of any look: the same for the same seed, with a mask that is true and never tame."""

import numpy as np

from stages.simulation.looks import draw_smears

MANY = [drawn for seed in range(6) for drawn in draw_smears(seed, 6)]


def test_each_look_is_drawn_again_and_is_no_other():
    first, again, other = (list(draw_smears(seed, 2)) for seed in (3, 3, 4))
    for one, same, another in zip(first, again, other, strict=True):
        assert np.array_equal(one.rgb, same.rgb)
        assert np.array_equal(one.mask, same.mask)
        assert one.rgb.shape != another.rgb.shape or (one.rgb != another.rgb).any()


def test_masks_are_of_the_pictures_size_with_a_nucleus_in_each():
    for drawn in MANY:
        assert drawn.rgb.shape == (*drawn.mask.shape, 3)
        assert set(np.unique(drawn.mask)) <= {0, 128, 255}
        assert (drawn.mask == 255).any()


def test_the_nucleus_is_mostly_darker_than_what_lies_outside():
    """A mask beside its cell would not hold: green light is lost in the nucleus."""
    darker = [
        drawn.rgb[drawn.mask == 255, 1].mean() < np.median(drawn.rgb[drawn.mask == 0, 1])
        for drawn in MANY
    ]
    assert np.mean(darker) > 0.9


def test_looks_vary_more_than_hospitals_do():
    """Size, light, hue of the nucleus and share of the picture that the cell takes."""
    white = np.array([np.percentile(drawn.rgb, 90, axis=(0, 1)) for drawn in MANY])
    share = np.array([(drawn.mask > 0).mean() for drawn in MANY])
    assert np.ptp(white.mean(axis=1)) > 40
    assert share.min() < 0.06
    assert share.max() > 0.4


def test_some_cells_are_dark_all_over():
    """A seventh, and the platelets; the others show plasm."""
    dark = np.mean([not (drawn.mask == 128).any() for drawn in MANY])
    assert 0.1 < dark < 0.35
