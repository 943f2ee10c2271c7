"""What no person put there is known by its name, at any depth; people's names are not."""

import pytest

from stages.datasets.leftovers import is_leftover

LEFT = [
    ".DS_Store", "A/._1.jpg", "__MACOSX/A/1.jpg", "a/THUMBS.DB", "ehthumbs.db", "Desktop.ini",
    ".ipynb_checkpoints/1.jpg", "$RECYCLE.BIN/S-1-5/$R1.jpg", "RECYCLER/x.jpg",
    "A/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/A/1.jpg", "@Recycle/1.jpg",
    "#snapshot/a/1.jpg", ".Trash-1000/files/1.jpg", "lost+found/1.jpg", ".@__thumb/s1.jpg",
    "@Recently-Snapshot/1.jpg", "~snapshot/hourly/1.jpg", "found.000/1.jpg", "A/~$notes.docx",
    "@GMT-2020.01.01/1.jpg", "A/1.jpg@SynoResource", "files_trashbin/1.jpg", "A/picasa.ini",
    "Thumbs.db:encryptable", "trashbox/A/1.jpg", "A/~syncthing~1.jpg.tmp", "found.001/1.jpg",
    "System Volume Information/1.jpg", "Temporary Items/x/1.jpg",
]  # fmt: skip


@pytest.mark.parametrize("path", LEFT)
def test_leftovers_are_known(path: str) -> None:
    """Deleted pictures and thumbnails lie under the right folder names, and stay out."""
    assert is_leftover(path)


@pytest.mark.parametrize(
    "path",
    ["recycled cells/1.jpg", "A/1.jpg", "trash/1.jpg", "lost/1.jpg", "#1/2.jpg", "@home/1.jpg",
     "$5/1.jpg", "thumbs/1.jpg", "snapshot/1.jpg", "A/~1.jpg"],
)  # fmt: skip
def test_people_s_folders_are_not_taken_for_leftovers(path: str) -> None:
    """Names that only resemble one are read."""
    assert not is_leftover(path)
