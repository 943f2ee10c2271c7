"""One order and one set of names for what an ONNX file holds, so that its bytes can be compared.

tf2onnx lays the nodes of a graph in another order each time, numbers them on from whatever the
process converted before, and of equal nodes keeps now one and now the other.
"""

from typing import Any

IMAGES = "n_images"  # what the first axis of inputs and output is called


def settle(proto: Any, name: str) -> None:
    """Order and name the nodes and numbers of a model by what leads to its outputs.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place: it computes the same.
    name : str
        Of the graph.

    Notes
    -----
    A node follows those that it reads, the first of them first; numbers follow the nodes that read
    them. Graphs within nodes (loops, branches) would keep their names; `graphs.build` makes none.
    """
    graph = proto.graph
    nodes = [type(node).FromString(node.SerializeToString()) for node in _order(graph)]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names = {one.name: one.name for one in (*graph.input, *graph.output)}
    numbers: list[Any] = []
    for place, node in enumerate(nodes):
        node.name = f"{node.op_type}_{place}"
        for used in node.input:
            if used in tensors and used not in names:
                names[used] = f"numbers_{len(numbers)}"
                tensor = type(tensors[used]).FromString(tensors[used].SerializeToString())
                tensor.name = names[used]
                numbers.append(tensor)
        for slot, made in enumerate(node.output):
            names.setdefault(made, f"{node.name}:{slot}")
        node.input[:] = [names.get(used, used) for used in node.input]
        node.output[:] = [names[made] for made in node.output]
    for field, content in (("node", nodes), ("initializer", numbers), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(content)
    graph.name, graph.doc_string = name, ""
    for one in (*graph.input, *graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = IMAGES


def _order(graph: Any) -> list[Any]:
    """Return the nodes that lead to the outputs, each after those that it reads."""
    makers = {made: node for node in graph.node for made in node.output}
    done: dict[str, Any] = {}
    waiting = [makers[one.name] for one in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        needed = (makers[used] for used in node.input if used in makers)
        before = next((one for one in needed if one.output[0] not in done), None)
        if before is not None:
            waiting.append(before)
        else:
            done[waiting.pop().output[0]] = node
    return list(done.values())
