"""Contact sheets: outlines are drawn, tiles stand in rows, the file is the same every time."""

import cv2
import numpy as np

from stages.core import sheets


def test_outlines_are_drawn_and_the_picture_kept():
    """A wide picture keeps its shape on a white tile; cell and nucleus have their colours."""
    rgb = np.full((80, 160, 3), 100, np.uint8)
    cell, nucleus = np.zeros((80, 160), bool), np.zeros((80, 160), bool)
    cell[20:60, 50:110] = True
    nucleus[30:50, 70:90] = True
    before = rgb.copy()
    tile = sheets.draw_outlines(rgb, cell, nucleus)
    assert tile.shape == (160, 160, 3)
    assert tile[0, 0].tolist() == [255, 255, 255]
    assert tile[40 + 20, 80].tolist() == list(sheets.CELL_COLOUR)
    assert tile[40 + 30, 80].tolist() == list(sheets.NUCLEUS_COLOUR)
    assert tile[40 + 25, 80].tolist() == [100, 100, 100]
    assert np.array_equal(rgb, before)


def test_sheet_has_rows_of_six():
    """Seven tiles make two rows, white where tiles are missing; none makes one white row."""
    tiles = [np.full((160, 160, 3), (10 * n, 0, 200), np.uint8) for n in range(7)]
    content = sheets.encode_sheet(tiles)
    sheet = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert sheet.shape == (320, 960, 3)
    assert sheet[200, 10].tolist() == [60, 0, 200]
    assert sheet[200, 300].tolist() == [255, 255, 255]
    assert sheets.encode_sheet(tiles) == content
    assert sheets.encode_sheet([]) != content
