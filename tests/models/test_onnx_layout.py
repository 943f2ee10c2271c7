"""ONNX files in one order: the same bytes for the same computation, however it was laid out."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.models import onnx_layout

TWO, THREE = (numpy_helper.from_array(np.full(2, n, np.float32), "") for n in (2, 3))


def lay_out(order, start, swapped=False):
    """Return (2 x + 3) - 2 x, and a node that leads nowhere; names count on from `start`."""
    two, three, doubled, more, lost = (f"t__{start + step}" for step in range(5))
    nodes = [
        helper.make_node("Mul", ["x", two], [doubled], f"Mul__{start}"),
        helper.make_node("Add", [doubled, three], [more], f"Add__{start}"),
        helper.make_node("Sub", [doubled, more][:: -1 if swapped else 1], ["y"], "Sub"),
        helper.make_node("Neg", ["x"], [lost], "Neg"),
    ]
    tensors = []
    for tensor, name in ((TWO, two), (THREE, three)):
        tensors.append(TensorProto.FromString(tensor.SerializeToString()))
        tensors[-1].name = name
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"unk__{start}", 2])
        for name in "xy"
    )
    graph = helper.make_graph(
        [nodes[place] for place in order], f"g{start}", [x], [y], tensors[:: -1 if start else 1]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_layout.settle(model, "made")
    return model


def test_every_order_gives_the_same_bytes():
    """Orders, counters and the order of the numbers leave no trace; what computes another does."""
    orders = [order for order in itertools.permutations(range(4)) if order.index(0) < 2]
    settled = {
        lay_out(order, start).SerializeToString(deterministic=True)
        for start, order in enumerate(orders)
    }
    assert len(orders) > 10
    assert len(settled) == 1
    assert lay_out(orders[0], 0, swapped=True).SerializeToString(deterministic=True) not in settled


@pytest.mark.parametrize("swapped", [False, True])
def test_it_computes_the_same(swapped):
    """The settled file is valid, says what its first axis is, and gives the numbers it gave."""
    model = lay_out([3, 0, 1, 2], 7, swapped)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (answer,) = session.run(["y"], {"x": np.array([[1, 5]], np.float32)})
    np.testing.assert_array_equal(answer, np.full((1, 2), 3 if swapped else -3, np.float32))
    assert [one.shape for one in session.get_inputs()] == [["n_images", 2]]
    assert [node.op_type for node in model.graph.node] == ["Mul", "Add", "Sub"]
