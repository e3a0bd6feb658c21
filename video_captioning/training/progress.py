"""How far a run is, on a terminal."""

from __future__ import annotations

import os

from lightning.pytorch.callbacks import Callback, RichProgressBar


def progress_bar() -> Callback | None:
    """A bar of the epoch, the time left and the newest metrics on stderr; None where that is no terminal."""
    if not os.isatty(2):
        return None
    return RichProgressBar(refresh_rate=10, console_kwargs={"stderr": True})
