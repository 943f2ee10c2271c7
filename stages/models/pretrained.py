"""Files of published weights: found by name, read as bare arrays, and held against the network.

Nothing in such a file is ever run: arrays are read by NumPy (without pickles) and h5py; the
description of a network inside a .keras file is not looked at.
"""

import hashlib
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from stages.core.errors import ModelError, name_some

ENDINGS = (".npz", ".h5", ".keras")
MEMBER = "model.weights.h5"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stored:
    """What a file holds: the variables of each layer, in the file's order.

    Attributes
    ----------
    by : {"name", "order", "place"}
        What tells which layer is meant: its name alone (.npz); its name, or else its place among
        the file's layers (.h5 of Keras 1 and 2, which numbers some layers anew in each process);
        the kind of layer and its number among those of the kind (Keras 3).
    layers : dict of str to dict of str to numpy.ndarray
        Where `by` is ``"name"`` the variables' names count, else their order.
    """

    by: Literal["name", "order", "place"]
    layers: dict[str, Arrays]


def find(name: str, folder: Path) -> Path:
    """Return the one weights file of a backbone.

    Parameters
    ----------
    name : str
        Of the backbone, for example ``"mobilenetv2"``.
    folder : pathlib.Path
        Looked through, but not what lies deeper.

    Returns
    -------
    pathlib.Path
        Its name starts with `name`, in any case and with or without _ and - inside
        (``mobilenet_v2_weights.h5``), and ends in .npz, .h5 or .keras.

    Raises
    ------
    ModelError
        There is no such folder, no such file, or there are several.
    """
    letters = "[_-]?".join(name.replace("_", ""))
    # resnet50v2 is another network than resnet50: the name must end where ours does.
    pattern = re.compile(rf"{letters}(?![a-z0-9]).*", re.IGNORECASE)
    try:
        files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(ENDINGS))
    except OSError as error:
        raise ModelError(
            f"weights_dir {folder}: {error.strerror}. Correct weights_dir in params.yaml."
        ) from None
    found = [path for path in files if pattern.fullmatch(path.name)]
    if len(found) > 1:
        raise ModelError(
            f"weights_dir {folder}: {name_some([path.name for path in found])} all fit {name}. "
            "Leave one of them there."
        )
    if not found:
        here = name_some([path.name for path in files]) or "no weights file"
        raise ModelError(
            f"weights_dir {folder}: no file {name}*.npz, .h5 or .keras; it holds {here}. "
            f"Put the published ImageNet weights of {name} there."
        )
    return found[0]


def digest(path: Path) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(network: Any, path: Path, translate: Callable[[Arrays], Arrays] | None = None) -> None:
    """Put a file's weights into a network; each variable must get its own, or none is touched.

    Parameters
    ----------
    network : keras.Model
        Its name is used in messages.
    path : pathlib.Path
        ``.npz`` with arrays ``<layer>/<variable>`` (floats of any width), ``.h5`` as Keras 1 and 2
        wrote it (weights, or a whole model), or ``.weights.h5`` or ``.keras`` as Keras 3 does.
        Dense layers that the network has not are the file's top, and are left out.
    translate : callable, optional
        Gives the arrays of an .npz other names before they are used; the file must be one.

    Raises
    ------
    ModelError
        The file is damaged, of no such format, or of another network.
    """
    try:
        if translate is not None:
            stored = Stored("name", _group(translate(_read_npz(path))))
        else:
            stored = read(path)
        pairs = _pair(network, stored)
    except _READING as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"weights {path.name}: not weights of {network.name} that can be read ({text}). "
            "Fetch the file anew, or put the right one into weights_dir."
        ) from None
    for variable, array in pairs:
        variable.assign(array.astype(variable.dtype))
    finish(network)


# What h5py, zipfile and NumPy raise on files that are damaged or something else.
_READING = (
    OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def finish(network: Any) -> None:
    """Let layers take note of new weights: a normalisation works with copies of its own."""
    for layer in network.layers:
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()


def kind_of(layer: Any) -> str:
    """Return the name of a layer's class as Keras writes it: conv2d for Conv2D."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def read(path: Path) -> Stored:
    """Read the arrays of a weights file, in any of the formats of `load`.

    Raises
    ------
    ValueError, OSError, KeyError
        And others of its libraries: the file is damaged or something else.
    """
    if path.suffix.lower() == ".npz":
        return Stored("name", _group(_read_npz(path)))
    if path.suffix.lower() == ".keras":
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read(MEMBER))
        with h5py.File(content, "r") as file:
            return Stored("place", _read_places(file))
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)  # a whole model, or weights alone
        if _names_in(root, "layer_names"):
            return Stored("order", _read_layers(root))
        return Stored("place", _read_places(file))


def _read_npz(path: Path) -> Arrays:
    # Opened here: NumPy leaves a damaged one open.
    with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _group(arrays: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """Divide ``<layer>/<variable>`` behind the layer's name, which has no slash."""
    layers: dict[str, Arrays] = {}
    for name, array in arrays.items():
        layer, _, variable = name.partition("/")
        layers.setdefault(layer, {})[variable] = array
    for variables in layers.values():
        # What Keras 1 and 2 called so is the kernel of a depthwise layer since Keras 3.
        if "depthwise_kernel" in variables and "pointwise_kernel" not in variables:
            variables["kernel"] = variables.pop("depthwise_kernel")
    return layers


def _read_layers(root: Any) -> dict[str, Arrays]:
    """Read what Keras 1 and 2 wrote: the attributes say which layers there are, and which order."""
    layers = {}
    for name in _names_in(root, "layer_names"):
        group = root[name]
        if variables := _names_in(group, "weight_names"):
            layers[name] = {variable: _array(group[variable], root) for variable in variables}
    return layers


def _names_in(group: Any, attribute: str) -> list[str]:
    """Return a list of names, which Keras divides into numbered attributes where it is long."""
    keys = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    names = [name for key in keys for name in group.attrs[key]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _read_places(file: Any) -> dict[str, Arrays]:
    """Read what Keras 3 wrote: ``layers/<kind>_<n>/vars/<number>``, in sub-layers deeper."""
    if "layers" not in file:
        raise ValueError("it holds neither layer_names nor layers")
    layers: dict[str, Arrays] = {}

    def note(place: str, item: Any) -> None:
        layer, middle, number = place.rpartition("/vars/")
        # Dropout keeps the state of its generator there; that is no weight.
        if middle and isinstance(item, h5py.Dataset) and "seed_generator" not in layer:
            layers.setdefault(layer, {})[number] = _array(item, file)

    file["layers"].visititems(note)
    return {
        layer: dict(sorted(arrays.items(), key=lambda pair: int(pair[0])))
        for layer, arrays in layers.items()
    }


def _array(item: Any, root: Any) -> np.ndarray:
    """Read a dataset whose numbers lie in the file itself, not in another one that it names."""
    inside = isinstance(item, h5py.Dataset) and item.file == root.file
    if not inside or item.external or item.is_virtual:
        raise ValueError(f"{item.name} is not an array of this file")
    return np.asarray(item[()])


def _pair(network: Any, stored: Stored) -> list[tuple[Any, np.ndarray]]:
    """Find the array of each variable of the network; the rest of the file must be a top."""
    slots = dict(_slots(network, stored.by))
    given = stored.layers
    if stored.by == "order" and not slots.keys() <= given.keys():
        # Keras' own rule for names that its processes number anew: the n-th is the n-th.
        rest = [f"{name} at the end" for name in list(given)[len(slots) :]]
        given = dict(zip([*slots, *rest], given.values(), strict=False))
    if missing := [layer for layer in slots if layer not in given]:
        raise ValueError(f"{len(missing)} of its layers are not there: {name_some(missing)}")
    pairs = []
    for layer, variables in slots.items():
        arrays = given[layer]
        if stored.by != "name":
            arrays = dict(zip(variables, arrays.values(), strict=False))
        if variables.keys() != arrays.keys() or len(given[layer]) != len(variables):
            wanted, found = name_some(list(variables)), name_some(list(given[layer]))
            raise ValueError(f"{layer} has {found}, not {wanted}")
        for name, variable in variables.items():
            _check(f"{layer}/{name}", arrays[name], variable)
            pairs.append((variable, arrays[name]))
    if strangers := [name for name in given if name not in slots and not _is_dense(given[name])]:
        raise ValueError(f"the network has no {name_some(strangers)}")
    return pairs


def _check(name: str, array: np.ndarray, variable: Any) -> None:
    if array.shape != tuple(variable.shape):
        raise ValueError(f"{name} has shape {array.shape}, not {tuple(variable.shape)}")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"{name} holds something that is no finite number")


def _is_dense(arrays: Arrays) -> bool:
    """Whether a layer is one of a top: a matrix and perhaps a vector."""
    return sorted(array.ndim for array in arrays.values()) in ([2], [1, 2])


def _slots(network: Any, by: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each layer that has weights, as a file of the kind calls it, with its variables."""
    if by == "order":
        layers = [(layer.name, layer, 1) for layer in network.layers]
    else:
        layers = list(_leaves(network.layers, "", 1, by))
    for key, layer, depth in layers:
        if layer.weights:
            yield key, {_name_of(variable, depth): variable for variable in layer.weights}


def _leaves(
    layers: Sequence[Any], above: str, depth: int, by: str
) -> Iterator[tuple[str, Any, int]]:
    """Yield name or place of each layer, going into blocks of layers, and how deep it lies."""
    counts: Counter[str] = Counter()
    for layer in layers:
        kind = kind_of(layer)
        place = above + (f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
        if hasattr(layer, "layers"):
            yield from _leaves(layer.layers, f"{place}/layers/", depth + 1, by)
        else:
            yield (layer.name if by == "name" else place), layer, depth


def _name_of(variable: Any, depth: int) -> str:
    """Return a variable's name below its layer: kernel, or query/kernel in an attention."""
    name = "/".join(variable.path.split("/")[depth:])
    # A layer's scale is the one variable that keras.applications leaves without a name.
    return re.sub(r"^variable(_\d+)?$", "gamma", name)
