"""Does a running Triton say what the local captioner says? Over HTTP and over gRPC.

python scripts/triton_smoke.py main MODEL --url=http://localhost:8000
"""

from __future__ import annotations

from pathlib import Path

import click

from video_captioning import load
from video_captioning.cli import main as run
from video_captioning.cli.address import host_and_port
from video_captioning.errors import VidcapError
from video_captioning.export.triton_client import Client, connect, one_line

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo.mp4"


@click.group()
def triton_smoke() -> None:
    """Check a running Triton."""


@triton_smoke.command()
@click.argument("model")
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path), metavar="[CLIP]...")
@click.option(
    "--url",
    type=host_and_port,
    metavar="URL",
    default="http://localhost:8000",
    show_default=True,
    help="Where Triton answers HTTP.",
)
@click.option("--grpc", metavar="HOST:PORT", help="Where it answers gRPC.  [default: that host, port 8001]")
def main(model: str, clips: tuple[Path, ...], url: tuple[str, int], grpc: str | None) -> None:
    """Compare Triton's captions of CLIPs (default: the demo clip) with those of MODEL, run here.

    MODEL is the bundle that Triton serves: a folder, or a name that `vidcap models` lists.
    """
    host, port = url
    clients = [connect("http", f"{host}:{port}"), connect("grpc", grpc or f"{host}:8001")]
    captioner = load(model)
    for clip in clips or (DEMO,):
        expected = captioner(clip).text
        for client in clients:
            compare(client, clip, expected)


def compare(client: Client, clip: Path, expected: str) -> None:
    """Print what Triton says of a clip. Raises VidcapError where that is not what is expected."""
    try:
        said, _, _ = client.ask(video=clip.read_bytes())
    except Exception as error:  # of gevent, gRPC, tritonclient or the operating system
        raise VidcapError(f"{client.server}: {clip}: no caption ({one_line(error)}); see the server's log") from error
    if said != expected:
        raise VidcapError(f"{client.server}: {clip}: Triton says '{said}', the local captioner '{expected}'")
    click.echo(f"{client.server}: {clip}: {said}")


if __name__ == "__main__":
    run(triton_smoke, "scripts/triton_smoke.py")
