"""The quality stage: its table, metrics and plots for a small hospital with planted faults."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from stages import quality
from stages.core.tables import IMAGES, QUALITY

ROOT = Path(__file__).resolve().parents[2]
N_IMAGES = 30


def encode(picture):
    return bytes(cv2.imencode(".png", picture[..., ::-1])[1])


def draw_cell(number):
    """A cell of about 26 px, slightly different in each picture, and its published mask."""
    rng = np.random.default_rng(number)
    radius = 26 + int(rng.integers(-3, 4))
    rgb = np.full((120, 120, 3), (236, 226, 208), np.uint8)
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(rgb, (60, 60), radius, (186, 170, 200), -1)
    cv2.circle(rgb, (60, 60), radius - 9, (84, 50, 130), -1)
    cv2.circle(mask, (60, 60), radius, 128, -1)
    cv2.circle(mask, (60, 60), radius - 9, 255, -1)
    noise = rng.normal(0, 2, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), mask


def image_row(number, rgb, mask=None):
    content = encode(rgb)
    digest = hashlib.sha256(content).hexdigest()
    values = {
        "image_id": f"here/{number:03d}.png",
        "hospital": "here",
        "path": f"{number:03d}.png",
        "simulated": False,
        "place": "here",
        "sha256": digest,
        "pixel_sha256": digest,
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "format": "png",
        "mode": "RGB",
        "bytes": content,
        "mask": None if mask is None else encode(np.repeat(mask[..., None], 3, 2)),
        "phash": digest[:32].encode(),
        "twin_group": f"here/{number:03d}.png",
        "warnings": [],
    }
    return {name: values.get(name) for name in IMAGES.schema.names}


def write_cells(folder, monkeypatch, n_images):
    """A hospital of drawn cells with its quality, to be prepared in two colour corrections."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["features"] |= {"size": 40}
    content["inputs"]["white_balance"] = ["white_point", "grey_world"]
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    rows = [image_row(number, draw_cell(number)[0]) for number in range(n_images)]
    IMAGES.write(pd.DataFrame(rows), "here")
    quality.main("here")


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """Thirty pictures: 19 lost rows, 27 has no cell, 28 is dark and blurred, 29 is cut off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    rows = []
    for number in range(N_IMAGES):
        rgb, mask = draw_cell(number)
        if number == 19:
            rgb[95:] = 0
        if number == 27:
            rgb, mask = np.full_like(rgb, 220), None
        if number == 28:
            rgb = (cv2.GaussianBlur(rgb, (0, 0), 5) * 0.3).astype(np.uint8)
        if number == 29:
            rgb, mask = np.ascontiguousarray(rgb[:, 45:]), mask[:50]
        rows.append(image_row(number, rgb, mask if number >= 20 else None))
    IMAGES.write(pd.DataFrame(rows), "here")
    return tmp_path


def results(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("data/quality", "metrics/quality")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def test_planted_faults_are_flagged(hospital):
    """Every picture has a row; the four planted ones carry their flags and nothing is dropped."""
    quality.main("here")
    table = QUALITY.read("here").set_index("image_id")
    flags = {image_id: set(names) for image_id, names in table["flags"].items()}
    assert len(table) == N_IMAGES
    assert "broken" in flags["here/019.png"]
    assert "no_cell" in flags["here/027.png"]
    assert {"brightness_outlier", "sharpness_outlier"} <= flags["here/028.png"]
    assert "at_border" in flags["here/029.png"]
    assert not any(flags[f"here/{number:03d}.png"] for number in range(27) if number != 19)
    assert table["cell_radius"][:27].between(20, 32).all()
    assert pd.isna(table.loc["here/027.png", "cell_radius"])


def test_a_piece_without_masks_changes_no_row(hospital, monkeypatch):
    """A million pictures pass in pieces; in the first of these nobody published a mask."""
    quality.main("here")
    whole = QUALITY.read("here")
    monkeypatch.setattr(quality, "ROW_GROUP", 7)
    quality.main("here")
    pd.testing.assert_frame_equal(QUALITY.read("here"), whole)


def test_masks_are_compared_where_they_fit(hospital):
    """Pictures 20 to 26 and 28 have a mask of their size; the others have no overlap, not 0."""
    quality.main("here")
    table = QUALITY.read("here").set_index("image_id")
    compared = table["mask_iou"].dropna()
    assert [int(name[5:8]) for name in compared.index] == [20, 21, 22, 23, 24, 25, 26, 28]
    assert compared[:7].min() > 0.85
    metrics = json.loads(Path("metrics/quality/here.json").read_text())
    assert metrics["mask_iou"]["n"] == 8
    assert metrics["mask_iou"]["mean"] == pytest.approx(compared.mean(), rel=1e-5)


def test_metrics_and_plots(hospital):
    """Counts agree with the table, shares sum to one, the sheet shows 24 pictures."""
    quality.main("here")
    table = QUALITY.read("here")
    metrics = json.loads(Path("metrics/quality/here.json").read_text())
    assert metrics["n_images"] == N_IMAGES
    assert metrics["n_with_cell"] == table["has_cell"].sum() == N_IMAGES - 1
    assert metrics["n_by_flag"]["no_cell"] == 1
    assert metrics["n_flagged"] == table["flags"].map(len).gt(0).sum()
    assert metrics["quantiles"]["cell_radius"]["p50"] == pytest.approx(26, abs=3)
    colours = pd.read_csv("metrics/quality/here/colour.csv")
    assert list(colours.columns) == ["hospital", "channel", "level", "share"]
    assert colours.groupby("channel")["share"].sum().to_numpy() == pytest.approx(
        [1, 1, 1], abs=1e-4
    )
    sharp = pd.read_csv("metrics/quality/here/sharpness.csv")
    assert list(sharp.columns) == ["hospital", "sharpness", "share"]
    assert sharp["share"].sum() == pytest.approx(1, abs=1e-4)
    sheet = cv2.imread("metrics/quality/here/examples.png")
    assert sheet.shape == (4 * 160, 6 * 160, 3)


def test_same_bytes_for_any_number_of_workers(hospital, monkeypatch):
    """One process and two give the same table, metrics and plots."""
    quality.main("here")
    alone = results(hospital)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "2")
    quality.main("here")
    assert results(hospital) == alone
    assert len(alone) == 5


def odd():
    """Pictures that are no smear, by what is odd: nobody knows what a folder holds."""
    rng = np.random.default_rng(0)
    filled = np.full((120, 120, 3), (95, 50, 140), np.uint8)
    cv2.circle(filled, (60, 60), 34, (236, 226, 208), -1)
    mask = np.zeros((150, 150, 3), np.uint8)
    cv2.circle(mask, (75, 75), 40, (128, 128, 128), -1)
    halves = np.full((90, 90, 3), 235, np.uint8)
    halves[:, 45:] = 20
    spot = np.full((64, 64, 3), 255, np.uint8)
    spot[32, 32] = 0
    ramp = np.repeat(np.linspace(0, 255, 200, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2)
    return {
        "stain to every border, a vacuole": filled,
        "a published mask": mask,
        "half dark": halves,
        "one dark pixel": spot,
        "a ramp": ramp,
        "black and white noise": rng.choice(np.array([0, 255], np.uint8), (70, 110, 3)),
        "a thin strip": rng.integers(0, 256, (8, 400, 3), dtype=np.uint8),
    }


@pytest.mark.parametrize("what", odd())
def test_odd_pictures_are_measured_without_a_warning(what):
    """No library's warning, which is an error here, reaches a user's terminal."""
    rgb = odd()[what]
    row = quality.measure_picture(
        {"image_id": "here/a.png", "hospital": "here", "bytes": encode(rgb), "mask": None}
        | {"shown": True}
    )
    assert row["has_cell"] in (True, False)
