"""Archives: every member is read byte for byte, whatever packs it; nothing leaves its place."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import ArchiveError, ImageError
from stages.datasets import archives, contents

FILES = {"A/1.jpg": b"one" * 50, "A/2.jpg": b"", "B/ä 3.jpg": bytes(range(256)) * 9, "t.csv": b"x"}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack a zip in memory, with its folders."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as packed:
        packed.writestr("A/", b"")
        for name, content in files.items():
            packed.writestr(name, content)
    return sink.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """Pack a tar in memory, with a folder and a link to nowhere."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as packed:
        for name, kind in (("A", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "nowhere"
            packed.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every member of a folder of archives."""
    with archives.open_members(folder) as members:
        assert [member.path for member in members] == sorted(member.path for member in members)
        return {member.path: archives.read_member(member) for member in members}


KINDS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "h.zip": zipped,
    "stored.ZIP": lambda files: zipped(files, zipfile.ZIP_STORED),
    "h.tar": tarred,
    "h.tar.gz": lambda files: gzip.compress(tarred(files)),
    "h.tgz": lambda files: gzip.compress(tarred(files)),
    "h.tar.bz2": lambda files: bz2.compress(tarred(files)),
    "h.tar.xz": lambda files: lzma.compress(tarred(files)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_out_as_they_went_in(kind: str, tmp_path: Path) -> None:
    """Every kind of archive gives names and bytes, without folders; a link has no bytes."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / kind).write_bytes(KINDS[kind](FILES))
    (raw / contents.FILE).write_text("{}")
    link = {"link": b""} if ".t" in kind else {}
    assert read_all(raw) == FILES | link
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_python_s_own_reader_agrees(tmp_path: Path) -> None:
    """Bytes read at an offset are those of `zipfile`."""
    path = tmp_path / "h.zip"
    path.write_bytes(b"a program before the zip" + zipped(FILES))
    with zipfile.ZipFile(path) as packed:
        theirs = {
            info.filename: packed.read(info) for info in packed.infolist() if not info.is_dir()
        }
    assert read_all(tmp_path) == theirs


def test_members_travel_to_other_processes(tmp_path: Path) -> None:
    """A member is a plain description, so a worker can read it."""
    (tmp_path / "h.zip").write_bytes(zipped(FILES))
    with archives.open_members(tmp_path) as members:
        sent = pickle.loads(pickle.dumps(members))
        assert [archives.read_member(one) for one in sent] == [FILES[one.path] for one in sent]


def test_loose_files_and_several_archives_stand_side_by_side(tmp_path: Path) -> None:
    """A table beside the zip is a member itself."""
    (tmp_path / "a.zip").write_bytes(zipped({"A/1.jpg": b"1"}))
    (tmp_path / "b.tar").write_bytes(tarred({"B/1.jpg": b"2"}))
    (tmp_path / "master.csv").write_bytes(b"id")
    found = read_all(tmp_path)
    del found["link"]
    assert found == {"A/1.jpg": b"1", "B/1.jpg": b"2", "master.csv": b"id"}


@pytest.mark.parametrize("outer", ["h.zip", "stored.ZIP", "h.tar.gz"])
def test_inner_zips_are_opened(outer: str, tmp_path: Path) -> None:
    """An inner zip stands for its members, in a folder of its name unless it brings one."""
    inner = {
        "PBC.zip": zipped({"PBC/A/1.jpg": b"1" * 3_000_000, "__MACOSX/x": b"m"}),
        "some/two.zip": zipped({"A/1.jpg": b"2"}),
        "some/three.zip": zipped({"A/1.jpg": b"3"}),
        "deep.zip": zipped({"deep/inner.zip": zipped(FILES)}),
        "__MACOSX/._PBC.zip": b"\x00\x05\x16\x07",
    }
    (tmp_path / outer).write_bytes(KINDS[outer](inner))
    found = read_all(tmp_path)
    assert set(found) - {"link"} == {
        "PBC/A/1.jpg",
        "__MACOSX/x",
        "some/two/A/1.jpg",
        "some/three/A/1.jpg",
        *(f"deep/inner/{name}" for name in FILES),
        "__MACOSX/._PBC.zip",
    }
    assert found["some/two/A/1.jpg"] == b"2"
    assert found["PBC/A/1.jpg"] == b"1" * 3_000_000


def test_a_broken_inner_zip_is_named(tmp_path: Path) -> None:
    """Its pictures are not lost without a word."""
    (tmp_path / "h.zip").write_bytes(zipped({"in/two.zip": zipped(FILES)[:-40]}))
    with pytest.raises(ArchiveError, match=r"h.zip, inner archive 'in/two.zip' is broken.*MIRROR"):
        read_all(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_archive_names_file_and_way_out(kind: str, tmp_path: Path) -> None:
    """A cut archive stops the stage."""
    content = KINDS[kind](FILES)
    (tmp_path / kind).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ArchiveError, match=rf"{kind} is broken: .*dvc repro -f -s download@"):
        read_all(tmp_path)


@pytest.mark.parametrize("kind", ["h.zip", "h.npz", "h.tar", "h.tar.gz", "h.tar.xz", "h.tar.bz2"])
@pytest.mark.parametrize("content", [b"", b"<html>Are you a person?</html>"])
def test_a_web_page_is_no_archive(kind: str, content: bytes, tmp_path: Path) -> None:
    """What some servers send instead of a file is named as broken."""
    (tmp_path / kind).write_bytes(content)
    with pytest.raises(ArchiveError, match=rf"{kind} is broken"):
        read_all(tmp_path)


def test_encrypted_and_odd_compression_have_a_way_out(tmp_path: Path) -> None:
    """They are named at once, not picture by picture."""
    content = bytearray(zipped({"A/1.jpg": b"x" * 99}))
    central = content.rindex(b"PK\x01\x02")
    content[central + 8] |= 1
    (tmp_path / "h.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"'A/1.jpg' is encrypted. Unpack"):
        read_all(tmp_path)
    (tmp_path / "h.zip").write_bytes(zipped({"A/1.jpg": b"x" * 99}, zipfile.ZIP_LZMA))
    with pytest.raises(ArchiveError, match=r"'A/1.jpg' is compressed by method 14"):
        read_all(tmp_path)


def test_a_missing_folder_says_which_command_makes_it(tmp_path: Path) -> None:
    """Before download, filter has nothing."""
    with pytest.raises(ArchiveError, match=r"missing. Run 'uv run dvc repro'"):
        read_all(tmp_path / "none")


def test_damaged_members_are_refused_one_by_one(tmp_path: Path) -> None:
    """One flipped byte costs one picture, and says so."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = bytearray(zipped({"A/1.jpg": bytes(range(256)), "A/2.jpg": b"whole"}, method))
        start = content.index(b"A/1.jpg") + len("A/1.jpg")
        content[start + 9] ^= 0xFF
        (tmp_path / "h.zip").write_bytes(content)
        with archives.open_members(tmp_path) as (broken, whole):
            with pytest.raises(ImageError, match=r"unreadable: damaged inside the archive"):
                archives.read_member(broken)
            assert archives.read_member(whole) == b"whole"


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is too large by its own word is not read; one that lies is cut off."""
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
    (tmp_path / "h.zip").write_bytes(zipped({"A/1.jpg": bytes(1001)}))
    with (
        archives.open_members(tmp_path) as (member,),
        pytest.raises(ImageError, match=r"oversized: 1001 bytes"),
    ):
        archives.read_member(member)
    content = zipped({"A/1.jpg": bytes(1 << 24)})
    lie = (10).to_bytes(4, "little")
    (tmp_path / "h.zip").write_bytes(content.replace((1 << 24).to_bytes(4, "little"), lie))
    with (
        archives.open_members(tmp_path) as (member,),
        pytest.raises(ImageError, match=r"unreadable: damaged inside the archive"),
    ):
        archives.read_member(member)


def test_unsafe_names_are_texts_only(tmp_path: Path) -> None:
    """Nothing is written where an archive's name points to."""
    raw = tmp_path / "deep" / "raw"
    raw.mkdir(parents=True)
    (raw / "h.zip").write_bytes(
        zipped({"../../evil.jpg": b"1", "/etc/x.jpg": b"2", "a\\b/./c\n.jpg": b"3"})
    )
    assert read_all(raw) == {"evil.jpg": b"1", "etc/x.jpg": b"2", "a/b/c_.jpg": b"3"}
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@given(st.text(st.characters(codec=None)))
def test_names_become_plain_text_once(name: str) -> None:
    """Tidying twice is tidying once; the result is valid, normal, and of no outside place."""
    text = archives.tidy(name)
    assert archives.tidy(text) == text
    assert unicodedata.is_normalized("NFC", text.encode("utf-8").decode("utf-8"))
    assert text
    assert not set(text.split("/")) & {"", ".", ".."}


def medmnist(shape: tuple[int, ...] = (3, 9, 11, 3)) -> dict[str, np.ndarray]:
    """Make arrays as MedMNIST publishes them."""
    rng = np.random.default_rng(1)
    return {
        "train_images": rng.integers(0, 256, shape, np.uint8),
        "train_labels": np.array([[6], [0], [6]], np.uint8),
        "test_images": rng.integers(0, 256, (1, *shape[1:]), np.uint8),
        "test_labels": np.array([[2]], np.uint8),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(3, 9, 11, 3), (3, 170, 150)])
def test_arrays_become_pictures(save: Callable, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Each picture of an npz is a lossless PNG under part, label and number."""
    arrays = medmnist(shape)
    save(tmp_path / "bloodmnist.npz", **arrays)
    found = read_all(tmp_path)
    names = ["test/2/000000.png", "train/0/000001.png", "train/6/000000.png", "train/6/000002.png"]
    assert list(found) == names
    code = np.frombuffer(found["train/6/000002.png"], np.uint8)
    pixels = cv2.imdecode(code, cv2.IMREAD_UNCHANGED)
    pixels = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    np.testing.assert_array_equal(pixels, arrays["train_images"][2])


def test_a_second_run_never_sees_arrays_of_the_first(tmp_path: Path) -> None:
    """Unpacked arrays have the same names each time; their content is read anew."""
    first = medmnist()
    np.savez(tmp_path / "h.npz", **first)
    before = read_all(tmp_path)
    np.savez(tmp_path / "h.npz", **(first | {"train_images": 255 - first["train_images"]}))
    after = read_all(tmp_path)
    assert before["train/6/000000.png"] != after["train/6/000000.png"]
    assert before["test/2/000000.png"] == after["test/2/000000.png"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, r"holds \['x.npy'\]; pictures are read from pairs"),
        (
            {"a_images": np.zeros((2, 3, 3), np.float32), "a_labels": np.zeros(2)},
            "a_images is float32",
        ),
        ({"a_images": np.zeros((2, 3, 3), np.uint8), "a_labels": np.zeros(1)}, "with 1 labels"),
        ({"a_images": np.array([None]), "a_labels": np.zeros(1)}, "h.npz is broken: .*objects"),
    ],
)
def test_other_arrays_are_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    """An npz of another make says what was expected; pickled objects are never loaded."""
    np.savez(tmp_path / "h.npz", **arrays)
    with pytest.raises(ArchiveError, match=message):
        read_all(tmp_path)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    """Old unpacked files neither disturb nor stay."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "h.zip").write_bytes(zipped({"in.zip": zipped(FILES)}))
    left = tmp_path / "raw.unpacked.tmp"
    left.mkdir()
    (left / "1").write_bytes(b"old")
    assert len(read_all(raw)) == len(FILES)
    assert not left.exists()


def test_a_link_in_a_tar_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    """As in a folder; where it leads to none (nowhere, a folder, round), it has no bytes."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as packed:
        info = tarfile.TarInfo("A/1.jpg")
        info.size = 3
        packed.addfile(info, io.BytesIO(b"one"))
        for name, kind, target in (
            ("B/hard.jpg", tarfile.LNKTYPE, "A/1.jpg"),
            ("B/soft.jpg", tarfile.SYMTYPE, "../A/./1.jpg"),
            ("B/twice.jpg", tarfile.SYMTYPE, "soft.jpg"),
            ("B/gone.jpg", tarfile.SYMTYPE, "/nowhere/1.jpg"),
            ("B/round.jpg", tarfile.SYMTYPE, "round.jpg"),
            ("B/pipe.jpg", tarfile.FIFOTYPE, ""),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            packed.addfile(link)
    (tmp_path / "h.tar").write_bytes(sink.getvalue())
    found = read_all(tmp_path)
    assert {name for name, content in found.items() if not content} == {
        "B/gone.jpg", "B/round.jpg", "B/pipe.jpg"
    }  # fmt: skip
    assert sorted(content for content in found.values() if content) == [b"one"] * 4


@pytest.mark.parametrize("name", ["h.tar.gz", "h.zip", "h", "h.tbz2", "h.dat"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_content_and_not_the_name_tells_the_archive(
    kind: str, name: str, tmp_path: Path
) -> None:
    """Browsers unpack on the way, and people rename."""
    (tmp_path / name).write_bytes(KINDS[kind](FILES))
    assert {path: content for path, content in read_all(tmp_path).items() if content} == {
        path: content for path, content in FILES.items() if content
    }


@pytest.mark.parametrize("inner", KINDS)
@pytest.mark.parametrize("name", ["in/two", "in/two.dat", "in/two.zip", "in/two.tgz"])
def test_inner_archives_are_known_by_their_content(inner: str, name: str, tmp_path: Path) -> None:
    """They stand for their members in a folder of their name, two levels deep as well."""
    (tmp_path / "h.tar").write_bytes(tarred({name: KINDS[inner](FILES)}))
    found = read_all(tmp_path)
    assert {path.rpartition("link")[0] or path for path in found} >= {
        f"in/two/{path}" for path in FILES
    }
    (tmp_path / "h.tar").write_bytes(tarred({"deep.zip": zipped({name: KINDS[inner](FILES)})}))
    assert read_all(tmp_path)["deep/in/two/A/1.jpg"] == FILES["A/1.jpg"]


def test_a_packed_single_file_is_that_file(tmp_path: Path) -> None:
    """No tar inside: a table or a picture that was packed alone."""
    files = {
        "A/1.jpg.gz": gzip.compress(b"one"),
        "t.csv.xz": lzma.compress(b"id"),
        "x.bz2": bz2.compress(b"2"),
    }
    (tmp_path / "h.zip").write_bytes(zipped(files))
    assert read_all(tmp_path) == {"A/1.jpg": b"one", "t.csv": b"id", "x": b"2"}


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(90), "a Zstandard archive"),
        (b"LZIP\x01" + bytes(90), "a lzip archive"),
        (b"MSCF\0\0\0\0" + bytes(90), "a cabinet archive"),
        (b"\x1f\x9d\x90" + bytes(90), r"a compress \(.Z\) archive"),
        (b"\0\0-lh5-" + bytes(90), "a LHA archive"),
        (b"070701" + bytes(90), "a cpio archive"),
    ],
)
def test_an_archive_that_is_not_read_is_refused_at_any_depth(
    head: bytes, told: str, tmp_path: Path
) -> None:
    """Its pictures would be lost as one file that is no picture."""
    inner = {"A/1.jpg": b"1", "B/more": head}
    for content in (head, zipped(inner), zipped({"in.tar": tarred(inner)})):
        (tmp_path / "h.zip").write_bytes(content)
        with pytest.raises(ArchiveError, match=rf"is {told}, which is not read. Unpack it.*MIRROR"):
            read_all(tmp_path)


@pytest.mark.parametrize(
    "name", ["h.zip.001", "h.z01", "h.7z.002", "h.tar.gz.aa", "h.tgz.part1", "h.tar-part2", "h.r00"]
)
def test_a_piece_of_an_archive_is_refused_at_any_depth(name: str, tmp_path: Path) -> None:
    """Also one whose first bytes are of the archive's middle."""
    for files in (
        {name: b"\x17middle" * 9},
        {"o.zip": zipped({"A/1.jpg": b"1", f"B/{name}": b"\x17m"})},
    ):
        for path, content in files.items():
            (tmp_path / path).write_bytes(content)
        with pytest.raises(ArchiveError, match=r"a piece of an archive that was cut. Unpack all"):
            read_all(tmp_path)
        for path in files:
            (tmp_path / path).unlink()


def test_the_last_piece_of_a_zip_is_known_alone(tmp_path: Path) -> None:
    """Info-ZIP calls it .zip as a whole one."""
    content = bytearray(zipped(FILES))
    end = content.rindex(b"PK\x05\x06")
    content[end + 4 : end + 8] = (2).to_bytes(2, "little") * 2
    (tmp_path / "h.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"the last of 3 pieces of a zip. Unpack all pieces"):
        read_all(tmp_path)


def test_a_zip_that_holds_zips_without_end_stops(tmp_path: Path) -> None:
    """Or a name within a name would be unpacked until the disk is full."""
    content = zipped({"1.txt": b"x"})
    for _ in range(archives.MAX_DEPTH + 1):
        content = zipped({"in.zip": content})
    (tmp_path / "h.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"within 8 others, and no deeper one is read. Unpack"):
        read_all(tmp_path)


@pytest.mark.parametrize("mark", sorted(archives.DOCUMENTS))
def test_a_document_is_no_archive_of_pictures(mark: str, tmp_path: Path) -> None:
    """The pictures in a sheet are no cells, and its folder is no label."""
    sheet = zipped({mark: b"x", "xl/media/image1.png": b"1"})
    (tmp_path / "h.zip").write_bytes(zipped({"patients.xlsx": sheet}))
    with archives.open_members(tmp_path) as members:
        assert [one.path for one in members] == ["patients.xlsx"]
        assert archives.recognise(members[0]) == archives.DOCUMENT


def test_what_is_called_an_archive_and_is_none_is_named(tmp_path: Path) -> None:
    """Inside of another one too; a system's leftover or a picture of that name is let be."""
    (tmp_path / "h.zip").write_bytes(zipped({"in/two.rar": b"<html>moved</html>"}))
    told = r"inner archive 'in/two.rar' is broken: it holds a web page, and no archive"
    with pytest.raises(ArchiveError, match=told):
        read_all(tmp_path)
    names = {"__MACOSX/._two.rar": b"\0\5", "#recycle/x.zip": b"x", "A/1.zip": b"\xff\xd8\xff\xe0"}
    (tmp_path / "h.zip").write_bytes(zipped(names))
    assert read_all(tmp_path) == names


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    """Python's reader stops there without a word; the pictures behind would be lost."""
    content = bytearray(tarred(FILES))
    content[content.index(b"t.csv") + 1] ^= 1
    (tmp_path / "h.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"h.tar is broken: the header at byte \d+ is damaged"):
        read_all(tmp_path)


def test_folders_of_powershell_are_no_files(tmp_path: Path) -> None:
    """Its zips end folders with a backslash."""
    (tmp_path / "h.zip").write_bytes(zipped({"s\\": b"", "s\\A\\": b"", "s\\A\\1.jpg": b"1"}))
    assert read_all(tmp_path) == {"s/A/1.jpg": b"1"}


def test_a_list_of_members_that_lies_takes_no_memory(tmp_path: Path) -> None:
    """A small picture that is packed in the rest of the archive, or at a place that no file has."""
    content = bytearray(zipped({"A/1.jpg": b"x" * 99, "A/2.bin": bytes(range(256)) * 40_000}, 0))
    folder = content.index(b"PK\x01\x02")
    first = content.index(b"PK\x01\x02", folder + 1)
    content[first + 20 : first + 24] = b"\xff\xff\xff\x7f"
    (tmp_path / "h.zip").write_bytes(content)
    with archives.open_members(tmp_path) as members:
        member = next(one for one in members if one.packed_size > 1 << 30)
        tracemalloc.start()
        with pytest.raises(ImageError, match=r"unreadable"):
            archives.read_member(member)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
        for lost in (
            replace(member, offset=1 << 70),
            replace(member, offset=1 << 62),
            replace(member, offset=-7),  # Python's reader computes it from lists that do not fit
            replace(member, offset=0, size=-1),
        ):
            with pytest.raises(ImageError, match=r"unreadable: damaged inside the archive"):
                archives.read_member(lost)
            assert archives.read_head(lost) == b""
