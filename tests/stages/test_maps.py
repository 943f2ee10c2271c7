"""The maps on drawn hospitals: who teaches them, what the page runs, the same bytes again."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import maps
from stages.core.errors import ParamsError, TableError
from stages.core.store import read_metrics
from stages.core.tables import SPLIT
from stages.models import backbones, planes
from stages.pages import scatter
from tests.stages import test_bias
from tests.stages.cohort import write_project
from tests.stages.test_bias import BLUE_GROUND, GREY_GROUND, rule, write_hospital
from tests.stages.test_gallery import Page

HOSPITALS = ("north", "east", "west")
FILES = (Path("metrics/maps.json"), maps.PAGE, maps.SHEET)
PARTS = {
    "north": ["train"] * 10 + ["test"] * 2,
    "east": ["train"] * 6 + ["test"] * 4 + ["valid"] * 2,
}


class MeanColour:
    """Stands in for the backbone: the mean of each channel."""

    def predict_on_batch(self, pixels):
        return pixels.mean(axis=(1, 2)).astype(np.float32)


def write_split(hospital):
    """Blue and red cells are two classes."""
    image_ids = [f"{hospital}/{number:03d}.png" for number in range(test_bias.N_IMAGES)]
    rows = pd.DataFrame(
        {
            "image_id": image_ids, "hospital": hospital, "group": image_ids,
            "label": [("basophil", "monocyte")[number // 2 % 2] for number in range(12)],
            "twin_group": image_ids, "part": PARTS.get(hospital, ["unseen"] * 12),
            "left_out_reason": None,
        }
    )  # fmt: skip
    SPLIT.write(rows, hospital)


def write_params(**changes):
    content = {"maps": {"max_images": 10}, "inputs": rule().model_dump()}
    write_project(Path(), HOSPITALS, **(content | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SMEARFLOW_WORKERS", "1")
        write_params()
        for hospital in HOSPITALS:
            write_hospital(hospital, (GREY_GROUND if hospital == "west" else BLUE_GROUND,))
            write_split(hospital)
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """Three hospitals whose grounds and cells are coloured; UMAP is tested where it is fitted."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    monkeypatch.setattr(backbones, "load_extractor", lambda *wanted: MeanColour())
    monkeypatch.setattr(planes.importlib.util, "find_spec", lambda name: None)


def read_report():
    return json.loads(FILES[0].read_text(encoding="utf-8"))


@pytest.mark.usefixtures("project")
def test_the_training_part_teaches_and_the_scored_parts_are_counted():
    """At most so many of each hospital and side; none of the validation part."""
    maps.main()
    report = read_report()
    assert (report["n_fitted"], report["n_placed"]) == (16, 2 + 4 + 10)
    assert set(report["mixing"]["features"]) == {"all", "pca", "lda", "tsne"}
    assert report["left_out"]["pixels"] == {"umap": planes.NO_UMAP}
    west = report["mixing"]["features"]["all"]["by_hospital"]["west"]
    assert west["hospital"]["n"] == 10
    found = json.loads(re.search(r'id="known">(.*?)</script>', maps.PAGE.read_text()).group(1))
    parts = pd.Series({row[0]: row[3] for row in found["pictures"]})
    assert parts.value_counts().to_dict() == {
        maps.SAID["train"]: 16, maps.SAID["test"]: 6, maps.SAID["unseen"]: 10,
    }  # fmt: skip
    assert {len(own) for own in found["places"].values()} == {32}


@pytest.mark.usefixtures("project")
def test_a_place_and_the_picture_shown_there_are_of_one_cell():
    """Blue cells and red ones lie apart, and where a blue one lies a blue one is shown."""
    maps.main()
    found = json.loads(re.search(r'id="known">(.*?)</script>', maps.PAGE.read_text()).group(1))
    across = np.array(found["places"]["pixels-pca"])[:, 0]
    is_blue = []
    for _, _, label, _, jpeg in found["pictures"]:
        content = np.frombuffer(base64.b64decode(jpeg), np.uint8)
        blue, _, red = cv2.imdecode(content, cv2.IMREAD_COLOR)[28, 28].astype(int)
        is_blue.append(blue > red)
        assert (label == "basophil") == (blue > red)
    ranked = np.array(is_blue)[np.argsort(across)]
    assert np.count_nonzero(ranked[1:] != ranked[:-1]) == 1


@pytest.mark.usefixtures("project")
def test_the_page_asks_for_nothing_and_runs_its_one_script():
    """Its policy names the script by its hash; without it the maps and their legends are there."""
    maps.main()
    html = maps.PAGE.read_text(encoding="utf-8")
    page = Page(html)
    policy = next(own for _, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not re.search(r"https?:|url\(|@import", html)
    assert not any(key.startswith("on") for _, own in page.tags for key in own)
    assert not any("src" in own for _, own in page.tags)
    shown = [own for name, own in page.tags if name == "svg" and own.get("class") == "map"]
    assert len(shown) == 2 * 2 * 3
    assert all(own["aria-label"] for own in shown)
    assert page.text.count("By hospital: east north west") == 6


@pytest.mark.usefixtures("project")
def test_the_same_bytes_after_a_kill_and_with_two_workers(monkeypatch):
    maps.main()
    first = [name.read_bytes() for name in FILES]
    shutil.rmtree("metrics/maps")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scatter, "draw_sheet", lambda *of: (_ for _ in ()).throw(KeyboardInterrupt))
        maps.main()
    assert not maps.SHEET.exists()
    monkeypatch.setenv("SMEARFLOW_WORKERS", "2")
    maps.main()
    assert [name.read_bytes() for name in FILES] == first


@pytest.mark.usefixtures("project")
def test_unseen_labels_move_no_picture():
    """They colour and are counted; sample, places and pictures stay."""
    maps.main()
    before = json.loads(re.search(r'id="known">(.*?)</script>', maps.PAGE.read_text()).group(1))
    rows = SPLIT.read("west")
    SPLIT.write(rows.assign(label=rows["label"].to_numpy()[::-1]), "west")
    maps.main()
    after = json.loads(re.search(r'id="known">(.*?)</script>', maps.PAGE.read_text()).group(1))
    assert after["places"] == before["places"]
    assert [row[0] for row in after["pictures"]] == [row[0] for row in before["pictures"]]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"maps": {"max_images": 9}}, r"maps.max_images: got 9; it should be greater than or"),
        ({"maps": {"max_image": 50}}, r"maps.max_image: unknown key. Did you mean 'max_images'"),
        ({"maps": {"max_images": 1.5}}, r"maps.max_images: got 1.5; it should be a valid integer"),
    ],
)
def test_a_wrong_parameter_ends_in_one_line(changes, told):
    write_params(**changes)
    with pytest.raises(ParamsError, match=told):
        maps.main()
    assert not any(name.exists() for name in FILES)


@pytest.mark.usefixtures("project")
def test_without_a_picture_to_place_it_says_what_to_do():
    for hospital in HOSPITALS:
        SPLIT.write(SPLIT.read(hospital).assign(part="train"), hospital)
    with pytest.raises(TableError, match=r"no test or unseen picture.*raise split.test"):
        maps.main()


@pytest.mark.usefixtures("project")
def test_few_training_pictures_stop_no_run():
    """Nothing is learnt from them; neighbours are counted all the same, and the page says so."""
    for hospital in HOSPITALS:
        split = SPLIT.read(hospital)
        taught = split.index[split["part"] == "train"][2:]
        SPLIT.write(split.drop(index=taught), hospital)
    maps.main()
    assert set(read_metrics("maps")["mixing"]["features"]) == {"all"}
    assert planes.TOO_FEW in maps.PAGE.read_text(encoding="utf-8")
    assert maps.SHEET.exists()
