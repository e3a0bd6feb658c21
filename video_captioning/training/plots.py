"""Curves of what a run measured, as pictures in `OUT/plots/`."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from video_captioning.errors import MissingExtraError
from video_captioning.files import write_whole
from video_captioning.training.record import RESUME, Row, read

LOSSES = {"loss": "training", "val_loss": "validation"}
SCORES = {"val_cider": "CIDEr-D", "val_bleu4": "BLEU-4", "val_meteor": "METEOR", "val_rouge_l": "ROUGE-L"}
OFTEN = 30.0
"""Seconds between two drawings while a run goes on."""


class Plots(Callback):
    """Draws now and then after a validation, and when the run ends, however it ends."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.able = True
        self.due = time.monotonic() + OFTEN

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking and time.monotonic() >= self.due:
            self.draw(trainer)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        self.draw(trainer)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.draw(trainer)

    def draw(self, trainer: Any) -> None:
        if not (self.able and trainer.is_global_zero):
            return
        try:
            draw(self.out)
            self.due = time.monotonic() + OFTEN
        except MissingExtraError as error:
            warnings.warn(f"no plots are drawn: {error}", stacklevel=1)
            self.able = False


def draw(out: Path) -> None:
    """Draw the curves of `OUT/metrics.jsonl`: loss, scores, learning rate and reward, as far as they were measured.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: a picture cannot be written.
    """
    rows = read(out)
    rates = {name: name for row in rows for name in row if name.startswith("lr")}
    for file, title, names, by in (
        ("loss", "Loss", LOSSES, "step"),
        ("scores", "Scores on the validation items", SCORES, "epoch"),
        ("learning_rate", "Learning rate", rates, "step"),
        ("reward", "Reward", {"reward": "reward"}, "step"),
    ):
        curves = {label: found for name, label in names.items() if (found := curve(rows, name, by))}
        if curves:
            write_whole(out / "plots" / f"{file}.png", picture(title, by, curves), RESUME)


Points = list[tuple[int, float]]


def curve(rows: Sequence[Row], name: str, by: str) -> Points:
    """A metric by `step` or by `epoch`, which people count from 1. What was not finite leaves a gap."""
    first = 1 if by == "epoch" else 0
    values = ((row.get(by), row[name]) for row in rows if name in row)
    return [(at + first, float("nan") if value is None else value) for at, value in values if at is not None]


def picture(title: str, by: str, curves: Mapping[str, Points]) -> bytes:
    """A PNG of 1200 × 675 pixels."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing curves", "plots") from error
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for label, points in curves.items():
        few = len(points) <= 50
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.5, marker="." if few else "")
    axes.set(title=title, xlabel=by)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
