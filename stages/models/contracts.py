"""What a stranger must know to feed a written model, and to read its answers."""

from typing import Any

from stages.core.params import InputsParams
from stages.images import morphology
from stages.inputs.preparation import BLACK_OFFSET, COVER, GREY, MARGIN, OD_OFFSET, WHITE
from stages.models import graphs
from stages.models.graphs import Input
from stages.models.trained import Model

_BACKGROUND = f"{WHITE - BLACK_OFFSET:g}"
_VIEWS = {
    "white_point": f"each channel's level I becomes {WHITE:g} (I + {OD_OFFSET:g}) / (B + "
    f"{OD_OFFSET:g}) - {BLACK_OFFSET:g}, where B is the background's level in that channel",
    "grey_world": f"each channel is scaled so that its mean over the crop is {GREY:g}",
    "none": "the colours stay as published",
}
_RUN = {
    "onnx": "import onnxruntime; answers = onnxruntime.InferenceSession('model.onnx')"
    ".run(['probabilities'], inputs)[0]",
    "litert": "from ai_edge_litert.interpreter import Interpreter; answers = "
    "Interpreter('model.tflite').get_signature_runner()(**inputs)['probabilities']",
    "savedmodel": "import tensorflow as tf; answers = tf.saved_model.load('saved_model')"
    ".signatures['serving_default'](**{name: tf.constant(array) for name, array in "
    "inputs.items()})['probabilities'].numpy()",
}


def describe(model: Model) -> dict[str, Any]:
    """Return the contract of a written model; it is the same for every format.

    Parameters
    ----------
    model : SingleModel or CompositeModel

    Returns
    -------
    dict
        ``inputs``: names, dtypes, shapes, and of measures the columns; ``views``: the colour
        corrections in order; ``preparation``: from a picture to those inputs; ``output``: its
        classes in order; ``run``: for each format the lines of Python that ask it.
    """
    rule = model.inputs
    views = sorted(rule.white_balance)
    inputs = {one.name: one for one in graphs.list_inputs(model).values()}
    return {
        "use": "Research use only: not a medical device.",
        "inputs": [_describe_input(one, len(views)) for one in inputs.values()],
        "views": [{"name": name, "colours": _VIEWS[name]} for name in views],
        "output": {
            "name": graphs.OUTPUT,
            "dtype": "float32",
            "shape": ["n_images", len(model.classes)],
            "classes": list(model.classes),
            "holds": "for each picture the probability of each class; a row sums to 1. The mean "
            "over the views is taken inside: feed all of them.",
        },
        "preparation": rule.model_dump(mode="json", exclude={"white_balance"})
        | {"steps": _list_steps(rule)},
        "run": _RUN | {"inputs": "a dict of the arrays by name"},
    }


def _describe_input(one: Input, n_views: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": one.name,
        "dtype": "float32" if one.is_measures else "uint8",
        "shape": ["n_images", n_views, *one.row_shape],
    }
    if one.is_measures:
        return described | {
            "axes": ["picture", "view", "measure"],
            "measures": list(morphology.NAMES),
            "holds": f"stages.images.morphology.measure_all of each view at {one.side} px",
        }
    return described | {
        "axes": ["picture", "view", "row from the top", "column from the left", "red, green, blue"],
        "holds": f"each view, prepared at {one.side} px, levels 0..255",
    }


def _list_steps(rule: InputsParams) -> list[str]:
    steps = ["Decode the picture to red, green and blue, 0..255."]
    steps.append(
        "Outline the white cell in the middle and its nucleus, and take the colour of the "
        "background beside all cells (stages.images.cell_masks.segment does all of it). The cell's "
        "centre is half-way between its centroid and the centre of the smallest circle around its "
        "nucleus; its radius is sqrt(area / pi), px. Without a cell take the picture's middle."
    )
    if rule.hide == "cell":
        steps.append(
            f"Cover the cell, and a disc of {COVER:g} radii around its centre, with background."
        )
    if rule.crop == "whole":
        steps.append("Take the whole picture, stretched to a square.")
    else:
        by_hospital = rule.scale == "hospital" or rule.hide == "cell"
        whose = "the median over the hospital's pictures" if by_hospital else "the picture's own"
        middle = "cell's centre" if rule.crop == "cell" else "middle of the picture"
        steps.append(
            f"Cut a square around the {middle}; its side is {2 * rule.half_side:g} radii, and the "
            f"radius is {whose}. Outside of the picture lies background. Where the hospital has "
            "no cell at all, cut the largest square."
        )
    steps.append(
        "Resample it to the side in px that an input names: average where pixels are merged, "
        "interpolate linearly."
    )
    steps.append(
        "For each of the views correct the colours, round, and keep to 0..255; stack the views in "
        "the order given."
    )
    if rule.hide == "background":
        steps.append(
            f"Give all that lies farther than {MARGIN:g} radii from the cell's outline the level "
            f"{_BACKGROUND} in each channel, with a soft edge."
        )
    steps.append("stages.inputs.preparation.prepare of smearflow does all this, to the last bit.")
    return steps
