"""Every archive of data/hospitals.yaml, fetched as its publisher gives it, then read by filter.

The files are made here, under the names and in the folders that the blocks tell; only the
addresses are moved to this computer, and checksums are those of the made files.
"""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from stages import download
from stages import filter as filter_stage
from stages.core.errors import DownloadError
from stages.core.tables import IMAGES
from stages.datasets import contents
from stages.labels import taxonomy
from tests.datasets.test_archives import zipped
from tests.datasets.test_unpacking import rarred
from tests.made import publishers
from tests.made.publishers import Publishers
from tests.projects import ROOT

BLOCKS = {
    name: block
    for name, block in yaml.safe_load((ROOT / "data/hospitals.yaml").read_text("utf-8")).items()
    if "archives" in block
}
BY_HAND = [name for name, block in BLOCKS.items() if not block["archives"][0]["urls"]]
FETCHED = [name for name in BLOCKS if name not in BY_HAND]
MLL = [archive["name"].removesuffix(".zip") for archive in BLOCKS["mll23"]["archives"]]
MUNICH = "PKG - AML-Cytomorphology_LMU/AML-Cytomorphology_LMU"
# Two cells or more of each hospital, as its publisher names them.
CELLS = {
    "barcelona": [f"PBC_dataset_normal_DIB/{name}.jpg" for name in ("basophil/BA_1", "ig/MMY_2")],
    "barcelona224": [f"BTech-Project-2025-3d/train/{name}.jpg" for name in ("ig/PMY_3", "ig/IG_4")],
    "munich": [f"{MUNICH}/BAS/BAS_0001.tiff", f"{MUNICH}/PMO/PMO_0002.tiff"],
    "mll23": [f"{name}/{name}_{number:04d}.TIF" for name in MLL for number in (1, 2)],
    "raabin": [
        "Train/Basophil/20190526_101_0_1.jpg", "TestA/Monocyte/95-5-30-1_12_2.jpg",
        "TestB/Neutrophil/7.jpg",
    ],
    "jhu": [
        "Patient_00/Signed slides/Monocyte/MO_1.jpg", "Patient_01/s2/Signed slides/Basophil/2.jpg",
        "Patient_01/s2/Unsigned slides/3.jpg",
    ],
    "cvb": ["segmentation_WBC-master/Dataset 2/001.bmp", "segmentation_WBC-master/Dataset 2/2.bmp"],
    "jiangxi": [f"segmentation_WBC-master/Dataset 1/{name}.bmp" for name in ("001", "002")],
    "all_idb2": ["img/Im001_1.tif", "img/Im131_0.tif"],
    "bloodmnist": ["train/6/000000.png", "test/0/000000.png"],
    "chula": ["basophil/B-1_2_3.jpg", "monocyte/HF-M-4a_5_6.jpg"],
    "bccd": ["basophil/BloodImage_00001_1.jpg", "monocyte/BloodImage_00002_1.jpg"],
    "raabin_krd": ["basophil/image1.jpg", "monocyte/image2.jpg"],
}  # fmt: skip
TABLES = {
    "cvb": ("Class Labels of Dataset 2.csv", b"image ID,class\n1,1\n2,5\n"),
    "jiangxi": ("Class Labels of Dataset 1.csv", b"image ID,class label\n1,1\n2,2\n"),
}
PATIENTS = b"Patient_ID,Diagnosis,Cohort\nPatient_00,AML,Discovery\nPatient_01,APL,Validation\n"


def draw(path: str) -> np.ndarray:
    """Draw another picture for each path."""
    seed = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
    small = np.random.default_rng(seed).integers(90, 255, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (80, 80), interpolation=cv2.INTER_LINEAR)


def picture(path: str) -> bytes:
    return cv2.imencode(Path(path).suffix.lower(), draw(path))[1].tobytes()


def pictures(hospital: str) -> dict[str, bytes]:
    """What a hospital publishes: its cells, and what its layout names beside them."""
    files = {path: picture(path) for path in CELLS[hospital]}
    if hospital in ("cvb", "jiangxi"):
        name, table = TABLES[hospital]
        files[f"segmentation_WBC-master/{name}"] = table
        masks = [path.replace(".bmp", ".png") for path in CELLS[hospital]]
        files |= {path: picture(path) for path in masks}
    if hospital == "raabin_krd":
        masks = [path.replace(".jpg", "_mask.png") for path in CELLS[hospital]]
        files |= {path: picture(path) for path in masks}
    return files


def array_file() -> bytes:
    sink = io.BytesIO()
    one = {name: draw(name)[None] for name in ("train_images", "test_images")}
    np.savez(sink, train_labels=[[6]], test_labels=[[0]], **one)
    return sink.getvalue()


def publish(hospital: str) -> dict[str, bytes]:
    """Return the archives of a hospital by name, packed as it packs them."""
    files = pictures(hospital)
    if hospital == "mll23":
        junk = {f"__MACOSX/{path}": b"\0\5" for path in files}
        return {
            f"{name}.zip": zipped(
                {path: one for path, one in (files | junk).items() if f"/{name}/" in f"/{path}"}
            )
            for name in MLL
        }
    if hospital == "raabin":
        parts = {part: {p: c for p, c in files.items() if p.startswith(part)}
                 for part in ("Train", "TestA", "TestB")}  # fmt: skip
        return {
            "Train.rar": rarred(parts["Train"]),
            "TestA.rar": rarred(parts["TestA"]),
            "TestB.zip": zipped(parts["TestB"]),
        }
    if hospital == "jhu":
        inner = {"blood smear images_Patient00-105.zip": zipped(files)}
        return {"14294675.zip": zipped(inner | {"Images_metadata_table.csv": PATIENTS})}
    if hospital == "bloodmnist":
        return {"bloodmnist_224.npz": array_file()}
    if hospital in ("cvb", "jiangxi"):
        return {"segmentation_WBC.zip": zipped(pictures("cvb") | pictures("jiangxi"))}
    return {BLOCKS[hospital]["archives"][0]["name"]: zipped(files)}


@pytest.fixture
def open_publishers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publishers]:
    """Run the publishers."""
    publishers.hurry(monkeypatch)
    known = Publishers()
    with publishers.serve(known.answer) as base:
        known.base = base
        yield known


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project of its own."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    shutil.copytree(ROOT / "data/labels", root / "data/labels")
    shutil.copy2(ROOT / "data/taxonomies.csv", root / "data")
    content = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    content["filter"] |= {"min_side": 64, "max_lost": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    for name in ("SMEARFLOW_MIRROR", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return root


def declare(hospital: str, place: Publishers | None = None, **sums: str) -> None:
    """Write a block as it is shipped, with its addresses moved to this computer."""
    block = yaml.safe_load(yaml.safe_dump(BLOCKS[hospital]))
    block.pop("same_as", None)
    for archive in block["archives"]:
        archive["urls"] = [place.move(url) for url in archive["urls"]] if place else []
        if archive.get("md5"):
            archive["md5"] = sums[archive["name"]]
    Path("data/hospitals.yaml").write_text(yaml.safe_dump({hospital: block}), encoding="utf-8")


def require_right(hospital: str) -> None:
    """Filter, and compare what is kept with what was published."""
    filter_stage.main(hospital)
    kept = IMAGES.read(hospital)
    assert len(kept) == len(CELLS[hospital])
    label_map = taxonomy.read_label_map(hospital)
    assert set(kept["published_label"].dropna()) <= set(label_map["published_label"])
    assert kept["published_label"].nunique() > 1


@pytest.mark.parametrize("hospital", FETCHED)
def test_the_archives_of_each_publisher_arrive_and_are_read(
    hospital: str, open_publishers: Publishers
) -> None:
    """Twice: with what the publisher does at the first request, and with what it does later."""
    made = publish(hospital)
    for archive in BLOCKS[hospital]["archives"]:
        open_publishers.files[archive["urls"][0]] = made[archive["name"]]
    if hospital == "barcelona":  # the second address is dead, the third gives a zip in a zip
        inner = {"PBC_dataset_normal_DIB.zip": made["PBC_dataset_normal_DIB.zip"]}
        open_publishers.files[BLOCKS["barcelona"]["archives"][0]["urls"][2]] = zipped(inner)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in made.items()}
    declare(hospital, open_publishers, **sums)
    for run in range(2 if len(made) < 18 else 1):
        download.main(hospital)
        published = contents.read(Path("data/raw") / hospital).archives
        if hospital != "barcelona" or run:
            assert {one.name: one.sha256 for one in published} == {
                name: hashlib.sha256(content).hexdigest() for name, content in made.items()
            }
        require_right(hospital)


@pytest.mark.parametrize("hospital", BY_HAND)
def test_what_is_given_out_by_hand_is_told_and_read_from_where_it_was_told_to_be(
    hospital: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, steps, folder and command in one line; what is put there, as it comes, is read."""
    declare(hospital)
    block = BLOCKS[hospital]
    steps = block["archives"][0]["by_hand"].strip()
    with pytest.raises(DownloadError) as caught:
        download.main(hospital)
    assert str(caught.value) == (
        f"{block['archives'][0]['name']} is given out by hand only. See {block['page']} and get it "
        f"yourself. {steps} Put what you got into the folder ../mirror/{hospital}, and run "
        "'SMEARFLOW_MIRROR=../mirror uv run dvc repro'."
    )
    for path, content in pictures(hospital).items():
        place = project / "../mirror" / hospital / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    monkeypatch.setenv("SMEARFLOW_MIRROR", "../mirror")
    download.main(hospital)
    require_right(hospital)


def test_munich_s_line_is_what_a_person_needs() -> None:
    """The largest of those by hand: where, through which program, how much, and what comes."""
    declare("munich")
    with pytest.raises(DownloadError) as caught:
        download.main("munich")
    for told in ("cancerimagingarchive.net", "IBM Aspera Connect", "11 GB", "../mirror/munich"):
        assert told in str(caught.value)


def test_jhu_falls_to_kaggle_and_says_what_that_needs(open_publishers: Publishers) -> None:
    """Where figshare has nothing and no key is set, both faults are one line."""
    declare("jhu", open_publishers)
    path = Path("data/hospitals.yaml")
    shipped = BLOCKS["jhu"]["archives"][0]["urls"][1]
    text = path.read_text(encoding="utf-8").replace(open_publishers.move(shipped), shipped)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DownloadError, match=r"HTTP 404 .*set KAGGLE_USERNAME and KAGGLE_KEY"):
        download.main("jhu")
    assert open_publishers.asked == ["figshare.com"]
