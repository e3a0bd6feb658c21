"""Short videos in, English sentences out.

>>> import video_captioning
>>> captioner = video_captioning.load()
>>> captioner("clip.mp4").text  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from video_captioning.captioner import Captioner

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str | Path = "default", *, threads: int | None = None) -> Captioner:
    """A Captioner of the embedded model, of another bundle that ships with the package, or of a bundle's folder.

    Raises:
        BundleError: missing, truncated, changed, or of a newer schema.
    """
    from video_captioning.captioner import Captioner

    return Captioner(model, threads=threads)
