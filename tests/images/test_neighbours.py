"""Neighbours: drawn red cells have the width that was drawn, and drawn nuclei are counted."""

import cv2
import numpy as np
import pytest

from stages.images import cell_masks, neighbours, working_size

GLASS, RED_CELL, CYTOPLASM, NUCLEUS = (
    (236, 226, 208),
    (210, 160, 150),
    (186, 170, 200),
    (84, 50, 130),
)
SIDE = 320


def draw(red_cells=(), nuclei=()):
    """A white cell in the middle; red cells with a pallor at places, further nuclei at others."""
    rgb = np.full((SIDE, SIDE, 3), GLASS, np.uint8)
    cell, nucleus = np.zeros((2, SIDE, SIDE), np.uint8)
    cv2.circle(cell, (160, 160), 44, 1, -1)
    cv2.circle(nucleus, (160, 160), 26, 1, -1)
    for place, radius in red_cells:
        cv2.circle(rgb, place, radius, RED_CELL, -1, cv2.LINE_AA)
        cv2.circle(rgb, place, radius // 3, GLASS, -1, cv2.LINE_AA)
    rgb[cell > 0], rgb[nucleus > 0] = CYTOPLASM, NUCLEUS
    for place, radius in nuclei:
        cv2.circle(rgb, place, radius, NUCLEUS, -1)
    found = cell_masks.CellMask(
        cell > 0, nucleus > 0, tuple(map(float, GLASS)), (160.0, 160.0), 44.0, True, None, 1.0
    )
    return rgb, found


def measure(rgb, found):
    times = working_size.factor(*rgb.shape[:2])
    return neighbours.measure(working_size.reduce(rgb), found, times)


WHOLE = (((60, 60), 30), ((250, 60), 32), ((70, 250), 34))


def test_whole_red_cells_give_their_width():
    """Median of three, in px of the picture, pallor included, though measured at half its size."""
    assert measure(*draw(WHOLE))["red_cell_diameter"] == pytest.approx(65, abs=1)


def test_what_is_no_whole_red_cell_gives_no_width():
    """Cut cells, cells that touch, one that touches the white cell, platelets, two alone."""
    others = (
        ((0, 160), 40), ((300, 310), 40), ((250, 220), 20), ((275, 245), 20),
        ((160, 86), 30), ((60, 130), 9), ((200, 280), 9),
    )  # fmt: skip
    assert measure(*draw((*WHOLE, *others)))["red_cell_diameter"] == pytest.approx(65, abs=1)
    assert measure(*draw(others))["red_cell_diameter"] is None
    assert measure(*draw(WHOLE[:1]))["red_cell_diameter"] is None


def test_nuclei_beside_the_middle_are_counted():
    """Another cell's two near lobes are one cell; red cells, dirt and the middle's own are none."""
    assert measure(*draw(WHOLE))["n_cells"] == 1
    lobes = (((40, 160), 15), ((65, 168), 15))
    assert measure(*draw(WHOLE, nuclei=lobes))["n_cells"] == 2
    assert measure(*draw(WHOLE, nuclei=(*lobes, ((280, 280), 24), ((200, 20), 6))))["n_cells"] == 3


def test_nothing_is_said_without_a_white_cell():
    """No nucleus: no cells, and no scale by what may be anything."""
    rgb, found = draw(WHOLE)
    none = cell_masks.CellMask(
        np.zeros_like(found.cell),
        np.zeros_like(found.cell),
        found.white,
        None,
        None,
        False,
        None,
        0,
    )
    assert measure(rgb, none) == {"n_cells": 0, "red_cell_diameter": None}
