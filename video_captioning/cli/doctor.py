"""`vidcap doctor`"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

import click

from video_captioning.cli.extras import EXTRAS
from video_captioning.errors import printable

CODECS = {"h264": ("h264",), "hevc": ("hevc",), "vp9": ("vp9", "libvpx-vp9"), "av1": ("libdav1d", "libaom-av1")}
"""What people's videos are made of, and the decoders that read each on a processor."""


@dataclass(frozen=True)
class Check:
    """What was found out about one thing."""

    name: str
    status: Literal["ok", "absent", "failed"]
    """absent: optional, and not there."""
    detail: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check that everything vidcap needs is here and works.

    \b
    vidcap doctor

    Captions a small clip that it makes itself. The exit status is 1 where
    something fails; optional parts may be absent.
    """
    checks = list(examine())
    failed = any(check.status == "failed" for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{check.status:6}  {check.name:{width}}  {check.detail}")
    if failed:
        raise click.exceptions.Exit(1)


def examine() -> Iterator[Check]:
    yield Check("python", "ok", python_version())
    yield attempt("cores", cores)
    for module in ("numpy", "av", "onnxruntime", "sentencepiece"):
        yield attempt(module, partial(library, module))
    yield attempt("ffmpeg", ffmpeg)
    for codec in CODECS:
        yield attempt(codec, partial(decoder, codec))
    yield attempt("model", model)
    yield attempt("caption", caption)
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        lacks = f"without {', '.join(missing)}; install it with: pip install 'vidcap[{extra}]'"
        yield Check(f"extra {extra}", "absent" if missing else "ok", lacks if missing else "installed")


def attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except Exception as error:  # whatever is wrong is what is asked for here
        return Check(name, "failed", printable(str(error) or type(error).__name__))


def cores() -> str:
    from video_captioning.parallel import available_cores

    return f"{available_cores()} of {os.cpu_count()} may be used"


def library(name: str) -> str:
    import_module(name)
    return version(name)


def ffmpeg() -> str:
    import av

    names = ("libavformat", "libavcodec", "libswscale")
    return ", ".join(f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in names)


def decoder(codec: str) -> str:
    from av.codec import codecs_available

    found = [name for name in CODECS[codec] if name in codecs_available]
    if not found:
        raise RuntimeError("no decoder in this FFmpeg; reinstall it with: pip install --force-reinstall av")
    return f"decoded by {found[0]}"


def model() -> str:
    from video_captioning.bundle import read

    bundle = read("default")
    return f"{bundle.name} {bundle.version}, {bundle.bytes / 1e6:.1f} MB, whole"


def caption() -> str:
    from video_captioning import load

    with TemporaryDirectory(prefix="vidcap-") as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip)
        start = perf_counter()
        said = load()(clip)
        return f"{said.text!r} in {perf_counter() - start:.1f} s, the model's loading included"


def make_clip(path: Path) -> None:
    """Two seconds of a square that moves through a green field."""
    import av
    import numpy as np

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(20):
            picture = np.full((120, 160, 3), (60, 140, 60), np.uint8)
            picture[40:80, 5 * i : 5 * i + 40] = 230
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode())
