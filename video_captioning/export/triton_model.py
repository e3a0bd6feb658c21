"""The model `captioner` of a Triton repository: loaded by Triton's Python backend, and only there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found] # Triton brings it

from video_captioning import load
from video_captioning.decoding import Decoding
from video_captioning.errors import ConfigError, MediaError, VidcapError
from video_captioning.export.triton import OPTIONS
from video_captioning.frames import sample

MOST = {"beam": 32, "max_tokens": 256, "frames": 256}
"""What one request may ask for, so that it cannot take the server from the others."""


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle of this version; the instances share the processor cores."""
        folder = Path(args["model_repository"], args["model_version"], "bundle")
        instances = sum(group["count"] for group in json.loads(args["model_config"])["instance_group"])
        self.captioner = load(folder, threads=max(1, len(os.sched_getaffinity(0)) // instances))
        self.bundle = self.captioner.bundle

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request; what is wrong with one is told to that one alone."""
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            [[best, *_]] = self.captioner.hypotheses([self.pixels(given)], self.decoding(given))
        except VidcapError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG))
        outputs = {
            "caption": np.array([self.captioner.text(best).encode()], np.object_),
            "score": np.array([best.mean_logprob], np.float32),
            "tokens": np.array(best.tokens, np.int64),
        }
        return triton.InferenceResponse([triton.Tensor(name, value) for name, value in outputs.items()])

    def pixels(self, given: dict[str, np.ndarray]) -> np.ndarray:
        """The frames, uint8 `[T, S, S, 3]`, that a request holds, or those of its video."""
        if ("video" in given) == ("frames" in given):
            raise ConfigError("a request needs either video (the bytes of a file) or frames (uint8 [T, S, S, 3])")
        if "frames" in given:
            check_range("frames", len(given["frames"]))
            return given["frames"]
        with in_memory(given["video"].item()) as path:
            try:
                return sample(path, self.bundle.sampling, self.bundle.resize, threads=self.captioner.threads).pixels
            except MediaError as error:
                raise MediaError("video", error.problem, error.way_out) from error

    def decoding(self, given: dict[str, np.ndarray]) -> Decoding:
        """The bundle's own but for the options of the request."""
        decoding = replace(self.bundle.decoding, **{name: given[name].item() for name in OPTIONS if name in given})
        for name in ("beam", "max_tokens"):
            check_range(name, getattr(decoding, name))
        return decoding


def check_range(name: str, value: int) -> None:
    if not 1 <= value <= MOST[name]:
        raise ConfigError(f"{name} must be 1 to {MOST[name]} here; it is {value}")


@contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """The path of a file that is on no disk and vanishes with this block, however that ends."""
    descriptor = os.memfd_create("video")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
