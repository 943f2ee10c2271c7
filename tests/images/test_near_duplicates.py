"""Near twins: copies are found, other pictures are not, on every machine alike."""

import zipfile
from itertools import combinations
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.images import near_duplicates

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TWIN_BITS = 24  # as shipped in params.yaml
PINNED = "80020010009802700fef1ffc5e125801582210ff53fed3801302163ff6f814c0"


def cell(number: int, size: int = 180) -> np.ndarray:
    """Draw a cell among others; each number gives another one."""
    rng = np.random.default_rng(number)
    rgb = np.full((size, size + 6, 3), (232, 220, 214), np.uint8)
    for _ in range(7):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        colour = tuple(int(v) for v in rng.integers(90, 200, 3))
        cv2.circle(rgb, centre, int(rng.integers(size // 12, size // 5)), colour, -1)
    return cv2.GaussianBlur(rgb, (5, 5), 0)


def jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode once."""
    content = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


COPIES = {
    "quality 60": lambda rgb: jpeg(rgb, 60),
    "brighter": lambda rgb: cv2.add(rgb, np.full_like(rgb, 3)),
    "darker": lambda rgb: cv2.subtract(rgb, np.full_like(rgb, 3)),
    "224 x 224": lambda rgb: cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_AREA),
    "224 x 224, quality 75": lambda rgb: jpeg(cv2.resize(rgb, (224, 224)), 75),
}


def distance(one: bytes, other: bytes) -> int:
    """Count differing bits, independently of the module."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@pytest.mark.parametrize("way", COPIES)
def test_drawn_copies_are_twins(way: str) -> None:
    """A copy keeps nearly all bits, another picture does not."""
    hashes = [near_duplicates.picture_hash(cell(number)) for number in range(12)]
    copies = [near_duplicates.picture_hash(COPIES[way](cell(number))) for number in range(12)]
    assert max(map(distance, hashes, copies)) <= TWIN_BITS // 2
    others = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(others) > 2 * TWIN_BITS


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pictures are not at hand")
def test_real_copies_are_twins_and_other_cells_are_not() -> None:
    """Of three cameras: copies stay half the limit away, different cells more than twice."""
    files = sorted((SHARED / "barcelona").rglob("*.jpg"))[::8]
    files += sorted((SHARED / "munich").rglob("*.tiff"))[::4]
    files += sorted((SHARED / "cvb").rglob("*.bmp"))
    pictures = [cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) for file in files]
    with zipfile.ZipFile(next((SHARED / "barcelona224").glob("*.zip"))) as packed:
        names = sorted(name for name in packed.namelist() if name.endswith(".jpg"))[::20]
        for name in names:
            code = np.frombuffer(packed.read(name), np.uint8)
            pictures.append(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB))
    hashes = [near_duplicates.picture_hash(rgb) for rgb in pictures]
    for way in COPIES.values():
        copies = [near_duplicates.picture_hash(way(rgb)) for rgb in pictures[::3]]
        assert max(map(distance, hashes[::3], copies)) <= TWIN_BITS // 2
    words = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 4)
    apart = np.bitwise_count(words[:, np.newaxis] ^ words).sum(axis=2)
    assert apart[np.triu_indices(len(words), 1)].min() > 2 * TWIN_BITS


def test_hash_is_pinned() -> None:
    """These bits stand in published tables; any change of them must be seen."""
    rows, columns = np.mgrid[0:93, 0:61]
    grey = ((rows * rows // 7 + columns * 5 + rows * columns // 3) % 256).astype(np.uint8)
    content = near_duplicates.picture_hash(np.dstack([grey, grey // 2, 255 - grey]))
    assert content.hex() == PINNED


def test_hash_is_the_sign_of_the_cosine_transform() -> None:
    """An independent transform of the block means has the same signs where it is not near 0."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (32, 32), np.uint8)
    grey = np.kron(blocks, np.ones((4, 3), np.uint8))
    content = near_duplicates.picture_hash(np.dstack([grey] * 3))
    ours = np.unpackbits(np.frombuffer(content, np.uint8)).astype(bool)
    theirs = cv2.dct(blocks.astype(np.float64))[:16, :16].ravel()
    clear = np.abs(theirs) > 2
    assert clear.sum() > 200
    np.testing.assert_array_equal(ours[clear], theirs[clear] > 0)


def test_cosines_are_far_from_rounding_borders() -> None:
    """No processor's cosine can round an entry of the table another way."""
    angles = np.outer(np.arange(16), 2 * np.arange(32) + 1) * np.pi / 64
    assert np.abs(1024 * np.cos(angles) % 1 - 0.5).min() > 1e-3


def test_transitive_twins_are_one_cluster() -> None:
    """A is near B and B near C: one cluster, named after the smallest id."""
    hashes = [bytes(32), bytes(31) + b"\x0f", bytes(31) + b"\xff", b"\xff" * 32]
    groups = near_duplicates.group_twins(["d", "b", "c", "a"], hashes, 4)
    assert groups == ["b", "b", "b", "a"]


def test_the_limit_is_inclusive() -> None:
    """max_bits differing bits are twins, one more is not; spread so that no part has few."""
    for max_bits in range(1, 65):
        hashes = [bytes(32), ((1 << max_bits) - 1).to_bytes(32, "little")]
        assert near_duplicates.group_twins(["a", "b"], hashes, max_bits) == ["a", "a"]
        assert near_duplicates.group_twins(["a", "b"], hashes, max_bits - 1) == ["a", "b"]


@given(st.lists(st.integers(0, 15)), st.sampled_from([1, 7, near_duplicates.PAIRS_AT_ONCE]))
def test_each_pair_of_nearly_equal_keys_is_compared_once(keys: list[int], at_once: int) -> None:
    """Also where many keys are equal, and however many pairs are listed at once."""
    keys.sort()
    with mock.patch.object(near_duplicates, "PAIRS_AT_ONCE", at_once):
        listed = [*near_duplicates._list_candidates(np.array(keys, np.int64), 4)]
    pairs = sorted(tuple(sorted(pair)) for piece in listed for pair in np.transpose(piece).tolist())
    expected = combinations(range(len(keys)), 2)
    assert pairs == [(i, j) for i, j in expected if (keys[i] ^ keys[j]).bit_count() <= 1]


def test_no_pictures_have_no_groups() -> None:
    """Nothing in, nothing out."""
    assert near_duplicates.group_twins([], [], 5) == []


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 64),
    st.integers(1, 40),
    st.sampled_from([1, 7, near_duplicates.PAIRS_AT_ONCE]),
    st.randoms(use_true_random=False),
)
def test_clusters_are_those_of_comparing_all_pairs(
    max_bits: int, n: int, at_once: int, random: object
) -> None:
    """No pair is missed, however many are compared at once and in whatever order they come."""
    rng = np.random.default_rng(random.getrandbits(32))
    base = rng.integers(0, 256, (3, 32), np.uint8)
    flips = rng.random((n, 256)) < rng.choice([0.0, 0.02, 0.06, 0.12], (n, 1))
    rows = base[rng.integers(0, 3, n)] ^ np.packbits(flips, axis=1)
    hashes = [row.tobytes() for row in rows]
    ids = [f"h/{number:03d}" for number in range(n)]
    expected = dict(zip(ids, ids, strict=True))
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                if distance(hashes[i], hashes[j]) <= max_bits:
                    expected[ids[i]] = min(expected[ids[i]], expected[ids[j]])
    order = rng.permutation(n)
    with mock.patch.object(near_duplicates, "PAIRS_AT_ONCE", at_once):
        found = near_duplicates.group_twins(ids, hashes, max_bits)
        mixed = near_duplicates.group_twins(
            [ids[k] for k in order], [hashes[k] for k in order], max_bits
        )
    assert dict(zip(ids, found, strict=True)) == expected
    assert mixed == [expected[ids[k]] for k in order]
