"""Reads a PyTorch weights file of the format before 1.6 without PyTorch and without running it.

Such a file is five pickles (a magic number, the version of the protocol, facts of the machine,
the state dict, the keys of the storages) and then each storage as a count and raw numbers. A
pickle is a program; the reader here knows three of its words and refuses every other.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import ModelError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
COUNT_BYTES = 8
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    """A run of numbers of one kind, by the key under which the file holds it."""

    key: str
    kind: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """Where in a storage the numbers of one tensor lie; offset and steps count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def read(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict.

    Parameters
    ----------
    path : pathlib.Path
        A file that ``torch.save`` wrote in its format before version 1.6.
    sha256 : str
        Of the whole file, 64 hexadecimal digits; checked before anything is read.

    Returns
    -------
    dict of str to numpy.ndarray
        Float32 or int64, each a contiguous array of its own.

    Raises
    ------
    ModelError
        The file is missing, is another one, or is not of that format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"weights {path.name}: {error.strerror}. Run 'uv sync --reinstall'."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"weights {path.name}: sha256 is {found}, expected {sha256}. The file is damaged or "
            "of another version; run 'uv sync --reinstall'."
        )
    try:
        return _parse(content)
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"weights {path.name}: not a PyTorch weights file of the format before 1.6 ({text}). "
            "Save it with torch.save(..., _use_new_zipfile_serialization=False)."
        ) from None


def _parse(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    if _load(file) != MAGIC or _load(file) != PROTOCOL:
        raise ValueError("the magic number or the protocol is another")
    if _load(file).get("little_endian") is not True:
        raise ValueError("the numbers are not little endian")
    tensors = _load(file)
    keys = _load(file)
    if not isinstance(tensors, OrderedDict) or not isinstance(keys, list):
        raise ValueError("the state dict or the list of storages is missing")
    declared = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"{name} is no tensor")
        declared[tensor.storage.key] = tensor.storage
    storages = _read_storages(memoryview(content)[file.tell() :], keys, declared)
    return {
        str(name): _cut(str(name), tensor, storages[tensor.storage.key])
        for name, tensor in tensors.items()
    }


def _load(file: io.BytesIO) -> Any:
    return _Unpickler(file, encoding="utf-8").load()


class _Unpickler(pickle.Unpickler):
    """Builds ordered dicts, tensors and the names of storages, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights never need")

    def persistent_load(self, pid: Any) -> _Storage:
        kind_of_thing, kind, key, _, count, view = pid
        if kind_of_thing != "storage" or view is not None or not isinstance(kind, np.dtype):
            raise pickle.UnpicklingError("it holds something that is no whole storage")
        return _Storage(str(key), kind, int(count))


def _rebuild_tensor(storage: object, offset: int, shape: Any, steps: Any, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor has no storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, steps)))


def _read_storages(
    content: memoryview, keys: list[str], declared: Mapping[str, _Storage]
) -> dict[str, np.ndarray]:
    storages = {}
    start = 0
    for key in keys:
        storage = declared[key]
        count = int.from_bytes(content[start : start + COUNT_BYTES], "little", signed=True)
        start += COUNT_BYTES
        end = start + count * storage.kind.itemsize
        if count != storage.count or count < 0 or end > len(content):
            raise ValueError(f"storage {key} does not hold the {storage.count} numbers it declares")
        storages[key] = np.frombuffer(content[start:end], dtype=storage.kind)
        start = end
    if start != len(content):
        raise ValueError(f"{len(content) - start} bytes follow the last storage")
    return storages


def _cut(name: str, tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """Copy a tensor out of its storage, refusing one that reaches outside of it."""
    sides = list(zip(tensor.shape, tensor.steps, strict=True))
    last = tensor.offset + sum((side - 1) * step for side, step in sides)
    if tensor.offset < 0 or any(side < 1 or step < 0 for side, step in sides):
        raise ValueError(f"tensor {name} has a negative offset, side or step")
    if last >= len(storage):
        raise ValueError(f"tensor {name} reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        tuple(step * storage.itemsize for step in tensor.steps),
    )
    return view.copy(order="C")
