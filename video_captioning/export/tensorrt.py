"""ONNX graphs → TensorRT engines, by `trtexec` from the PATH or from NVIDIA's container.

An engine runs on the kind of GPU and the version of TensorRT that it was built with. 10 or newer is needed: the graphs
take uint8 frames and int64 tokens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto

from video_captioning import bundle
from video_captioning.bundle import GRAPHS, Bundle, Runtime
from video_captioning.errors import BundleError, VidcapError
from video_captioning.export.half import AGREEMENT, BATCH, greedy
from video_captioning.export.quantize import float_weights, in_float
from video_captioning.files import refuse_taken, whole_file
from video_captioning.frames import sample

IMAGE = "nvcr.io/nvidia/tensorrt:25.06-py3"  # TensorRT 10.11


class Sizes(NamedTuple):
    """What an axis may be, and what it is made fast for."""

    least: int
    usual: int
    most: int


AXES = {
    "B": Sizes(1, 8, 32),  # clips
    "N": Sizes(1, 24, 96),  # frames in one call, at most 64 of them; hypotheses: 3 a clip
    "T": Sizes(1, 8, 64),  # frames of a clip
    "S": Sizes(1, 8 * 26, 64 * 64),  # slots: frames times places of a frame
    "t": Sizes(0, 15, 63),  # words so far
}
"""The open axes of the graphs of a bundle, by the names that export gives them."""


def export(model: str | Path, out: str | Path, *, half: bool = True, clips: Sequence[str | Path] = ()) -> int:
    """Build the engines of a bundle in the folder `out`, `encoder.plan`, `memory.plan`, `step.plan` and trtexec's logs.

    Args:
        model: a bundle's folder, the name of one that ships, or a single ONNX file, whose engine is the file `out`.
        half: let TensorRT use float16; else float32 and no TF32.
        clips: files whose captions by the engines must be those by ONNX Runtime, but for 2%; for a bundle only.

    Returns:
        for how many of the clips they are.

    Raises:
        BundleError: the bundle cannot be used, or its engines say something else.
        OutputError: `out` exists or cannot be written.
        VidcapError: there is no trtexec, or it fails; what it said is on standard error.
    """
    if Path(model).suffix == ".onnx":
        refuse_taken(out)
        with whole_file(out) as part, TemporaryDirectory(prefix=f".{part.stem}.", dir=part.parent) as folder:
            build(Path(model), Path(folder), half).replace(part)
        return 0
    read = bundle.read(model)
    with bundle.writing(out) as folder:
        for name in GRAPHS:
            build(read.graphs[name], folder, half)
        same = compare(read, folder, clips)
        if same < AGREEMENT * len(clips):
            problem = f"its engines say what ONNX says for only {same} of {len(clips)} clips"
            raise BundleError(read.folder, problem, "not written; try --fp32" if half else "not written")
    return same


def build(graph: Path, folder: Path, half: bool) -> Path:
    """The engine of one graph, made in `folder` with its log beside it."""
    model = load(graph)
    name = graph.stem
    onnx.save(model, folder / f"{name}.onnx")
    shapes = [f"--{kind}Shapes={spec}" for kind, spec in profile(graph, model).items() if spec]
    precision = "--fp16" if half else "--noTF32"
    arguments = [f"--onnx={name}.onnx", f"--saveEngine={name}.plan", *shapes, precision, "--skipInference"]
    output = trtexec(arguments, folder, f"an engine of {graph}")
    (folder / f"{name}.log").write_text(output)
    (folder / f"{name}.onnx").unlink()
    engine = folder / f"{name}.plan"
    if not engine.is_file():
        sys.stderr.write(output)
        raise VidcapError(f"trtexec ended well but wrote no engine of {graph}; see above what it said")
    return engine


def load(path: Path) -> ModelProto:
    """A graph whose int8 weights are floats again, as TensorRT takes int8 for a way to compute."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own
        raise BundleError(path, "is no ONNX file that can be read", "give a bundle or one of its graphs") from error
    float_weights(model)
    return model


def profile(path: Path, model: ModelProto) -> dict[str, str]:
    """`min`, `opt` and `max` shapes of the inputs with open axes, as trtexec reads them: `token:1,memory:1x1x1536`."""
    shapes: dict[str, list[str]] = {"min": [], "opt": [], "max": []}
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if not any(dimension.dim_param for dimension in dimensions):
            continue
        sizes = [axis(path, value.name, one.dim_param) if one.dim_param else [one.dim_value] * 3 for one in dimensions]
        for kind, chosen in zip(shapes, zip(*sizes, strict=True), strict=True):
            shapes[kind].append(f"{value.name}:{'x'.join(map(str, chosen))}")
    return {kind: ",".join(specs) for kind, specs in shapes.items()}


def axis(path: Path, of: str, name: str) -> Sequence[int]:
    """The sizes of an open axis, which may be a sum such as `S + 16`. Raises BundleError for one of another name."""
    known, _, more = name.partition(" + ")
    if known not in AXES:
        problem = f"input {of} has an axis '{name}' that no graph of a bundle has"
        raise BundleError(path, problem, "give a bundle or one of its graphs")
    return [size + int(more or 0) for size in AXES[known]]


def trtexec(arguments: Sequence[str], folder: Path, purpose: str) -> str:
    """Run trtexec in `folder`; what it said. Raises VidcapError where there is none, or it fails."""
    command = [*program(folder), *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        raise VidcapError(f"{command[0]} cannot be run ({error.strerror}); check its installation") from error
    if done.returncode:
        sys.stderr.write(done.stdout)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "[E]" in line), lines[-1] if lines else "it said nothing")
        raise VidcapError(f"{command[0]} could not make {purpose} (status {done.returncode}): {reason.strip()}")
    return done.stdout


def program(folder: Path) -> list[str]:
    """`trtexec`, or the container that has it, with `folder` as its working directory."""
    if shutil.which("trtexec"):
        return ["trtexec"]
    user = f"--user={os.getuid()}:{os.getgid()}"  # else docker's engines belong to root
    for engine, options in (("docker", ["--gpus=all", user]), ("podman", ["--device=nvidia.com/gpu=all"])):
        if shutil.which(engine):
            place = [f"--volume={folder.resolve()}:/engines", "--workdir=/engines"]
            return [engine, "run", "--rm", *options, *place, IMAGE, "trtexec"]
    raise VidcapError(
        "there is neither trtexec nor docker nor podman on the PATH; install TensorRT, or a container engine and "
        "NVIDIA's container toolkit"
    )


def compare(read: Bundle, folder: Path, clips: Sequence[str | Path]) -> int:
    """For how many clips greedy captions by the engines in `folder` are those by ONNX Runtime."""
    if not clips:
        return 0
    with in_float(read) as floats:  # as the engines are made
        exact, engines = Runtime(floats, 1), EngineRuntime(floats, folder)
    same = 0
    for start in range(0, len(clips), BATCH):
        frames = [sample(clip, read.sampling, read.resize).pixels for clip in clips[start : start + BATCH]]
        same += sum(a == b for a, b in zip(greedy(exact, frames), greedy(engines, frames), strict=True))
    return same


class Engine:
    """An engine in place of a graph's session; each call is a run of trtexec."""

    def __init__(self, session: Any, file: Path) -> None:
        self.outputs = [(value.name, TYPES[value.type]) for value in session.get_outputs()]
        self.file = file

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        folder = self.file.parent
        shapes = ",".join(f"{name}:{'x'.join(map(str, value.shape))}" for name, value in feeds.items())
        with TemporaryDirectory(prefix="run", dir=folder) as inside:
            room = Path(inside)
            for name, value in feeds.items():
                (room / name).write_bytes(np.ascontiguousarray(value).tobytes())
            inputs = ",".join(f"{name}:{room.name}/{name}" for name, value in feeds.items() if value.size)
            once = ["--iterations=1", "--duration=0", "--warmUp=0"]
            saved = f"--exportOutput={room.name}/outputs"
            given = [f"--loadEngine={self.file.name}", f"--shapes={shapes}", f"--loadInputs={inputs}"]
            trtexec([*given, saved, *once], folder, f"outputs with {self.file.name}")
            return self.read((room / "outputs").read_text())

    def read(self, text: str) -> list[np.ndarray]:
        """trtexec's list of `{name, dimensions: 2x3, values}`; C++ writes what is no number in ways JSON has not."""
        listed = {entry["name"]: entry for entry in json.loads(re.sub(r"-?\b(nan|inf)\b", "NaN", text))}
        return [
            np.array(listed[name]["values"], kind).reshape(
                [int(size) for size in listed[name]["dimensions"].split("x")]
            )
            for name, kind in self.outputs
        ]


TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


class EngineRuntime(Runtime):
    """A bundle whose graphs are the engines in a folder."""

    def __init__(self, read: Bundle, folder: Path) -> None:
        super().__init__(read, 1)
        self._encoder, self._memory, self._step = (
            Engine(session, folder / f"{name}.plan")
            for name, session in zip(GRAPHS, (self._encoder, self._memory, self._step), strict=True)
        )
