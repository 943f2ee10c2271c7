"""contents.json: what download wrote, read back; and nothing of a person is taken for ours."""

import hashlib
from pathlib import Path

import pytest

from stages.core.errors import ArchiveError, DownloadError
from stages.datasets import contents
from stages.datasets.hospitals import Hospital

BLOCK = {"title": "T", "licence": "L", "citation": "C"}
LAYOUT = {"image": r"(?P<label>\w+)/\d+\.png", "sizes": ["9x9"], "official_parts": {"A": "test"}}
FILES = {"b.zip": b"two", "a.zip": b"one", "master.csv": b""}


@pytest.fixture
def raw(tmp_path):
    """A folder of archives as download fills it, before they are listed."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def block(**changes):
    return Hospital.model_validate(BLOCK | {"folder": ".", "layout": LAYOUT} | changes)


def test_what_is_written_is_read_back(raw):
    """Every file by name, with size and checksum; the layout; who drew the pictures."""
    written = contents.write(block(), raw)
    found = contents.read(raw)
    assert found == written
    assert {one.name: one.sha256 for one in found.archives} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }
    assert [(one.name, one.bytes) for one in found.archives] == [
        ("a.zip", 3), ("b.zip", 3), ("master.csv", 0),
    ]  # fmt: skip
    assert found.layout == block().layout
    assert found.simulated is False
    drawn = contents.write(block(folder=None, simulated={}), raw)
    assert drawn.simulated is True


def test_the_same_files_give_the_same_bytes(raw):
    """Whatever else the block says, and where contents.json lies there already."""
    contents.write(block(), raw)
    first = (raw / contents.FILE).read_bytes()
    contents.write(block(title="another", citation="corrected"), raw)
    assert (raw / contents.FILE).read_bytes() == first


@pytest.mark.parametrize("text", ["", "{}", '{"archives": []}', "\u00e4".encode("latin-1")])
def test_another_s_file_is_one_line(raw, text):
    text = text if isinstance(text, bytes) else text.encode()
    (raw / contents.FILE).write_bytes(text)
    with pytest.raises(ArchiveError, match=r"contents.json is not what download writes.*dvc repro"):
        contents.read(raw)


def test_a_missing_file_is_one_line(raw):
    for folder in (raw, raw / "nowhere", raw / "a.zip"):
        with pytest.raises(ArchiveError, match=r"contents.json is missing. Run 'uv run dvc repro'"):
            contents.read(folder)


def test_a_folder_of_ours_is_own(raw, tmp_path):
    """As it was written, in parts, empty, or not there yet."""
    contents.write(block(), raw)
    contents.require_own(raw)
    assert {path.name for path in raw.iterdir()} == {*FILES, contents.FILE}
    (raw / "b.zip").unlink()
    contents.require_own(raw)
    (tmp_path / "empty").mkdir()
    contents.require_own(tmp_path / "empty")
    contents.require_own(tmp_path / "nowhere")


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_of_another_s_files_is_not(raw, listed):
    """A picture, an archive or a whole folder that a person put there."""
    if listed:
        contents.write(block(), raw)
    (raw / "class" / "x").mkdir(parents=True)
    (raw / "mine.zip").write_bytes(b"PK")
    before = sorted(raw.rglob("*"))
    strange = r"class, mine.zip" if listed else r"a.zip, b.zip, class, master.csv, mine.zip"
    with pytest.raises(DownloadError, match=rf"{strange}.*Nothing was changed. Move them to a fo"):
        contents.require_own(raw)
    assert sorted(raw.rglob("*")) == before


def test_a_list_that_cannot_be_read_makes_nothing_ours(raw):
    """Whoever cannot say what was written may delete none of it."""
    (raw / contents.FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(DownloadError, match=r"holds 3 files .*a.zip, b.zip, master.csv"):
        contents.require_own(raw)


def test_another_file_under_our_name_is_not_ours(raw):
    """A person's own a.zip in place of ours would be replaced without a word."""
    contents.write(block(), raw)
    (raw / "a.zip").write_bytes(b"ten")
    with pytest.raises(DownloadError, match=r"1 files or folders .*a\.zip.*Nothing was changed"):
        contents.require_own(raw)
    assert (raw / "a.zip").read_bytes() == b"ten"


def test_what_an_older_version_listed_is_ours(raw):
    """about.json named archives and checksums before contents.json did."""
    contents.write(block(), raw)
    (raw / contents.FILE).rename(raw / "about.json")
    contents.require_own(raw)


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "raw").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"raw is a file of somebody's. Move it out of data/"):
        contents.require_own(tmp_path / "raw")


def test_checksums_are_those_of_hashlib(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 5000)
    for method in ("sha256", "md5"):
        expected = hashlib.new(method, path.read_bytes()).hexdigest()
        assert contents.checksum(Path(path), method) == expected
