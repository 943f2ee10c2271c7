"""Examples: the right rows in the right order, from memory that does not grow."""

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.errors import TableError
from stages.core.params import InputsParams
from stages.images import cell_masks, decoding
from stages.inputs import preparation, reading

RULE = InputsParams(
    crop="cell", scale="image", half_side=1.5, white_balance=["white_point", "none"], hide="nothing"
)
MEASURES = [
    field.name
    for field in tables.QUALITY.schema
    if field.type == "double" and field.name not in ("centre_x", "centre_y", "cell_radius")
]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project; all work in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")


def draw_picture(seed):
    """A dark disc, at a place of its own, on a bright ground."""
    rng = np.random.default_rng(seed)
    rgb = np.full((60, 70, 3), 230, np.uint8)
    cv2.circle(rgb, tuple(map(int, rng.integers(25, 40, 2))), 12, (120, 60, 140), -1)
    return rgb


def write_pictures(hospital, names):
    """Images and quality tables of some drawn pictures."""
    pictures, measures = [], []
    for number, name in enumerate(names):
        image_id = f"{hospital}/{name}"
        content = cv2.imencode(".png", draw_picture(number)[..., ::-1])[1].tobytes()
        pictures.append(
            {
                "image_id": image_id, "hospital": hospital, "path": name, "sha256": "0" * 64,
                "pixel_sha256": "0" * 64, "width": 70, "height": 60, "format": "png",
                "mode": "RGB", "bytes": content, "phash": bytes(32), "twin_group": image_id,
                "warnings": [], "published_label": None, "patient": None, "slide": None,
                "diagnosis": None, "official_part": None, "mask": None,
                "field": None, "expert_1": None, "expert_2": None, "official_side": None,
                "simulated": True, "place": hospital,
            }
        )  # fmt: skip
        measures.append(
            dict.fromkeys(tables.QUALITY.schema.names)
            | dict.fromkeys(MEASURES, 200.0)
            | {
                "image_id": image_id, "hospital": hospital, "has_cell": True, "centre_x": 30.0,
                "centre_y": 32.0, "cell_radius": 11.0 + number, "nucleus_lobes": 1, "n_cells": 1,
                "flags": [], "cell_mask": cell_masks.segment(draw_picture(number)).packed,
            }
        )  # fmt: skip
    tables.IMAGES.write(pd.DataFrame(pictures), hospital)
    tables.QUALITY.write(pd.DataFrame(measures), hospital)


def stream(hospital, wanted=None, rule=RULE):
    """The pictures of a hospital, or some of them."""
    return reading.stream_pictures(hospital, rule, wanted)


def test_no_picture_gives_no_row():
    """An empty part is no error here; the training decides."""
    found = reading.read_pixels([], RULE, 32)
    assert (found.image_ids, found.x.shape) == ([], (0, 32, 32, 3))
    found = reading.read_wide([], RULE, 32, with_hidden=True)
    assert found.x.shape == found.hidden.shape == (0, 48, 48, 3)


def test_pictures_come_with_their_geometry_and_bytes():
    """All of a hospital, or those that are wanted, in the order of the table."""
    write_pictures("munich", ["a.png", "b.png", "c.png"])
    geometries = preparation.geometries(tables.QUALITY.read("munich"), RULE)
    contents = {row["image_id"]: row["bytes"] for row in tables.IMAGES.stream("munich")}
    every = list(stream("munich"))
    assert every == [(name, contents[name], geometries[name]) for name in sorted(contents)]
    assert list(stream("munich", {"munich/c.png", "munich/a.png"})) == [every[0], every[2]]
    assert list(stream("munich", [])) == []


def test_pictures_that_are_not_in_the_tables_are_named():
    """A picture of the split without image or measure is no silent gap."""
    write_pictures("munich", ["a.png", "b.png"])
    lacks = r"data/images/munich.parquet or data/quality/munich.parquet has no row of"
    with pytest.raises(TableError, match=rf"{lacks} 1 pictures \(munich/z.png\).*dvc repro"):
        list(stream("munich", ["munich/a.png", "munich/z.png"]))
    quality = tables.QUALITY.read("munich")
    tables.QUALITY.write(quality[quality["image_id"] != "munich/b.png"], "munich")
    with pytest.raises(TableError, match=rf"{lacks} 1 pictures \(munich/b.png\).*dvc repro"):
        list(stream("munich"))
    assert len(list(stream("munich", ["munich/a.png"]))) == 1


def write_training(rule=RULE):
    """Pictures of both parts, as stage gather keeps them; the second has no cell."""
    write_pictures("munich", ["a.png", "b.png", "c.png", "d.png"])
    pictures = list(stream("munich", rule=rule))
    pictures[1] = (*pictures[1][:2], preparation.Geometry(None, None, (240.0, 230.0, 220.0)))
    parts = ["train", "train", "valid", "train"]
    known = {"hospital": "munich", "label": "monocyte"}
    rows = [
        {
            **known, "image_id": name, "group": name, "twin_group": name, "part": part,
            "bytes": content, **preparation.to_row(geometry),
        }
        for (name, content, geometry), part in zip(pictures, parts, strict=True)
    ]  # fmt: skip
    with tables.TRAINING.writer() as append:
        append(rows)
    return pictures


def test_training_pictures_are_those_that_were_gathered():
    """Bytes and geometry to the last bit, and each part apart."""
    pictures = write_training()
    assert list(reading.stream_training("train")) == [pictures[0], pictures[1], pictures[3]]
    assert list(reading.stream_training("valid")) == [pictures[2]]
    kept, direct = (
        reading.read_pixels(some, RULE, 32).x
        for some in (reading.stream_training("valid"), stream("munich", ["munich/c.png"]))
    )
    assert np.array_equal(kept, direct)


def test_pixels_are_those_of_the_one_preparation():
    """Each row is what `prepare` gives for that picture and colour correction, on disk."""
    write_pictures("munich", ["a.png", "b.png", "c.png"])
    found = reading.read_pixels(stream("munich", ["munich/c.png", "munich/a.png"]), RULE, 32)
    assert found.image_ids == ["munich/a.png"] * 2 + ["munich/c.png"] * 2
    assert found.x.dtype == np.uint8
    assert isinstance(found.x, np.memmap)
    geometries = preparation.geometries(tables.QUALITY.read("munich"), RULE)
    views = ["none", "white_point"] * 2  # sorted, whatever the order of the rule
    for row, (image_id, view) in enumerate(zip(found.image_ids, views, strict=True)):
        content = next(
            r["bytes"] for r in tables.IMAGES.stream("munich") if r["image_id"] == image_id
        )
        rgb = decoding.decode(content).rgb
        expected = preparation.prepare(rgb, geometries[image_id], RULE, 32, view)
        np.testing.assert_array_equal(found.x[row], expected)
    assert not np.array_equal(found.x[0], found.x[2])


def test_changed_pictures_are_taken_as_they_are():
    """Half of it is white, as of a file that was cut: but pixels are no file to be judged."""
    rgb = draw_picture(1)
    rgb[35:] = 255
    place = preparation.Geometry(None, 20.0, (240.0, 240.0, 240.0))
    rows = reading.read_pixels([("x", rgb, place)], RULE, 32)
    for row, balance in zip(rows.x, sorted(RULE.white_balance), strict=True):
        assert (row == preparation.prepare(rgb, place, RULE, 32, balance)).all()


def test_nothing_of_the_pixels_is_left_on_disk(tmp_path, monkeypatch):
    """The temporary file has no name while it is used, so a killed process leaves nothing."""
    write_pictures("munich", ["a.png"])
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    found = reading.read_pixels(stream("munich"), RULE, 32)
    assert list(folder.iterdir()) == []
    assert found.x.max() > 100


def test_wide_rows_are_one_for_each_picture_in_order():
    """Two colour corrections, one row: of the first that does not depend on the view."""
    write_pictures("munich", ["a.png", "b.png", "c.png"])
    wanted = ["munich/c.png", "munich/a.png"]
    found = reading.read_wide(stream("munich", wanted), RULE, 32, with_hidden=True)
    assert found.image_ids == ["munich/a.png", "munich/c.png"]
    assert found.x.shape == found.hidden.shape == (2, 48, 48, 3)
    assert found.margin == 8
    assert isinstance(found.x, np.memmap)
    assert isinstance(found.hidden, np.memmap)
    assert not np.array_equal(found.x[0], found.x[1])
    geometries = preparation.geometries(tables.QUALITY.read("munich"), RULE)
    wide = preparation.prepare(
        draw_picture(0), geometries["munich/a.png"], RULE.model_copy(update={"hide": "background"}),
        48, "white_point", np.diag([1.5, 1.5, 1]),
    )  # fmt: skip
    assert np.array_equal(found.hidden[0], wide)


@pytest.mark.parametrize(
    ("balances", "expected"),
    [
        (["grey_world", "white_point", "none"], "white_point"),
        (["none", "white_point"], "none"),
        (["grey_world"], "none"),
    ],
)
def test_wide_rows_are_not_grey_world(balances, expected):
    """What grey world gives depends on what a view shows, so it comes last."""
    write_pictures("munich", ["a.png"])
    rule = RULE.model_copy(update={"white_balance": balances})
    found = reading.read_wide(stream("munich"), rule, 32, with_hidden=False)
    alone = rule.model_copy(update={"white_balance": [expected]})
    plain = reading.read_pixels(stream("munich"), alone, 32)
    assert np.array_equal(reading.plain(found).x, plain.x)


@pytest.mark.parametrize("hide", ["background", "cell"])
def test_where_the_rule_hides_something_nothing_more_is_hidden(hide):
    """The wide rows show what the plain ones show, and no second array is made."""
    write_pictures("munich", ["a.png"])
    rule = RULE.model_copy(update={"hide": hide, "white_balance": ["white_point"]})
    found = reading.read_wide(stream("munich"), rule, 32, with_hidden=True)
    assert found.hidden is None
    plain = reading.read_pixels(stream("munich"), rule, 32)
    assert np.array_equal(reading.plain(found).x, plain.x)


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(16, 130),
    crop=st.sampled_from(["cell", "centre", "whole"]),
    half_side=st.floats(0.5, 4),
    balance=st.sampled_from(["white_point", "none"]),
    place=st.tuples(st.floats(0, 69), st.floats(0, 59)),
    radius=st.none() | st.floats(2, 60),
    seed=st.integers(0, 99),
)
def test_the_middle_is_the_plain_view(size, crop, half_side, balance, place, radius, seed):
    """Any size and crop: the middle byte for byte, and around it the same picture goes on."""
    rgb = np.random.default_rng(seed).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    rgb = cv2.GaussianBlur(rgb, (5, 5), 0)
    content = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    geometry = preparation.Geometry(place, radius, (230.0, 220.0, 200.0))
    rule = RULE.model_copy(update={"crop": crop, "half_side": half_side})
    _, (wide,) = reading._prepare_wide(("h/a", content, geometry), balance, False, rule, size)
    margin = round(size / 4)
    plain = preparation.prepare(rgb, geometry, rule, size, balance)
    assert wide.shape == (size + 2 * margin, size + 2 * margin, 3)
    assert np.array_equal(wide[margin:-margin, margin:-margin], plain)
    side = size + 2 * margin
    whole = preparation.prepare(
        rgb, geometry, rule, side, balance, np.diag([side / size] * 2 + [1])
    )
    assert np.abs(wide.astype(int) - whole).mean() < 1


def test_plain_leaves_the_surroundings_without_a_copy():
    """The middle of the very same memory map, with no margin and nothing hidden."""
    write_pictures("munich", ["a.png", "b.png"])
    wide = reading.read_wide(stream("munich"), RULE, 32, with_hidden=True)
    found = reading.plain(wide)
    assert reading.plain(found) is found
    assert found.image_ids == wide.image_ids
    assert (found.x.shape, found.margin, found.hidden) == ((2, 32, 32, 3), 0, None)
    assert np.shares_memory(found.x, wide.x)


def test_wide_pictures_are_the_same_for_any_number_of_processes(monkeypatch):
    """Two processes write what one writes."""
    names = [f"{n:02d}.png" for n in range(20)]
    write_pictures("munich", names)
    one = reading.read_wide(stream("munich"), RULE, 32, with_hidden=True)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "2")
    two = reading.read_wide(stream("munich"), RULE, 32, with_hidden=True)
    assert one.image_ids == two.image_ids
    assert np.array_equal(one.x, two.x)
    assert np.array_equal(one.hidden, two.hidden)


def test_a_sample_is_spread_evenly_and_keeps_all_rows_of_an_image():
    """Of 11 images of two rows each: the first, the middle and the last; fewer stay as they are."""
    ids = [f"h/{n:02d}" for n in range(11) for _ in range(2)]
    rows = reading.Examples(ids, np.arange(22))
    found = reading.sample(rows, 3)
    assert found.image_ids == ["h/00"] * 2 + ["h/05"] * 2 + ["h/10"] * 2
    assert found.x.tolist() == [0, 1, 10, 11, 20, 21]
    assert reading.sample(rows, 11) is rows


def test_only_the_rows_of_the_named_parts_are_read():
    """The labels of other parts do not reach the caller; rows are sorted."""
    rows = [
        {
            "image_id": f"munich/{name}", "hospital": "munich", "label": label, "group": name,
            "twin_group": name, "part": part, "left_out_reason": None,
        }
        for name, label, part in (
            ("d", "secret", "test"), ("b", "basophil", "valid"), ("a", "monocyte", "train"),
            ("c", "secret", "unseen"),
        )
    ]  # fmt: skip
    tables.SPLIT.write(pd.DataFrame(rows), "munich")
    other = {**rows[2], "image_id": "barcelona/x", "hospital": "barcelona"}
    tables.SPLIT.write(pd.DataFrame([other]), "barcelona")
    found = reading.read_split(["munich", "barcelona"], ["train", "valid"], ["image_id", "label"])
    assert list(found.columns) == ["image_id", "label"]
    assert found["image_id"].tolist() == ["barcelona/x", "munich/a", "munich/b"]
    assert found["label"].tolist() == ["monocyte", "monocyte", "basophil"]


def test_a_missing_split_names_the_file():
    """A stage that never ran is one line."""
    with pytest.raises(TableError, match=r"data/split/munich.parquet is missing.*dvc repro"):
        reading.read_split(["munich"], ["train"], ["image_id"])
