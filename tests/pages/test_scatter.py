"""Marks of maps: where they lie, that no two names look alike, and that text stays text."""

import re
from itertools import pairwise

import cv2
import numpy as np
import pytest

from stages.pages import scatter
from stages.pages.scatter import HEIGHT, WIDTH, draw_legend, draw_map, draw_sheet, to_page


def test_places_keep_their_proportions_inside_of_the_frame():
    """One unit for both axes, y upwards, and one point alone in the middle."""
    page = to_page(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]]))
    assert (page >= 0).all()
    assert (page <= [WIDTH, HEIGHT]).all()
    across, up = page[1] - page[0], page[2] - page[0]
    assert across.tolist() == pytest.approx([WIDTH - 20, 0])
    assert up.tolist() == pytest.approx([0, -(WIDTH - 20) / 10])
    assert to_page(np.array([[3.0, 4.0]])).tolist() == [[WIDTH / 2, HEIGHT / 2]]


def marks(svg):
    """Class and starting points of every path."""
    return [
        (kind, re.findall(r"M([\d.]+) ([\d.]+)m", path))
        for kind, path in re.findall(r'<path class="([^"]+)" d="([^"]+)"', svg)
    ]


def test_every_picture_is_one_mark_of_its_kind():
    """Filled ones lie over the hollow ones; a picture's place is the one it was given."""
    rng = np.random.default_rng(0)
    page = to_page(rng.normal(size=(50, 2)))
    codes, filled = rng.integers(0, 9, 50), rng.random(50) < 0.5
    found = marks(draw_map("a", page, codes, filled, "says"))
    kinds = [kind.split()[0] for kind, _ in found]
    assert kinds == sorted(kinds, reverse=True)
    drawn = sorted((kind, float(x), float(y)) for kind, own in found for x, y in own)
    assert drawn == sorted(
        (f"{'filled' if one else 'hollow'} c{code % len(scatter.COLOURS)}", x, y)
        for (x, y), code, one in zip(page.tolist(), codes, filled, strict=True)
    )


def test_fifty_names_differ_in_shape_or_colour_and_neighbours_in_both():
    """Who sees no colours tells the first eight names by shape alone."""
    legend = draw_legend([str(number) for number in range(50)])
    signs = re.findall(r'class="filled (c\d)" d="([^"]+)"', legend)
    assert len(set(signs)) == 50
    assert len({shape for _, shape in signs[:8]}) == 8
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(signs))


def test_text_of_others_stays_text():
    bad = '<b>&"'
    drawn = draw_map(bad, to_page(np.zeros((1, 2))), np.zeros(1, int), np.ones(1, bool), bad)
    assert "<b>" not in drawn + draw_legend([bad])


def test_the_sheet_has_a_tile_for_each_map_and_legend():
    """Two kinds of vectors, one with a method fewer; a filled mark has its colour."""
    page = to_page(np.array([[0.0, 0.0], [1.0, 0.5]]))
    rows = {"features": [("PCA", page), ("UMAP", page)], "pixels": [("PCA", page)]}
    keys = {"class": (["x", "y"], np.array([0, 1])), "hospital": (["a"], np.array([0, 0]))}
    sheet = draw_sheet(rows, keys, np.array([True, False]))
    assert sheet == draw_sheet(rows, keys, np.array([True, False]))
    pixels = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    tile = scatter.LINE + round(HEIGHT * scatter.TILE / WIDTH)
    legend = scatter.LINE + scatter.LINE // 2
    assert pixels.shape == (4 * tile + 2 * legend, 2 * scatter.TILE, 3)
    assert (pixels[legend + tile : legend + 2 * tile, scatter.TILE :] == 255).all()  # no UMAP
    x, y = np.rint(page[0] * scatter.TILE / WIDTH).astype(int)
    blue = tuple(bytes.fromhex(scatter.COLOURS[0][1:]))
    assert tuple(pixels[legend + scatter.LINE + y, x]) == blue
