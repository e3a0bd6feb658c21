"""Where a Triton answers, as it is named on the command line."""

from __future__ import annotations

from urllib.parse import urlsplit

import click


def host_and_port(url: str) -> tuple[str, int]:
    """For an option's `type`; the port is Triton's where the address has none. Raises click.BadParameter."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8000
    except ValueError as error:
        raise click.BadParameter(f"{url}: {error}") from error
    if parts.scheme != "http" or not host:
        raise click.BadParameter(f"{url} is no address such as http://localhost:8000")
    return host, port
