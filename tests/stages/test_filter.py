"""filter: the whole stage finds planted faults and, where they are at hand, those of real files."""

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from stages import download
from stages import filter as filter_stage
from stages.core.errors import ArchiveError, HospitalError
from stages.core.tables import IMAGES, REJECTED
from tests.made import mutations
from tests.stages.cohort import write_contents

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
IMAGE = r"(?P<label>[AB])/[^/]+\.(?i:jpe?g|png)"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project of its own, with the shipped params."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["filter"] = {"min_side": 64, "max_side": 1024, "twin_bits": 24, "max_lost": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    monkeypatch.delenv("SMEARFLOW_MIRROR", raising=False)
    return tmp_path


def declare(**layout: object) -> None:
    """Say how the archives of hospital h are read."""
    write_contents("h", **layout)


def pack(files: dict[str, bytes]) -> None:
    """Publish files as the archive of hospital h."""
    with zipfile.ZipFile("data/raw/h/h.zip", "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)


def cell(number: int, size: int = 90) -> np.ndarray:
    """Draw another cell for each number."""
    rng = np.random.default_rng(number)
    rgb = np.full((size, size, 3), (232, 220, 214), np.uint8)
    for _ in range(6):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        colour = tuple(int(v) for v in rng.integers(90, 200, 3))
        cv2.circle(rgb, centre, int(rng.integers(8, 20)), colour, -1)
    return rgb


def encode(rgb: np.ndarray, file_format: str = "JPEG", **options: object) -> bytes:
    """Encode with Pillow."""
    sink = io.BytesIO()
    Image.fromarray(rgb).save(sink, file_format, **options)
    return sink.getvalue()


def planted() -> tuple[dict[str, bytes], dict[str, str]]:
    """Return files, and the reason that each rejected one must get."""
    good = {f"A/{n}.jpg": encode(cell(n)) for n in range(4)}
    good |= {f"B/{n}.jpg": encode(cell(n)) for n in range(10, 13)}
    good["B/twin.jpg"] = encode(cell(10), quality=60)
    good["B/odd.png"] = encode(cell(14, 100), "PNG")
    bad = {
        "A/0_copy.jpg": (good["A/0.jpg"], "duplicate"),
        "A/9 pixels.png": (
            encode(np.array(Image.open(io.BytesIO(good["A/1.jpg"]))), "PNG"),
            "duplicate",
        ),
        "A/conflict.jpg": (encode(cell(20)), "conflicting_labels"),
        "B/conflict.jpg": (encode(cell(20)), "conflicting_labels"),
        "A/cut.jpg": (encode(cell(30))[:900], "truncated"),
        "A/none.jpg": (b"", "empty"),
        "A/text.jpg": (b"moved", "not_an_image"),
        "A/zeros.jpg": (bytes(400), "unreadable"),
        "A/small.jpg": (encode(cell(31, 63)), "undersized"),
        "A/large.jpg": (encode(cell(32, 1025)), "oversized"),
        "A/blank.jpg": (encode(np.full((90, 90, 3), 200, np.uint8)), "blank"),
        "A/Thumbs.db": (b"x", "hidden"),
        "__MACOSX/A/._0.jpg": (b"x", "hidden"),
        "readme.txt": (b"x", "not_an_image"),
        "A/noise.jpg": (bytes(range(1, 99)), "unknown_format"),
        "again/A/0.jpg": (encode(cell(33)), "same_name"),
    }
    files = good | {name: content for name, (content, _) in bad.items()}
    return files, {name: reason for name, (_, reason) in bad.items()}


def test_exactly_the_planted_faults_are_found() -> None:
    """Every file is in one table, each fault under its reason, each good picture as it was."""
    declare(image=IMAGE, sizes=["90x90"])
    files, faults = planted()
    pack(files)
    filter_stage.main("h")
    images, rejected = IMAGES.read("h"), REJECTED.read("h")
    assert dict(zip(rejected["path"], rejected["reason"], strict=True)) == faults
    assert set(images["path"]) == set(files) - set(faults)
    for row in images.itertuples():
        assert row.bytes == files[row.path]
        assert row.image_id == f"h/{row.path}"
        assert row.published_label == row.path[0]
    warnings = dict(zip(images["path"], map(list, images["warnings"]), strict=True))
    assert warnings.pop("B/odd.png") == ["odd_size"]
    assert warnings.pop("B/10.jpg") == warnings.pop("B/twin.jpg") == ["near_twin"]
    assert not any(warnings.values())
    groups = images.set_index("path")["twin_group"]
    assert groups["B/twin.jpg"] == groups["B/10.jpg"] == "h/B/10.jpg"
    assert groups.nunique() == len(images) - 1


def test_documents_beside_pictures_are_named_and_are_no_loss() -> None:
    """A sheet of patients is a zip by its content, but nobody's pictures are in it."""
    declare()
    sheet = io.BytesIO()
    with zipfile.ZipFile(sheet, "w") as packed:  # some programs write the mark last
        packed.writestr("docProps/app.xml", "x")
        packed.writestr("xl/media/image1.png", encode(cell(5), "PNG"))
        packed.writestr("[Content_Types].xml", "x")
    files = {"A/1.jpg": encode(cell(1)), "p.xlsx": sheet.getvalue(), "A/n.docx": sheet.getvalue()}
    pack(files)
    filter_stage.main("h")
    rejected = REJECTED.read("h")
    assert dict(zip(rejected["path"], rejected["detail"], strict=True)) == {
        "A/n.docx": "a document of a program",
        "p.xlsx": "a document of a program",
    }
    assert json.loads(Path("metrics/filter/h.json").read_text())["n_lost"] == 0


@pytest.mark.parametrize("place", ["A/1.jpg", "out/A.png"])
def test_an_archive_under_a_picture_s_name_stops(place: str) -> None:
    """In its place or outside of the layout: its pictures would be lost as one that is none."""
    declare(image=r"A/\d\.jpg")
    pack({"A/2.jpg": encode(cell(1)), place: b"7z\xbc\xaf\x27\x1c" + bytes(90)})
    with pytest.raises(ArchiveError, match=rf"'{place}' is a 7z archive, whatever its name says"):
        filter_stage.main("h")
    assert not IMAGES.at("h").exists()


def test_too_many_lost_stop_the_stage_and_nothing_is_written(project: Path) -> None:
    """By the limit in params.yaml."""
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("max_lost: 1", "max_lost: 0.25"))
    declare()
    good = {f"A/{n}.jpg": encode(cell(n)) for n in range(6)}
    pack(good | {"A/7.gif": b"GIF89a", "1.jpg": encode(cell(9))})
    filter_stage.main("h")
    IMAGES.at("h").unlink()
    pack(good | {"A/7.gif": b"GIF89a", "1.jpg": encode(cell(9)), "A/8": bytes(range(99))})
    told = r"h: 3 of 9 pictures are lost.*foreign_format 1 .*unknown_format 1 .*no_class_folder 1"
    with pytest.raises(HospitalError, match=told):
        filter_stage.main("h")
    assert not IMAGES.at("h").exists()


SEEDS = 15  # damaged archives of each kind


def drawn(n: int) -> dict[str, bytes]:
    """Pictures of each format that is read, one of them twice."""
    kinds = ("JPEG", "PNG", "BMP", "TIFF")
    return {f"A/{i}.{kinds[i % 4]}": encode(cell(i // 5 * 5, 70), kinds[i % 4]) for i in range(n)}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_pictures_are_kept_or_rejected(seed: int, project: Path) -> None:
    """Whatever bytes a disk or a transfer spoils, by download and filter: in = kept + rejected."""
    rng = np.random.default_rng(seed)
    for path, content in drawn(40).items():
        place = project / "mine" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(mutations.mutate(content, rng))
    (project / "mine/A/whole.png").write_bytes(encode(cell(99), "PNG"))  # or none may be left
    block = {"title": "T", "licence": "none", "citation": "none", "folder": "mine"}
    Path("data/hospitals.yaml").write_text(yaml.safe_dump({"h": block}))
    download.main("h")
    filter_stage.main("h")
    paths = [*IMAGES.read("h")["path"], *REJECTED.read("h")["path"]]
    assert sorted(paths) == sorted([*drawn(40), "A/whole.png"])


@pytest.mark.parametrize("kind", mutations.PACKERS)
def test_damaged_archives_lose_nothing_in_silence(kind: str) -> None:
    """Each is refused in one line, or every member that it lists is kept or rejected."""
    whole = mutations.PACKERS[kind](drawn(5))
    declare()
    archive = Path("data/raw/h/cells")
    n_read = 0
    for seed in range(SEEDS):
        archive.write_bytes(mutations.mutate(whole, np.random.default_rng(seed)))
        try:
            filter_stage.main("h")
        except (ArchiveError, HospitalError):
            continue
        n_read += 1
        found = json.loads(Path("metrics/filter/h.json").read_text())
        assert found["n_members"] == found["n_kept"] + found["n_rejected"] >= 1
    assert n_read < SEEDS


def test_metrics_sum_up() -> None:
    """in = kept + rejected + auxiliary, and reasons and formats are complete."""
    declare(image=IMAGE, sizes=["90x90"])
    files, faults = planted()
    pack(files)
    filter_stage.main("h")
    metrics = json.loads(Path("metrics/filter/h.json").read_text())
    assert metrics["n_members"] == len(files)
    assert metrics["n_rejected"] == sum(metrics["n_by_reason"].values()) == len(faults)
    assert metrics["n_kept"] == sum(metrics["n_by_format"].values())
    assert metrics["n_members"] == metrics["n_kept"] + metrics["n_rejected"]
    assert (metrics["n_near_twins"], metrics["n_odd_size"]) == (2, 1)


def test_bytes_do_not_depend_on_workers_or_the_order_in_the_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One process or three, forwards or backwards: the same three files."""
    declare(image=IMAGE)
    files, _ = planted()
    results = []
    for workers, ordered in (("1", files), ("3", dict(reversed(files.items())))):
        monkeypatch.setenv("SMEARFLOW_WORKERS", workers)
        pack(ordered)
        filter_stage.main("h")
        paths = [IMAGES.at("h"), REJECTED.at("h"), Path("metrics/filter/h.json")]
        results.append([path.read_bytes() for path in paths])
    assert results[0] == results[1]


def test_masks_and_tables_are_no_pictures() -> None:
    """A mask goes to its picture, a table's facts into the rows, both are counted."""
    declare(
        image=r"(?P<number>\d+)\.bmp",
        mask=r"(?P<of>\d+)\.png",
        tables=[
            {"member": r"t\.csv", "key": "id", "match": "number", "columns": {"label": "class"}}
        ],
        constants={"diagnosis": "healthy"},
    )
    mask = encode(cell(1), "PNG")
    pack(
        {
            "001.bmp": encode(cell(1), "BMP"),
            "001.png": mask,
            "002.bmp": encode(cell(2), "BMP"),
            "t.csv": b"id,class\n1,5\n",
        }
    )
    filter_stage.main("h")
    images = IMAGES.read("h")
    assert images["mask"].tolist() == [mask, None]
    assert images["published_label"].fillna("none").tolist() == ["5", "none"]
    assert images["diagnosis"].tolist() == ["healthy", "healthy"]
    metrics = json.loads(Path("metrics/filter/h.json").read_text())
    assert (metrics["n_auxiliary"], metrics["n_masks"], metrics["n_members"]) == (2, 1, 4)


def test_a_table_is_counted_and_never_leaves_patients_out_in_silence() -> None:
    """How many pictures it meets stands in the metrics; none is an end before any is decoded."""
    table = {"member": "t.csv", "key": "n", "match": "n", "columns": {"patient": "p"}}
    declare(image=r"(?P<label>[AB])/(?P<n>\d+)\.jpg", tables=[table])
    files = {f"A/{n}.jpg": encode(cell(n)) for n in range(3)}
    pack(files | {"t.csv": b"n,p\n0.0,P1\n1.0,P2\n"})
    filter_stage.main("h")
    metrics = json.loads(Path("metrics/filter/h.json").read_text())
    assert metrics["tables"] == {"t.csv by n": {"n_images": 3, "n_matched": 2, "n_patient": 2}}
    assert IMAGES.read("h")["patient"].fillna("-").tolist() == ["P1", "P2", "-"]
    pack(dict.fromkeys(files, b"") | {"t.csv": b"n,p\nx0,P1\nx1,P2\n"})
    with pytest.raises(HospitalError, match=r"h: table t.csv meets none of the 3 pictures"):
        filter_stage.main("h")


def test_a_broken_mask_or_table_is_named(caplog) -> None:
    """A mask that does not open is left out, and told; a table that does not stops the stage."""
    table = {"member": r"ids\.csv", "key": "id", "match": "number", "columns": {"label": "class"}}
    image, mask = r"(?P<number>\d+)\.jpg", r"(?P<of>\d+)\.png"
    declare(image=image, mask=mask, tables=[table])
    files = {"1.jpg": encode(cell(1)), "1.png": b"no picture", "ids.csv": b"id,class\n1,a\n"}
    pack(files)
    filter_stage.main("h")
    assert IMAGES.read("h")["mask"].tolist() == [None]
    assert "the mask 1.png is left out: not_an_image" in caplog.text
    archive = Path("data/raw/h/h.zip")
    archive.write_bytes(archive.read_bytes().replace(files["ids.csv"], b"id,class\n1,b\n"))
    with pytest.raises(ArchiveError, match=r"published tables ids.csv cannot be read.*checksum"):
        filter_stage.main("h")


def test_arrays_are_pictures_like_any_other() -> None:
    """An npz as MedMNIST publishes it goes through the same stage."""
    declare(image=r"(?P<official_part>train|test)/(?P<label>\d)/\d{6}\.png")
    pixels = np.stack([cell(n) for n in range(3)])
    arrays = {"train_images": pixels, "train_labels": np.array([[6], [0], [6]])}
    np.savez("data/raw/h/b.npz", **arrays)
    filter_stage.main("h")
    images = IMAGES.read("h")
    assert images["published_label"].tolist() == ["0", "6", "6"]
    assert images["official_part"].tolist() == ["train"] * 3
    code = np.frombuffer(images["bytes"][2], np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), pixels[2])


def test_no_picture_stops_with_a_way_out() -> None:
    """And writes no table."""
    declare(image=r"nowhere/\d+\.jpg")
    pack(planted()[0])
    with pytest.raises(HospitalError, match=r"none of its 25 files is a usable picture"):
        filter_stage.main("h")
    assert not IMAGES.at("h").exists()
    assert [path.name for path in Path("data/raw").iterdir()] == ["h"]


PARTS = r"(?P<official_part>\w+)/(?P<label>[AB])/[^/]+\.jpg"


def publish_parts(*parts: str) -> None:
    """One picture in each of the publisher's parts."""
    pack({f"{part}/A/{n}.jpg": encode(cell(n)) for n, part in enumerate(parts)})


def test_pictures_without_class_folders_are_told_to_have_them() -> None:
    """All beside each other: no label can be read, and layout.image is no word of a newcomer."""
    declare()
    pack({f"{n}.jpg": encode(cell(n)) for n in range(2)})
    with pytest.raises(HospitalError, match=r"h: no picture lies in a folder.*h/neutrophils/"):
        filter_stage.main("h")


def test_each_picture_knows_its_official_side() -> None:
    """The publisher's part, which of ours that is, whose it is and who drew it."""
    declare(image=PARTS, official_parts={"Training": "train", "Exam": "test"})
    publish_parts("Training", "Exam", "Spare")
    filter_stage.main("h")
    images = IMAGES.read("h")
    assert images["official_part"].tolist() == ["Exam", "Spare", "Training"]
    assert images["official_side"].fillna("none").tolist() == ["test", "none", "train"]
    assert not images["simulated"].any()
    assert set(images["place"]) == {"h"}
    write_contents("h", {"same_as": "g"}, image=PARTS, official_parts={"Exam": "test"})
    filter_stage.main("h")
    assert set(IMAGES.read("h")["place"]) == {"g"}


def test_declared_parts_that_no_picture_bears_stop_the_stage() -> None:
    """A misspelt part would silently give another split; nothing is written."""
    declare(image=PARTS, official_parts={"training": "train", "exam": "test"})
    publish_parts("Training", "Exam")
    told = r"h: layout.official_parts .* names exam, training; its pictures name Exam, Training"
    with pytest.raises(HospitalError, match=rf"{told}. Correct official_parts"):
        filter_stage.main("h")
    assert not IMAGES.at("h").exists()
    declare(image=PARTS, official_parts={"training": "train", "Exam": "test"})
    filter_stage.main("h")
    assert IMAGES.read("h")["official_side"].fillna("none").tolist() == ["test", "none"]


def test_without_what_download_wrote_it_ends_with_one_line() -> None:
    """A folder that download did not make, or has not finished."""
    with pytest.raises(ArchiveError, match=r"data/raw/h/contents.json is missing.*dvc repro"):
        filter_stage.main("h")


FOUND = {
    "barcelona": {
        "n_members": 667,
        "n_kept": 663,
        "n_odd_size": 17,
        "n_lost": 2,
        "duplicate": 2,
        "conflicting_labels": 2,
    },
    "barcelona224": {"n_members": 3896, "n_kept": 3894, "duplicate": 2},
    "munich": {"n_members": 99, "n_kept": 99},
    "raabin": {"n_members": 310, "n_kept": 310},
    "jhu": {
        "n_members": 1034,
        "n_kept": 982,
        "n_auxiliary": 1,
        "n_odd_size": 1,
        "unreadable": 3,
        "truncated": 2,
        "hidden": 2,
        "oversized": 1,
        "n_lost": 23,
        "duplicate": 26,
        "conflicting_labels": 17,
    },
    "jiangxi": {
        "n_members": 483,
        "n_kept": 240,
        "n_auxiliary": 242,
        "n_masks": 240,
        "n_near_twins": 2,
        "duplicate": 1,
    },
    "bccd": {"n_members": 351, "n_kept": 351, "n_near_twins": 12},
    "chula": {"n_members": 510, "n_kept": 510, "n_near_twins": 32},
    "raabin_krd": {"n_members": 902, "n_kept": 451, "n_auxiliary": 451, "n_masks": 451},
    "cvb": {"n_members": 101, "n_kept": 50, "n_auxiliary": 51, "n_masks": 50},
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pictures are not at hand")
@pytest.mark.parametrize("hospital", FOUND)
def test_what_is_wrong_with_the_real_pictures_is_found(
    hospital: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly what was found by hand with other programs, through the shipped blocks."""
    text = (ROOT / "data/hospitals.yaml").read_text(encoding="utf-8")
    Path("data/hospitals.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SMEARFLOW_MIRROR", str(SHARED))
    monkeypatch.delenv("SMEARFLOW_WORKERS")
    download.main(hospital)
    filter_stage.main(hospital)
    metrics = json.loads(Path(f"metrics/filter/{hospital}.json").read_text())
    reasons = {reason: n for reason, n in metrics["n_by_reason"].items() if n}
    expected = dict(FOUND[hospital])
    counted = {name: n for name, n in metrics.items() if isinstance(n, int)}
    del counted["n_rejected"]
    if hospital == "jiangxi":  # its block says where sizes begin to be odd
        del counted["n_odd_size"]
    assert counted == {name: expected.pop(name, 0) for name in counted}
    assert reasons == expected
    if hospital == "jhu":
        assert len(groups_of_copies(REJECTED.read(hospital))) == 34


def groups_of_copies(rejected) -> set[str]:
    """Name each group of identical files: by what was kept, or by the picture's own number."""
    copies = rejected[rejected["reason"] == "duplicate"]["detail"]
    conflicts = rejected[rejected["reason"] == "conflicting_labels"]["path"]
    signed = conflicts[~conflicts.str.contains("Unsigned")]
    numbers = signed.str.extract(r"(\d+)\.jpg$")
    return set(copies) | set(numbers[0])
