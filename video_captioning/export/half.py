"""Does a bundle survive 16-bit floats? Its graphs with every result rounded to float16, run on clips and looked at.

ONNX Runtime has few float16 operations for processors: it computes such a graph in float32 and does not round between
two operations. Here each result is rounded by casts of its own. Nothing is clamped, as converters for deployment do:
what float16 cannot hold becomes infinite, and is found.

Inside an operation it is float32: matrix products accumulate so on the devices that matter, and ONNX defines so the
statistics of LayerNormalization (its `stash_type`), which is why models are exported with that one operation. The sum
of squares of a ReduceL2, which has no such rule, is rounded and looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from video_captioning.bundle import GRAPHS, Bundle, Runtime
from video_captioning.decoding import Decoding, Special, decode
from video_captioning.errors import VidcapError
from video_captioning.export.quantize import in_float
from video_captioning.frames import sample
from video_captioning.tokenizer import Tokenizer

HALF, EXACT = "@half", "@exact"  # endings of the names of a result as float16, and before it is rounded
AGREEMENT = 0.98
GREEDY = Decoding(beam=1)  # not those of `parity` and `runtime`, which load torch
SPECIAL = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)
BATCH = 4  # clips; every tensor of every operation is kept for them


@dataclass(frozen=True)
class Survival:
    """How a bundle does in float16."""

    clips: int
    same_captions: int
    """Clips whose greedy tokens are those of float32."""
    tensors: int
    """How many were looked at, weights included."""
    broken: tuple[str, ...]
    """`GRAPH: TENSOR` for each that held NaN or infinity, weights first, then in the order of the operations."""
    largest: dict[str, float]
    """The largest magnitude in each graph; float16 ends at 65504."""

    def holds(self) -> bool:
        """Nothing broken, and captions as in float32 for at least 98% of the clips."""
        return not self.broken and self.same_captions >= AGREEMENT * self.clips


def check(bundle: Bundle, clips: Sequence[str | Path], threads: int = 1) -> Survival:
    """Caption clips greedily in float32 and in float16, and look at every tensor on the way.

    A bundle that is or computes in int8 is one of floats here, as on the devices that float16 is for.

    Raises:
        BundleError, MediaError: a graph cannot be loaded, or a clip cannot be read.
    """
    with in_float(bundle) as floats:
        exact, half = Runtime(floats, threads), HalfRuntime(floats, threads)
    same = 0
    for start in range(0, len(clips), BATCH):
        files = clips[start : start + BATCH]
        frames = [sample(file, bundle.sampling, bundle.resize, threads=threads).pixels for file in files]
        said = greedy(exact, frames)
        with suppress(VidcapError):  # logits that are not numbers; what broke them has been seen
            same += sum(one == other for one, other in zip(said, greedy(half, frames), strict=True))
    largest = {f"{name}: {t}": size for name, graph in half.graphs.items() for t, size in graph.largest.items()}
    return Survival(
        clips=len(clips),
        same_captions=same,
        tensors=len(largest),
        broken=tuple(tensor for tensor, size in largest.items() if not np.isfinite(size)),
        largest={name: float(np.max(list(graph.largest.values()))) for name, graph in half.graphs.items()},
    )


def greedy(runtime: Runtime, clips: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """Tokens of each clip, uint8 `[T, S, S, 3]`."""
    memory, state = runtime.remember(*runtime.encode(clips))
    return [best.tokens for best, *_ in decode(runtime.step, state, memory, GREEDY, SPECIAL)]


class Watched:
    """A rounded graph in place of a session: gives what that gives, and looks at all the rest."""

    def __init__(self, session: Any, weights: dict[str, np.float16]) -> None:
        """`weights`: the largest magnitude of each."""
        names = [output.name for output in session.get_outputs()]
        self.session = session
        self.outputs = [name for name in names if not name.endswith(HALF)]
        self.results = [name.removesuffix(HALF) for name in names if name.endswith(HALF)]
        self.largest = weights | dict.fromkeys(self.results, np.float16(0))

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        values: list[np.ndarray] = self.session.run(None, feeds)
        for name, value in zip(self.results, values[len(self.outputs) :], strict=True):
            self.largest[name] = np.maximum(self.largest[name], magnitude(value))
        return values[: len(self.outputs)]


def magnitude(values: np.ndarray) -> np.float16:
    """The largest magnitude of float16 values, 0 of none; NaN counts as larger than infinity."""
    bits = values.view(np.uint16) & 0x7FFF  # without the sign, halves are in the order of their bits
    return np.uint16(bits.max(initial=0)).view(np.float16)


class HalfRuntime(Runtime):
    """A bundle whose graphs round every result to float16."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load the graphs. Raises BundleError when ONNX Runtime cannot."""
        weights = {}
        with TemporaryDirectory(prefix="vidcap-") as folder:
            files = {name: Path(folder) / f"{name}.onnx" for name in GRAPHS}
            for name, file in files.items():
                model = onnx.load(bundle.graphs[name])
                weights[name] = round_results(model)
                onnx.save(model, file)
            super().__init__(replace(bundle, graphs=files), threads)
        sessions = (self._encoder, self._memory, self._step)
        self.graphs = {name: Watched(s, weights[name]) for name, s in zip(GRAPHS, sessions, strict=True)}
        self._encoder, self._memory, self._step = self.graphs.values()
        self._memory_names = self._memory.outputs


def round_results(model: ModelProto) -> dict[str, np.float16]:
    """Round, in place, weights and float results of a graph; results as float16 become outputs beside its own.

    Returns:
        the largest magnitude of each weight.
    """
    graph = model.graph
    replace_nodes(graph, chain.from_iterable(norm_in_parts(n) if n.op_type == "ReduceL2" else [n] for n in graph.node))
    weights = round_weights(graph)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    rounded = []
    for node in graph.node:
        results = [name for name in node.output if name in floats]
        for place, name in enumerate(node.output):
            if name in floats:
                node.output[place] = name + EXACT
        rounded.append(node)
        for name in results:
            rounded.append(helper.make_node("Cast", [name + EXACT], [name + HALF], to=TensorProto.FLOAT16))
            rounded.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
            graph.output.append(helper.make_tensor_value_info(name + HALF, TensorProto.FLOAT16, None))
    replace_nodes(graph, rounded)
    return weights


def round_weights(graph: GraphProto) -> dict[str, np.float16]:
    """Round the float initializers in place; scales of int8 weights stay: those are made floats first."""
    scales = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    largest = {}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales:
            with np.errstate(over="ignore"):
                half = numpy_helper.to_array(tensor).astype(np.float16)
            largest[tensor.name] = magnitude(half)
            tensor.CopyFrom(numpy_helper.from_array(half.astype(np.float32), tensor.name))
    return largest


def norm_in_parts(node: NodeProto) -> list[NodeProto]:
    """A ReduceL2 as a square, a sum and a root."""
    norm, squares, total = node.output[0], f"{node.output[0]}@squares", f"{node.output[0]}@sum"
    reduced = helper.make_node("ReduceSum", [squares, *node.input[1:]], [total])
    reduced.attribute.extend(node.attribute)
    return [
        helper.make_node("Mul", [node.input[0]] * 2, [squares]),
        reduced,
        helper.make_node("Sqrt", [total], [norm]),
    ]


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    nodes = list(nodes)  # some are of the graph
    del graph.node[:]
    graph.node.extend(nodes)
