"""Weights as int8, one scale a channel, symmetric; they become float32 again when a graph is loaded.

Arithmetic stays float32: a quarter of the size, and no kernel that an old processor lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SMALLEST = 4096  # elements; below it a scale a channel would save little

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


def float_weights(model: ModelProto) -> None:
    """Make the int8 weights of a graph float32 again, in place, for runtimes that would compute in int8."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    spent = set()
    for node in list(graph.node):
        if node.op_type == "DequantizeLinear" and all(name in weights for name in node.input):
            graph.initializer.append(dequantize(node, weights))
            graph.node.remove(node)
            spent.update(node.input)
    spent -= {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in spent]:
        graph.initializer.remove(tensor)


def dequantize(node: NodeProto, weights: Mapping[str, TensorProto]) -> TensorProto:
    """What a DequantizeLinear makes of constant weights, under the name of its output."""
    whole, scales, *zero = (numpy_helper.to_array(weights[name]) for name in node.input)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    along = [-1 if place == axis % whole.ndim else 1 for place in range(whole.ndim)] if scales.size > 1 else []
    centred = whole.astype(np.float32) - (zero[0].astype(np.float32).reshape(along) if zero else 0)
    return numpy_helper.from_array(centred * scales.reshape(along), node.output[0])
