"""Graphs in int8: weights alone, which become float32 again when a graph is loaded, or the arithmetic, too.

Weights alone: a quarter of the size, and no kernel that an old processor lacks. Arithmetic is ONNX Runtime's: it can be
faster, and says something a little different.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from video_captioning.bundle import GRAPHS, Bundle

SMALLEST = 4096  # elements; below it a scale a channel would save little
WIDE = 64  # output channels; convolutions with fewer, the first, cost the most captions and are no faster in int8

MADE, WHOLE, TURNED = "_DequantizeLinear_Output", "_quantized", "_Transposed"
"""Endings of ONNX Runtime's names: of what is made from int8, of int8, of weights of a Gemm that became a MatMul."""

Channel = dict[str, int]
CHANNELS: Channel = {"Conv": 0, "Gather": 0, "Gemm": 0, "MatMul": -1}
"""The axis of the output channels of each operator's weights (Gemm as torch writes it, transposed)."""


def quantize_weights(path: Path) -> None:
    """Rewrite a graph with its large weights as int8."""
    model = onnx.load(path)
    graph = model.graph
    users = {name: node for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        user = users.get(tensor.name)
        if tensor.data_type != TensorProto.FLOAT or user is None or user.op_type not in CHANNELS:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < SMALLEST or values.ndim < 2:
            continue
        axis = CHANNELS[user.op_type] % values.ndim
        whole, scales = quantize(values, axis)
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def quantize(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights → int8 of the same shape and float32 scales, one for each index of `axis`."""
    others = tuple(a for a in range(values.ndim) if a != axis)
    scales = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
    return np.round(values / scales).astype(np.int8), scales.ravel().astype(np.float32)


def quantize_products(path: Path) -> None:
    """Let matrix products with weights compute in int8; the range of the other factor is found at each call."""
    with quietly():
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)


def quantize_operators(path: Path, clips: Iterable[np.ndarray], types: Sequence[str]) -> None:
    """Let operators of an encoder compute in int8, in the ranges that their results have on clips.

    Args:
        clips: uint8 `[T, S, S, 3]` each.
        types: of operators, all that can where empty; of products only those with weights.
    """
    quant_pre_process(path, path, skip_symbolic_shape=True)  # fuses what could not be fused once it is int8
    graph = onnx.load(path).graph
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    narrow = [n.name for n in graph.node if n.op_type == "Conv" and shapes.get(n.input[1], [0])[0] < WIDE]
    with quietly():
        quantize_static(
            path,
            path,
            Frames(clips),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(types),
            nodes_to_exclude=narrow,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # A ReLU that is kept is in what `float_weights` makes of it, too; ONNX Runtime fuses it all the same.
            extra_options={"MatMulConstBOnly": True, "QDQKeepRemovableActivations": True},
        )


class Frames(CalibrationDataReader):  # type: ignore[misc]
    """Clips as inputs of an encoder."""

    def __init__(self, clips: Iterable[np.ndarray]) -> None:
        self.inputs = ({"frames": clip} for clip in clips)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


@contextmanager
def quietly() -> Iterator[None]:
    """Without the advice that ONNX Runtime's tools log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def in_float(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle with graphs that hold and compute float32, while the block lasts."""
    with TemporaryDirectory(prefix="vidcap-") as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in GRAPHS}
        for name, file in files.items():
            model = onnx.load(bundle.graphs[name])
            float_weights(model)
            onnx.save(model, file)
        yield replace(bundle, graphs=files, int8={})


def float_weights(model: ModelProto) -> None:
    """Make a graph in int8 hold and compute float32 again, in place, for what cannot do as ONNX Runtime does."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[NodeProto] = []
    whole: list[NodeProto] = []
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in weights for name in node.input):
            whole.append(node)
            weight = dequantize(node, weights)
            if (own := weight.name.removesuffix(MADE)) not in weights:  # the name by which others know it
                names[weight.name] = own
                weight.name = own
            weights[weight.name] = weight
        elif node.op_type == "DequantizeLinear":
            whole.append(makers[node.input[0]])
            names[node.output[0]] = whole[-1].input[0]
        elif parts := parts_of_product(node, makers):
            whole += parts
            nodes += float_product(node, parts, weights)
        else:
            nodes.append(node)
    nodes += [helper.make_node("Identity", [value.name], [value.name]) for value in graph.output if value.name in names]
    for node in nodes:
        node.input[:] = [last(name, names) for name in node.input]
    for node in reversed(whole):  # what nobody reads any more
        read = {name for other in nodes for name in other.input}
        nodes = [other for other in nodes if other.output != node.output or read.intersection(node.output)]
    read = {name for node in nodes for name in node.input}
    unread = {name for node in whole for name in node.input} - read
    kept = [tensor for name, tensor in weights.items() if name not in unread]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def last(name: str, names: Mapping[str, str]) -> str:
    """What a name stands for in the end."""
    while names.get(name, name) != name:
        name = names[name]
    return name


def parts_of_product(node: NodeProto, makers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """What makes the operands of the last of the nodes by which `quantize_products` replaced a product; else nothing.

    DynamicQuantizeLinear, MatMulInteger, Cast, and the Mul of both scales, in this order.
    """
    cast, scales = (makers.get(name) for name in (*node.input, "", "")[:2])
    product = makers.get(cast.input[0]) if cast and cast.op_type == "Cast" else None
    if node.op_type != "Mul" or scales is None or cast is None or product is None or product.op_type != "MatMulInteger":
        return []
    return [makers[product.input[0]], product, cast, scales]


def float_product(node: NodeProto, parts: Sequence[NodeProto], weights: dict[str, TensorProto]) -> list[NodeProto]:
    """The product of `parts`, with the output of `node`; its weight is added to `weights`."""
    measured, product, _, scales = parts
    name = product.input[1].removesuffix(WHOLE)
    inputs = [product.input[1], scales.input[1], product.input[3]]
    weights[name] = dequantize(helper.make_node("DequantizeLinear", inputs, [name], axis=1), weights)
    nodes = [helper.make_node("MatMul", [measured.input[0], name], node.output)]
    if name.endswith(TURNED):  # a Gemm it was, and the name of its weight is that of the matrix before it was turned
        own = name.removesuffix(TURNED)
        weights[own] = numpy_helper.from_array(numpy_helper.to_array(weights.pop(name)).T, own)
        nodes.insert(0, helper.make_node("Transpose", [own], [name]))
    return nodes


def dequantize(node: NodeProto, weights: Mapping[str, TensorProto]) -> TensorProto:
    """What a DequantizeLinear makes of constant weights, under the name of its output."""
    whole, scales, *zero = (numpy_helper.to_array(weights[name]) for name in node.input)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    along = [-1 if place == axis % whole.ndim else 1 for place in range(whole.ndim)] if scales.size > 1 else []
    centred = whole.astype(np.float32) - (zero[0].astype(np.float32).reshape(along) if zero else 0)
    return numpy_helper.from_array(centred * scales.reshape(along), node.output[0])
