"""A batch says the same as smearflow predict, and all that a page shows of a picture."""

import copy
import csv
import dataclasses
import io
import json
import zlib

import numpy as np
import pytest

from stages.answering import batches
from stages.answering.model import NOT_READ, AnsweringModel
from stages.datasets import filtering
from stages.images import decoding
from stages.tools import answer
from tests.answering.test_model import ensemble, flipping_lenet, trees
from tests.made.answering import draw_cell, encode, write_export


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    made = {"first": ensemble(), "second": flipping_lenet(), "trees": trees()}
    return {
        name: AnsweringModel(write_export(folder / name, one, threshold=0.5))
        for name, one in made.items()
    }


def make_files(n=5):
    return [
        (f"{number}.png", encode(draw_cell(("basophil", "monocyte")[number % 2], number)))
        for number in range(n)
    ]


def ask(files, models):
    """A batch, in a block that is left to the end of the test."""
    return batches.answer(files, models, lambda done, n_all: None)


def test_probabilities_are_those_of_smearflow_predict(models, tmp_path, monkeypatch):
    """Of the same files, to a millionth; verdicts and flags too."""
    monkeypatch.chdir(tmp_path)
    files = make_files(6)
    for name, content in files:
        (tmp_path / name).write_bytes(content)
    model = models["first"]
    assert answer.main([*(name for name, _ in files), "--model", str(model.folder),
                        "--csv", "told.csv"]) == 0  # fmt: skip
    with (tmp_path / "told.csv").open() as file:
        expected = list(csv.DictReader(file))
    with ask(files, [model]) as batch:
        for one, row in zip(batch.answers[0], expected, strict=True):
            for label, p in one.chances.items():
                assert p == pytest.approx(float(row[f"p_{label}"]), abs=1e-6)
            assert (one.verdict, " ".join(one.flags)) == (row["verdict"], row["flags"])
        assert batch.write(0, "csv") == (tmp_path / "told.csv").read_bytes()


def test_bad_files_are_told_and_all_others_answered(models):
    """No picture, nothing, a header of 50,000 x 50,000, among others."""
    header = bytearray(encode(draw_cell("monocyte")))
    header[16:24] = (50_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    bad = [("text.png", b"no picture"), ("empty.png", b""), ("huge.png", bytes(header))]
    cell = encode(draw_cell("monocyte"))
    good = [(f"{number}.png", cell) for number in range(20)]
    told = []
    with batches.answer([*good, *bad], [models["trees"]], lambda *now: told.append(now)) as batch:
        verdicts = [one.verdict == NOT_READ for one in batch.answers[0]]
        assert verdicts == [False] * 20 + [True] * 3
        problems = [one.problem for one in batch.answers[0][20:]]
        assert [one.split(":")[0] for one in problems] == ["not_an_image", "empty", "oversized"]
        assert "50000" in problems[2]
        assert [one is None for one in batch.tiles] == verdicts
    assert told[-1] == (23, 23)


def test_two_models_answer_the_same_pictures(models):
    """Each its own answers, in the order of the pictures; they differ where the calls do."""
    files = make_files()
    with ask(files, [models["first"], models["second"]]) as batch:
        alone = []
        for name in ("first", "second"):
            with ask(files, [models[name]]) as single:
                alone.append(single.answers[0])
        assert batch.answers == alone
        for number in range(len(files)):
            calls = {own[number].call for own in alone}
            assert batch.differs(number) == (len(calls) == 2)


def test_a_finer_name_of_the_same_cell_is_no_difference(models):
    """Models of two schemes: a class that holds the other's cell type agrees with it."""
    with ask(make_files(1), [models["second"], models["second"]]) as batch:
        call = batch.answers[0][0].call
        other = copy.copy(models["second"])
        batch.answers[1][0] = dataclasses.replace(batch.answers[1][0], chances={"coarse": 1.0})
        for types, differs in (([call, "band"], False), (["band"], True)):
            told = other.about.model_copy(update={"cell_types": {"coarse": types}})
            other.about = told
            batch.models[1] = other
            assert batch.differs(0) == differs


def test_a_picture_is_looked_at_with_its_maps(models):
    """Three classes for each model; the checksum of the pixels; the second look is the first."""
    with ask(make_files(2), [models["second"], models["trees"]]) as batch:
        detail = batch.look(1)
        rgb = decoding.decode(make_files(2)[1][1]).rgb
        assert detail.pixel_sha256 == filtering.hash_pixels(rgb)
        assert detail.picture.startswith("data:image/jpeg;base64,")
        for own, answers in zip(detail.maps, batch.answers, strict=True):
            assert [one.label for one in own] == [name for name, _ in answers[1].likeliest]
        assert all(one.map for one in detail.maps[0])
        assert not any(one.map for one in detail.maps[1])  # trees have no map
        assert batch.look(1) is detail


def test_counts_are_by_folder_and_together(models):
    files = [("a/1.png", make_files(1)[0][1]), ("b/2.png", make_files(1)[0][1]), ("c.png", b"")]
    with ask(files, [models["first"]]) as batch:
        assert set(batch.count(0)["by_folder"]) == {"a", "b", "."}
        together = batch.count(0, together=True)["by_folder"]
        assert list(together) == ["."]
        assert together["."]["n"] == 3


def test_files_to_take_along_hold_every_picture(models):
    """Written twice they are the same; what was sent goes when the block ends."""
    with ask([*make_files(2), ("=1.png", b"")], [models["first"]]) as batch:
        rows = list(csv.DictReader(io.StringIO(batch.write(0, "csv").decode())))
        assert [row["picture"] for row in rows] == ["0.png", "1.png", "'=1.png"]
        told = json.loads(batch.write(0, "json"))
        assert len(told["pictures"]) == 3
        assert told["model"]["model_sha256"] == models["first"].about.model_sha256
        page = batch.write(0, "html").decode()
        assert page.count("<img ") == 2
        assert batch.write(0, "csv") == batch.write(0, "csv")
        places = [batch.folder, batch.asked[0].member.source]
        assert all(one.exists() for one in places)
    assert not any(one.exists() for one in places)
    assert np.isfinite(list(batch.answers[0][0].chances.values())).all()
