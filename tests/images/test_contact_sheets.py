"""Contact sheets: outlines are drawn, tiles stand in rows, the file is the same every time."""

import cv2
import numpy as np

from stages.images import contact_sheets


def test_outlines_are_drawn_and_the_picture_kept():
    """A wide picture keeps its shape on a white tile; cell and nucleus have their colours."""
    rgb = np.full((80, 160, 3), 100, np.uint8)
    cell, nucleus = np.zeros((80, 160), bool), np.zeros((80, 160), bool)
    cell[20:60, 50:110] = True
    nucleus[30:50, 70:90] = True
    before = rgb.copy()
    tile = contact_sheets.draw_outlines(rgb, cell, nucleus)
    assert tile.shape == (160, 160, 3)
    assert tile[0, 0].tolist() == [255, 255, 255]
    assert tile[40 + 20, 80].tolist() == list(contact_sheets.CELL_COLOUR)
    assert tile[40 + 30, 80].tolist() == list(contact_sheets.NUCLEUS_COLOUR)
    assert tile[40 + 25, 80].tolist() == [100, 100, 100]
    assert np.array_equal(rgb, before)


def test_sheet_has_rows_of_six():
    """Seven tiles make two rows, white where tiles are missing; none makes one white row."""
    tiles = [np.full((160, 160, 3), (10 * n, 0, 200), np.uint8) for n in range(7)]
    content = contact_sheets.encode_sheet(tiles)
    sheet = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert sheet.shape == (320, 960, 3)
    assert sheet[200, 10].tolist() == [60, 0, 200]
    assert sheet[200, 300].tolist() == [255, 255, 255]
    assert contact_sheets.encode_sheet(tiles) == content
    assert contact_sheets.encode_sheet([]) != content


def dark(strip):
    """Columns in which something is written."""
    return np.flatnonzero((strip < 128).any(axis=(0, 2)))


def test_caption_stands_below_the_image():
    """The image keeps its shape on a tile; each line has its own strip, black on white."""
    rgb = np.full((100, 50, 3), (200, 0, 0), np.uint8)
    before = rgb.copy()
    tile = contact_sheets.caption(rgb, ["label: monocyte", "rather: lymphocyte"])
    assert tile.shape == (192, 160, 3)
    red = (tile[:160] == (200, 0, 0)).all(axis=2)
    assert red[:, 40:120].all()
    assert red.sum() == 160 * 80
    assert (tile[:160][~red] == 255).all()
    assert len(dark(tile[160:176])) > 40
    assert len(dark(tile[176:])) > 40
    assert not np.array_equal(tile[160:176], tile[176:])
    assert np.array_equal(rgb, before)
    assert np.array_equal(
        contact_sheets.caption(rgb, ["label: monocyte", "rather: lymphocyte"]), tile
    )


def test_caption_without_an_image_is_white_above_its_text():
    tile = contact_sheets.caption(None, ["no label is suspected"])
    assert tile.shape == (176, 160, 3)
    assert (tile[:160] == 255).all()
    assert (tile[160:] < 128).any()


def test_long_lines_are_set_smaller():
    """The longest class of ours is set in full size; a longer line shrinks until it fits."""
    usual = contact_sheets.caption(None, ["rather: segmented_neutrophil"])[160:]
    longer = contact_sheets.caption(None, ["rather: segmented_neutrophil_or_band"])[160:]
    endless = contact_sheets.caption(None, ["rather: " + "m" * 99])[160:]
    height = [np.flatnonzero((strip < 128).any(axis=(1, 2))) for strip in (usual, longer)]
    assert 140 < dark(usual).max() < 159
    assert np.ptp(height[0]) > np.ptp(height[1])
    assert 140 < dark(longer).max() < 159
    assert endless.shape == (16, 160, 3)


def test_sheet_of_captions():
    """Tiles of another height make rows of that height, white tiles too."""
    tile = contact_sheets.caption(np.full((30, 30, 3), 7, np.uint8), ["label: a", "rather: b"])
    content = contact_sheets.encode_sheet([tile] * 7)
    sheet = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert sheet.shape == (384, 960, 3)
    assert np.array_equal(sheet[192:, :160], tile)
    assert (sheet[192:, 160:] == 255).all()


def test_a_map_is_bright_where_it_is_high_and_dark_where_it_is_empty():
    seen = np.full((8, 8, 3), 100, np.uint8)
    values = np.zeros((8, 8))
    values[0, 0] = 0.01
    heat = contact_sheets.lay_over(values, seen).astype(int).sum(axis=2)
    assert heat[0, 0] > 2 * heat[1, 1]
    assert (contact_sheets.lay_over(np.zeros((8, 8)), seen)[..., 0] == heat[1, 1] // 3).all()
