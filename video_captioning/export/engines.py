"""What can run one model: its bundle as it is and in float32, its checkpoint in torch, a Triton that serves it.

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
from video_captioning.confidence import Judge
from video_captioning.decoding import Arrays, Decoding
from video_captioning.errors import CheckpointError, VidcapError
from video_captioning.export.triton import OPTIONS
from video_captioning.export.triton_client import Client, connect, one_line
from video_captioning.frames import Resize
from video_captioning.tokenizer import Tokenizer

if TYPE_CHECKING:
    from video_captioning.models.backbone import Backbone
    from video_captioning.models.interface import CaptioningModel

AT_ONCE = 256  # requests to Triton: as many as the largest batch


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


def local(runtime: Stages, bundle: Bundle) -> Engine:
    """An engine in this process, timed stage by stage; of its hypotheses it prefers what the bundle prefers."""
    judge = Judge(Tokenizer.load(bundle.tokenizer), bundle.concepts, bundle.confidence)

    def engine(clips: Sequence[Clip], decoding: Decoding) -> Answer:
        times = [perf_counter()]
        features, mask = runtime.encode([clip.pixels for clip in clips])
        times.append(perf_counter())
        memory, state = runtime.remember(features, mask)
        times.append(perf_counter())
        found = judge.search(runtime.step, state, memory, mask, decoding)
        times.append(perf_counter())
        seconds = dict(zip(("encode", "memory", "generate"), np.diff(times).tolist(), strict=True))
        return Answer([one.said[0].hypothesis.tokens for one in found], seconds)

    return engine


def as_it_is(bundle: Bundle) -> Loader:
    """The bundle in ONNX Runtime, as `vidcap caption` runs it."""
    return lambda threads: local(Runtime(bundle, threads), bundle)


def in_float32(bundle: Bundle) -> Loader:
    """A bundle in int8 as it would be in float32. Raises ModuleNotFoundError without the library `onnx`."""
    from video_captioning.export.quantize import in_float

    def load(threads: int) -> Engine:
        with in_float(bundle) as floats:
            return local(Runtime(floats, threads), bundle)

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


def in_torch(bundle: Bundle, backbone: Backbone, model: CaptioningModel) -> Loader:
    import torch

    from video_captioning.export.runtime import TorchRuntime

    engine = local(TorchRuntime(backbone, model), bundle)

    def load(threads: int) -> Engine:
        torch.set_num_threads(threads)
        return engine

    return load


def exported(bundle: Bundle, backbone: Backbone, model: CaptioningModel) -> Loader:
    """The bundle with the graphs that a checkpoint gives before anything is made int8."""
    from video_captioning.export.onnx import FILES, write_graphs

    with TemporaryDirectory(prefix="vidcap-") as folder:
        write_graphs(Path(folder), backbone, model)
        graphs = {name: (Path(folder) / file).read_bytes() for name, file in FILES.items()}

    def load(threads: int) -> Engine:
        with TemporaryDirectory(prefix="vidcap-") as folder:
            files = {name: Path(folder) / FILES[name] for name in graphs}
            for name, file in files.items():
                file.write_bytes(graphs[name])
            return local(Runtime(replace(bundle, graphs=files, int8={}), threads), bundle)

    return load


def in_triton(address: str) -> Loader:
    """The captioner of a Triton at `host:port`: a request a clip, all at once, each with the clip's file.

    Raises:
        MissingExtraError: without the extra `triton`.
        VidcapError: no Triton answers there.
    """
    connect("http", address)
    pool, mine = ThreadPoolExecutor(AT_ONCE), threading.local()

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
