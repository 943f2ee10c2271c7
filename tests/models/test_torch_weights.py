"""The reader of PyTorch weights: right numbers, and nothing but numbers."""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import ModelError
from stages.models import torch_weights

EMPTY = b"ccollections\nOrderedDict\n)R"


def spell_tuple(*items):
    """A tuple in the words of pickle protocol 0."""
    return b"(" + b"".join(items) + b"t"


def spell_number(number):
    """A whole number in the words of pickle protocol 0."""
    return b"I%d\n" % number


def spell_text(text):
    """A text in the words of pickle protocol 0."""
    return b"V" + text.encode() + b"\n"


def spell_tensor(count, offset, shape, steps, key="7", kind="FloatStorage"):
    """One tensor as torch.save spells it."""
    storage = spell_tuple(
        spell_text("storage"),
        f"ctorch\n{kind}\n".encode(),
        spell_text(key),
        spell_text("cpu"),
        spell_number(count),
        b"N",
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + spell_tuple(
            storage + b"Q",
            spell_number(offset),
            spell_tuple(*map(spell_number, shape)),
            spell_tuple(*map(spell_number, steps)),
            b"I00\n",
            EMPTY,
        )
        + b"R"
    )


def spell_file(tensors, storages, facts=None, tail=b""):
    """A whole weights file: tensors by name, storages by key."""
    state = EMPTY + b"(" + b"".join(spell_text(n) + t for n, t in tensors.items()) + b"u."
    raw = b"".join(len(s).to_bytes(8, "little") + s.tobytes() for s in storages.values())
    heads = (torch_weights.MAGIC, torch_weights.PROTOCOL, facts or {"little_endian": True})
    opening = b"".join(pickle.dumps(head, protocol=2) for head in heads)
    return opening + state + pickle.dumps(list(storages), protocol=2) + raw + tail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for the files of this module."""
    return tmp_path_factory.mktemp("weights")


def read(folder, content):
    """Write a file and read it with its right checksum."""
    path = folder / "weights.pth"
    path.write_bytes(content)
    return torch_weights.read(path, hashlib.sha256(content).hexdigest())


NUMBERS = np.arange(6, dtype="<f4")


@given(st.permutations(range(3)), st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 3))
def test_a_tensor_of_any_memory_order_is_read_back(folder, axes, shape, offset):
    """Offset, shape and steps together give the array that was saved."""
    array = np.random.default_rng(0).normal(size=shape).astype("<f4")
    stored = array.transpose(axes)
    storage = np.concatenate([np.zeros(offset, "<f4"), np.ascontiguousarray(stored).ravel()])
    inner = np.ascontiguousarray(stored).transpose(np.argsort(axes))
    steps = [step // 4 for step in inner.strides]
    content = spell_file({"w": spell_tensor(len(storage), offset, shape, steps)}, {"7": storage})
    found = read(folder, content)["w"]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


def test_two_tensors_share_a_storage_and_counters_are_whole_numbers(folder):
    """Each tensor is a copy of its own; a scalar of LongStorage has no axis."""
    content = spell_file(
        {
            "a": spell_tensor(6, 0, (2,), (1,)),
            "b": spell_tensor(6, 1, (2,), (2,)),
            "n": spell_tensor(1, 0, (), (), key="8", kind="LongStorage"),
        },
        {"7": NUMBERS, "8": np.array([41], "<i8")},
    )
    found = read(folder, content)
    assert found["a"].tolist() == [0, 1]
    assert found["b"].tolist() == [1, 3]
    assert found["n"].shape == ()
    assert found["n"] == 41
    found["a"][:] = 9
    assert found["b"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("count", "offset", "shape", "steps", "complaint"),
    [
        (6, 0, (7,), (1,), "reaches beyond"),
        (6, 5, (2,), (1,), "reaches beyond"),
        (6, 0, (2, 3), (4, 1), "reaches beyond"),
        (6, 5, (2,), (-1,), "negative"),
        (6, -1, (2,), (1,), "negative"),
        (6, 0, (2,), (1, 1), "argument"),
        (5, 0, (2,), (1,), "does not hold the 5 numbers"),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(folder, count, offset, shape, steps, complaint):
    """No number is read from beyond the declared storage."""
    content = spell_file({"w": spell_tensor(count, offset, shape, steps)}, {"7": NUMBERS})
    with pytest.raises(ModelError, match=f"weights.pth: not a PyTorch weights file.*{complaint}"):
        read(folder, content)


def test_a_pickle_that_wants_to_run_something_is_refused(folder, tmp_path):
    """Nothing but the three known words is ever called."""
    trace = tmp_path / "was_run"
    evil = b"cos\nmkdir\n(V" + str(trace).encode() + b"\ntR"
    with pytest.raises(ModelError, match=r"asks for os.mkdir"):
        read(folder, spell_file({"w": evil}, {"7": NUMBERS}))
    assert not trace.exists()


@pytest.mark.parametrize("word", [b"ctorch\nHalfStorage\n", b"cbuiltins\neval\n"])
def test_unknown_words_are_refused(folder, word):
    """A kind of storage that we do not know, and a builtin, are refused alike."""
    with pytest.raises(ModelError, match="which weights never need"):
        read(folder, spell_file({"w": word}, {"7": NUMBERS}))


def test_a_value_that_is_no_tensor_is_refused(folder):
    """A state dict of tensors holds tensors only."""
    with pytest.raises(ModelError, match="w is no tensor"):
        read(folder, spell_file({"w": spell_number(3)}, {"7": NUMBERS}))


def test_a_cut_or_lengthened_file_is_refused(folder):
    """The file must end with its last number."""
    content = spell_file({"w": spell_tensor(6, 0, (6,), (1,))}, {"7": NUMBERS})
    assert read(folder, content)["w"].tolist() == NUMBERS.tolist()
    for wrong in (content[:-1], content + b"x", content[:40], b""):
        with pytest.raises(ModelError, match="not a PyTorch weights file"):
            read(folder, wrong)


def test_a_big_endian_or_new_format_is_refused(folder):
    """Numbers of the other byte order would be read wrongly; a zip has no magic number."""
    with pytest.raises(ModelError, match="not little endian"):
        read(folder, spell_file({}, {}, facts={"little_endian": False}))
    with pytest.raises(ModelError, match="not a PyTorch weights file"):
        read(folder, b"PK\x03\x04" + bytes(60))


def test_another_checksum_stops_before_anything_is_read(folder):
    """The message names both sums and the way out."""
    path = folder / "other.pth"
    path.write_bytes(b"something else")
    with pytest.raises(
        ModelError, match=r"other.pth: sha256 is [0-9a-f]{64}, expected 00.*uv sync"
    ):
        torch_weights.read(path, "00" * 32)


def test_a_missing_file_names_the_way_out(folder):
    """A half-installed package is a one-line error."""
    with pytest.raises(ModelError, match=r"missing.pth: No such file.*uv sync"):
        torch_weights.read(folder / "missing.pth", "00" * 32)
