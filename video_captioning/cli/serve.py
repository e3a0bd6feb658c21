"""`vidcap serve`"""

from __future__ import annotations

import ipaddress
from contextlib import closing
from pathlib import Path

import click

from video_captioning.cli.extras import needs
from video_captioning.cli.output import complain


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("default",),
    show_default=True,
    metavar="NAME|FOLDER",
    type=click.Path(readable=False),
    help="Which model; may be repeated, the first is the default.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Cores to use.  [default: all]")
@click.option(
    "--max-upload", type=click.IntRange(min=1), default=100, show_default=True, metavar="MB", help="Of one request."
)
@click.option(
    "--max-duration",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Of one clip.",
)
@click.option(
    "--max-requests", type=click.IntRange(min=1), default=64, show_default=True, metavar="N", help="At a time."
)
@click.option(
    "--api-keys",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="One key per line; without it VIDCAP_API_KEYS, separated by commas.",
)
def serve(
    host: str,
    port: int,
    models: tuple[str, ...],
    threads: int | None,
    max_upload: int,
    max_duration: float,
    max_requests: int,
    api_keys: Path | None,
) -> None:
    """Caption clips over HTTP.

    \b
    vidcap serve
    curl -F file=@clip.mp4 http://127.0.0.1:8000/v1/captions

    SIGTERM and Ctrl-C end it when what it has accepted is done.
    """
    with needs("vidcap serve", "serve"):
        from video_captioning.captioner import Captioner
        from video_captioning.parallel import available_cores
        from video_captioning.serve import keys, logs, server
        from video_captioning.serve.service import Service
        from video_captioning.serve.settings import Settings

    cores = threads or available_cores()
    settings = Settings(
        upload=max_upload * 1_000_000,
        duration=max_duration,
        requests=max_requests,
        requests_a_client=max(1, max_requests // 2),
        cores=cores,
    )
    admitted = keys.read(api_keys)
    captioners = [Captioner(model, threads=cores) for model in models]
    with closing(server.listen(host, port)) as listener:
        if not admitted and not is_loopback(listener.getsockname()[0]):
            complain(f"warning: anybody who reaches {host} can use this service; give --api-keys")
        logs.configure()
        service = Service({captioner.bundle.name: captioner for captioner in captioners}, settings)
        server.run(service, admitted, listener)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
