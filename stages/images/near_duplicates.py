"""Near twins: pictures that are copies of each other up to compression, brightness and size."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32  # blocks a side
FREQUENCIES = 16  # the lowest of each direction: 16 x 16 bits
GREY_STEPS = 16  # block means are kept to a sixteenth of a grey level
HASH_BYTES = FREQUENCIES * FREQUENCIES // 8
HASH_BITS = HASH_BYTES * 8
MIN_PARTS = 13  # of at most 20 bits: of a million random hashes, about one a number
PAIRS_AT_ONCE = 1 << 18  # candidates compared at a time

_WAVES = np.rint(
    1024
    * np.cos(
        np.pi * np.outer(np.arange(FREQUENCIES), 2 * np.arange(THUMBNAIL) + 1) / (2 * THUMBNAIL)
    )
).astype(np.int64)


def picture_hash(rgb: np.ndarray) -> bytes:
    """Return 256 bits that copies of a picture share, whatever their compression and size.

    Parameters
    ----------
    rgb : numpy.ndarray, shape (height, width, 3), uint8

    Returns
    -------
    bytes, length 32
        The signs of the 16 x 16 lowest frequencies of the grey picture (discrete cosine
        transform of its 32 x 32 block means).

    Notes
    -----
    Signs of the differences of neighbouring blocks, the usual difference hash [1]_, are noise
    wherever the background is flat, and half of a blood-cell picture is: copies were up to 53
    bits apart, different cells as near as 22. With the cosine transform [2]_, 3 700 copies (JPEG
    quality 30 and 60, brightness +-3 and +10, 224 x 224) of 530 pictures of seven hospitals were
    at most 16 bits apart, a cell photographed twice 19 to 67, and different cells at least 67.

    All sums are of integers, blocks have exact fractional borders, and the cosines are rounded
    to integers: the bits are the same on every processor.

    References
    ----------
    .. [1] N. Krawetz, "Kind of Like That", 2013 (dHash).
    .. [2] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    corners = cv2.integral(grey, sdepth=cv2.CV_64F)  # whole numbers below 2^53: exact
    corners = _cut(_cut(corners).T).T.astype(np.int64)
    blocks = np.diff(np.diff(corners, axis=0), axis=1)
    means = blocks * GREY_STEPS // (height * width)
    waves = _WAVES @ means @ _WAVES.T
    return np.packbits(waves > 0).tobytes()


def group_twins(image_ids: Sequence[str], hashes: Sequence[bytes], max_bits: int) -> list[str]:
    """Name the cluster of near twins that each picture belongs to.

    Parameters
    ----------
    image_ids : sequence of str, length n_images
    hashes : sequence of bytes, length n_images
        Of `picture_hash`.
    max_bits : int
        Two pictures are twins where at most so many of the 256 bits differ. Twins of twins are
        of one cluster.

    Returns
    -------
    list of str, length n_images
        The smallest image_id of each picture's cluster; its own where it has no twin. Does not
        depend on the order of the pictures.

    Notes
    -----
    Exact, without comparing all pairs [1]_: the bits are cut into more than ``max_bits / 2``
    disjoint parts, so that two twins differ by one bit at most in at least one of them. Only
    pictures with such a part are compared, and those that are of one cluster already are not.

    References
    ----------
    .. [1] M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space With Multi-Index
       Hashing", IEEE TPAMI 2014.
    """
    if not image_ids:
        return []
    words = np.frombuffer(b"".join(hashes), np.uint64).reshape(len(image_ids), -1)
    distinct, member = np.unique(words, axis=0, return_inverse=True)
    cluster = _cluster(distinct, max_bits)[member.reshape(-1)]
    # As str, not object: of objects pandas finds the least in a Python loop over the clusters.
    names: list[str] = pd.Series(image_ids, dtype="str").groupby(cluster).transform("min").tolist()
    return names


def _cut(corners: np.ndarray) -> np.ndarray:
    """Read running sums at the borders of equal blocks, also between two rows (times 32)."""
    length = len(corners) - 1
    borders = np.arange(THUMBNAIL + 1) * length
    before = borders // THUMBNAIL
    part = (borders % THUMBNAIL)[:, np.newaxis]
    after = np.minimum(before + 1, length)
    return corners[before] * (THUMBNAIL - part) + corners[after] * part


def _cluster(words: np.ndarray, max_bits: int) -> np.ndarray:
    """Return the number of each hash's cluster; `words` are distinct, shape (n, 4), uint64."""
    cluster = np.arange(len(words))
    n_parts = max(MIN_PARTS, max_bits // 2 + 1)
    for part in range(n_parts):
        # Every n-th bit: neighbouring bits are alike, and parts of them would hardly divide.
        _join_near(words, np.arange(part, HASH_BITS, n_parts), max_bits, cluster)
    return cluster


def _join_near(words: np.ndarray, bits: np.ndarray, max_bits: int, cluster: np.ndarray) -> None:
    """Join the clusters of twins that differ in one of the given bits at most."""
    keys = _read_bits(words, bits)
    order = np.argsort(keys, kind="stable")
    words, own = words[order], cluster[order]  # side by side in memory what is compared
    links, n_links = [], 0
    for first, second in _list_candidates(keys[order], len(bits)):
        apart = own[first] != own[second]
        near = _find_near(words, first[apart], second[apart], max_bits)
        links.append(own[near])
        n_links += near.shape[1]
        if n_links >= PAIRS_AT_ONCE:
            own, links, n_links = _join(own, links, len(words)), [], 0
    cluster[order] = _join(own, links, len(words))


def _find_near(
    words: np.ndarray, first: np.ndarray, second: np.ndarray, max_bits: int
) -> np.ndarray:
    """Return the near pairs, shape (2, n_near); most others are dropped by their first word."""
    distance = np.zeros(len(first), np.int64)
    for word in range(words.shape[1]):
        distance += np.bitwise_count(words[first, word] ^ words[second, word])
        near = distance <= max_bits
        first, second, distance = first[near], second[near], distance[near]
    return np.stack([first, second])


def _join(cluster: np.ndarray, links: list[np.ndarray], n: int) -> np.ndarray:
    ends = np.concatenate([np.zeros((2, 0), np.int64), *links], axis=1)
    graph = coo_matrix((np.ones(ends.shape[1], bool), ends), shape=(n, n))
    joined: np.ndarray = connected_components(graph, directed=False)[1][cluster]
    return joined


def _read_bits(words: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the number that the given bits of each hash make."""
    content = words.view(np.uint8)
    keys = np.zeros(len(words), np.int64)
    for place, bit in enumerate(bits):
        keys |= (content[:, bit // 8].astype(np.int64) >> (bit % 8) & 1) << place
    return keys


def _list_candidates(keys: np.ndarray, n_bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of sorted keys that are equal or differ in one bit, each pair once."""
    borders = np.searchsorted(keys, np.arange((1 << n_bits) + 1))
    places = np.arange(len(keys))
    yield from _expand(places, places + 1, borders[keys + 1])
    for bit in 1 << np.arange(n_bits):
        lower = places[keys & bit == 0]
        other = keys[lower] + bit
        yield from _expand(lower, borders[other], borders[other + 1])


def _expand(
    places: np.ndarray, begins: np.ndarray, ends: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair each place with all from its begin to before its end, some pairs at a time."""
    counts = ends - begins
    before = np.cumsum(counts)
    borders = np.arange(PAIRS_AT_ONCE, counts.sum(), PAIRS_AT_ONCE)
    cuts = np.searchsorted(before, borders)
    for chosen in np.split(np.arange(len(places)), cuts):
        n = counts[chosen]
        steps = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        yield np.repeat(places[chosen], n), np.repeat(begins[chosen], n) + steps
