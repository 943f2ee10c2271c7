"""Augmentation: ranges as declared, the same for the same seed, and always a picture."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import augmentation


def prepared():
    image = np.full((48, 48, 3), 240, np.uint8)
    cv2.circle(image, (24, 24), 14, (190, 150, 200), -1)
    cv2.circle(image, (24, 24), 8, (90, 50, 140), -1)
    return image


@given(st.integers(0, 2**32 - 1))
def test_transform_is_a_similarity_within_the_ranges(seed):
    """Rotation, mirror and one zoom for both axes, within exp(+-.35); shifts are small."""
    matrix = augmentation.random_transform(np.random.default_rng(seed))
    turn = matrix[:2, :2]
    zoom = np.sqrt(abs(np.linalg.det(turn)))
    assert np.allclose(turn @ turn.T, zoom**2 * np.eye(2))
    assert np.exp(-0.35) <= zoom <= np.exp(0.35)
    assert np.abs(matrix[:2, 2]).max() < 0.6
    assert matrix[2].tolist() == [0, 0, 1]


def test_transform_covers_its_ranges():
    """Over many draws: half mirrored, all angles, shifts of 5 % of the side, zoom to both ends."""
    rng = np.random.default_rng(0)
    matrices = np.stack([augmentation.random_transform(rng) for _ in range(4000)])
    determinants = np.linalg.det(matrices[:, :2, :2])
    assert (determinants < 0).mean() == pytest.approx(0.5, abs=0.03)
    angles = np.arctan2(matrices[:, 0, 1], matrices[:, 1, 1])
    assert np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0].min() > 400
    assert matrices[:, :2, 2].std() == pytest.approx(0.1, rel=0.05)
    zooms = np.sqrt(np.abs(determinants))
    assert zooms.min() < np.exp(-0.34)
    assert zooms.max() > np.exp(0.34)


def test_mask_share():
    """Four in ten views hide the neighbours."""
    rng = np.random.default_rng(0)
    assert np.mean([augmentation.wants_mask(rng) for _ in range(4000)]) == pytest.approx(
        0.4, abs=0.03
    )


@given(st.integers(0, 2**32 - 1))
def test_jitter_gives_a_picture_and_leaves_its_argument(seed):
    """Shape and type stay, the given array is untouched, the same seed gives the same bytes."""
    image = prepared()
    changed = augmentation.jitter_stain(image, np.random.default_rng(seed))
    again = augmentation.jitter_stain(image, np.random.default_rng(seed))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(image, prepared())
    assert np.array_equal(changed, again)


def test_jitter_changes_stain_not_background():
    """Clear background stays light, while nuclei vary widely and stay darker than it."""
    views = [
        augmentation.jitter_stain(prepared(), np.random.default_rng(seed)) for seed in range(300)
    ]
    corners = np.array([view[:6, :6].mean() for view in views])
    nuclei = np.array([view[20:28, 20:28].mean() for view in views])
    assert np.percentile(corners, 5) > 180
    assert nuclei.std() > 15
    assert (nuclei < corners).all()


def test_jitter_shares(monkeypatch):
    """About a tenth of views are grey; without noise and JPEG exactly these have equal channels."""
    monkeypatch.setattr(augmentation, "NOISE_SHARE", 0.0)
    monkeypatch.setattr(augmentation, "JPEG_SHARE", 0.0)
    views = [
        augmentation.jitter_stain(prepared(), np.random.default_rng(seed)) for seed in range(1000)
    ]
    grey = [(view[..., 0] == view[..., 2]).all() for view in views]
    assert np.mean(grey) == pytest.approx(0.1, abs=0.03)


def test_no_change_without_ranges(monkeypatch):
    """With all ranges at zero the picture comes back as it was, up to rounding."""
    for name in ("STAIN_MIXING", "CHANNEL_GAIN", "TINT_SHARE", "GREY_SHARE", "BLUR_SHARE",
                 "NOISE_SHARE", "JPEG_SHARE"):  # fmt: skip
        monkeypatch.setattr(augmentation, name, 0.0)
    monkeypatch.setattr(augmentation, "COMMON_GAIN", (0.0, 0.0))
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    changed = augmentation.jitter_stain(image, np.random.default_rng(0))
    assert np.abs(changed.astype(int) - image).max() <= 1
