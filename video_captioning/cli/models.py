"""`vidcap models`"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from video_captioning.cli.output import complain
from video_captioning.errors import BundleError

if TYPE_CHECKING:
    from video_captioning.bundle import Bundle
    from video_captioning.concepts import Concepts


@click.command()
@click.argument("model", required=False, type=click.Path(readable=False), metavar="[NAME|FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(model: str | None, as_json: bool) -> None:
    """List the models that ship with vidcap, or all about one.

    \b
    vidcap models
    vidcap models default
    vidcap models models/mine --json
    """
    from video_captioning.bundle import built_in, read

    if model is not None:
        about = description(read(model))
        click.echo(json.dumps(about, indent=2) if as_json else details(about))
        return
    found, broken = [], False
    for name in built_in():
        try:
            found.append(description(read(name)))
        except BundleError as error:
            complain(str(error))
            broken = True
    click.echo(json.dumps(found, indent=2) if as_json else table(found))
    if broken:
        raise click.exceptions.Exit(1)


def description(bundle: Bundle) -> dict[str, Any]:
    """Everything that `bundle.json` states, but for its files."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "kind": bundle.kind,
        "licence": bundle.licence,
        "folder": str(bundle.folder),
        "bytes": bundle.bytes,
        "sha256": bundle.sha256,
        "preprocess": bundle.preprocess,
        "sampling": asdict(bundle.sampling),
        "decoding": asdict(bundle.decoding),
        "tags": None if bundle.concepts is None else calibration(bundle.concepts),
        "confidence": None if bundle.confidence is None else asdict(bundle.confidence),
        "scores": bundle.scores,
        "parity": bundle.parity,
        "made_by": bundle.made_by,
    }


def calibration(concepts: Concepts) -> dict[str, Any]:
    """How many there are, and how their scores come about."""
    return {
        "number": len(concepts.names),
        "scale": concepts.scale,
        "shift": concepts.shift,
        "threshold": concepts.threshold,
    }


def table(found: list[dict[str, Any]]) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    grid = Table("name", "version", "kind", "MB", "licence", "says", "scores", box=SIMPLE_HEAD, show_edge=False)
    for about in found:
        scores = "\n".join(" ".join(pair) for pair in flat(about["scores"]))
        names = (about["name"], about["version"], about["kind"], f"{about['bytes'] / 1e6:.1f}", about["licence"])
        says = ["sentences", *(each for each in ("tags", "confidence") if about[each])]
        grid.add_row(*names, "\n".join(says), scores)
    console = Console(markup=False, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def details(about: Mapping[str, Any]) -> str:
    pairs = list(flat(about))
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in pairs)


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested fields as (dotted name, value)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)
