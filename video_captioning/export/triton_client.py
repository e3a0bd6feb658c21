"""Asking a running Triton for captions; needs the extra `triton`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from video_captioning.errors import MissingExtraError, VidcapError

TIMEOUT = 60  # seconds for one answer
TYPES = {"O": "BYTES", "u": "UINT8", "i": "INT64", "f": "FP64"}
"""Triton's type for each kind of NumPy's."""


class Client:
    """Asks the model `captioner` of one server; for one thread."""

    def __init__(self, protocol: str, address: str) -> None:
        """`protocol`: `http` or `grpc`; `address`: `host:port`."""
        self.server = f"{protocol}://{address}"
        self.library = import_module(f"tritonclient.{protocol}")
        waits = {"connection_timeout": TIMEOUT, "network_timeout": TIMEOUT} if protocol == "http" else {}
        self.limit = {"client_timeout": TIMEOUT} if protocol == "grpc" else {}
        self.client = self.library.InferenceServerClient(address, **waits)

    def ready(self) -> bool:
        """Is the captioner loaded?"""
        return bool(self.client.is_model_ready("captioner", **self.limit))

    def ask(self, **inputs: Any) -> tuple[str, float, list[int]]:
        """Caption, score and tokens for a `video` or `frames`, and options.

        Raises:
            tritonclient.utils.InferenceServerException: the server refuses; the message holds its reason.
        """
        tensors = []
        for name, value in inputs.items():
            array = np.array([value], object) if isinstance(value, bytes) else np.atleast_1d(value)
            tensor = self.library.InferInput(name, list(array.shape), TYPES[array.dtype.kind])
            tensors.append(tensor.set_data_from_numpy(array))
        result = self.client.infer("captioner", tensors, **self.limit)
        caption, score, tokens = (result.as_numpy(name) for name in ("caption", "score", "tokens"))
        return caption.item().decode(), score.item(), tokens.tolist()


def connect(protocol: str, address: str) -> Client:
    """A client of a server that has loaded the captioner. Raises VidcapError where there is none."""
    try:
        client = Client(protocol, address)
        loaded = client.ready()
    except ModuleNotFoundError as error:
        raise MissingExtraError("asking Triton", "triton") from error
    except Exception as error:  # of gevent, gRPC, tritonclient or the operating system
        raise VidcapError(
            f"{protocol}://{address}: no Triton answers ({one_line(error)}); start one: scripts/run_triton_server.sh"
        ) from error
    if not loaded:
        problem = "this Triton has no model 'captioner'; give it what `vidcap export triton` writes"
        raise VidcapError(f"{client.server}: {problem}")
    return client


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
