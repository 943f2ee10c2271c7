"""Weights files as their publishers write them, of arrays that a test makes."""

import re

import h5py
import numpy as np


def scramble(network, seed=1):
    """Give every weight values of its own, such that activations stay finite and distinct."""
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        given = np.asarray(variable)
        if given.ndim < 2 and given.dtype == np.float32:
            variable.assign(given + rng.uniform(0, 0.2, given.shape).astype(np.float32))


def write_legacy(path, network, shift=0, top=(), root=""):
    """Write weights as Keras 1 and 2 did, with numbered layers counted from `shift`."""
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        layers = [
            (_renumber(layer.name, shift), [(w.path, np.asarray(w)) for w in layer.weights])
            for layer in network.layers
        ]
        layers += [(name, list(arrays.items())) for name, arrays in top]
        group.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            part = group.create_group(name)
            part.attrs["weight_names"] = [f"{key}:0".encode() for key, _ in arrays]
            for key, array in arrays:
                part.create_dataset(f"{key}:0", data=array)


def _renumber(name, shift):
    found = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", name)
    return f"{found[1]}_{int(found[2] or 0) + shift}" if found and shift else name


def write_npz(path, network, **changes):
    """Write weights as ``<layer>/<variable>``; a change replaces an array, None leaves it out."""
    arrays = {}
    for variable in network.weights:
        layer, name = variable.path.split("/")[-2:]
        arrays[f"{layer}/{name}"] = np.asarray(variable)
    arrays |= {key.replace("__", "/"): array for key, array in changes.items()}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
