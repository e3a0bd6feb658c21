"""Does a running Triton say what the local captioner says? Over HTTP and over gRPC.

python scripts/triton_smoke.py main MODEL --url=http://localhost:8000
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from video_captioning import load
from video_captioning.cli import main as run
from video_captioning.errors import MissingExtraError, VidcapError

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo.mp4"
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


@click.group()
def triton_smoke() -> None:
    """Check a running Triton."""


@triton_smoke.command()
@click.argument("model")
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path), metavar="[CLIP]...")
@click.option("--url", default="http://localhost:8000", show_default=True, help="Where Triton answers HTTP.")
@click.option("--grpc", metavar="HOST:PORT", help="Where it answers gRPC.  [default: that host, port 8001]")
def main(model: str, clips: tuple[Path, ...], url: str, grpc: str | None) -> None:
    """Compare Triton's captions of CLIPs (default: the demo clip) with those of MODEL, run here.

    MODEL is the bundle that Triton serves: a folder, or a name that `vidcap models` lists.
    """
    host, port = host_and_port(url)
    clients = [connect("http", f"{host}:{port}"), connect("grpc", grpc or f"{host}:8001")]
    captioner = load(model)
    for clip in clips or (DEMO,):
        expected = captioner(clip).text
        for client in clients:
            compare(client, clip, expected)


def host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8000
    except ValueError as error:
        raise click.BadParameter(f"{url}: {error}", param_hint="--url") from error
    if parts.scheme != "http" or not host:
        raise click.BadParameter(f"{url} is no address such as http://localhost:8000", param_hint="--url")
    return host, port


def connect(protocol: str, address: str) -> Client:
    """A client of a server that has loaded the captioner. Raises VidcapError where there is none."""
    try:
        client = Client(protocol, address)
        loaded = client.ready()
    except ModuleNotFoundError as error:
        raise MissingExtraError("triton_smoke.py", "triton") from error
    except Exception as error:  # of gevent, gRPC, tritonclient or the operating system
        raise VidcapError(
            f"{protocol}://{address}: no Triton answers ({one_line(error)}); start one: scripts/run_triton_server.sh"
        ) from error
    if not loaded:
        problem = "this Triton has no model 'captioner'; give it what `vidcap export triton` writes"
        raise VidcapError(f"{client.server}: {problem}")
    return client


def compare(client: Client, clip: Path, expected: str) -> None:
    """Print what Triton says of a clip. Raises VidcapError where that is not what is expected."""
    try:
        said, _, _ = client.ask(video=clip.read_bytes())
    except Exception as error:  # as above
        raise VidcapError(f"{client.server}: {clip}: no caption ({one_line(error)}); see the server's log") from error
    if said != expected:
        raise VidcapError(f"{client.server}: {clip}: Triton says '{said}', the local captioner '{expected}'")
    click.echo(f"{client.server}: {clip}: {said}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    run(triton_smoke, "scripts/triton_smoke.py")
