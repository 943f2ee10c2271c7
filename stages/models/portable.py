"""Trained models as files that other programs run: ONNX, LiteRT, TensorFlow's SavedModel.

Beside them lies ``contract.json``, which says what to feed and what comes out.
"""

import importlib.util
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core import backend
from stages.core.errors import ModelError
from stages.core.store import replace_folder, write_bytes, write_json
from stages.images import morphology
from stages.models import contracts, graphs, onnx_layout, trained
from stages.models.rows import Rows
from stages.models.trained import Model

Kind = Literal["onnx", "litert", "savedmodel"]
FILES: dict[Kind, str] = {
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "savedmodel": "saved_model",
}
CONTRACT = "contract.json"
SIGNATURE = "serving_default"
OPSET = 17  # of ONNX: from 2022, which runtimes in use know
COMPARED = 64  # pictures at once

Arrays = Mapping[str, NDArray[Any]]


def write(model: Model, kind: Kind, folder: Path) -> None:
    """Write a model in one format, and its contract beside it.

    Parameters
    ----------
    model : SingleModel or CompositeModel
    kind : {"onnx", "litert", "savedmodel"}
        Name of the file: see `FILES`.
    folder : pathlib.Path
        Made if need be. The contract is the same for every format, so that several may lie in it.

    Raises
    ------
    ModelError
        A package is missing, or the model cannot be put into one graph.

    Notes
    -----
    The same model gives the same bytes of ONNX and LiteRT with the same versions of packages on
    one kind of machine. TensorFlow writes random names into a SavedModel: its bytes differ.
    """
    writers: dict[Kind, Callable[[Model, Path], None]] = {
        "onnx": write_onnx, "litert": write_litert, "savedmodel": write_saved_model,
    }  # fmt: skip
    writers[kind](model, folder / FILES[kind])
    write_json(folder / CONTRACT, contracts.describe(model))


def write_onnx(model: Model, path: Path) -> None:
    """Write a model as one ONNX file; see `write`."""
    _require("tf2onnx", "onnx")
    import onnx
    import tf2onnx

    answer = graphs.build(model).answer
    # It warns of float64, and goes on where it knows no operation: the checker stops there.
    logging.disable(logging.CRITICAL)
    try:
        proto, _ = tf2onnx.convert.from_function(
            answer, answer.input_signature, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )
    finally:
        logging.disable(logging.NOTSET)
    onnx_layout.settle(proto, "smearflow")
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise _refuse("ONNX", error) from None
    write_bytes(path, proto.SerializeToString(deterministic=True))


def _erfc(graph: Any, node: Any, _name: str, _options: Any) -> None:
    """Tell tf2onnx how to say the complement of the error function, which gelu takes."""
    one = graph.make_const(f"{node.name}_one", np.array(1, np.float32))
    erf = graph.make_node("Erf", node.input)
    node.type = "Sub"
    graph.replace_inputs(node, [one.output[0], erf.output[0]])


def write_litert(model: Model, path: Path) -> None:
    """Write a model as one LiteRT file (``.tflite``), in float32 throughout; see `write`."""
    tf = backend.load_tensorflow()[1]
    module = graphs.build(model, exact=False)
    with tempfile.TemporaryDirectory(prefix="smearflow-") as folder:
        _save(module, Path(folder))
        try:
            content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        except Exception as error:
            # Its own kinds of error have no public name.
            raise _refuse("LiteRT", error) from None
    write_bytes(path, content)


def write_saved_model(model: Model, folder: Path) -> None:
    """Write a model as a folder that TensorFlow loads without this project; see `write`."""
    with replace_folder(folder) as temporary:
        _save(graphs.build(model), temporary)


def _save(module: Any, folder: Path) -> None:
    tf = backend.load_tensorflow()[1]
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.answer})


def load(kind: Kind, folder: Path) -> Callable[[Arrays], NDArray[np.float32]]:
    """Open what `write` wrote, as a stranger would.

    Parameters
    ----------
    kind : {"onnx", "litert", "savedmodel"}
    folder : pathlib.Path

    Returns
    -------
    callable
        From the inputs by name, see `feed`, to probabilities of shape (n_images, n_classes).

    Raises
    ------
    ModelError
        The format's runtime is not installed.
    """
    path = folder / FILES[kind]
    if kind == "onnx":
        _require("onnxruntime")
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda arrays: session.run([graphs.OUTPUT], dict(arrays))[0]
    if kind == "litert":
        _require("ai_edge_litert")
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner(SIGNATURE)
        return lambda arrays: runner(**arrays)[graphs.OUTPUT]
    tf = backend.load_tensorflow()[1]
    answer = tf.saved_model.load(str(path)).signatures[SIGNATURE]

    def ask(arrays: Arrays) -> NDArray[np.float32]:
        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        return np.asarray(answer(**tensors)[graphs.OUTPUT])

    return ask


def feed(model: Model, rows: Rows) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Turn rows into the inputs of a written model.

    Parameters
    ----------
    model : SingleModel or CompositeModel
    rows : Rows
        As ``trained.predict_images`` takes them.

    Returns
    -------
    image_ids : list of str, length n_images
    arrays : dict of str to numpy.ndarray, each of shape (n_images, n_views, ...)
        By the names of the contract.
    """
    n_views = len(model.inputs.white_balance)
    ids: list[str] = []
    arrays: dict[str, NDArray[Any]] = {}
    for name, one in graphs.list_inputs(model).items():
        own = rows[name] if isinstance(rows, dict) else rows
        ids = own.image_ids[::n_views]
        if one.name in arrays:
            continue
        x = morphology.measure_all(own.x) if one.is_measures else np.asarray(own.x)
        arrays[one.name] = x.reshape(len(ids), n_views, *one.row_shape)
    return ids, arrays


def compare(model: Model, kind: Kind, folder: Path, rows: Rows) -> float:
    """Return the largest difference of a probability between a written model and the model.

    Parameters
    ----------
    model, kind, folder
        As given to `write`.
    rows : Rows
        As ``trained.predict_images`` takes them; one image at least.

    Returns
    -------
    float
        0..1. Above 1e-4 something is wrong with the file or its runtime.
    """
    ask = load(kind, folder)
    ids, arrays = feed(model, rows)
    answers = [
        ask({name: array[start : start + COMPARED] for name, array in arrays.items()})
        for start in range(0, len(ids), COMPARED)
    ]
    expected = trained.predict_images(model, rows).loc[ids].to_numpy()
    return float(np.abs(np.concatenate(answers) - expected).max())


def _refuse(name: str, error: Exception) -> ModelError:
    text = str(error).strip().splitlines()[0].rpartition(")): ")[2]  # without where it was traced
    return ModelError(
        f"a layer of the network cannot be said in {name} ({text}). Write another format, or "
        "train another network."
    )


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{' and '.join(missing)}, which this format needs, cannot be found. Run 'uv sync "
            "--extra export'."
        )
