"""The results of a benchmark as one picture: a panel a setting, a bar an engine, its stages in colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from video_captioning.export.benchmark import STAGES, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"decode": "#b0b0b0", "encode": "#0072b2", "memory": "#009e73", "generate": "#e69f00", "all": "#cc79a7"}
NAMES = {
    "decode": "decode video",
    "encode": "encode frames",
    "memory": "memory",
    "generate": "generate text",
    "all": "all, in the server",
}


def picture(results: Sequence[Result], title: str) -> bytes:
    """A PNG, 1650 pixels wide. Raises ModuleNotFoundError without the extra `plots`."""
    from matplotlib.figure import Figure

    threads = sorted({one.threads for one in results})
    batches = sorted({one.batch for one in results})
    engines = len({one.engine for one in results})
    height = 1.2 + len(batches) * (0.8 + 0.35 * engines)
    figure = Figure(figsize=(11, height), dpi=150, layout="constrained")
    panels = figure.subplots(len(batches), len(threads), sharex=True, sharey=True, squeeze=False)
    for row, batch in enumerate(batches):
        for column, count in enumerate(threads):
            axes = panels[row][column]
            draw(axes, [one for one in results if (one.batch, one.threads) == (batch, count)])
            axes.set_title(f"batch of {batch}, {count} thread{'s' if count > 1 else ''}", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("milliseconds a clip")
    panels[0][0].invert_yaxis()  # shared: the first engine is on top everywhere
    panels[0][0].set_xlim(0, 1.3 * max(one.milliseconds["all"].median for one in results))
    labels = {label: bar for axes in panels.flat for bar, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def draw(axes: Axes, results: Sequence[Result]) -> None:
    """A bar an engine, and clips a second at its end."""
    for one in results:
        left = 0.0
        stages = [name for name in STAGES if name in one.milliseconds] or ["all"]
        for stage in stages:
            width = one.milliseconds[stage].median
            axes.barh(one.engine, width, left=left, color=COLOURS[stage], label=NAMES[stage])
            left += width
        axes.annotate(
            f"{one.clips_per_second:.3g} clips/s",
            (left, one.engine),
            (4, 0),
            va="center",
            fontsize=9,
            textcoords="offset points",
        )
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
