"""What lies beside a model: read as written, and refused where model and text are not one."""

import shutil

import pytest

from stages.answering import about
from stages.core.errors import ModelError
from tests.made.answering import write_export


def test_what_was_written_is_read(tmp_path):
    """With the model's sha256, which hangs on names and content, not on the folder's place."""
    told = about.read(write_export(tmp_path / "export", threshold=None))
    about.write(told, tmp_path / "export")
    assert about.read(tmp_path / "export") == told
    assert told.confidence.threshold is None
    shutil.copytree(tmp_path / "export/model", tmp_path / "copy")
    assert about.hash_model(tmp_path / "copy") == told.model_sha256
    (tmp_path / "copy/card.json").rename(tmp_path / "copy/cord.json")
    assert about.hash_model(tmp_path / "copy") != told.model_sha256


@pytest.mark.parametrize("fault", ["missing", "version", "model", "file", "form"])
def test_a_model_that_is_not_whole_is_refused(tmp_path, fault):
    """In one line, before any picture is read."""
    folder = write_export(tmp_path / "export")
    text = (folder / about.FILE).read_text()
    if fault == "missing":
        shutil.rmtree(folder)
    elif fault == "version":
        (folder / about.FILE).write_text(text.replace('"version": 1', '"version": 2'))
    elif fault == "model":
        (folder / "model/weights.npz").write_bytes(b"x")
    elif fault == "file":
        (folder / "model/more.npz").write_bytes(b"x")
    else:
        (folder / about.FILE).write_text("[]")
    with pytest.raises(ModelError, match="export") as told:
        about.read(folder)
    assert "\n" not in str(told.value)
