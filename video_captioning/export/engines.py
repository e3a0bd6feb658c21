"""What can run one model: its bundle as it is and with float weights, its checkpoint in torch, a Triton that serves it.

Each is a function of clips and a Decoding, so that a benchmark calls all alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from video_captioning.bundle import Bundle, Runtime
from video_captioning.decoding import Arrays, Decoding, Special, decode
from video_captioning.errors import CheckpointError, VidcapError
from video_captioning.export.triton import OPTIONS
from video_captioning.export.triton_client import Client, connect, one_line
from video_captioning.frames import Resize
from video_captioning.tokenizer import Tokenizer

if TYPE_CHECKING:
    from video_captioning.models.backbone import Backbone
    from video_captioning.models.interface import CaptioningModel

LARGEST_BATCH = 256
SPECIAL = Special(
    Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk
)  # not that of `runtime`, which loads torch
INT8_OPERATORS = (b"DequantizeLinear", b"QuantizeLinear", b"QLinear", b"MatMulInteger", b"ConvInteger")


class Clip(NamedTuple):
    path: Path
    pixels: np.ndarray
    """uint8 `[T, S, S, 3]`"""


class Answer(NamedTuple):
    tokens: list[tuple[int, ...]]
    """Of the best hypothesis of each clip."""
    seconds: dict[str, float]
    """Of each stage, or of `all` from file to caption."""


Engine = Callable[[Sequence[Clip], Decoding], Answer]
"""Captions a batch. Raises VidcapError."""
Loader = Callable[[int], Engine]
"""Loads an engine that uses so many threads."""


class Stages(Protocol):
    """`bundle.Runtime` or `runtime.TorchRuntime`."""

    def encode(self, clips: Sequence[np.ndarray], /) -> tuple[np.ndarray, np.ndarray]: ...
    def remember(self, features: np.ndarray, frame_mask: np.ndarray, /) -> tuple[Arrays, Arrays]: ...
    def step(self, tokens: np.ndarray, state: Arrays, memory: Arrays, /) -> tuple[np.ndarray, Arrays, np.ndarray]: ...


def local(runtime: Stages) -> Engine:
    """An engine in this process, timed stage by stage."""

    def engine(clips: Sequence[Clip], decoding: Decoding) -> Answer:
        times = [perf_counter()]
        features, mask = runtime.encode([clip.pixels for clip in clips])
        times.append(perf_counter())
        memory, state = runtime.remember(features, mask)
        times.append(perf_counter())
        found = decode(runtime.step, state, memory, decoding, SPECIAL)
        times.append(perf_counter())
        seconds = dict(zip(("encode", "memory", "generate"), np.diff(times).tolist(), strict=True))
        return Answer([best.tokens for best, *_ in found], seconds)

    return engine


def as_it_is(bundle: Bundle) -> Loader:
    """The bundle in ONNX Runtime, as `vidcap caption` runs it."""
    return lambda threads: local(Runtime(bundle, threads))


def holds_int8(bundle: Bundle) -> bool:
    return any(names_int8(path.read_bytes()) for path in bundle.graphs.values())


def names_int8(graph: bytes) -> bool:
    """Whether a graph has an operator on int8. ONNX files spell their names, so that no library is needed to look."""
    return any(operator in graph for operator in INT8_OPERATORS)


def with_float_weights(bundle: Bundle) -> Loader | None:
    """A bundle with its int8 weights as floats; None where it computes in int8, and so has no such form.

    Raises ModuleNotFoundError without the library `onnx`.
    """
    import onnx

    from video_captioning.export.quantize import float_weights

    graphs = {}
    for name, path in bundle.graphs.items():
        model = onnx.load(path)
        float_weights(model)
        graphs[name] = model.SerializeToString()
    return None if any(map(names_int8, graphs.values())) else with_graphs(bundle, graphs)


def with_graphs(bundle: Bundle, graphs: Mapping[str, bytes]) -> Loader:
    """A bundle with other graphs, in ONNX Runtime."""

    def load(threads: int) -> Engine:
        with TemporaryDirectory(prefix="vidcap-") as folder:
            files = {name: Path(folder) / f"{name}.onnx" for name in graphs}
            for name, file in files.items():
                file.write_bytes(graphs[name])
            return local(Runtime(replace(bundle, graphs=files), threads))

    return load


def open_checkpoint(path: str | Path, bundle: Bundle) -> tuple[Backbone, CaptioningModel]:
    """What a bundle was made of.

    Raises:
        ModuleNotFoundError: without the extra `export`, as the two functions below.
        CheckpointError, ConfigError: it cannot be loaded, or is that of another model.
    """
    from video_captioning.export.onnx import exact_backbone
    from video_captioning.models import checkpoint

    model, description = checkpoint.load(path)
    backbone = exact_backbone(description)
    if description.tokenizer != bundle.tokenizer.read_bytes() or Resize(**backbone.resize) != bundle.resize:
        problem = f"has another vocabulary or picture size than the bundle {bundle.name}"
        raise CheckpointError(path, problem, "name the checkpoint that the bundle was exported from")
    return backbone, model


def in_torch(backbone: Backbone, model: CaptioningModel) -> Loader:
    import torch

    from video_captioning.export.runtime import TorchRuntime

    engine = local(TorchRuntime(backbone, model))

    def load(threads: int) -> Engine:
        torch.set_num_threads(threads)
        return engine

    return load


def exported(bundle: Bundle, backbone: Backbone, model: CaptioningModel) -> Loader:
    """The bundle with the graphs that a checkpoint gives before anything is made int8."""
    from video_captioning.export.onnx import FILES, write_graphs

    with TemporaryDirectory(prefix="vidcap-") as folder:
        write_graphs(Path(folder), backbone, model)
        return with_graphs(bundle, {name: (Path(folder) / file).read_bytes() for name, file in FILES.items()})


def in_triton(address: str) -> Loader:
    """The captioner of a Triton at `host:port`: a request a clip, all at once, each with the clip's file.

    Raises:
        MissingExtraError: without the extra `triton`.
        VidcapError: no Triton answers there.
    """
    connect("http", address)
    pool, mine = ThreadPoolExecutor(LARGEST_BATCH), threading.local()

    def ask(clip: Clip, options: Mapping[str, Any]) -> tuple[int, ...]:
        if not hasattr(mine, "client"):
            mine.client = Client("http", address)  # for this thread alone
        try:
            _, _, tokens = mine.client.ask(video=clip.path.read_bytes(), **options)
        except Exception as error:  # of gevent, tritonclient or the operating system
            problem = f"no caption ({one_line(error)}); see the server's log"
            raise VidcapError(f"http://{address}: {clip.path}: {problem}") from error
        return tuple(tokens)

    def engine(clips: Sequence[Clip], decoding: Decoding) -> Answer:
        options = {name: value for name in OPTIONS if (value := getattr(decoding, name)) is not None}
        start = perf_counter()
        tokens = list(pool.map(lambda clip: ask(clip, options), clips))
        return Answer(tokens, {"all": perf_counter() - start})

    return lambda threads: engine
