"""Bundle → model repository of Triton Inference Server.

    REPOSITORY/encoder, memory, step    the graphs of the bundle, for clients that decode by themselves
    REPOSITORY/captioner                video or frames → caption, score, tokens; holds a copy of the bundle

Names, shapes and types of `config.pbtxt` are read from the graphs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import onnxruntime

from video_captioning import bundle
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, FileError

BACKENDS = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
"""Triton's backends for the graphs, and the file that each loads."""
LARGEST_BATCH = {"encoder": 64, "memory": 32}
"""Rows in one call, where all inputs have the same: frames, clips. A step has rows of hypotheses beside rows of clips,
so that its calls cannot be joined."""
VERSION = "1"
TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(uint8)": "TYPE_UINT8",
}
OPTIONS = {
    field.name: "TYPE_FP64" if "float" in str(field.type) else "TYPE_INT64"
    for field in fields(Decoding)
    if field.name != "alternatives"  # one caption a request
}
"""The optional inputs of `captioner`, named as in `Decoding`."""
MODEL = '''\
"""The bundle beside this file, run by vidcap: that of Triton's Python, or of the virtual environment that is active."""

import os
import site
import sys

if environment := os.environ.get("VIRTUAL_ENV"):
    known = list(sys.path)
    site.addsitedir(f"{environment}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")
    sys.path[:] = [path for path in sys.path if path not in known] + known

from video_captioning.export.triton_model import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Tensor:
    """One input or output as `config.pbtxt` states it."""

    name: str
    type: str
    dims: Sequence[int]
    """-1 for an open axis; without the batch axis where the model has one."""
    optional: bool = False

    def __str__(self) -> str:
        parts = [f'name: "{self.name}"', f"data_type: {self.type}", f"dims: {list(self.dims) or [1]}"]
        if not self.dims:  # Triton has no tensor without axes: clients see [batch, 1], the graph [batch]
            parts.append("reshape { shape: [] }")
        if self.optional:
            parts.append("optional: true")
        return f"{{ {' '.join(parts)} }}"


def export(
    model: str | Path, repository: str | Path, *, backend: str = "onnxruntime", engines: str | Path | None = None
) -> None:
    """Write the model repository of a bundle to the folder `repository`, which must not exist.

    Args:
        model: a bundle's folder, or the name of one that ships with the package.
        backend: one of BACKENDS, for encoder, memory and step; the captioner runs on the CPU with either.
        engines: for `tensorrt`, the folder of `encoder.plan`, `memory.plan` and `step.plan`; default: the bundle's.

    Raises:
        BundleError: the bundle is missing, damaged or of a newer schema, or its graphs cannot be loaded.
        FileError: an engine is missing.
        OutputError: `repository` exists or cannot be written.
    """
    read = bundle.read(model)
    runnable = engine_files(Path(engines or read.folder)) if backend == "tensorrt" else read.graphs
    with bundle.writing(repository) as folder:
        for name, file in runnable.items():
            arithmetic = backend != "tensorrt" and read.int8.get(name) == bundle.ARITHMETIC
            write_model(folder / name, graph_config(name, read.graphs[name], backend, alone=arithmetic))
            copy = shutil.copyfile if arithmetic or backend == "tensorrt" else copy_graph
            copy(file, folder / name / VERSION / BACKENDS[backend])
        write_model(folder / "captioner", captioner_config(read))
        (folder / "captioner" / VERSION / "model.py").write_text(MODEL)
        copy_bundle(read.folder, folder / "captioner" / VERSION / "bundle")


def copy_graph(source: Path, target: Path) -> None:
    """With float weights: Triton would compute in int8 where only they are int8, and say something else."""
    import onnx  # not above: a server loads this file, too, and needs no onnx

    from video_captioning.export.quantize import float_weights

    model = onnx.load(source)
    float_weights(model)
    onnx.save(model, target)


def copy_bundle(source: Path, target: Path) -> None:
    """Only what `bundle.json` lists: engines may lie beside it."""
    target.mkdir()
    for name in (bundle.MANIFEST, *json.loads((source / bundle.MANIFEST).read_bytes())["files"]):
        shutil.copyfile(source / name, target / name)


def engine_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.plan" for name in bundle.GRAPHS}
    for file in files.values():
        if not file.is_file():
            raise FileError(file, "there is no such TensorRT engine", "build it first: vidcap export tensorrt BUNDLE")
    return files


def write_model(folder: Path, config: str) -> None:
    (folder / VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)


def graph_config(name: str, graph: Path, backend: str, *, alone: bool) -> str:
    """`config.pbtxt` of a graph, as the graph itself states its inputs and outputs.

    `alone`: requests are not joined, since int8 arithmetic may find its ranges in all that one call is given.
    """
    largest = LARGEST_BATCH.get(name, 0)
    inputs, outputs = signature(graph, batched=largest > 0)
    batching = [f"max_batch_size: {largest}", *(["dynamic_batching { }"] if largest and not alone else [])]
    return config(name, backend, inputs, outputs, batching)


def captioner_config(read: bundle.Bundle) -> str:
    side = read.resize.size
    inputs = [
        Tensor("video", "TYPE_STRING", [1], optional=True),
        Tensor("frames", "TYPE_UINT8", [-1, side, side, 3], optional=True),
        *(Tensor(name, kind, [1], optional=True) for name, kind in OPTIONS.items()),
    ]
    outputs = [
        Tensor("caption", "TYPE_STRING", [1]),
        Tensor("score", "TYPE_FP32", [1]),
        Tensor("tokens", "TYPE_INT64", [-1]),
    ]
    instances = ["max_batch_size: 0", "instance_group { kind: KIND_CPU count: 2 }"]
    return config("captioner", "python", inputs, outputs, instances)


def config(
    name: str, backend: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor], settings: Iterable[str]
) -> str:
    """The text form of Triton's `ModelConfig`."""
    tensors = [f"input {tensor}" for tensor in inputs] + [f"output {tensor}" for tensor in outputs]
    return "\n".join([f'name: "{name}"', f'backend: "{backend}"', *settings, *tensors, ""])


def signature(graph: Path, batched: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of an ONNX file. Raises BundleError when ONNX Runtime cannot load it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is not run
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many unrelated classes
        raise BundleError(graph, f"cannot be loaded ({error})", bundle.REMAKE) from error

    def tensor(value: Any) -> Tensor:
        dims = [size if isinstance(size, int) else -1 for size in value.shape]
        return Tensor(value.name, TYPES[value.type], dims[1:] if batched else dims)

    return [tensor(value) for value in session.get_inputs()], [tensor(value) for value in session.get_outputs()]
