"""An explanation as pictures. Sizes in inches; it grows with words and frames, so that all stays readable."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from video_captioning.decoding import Floats
from video_captioning.errors import MissingExtraError
from video_captioning.explain.explanation import Explanation
from video_captioning.painter import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
MARK, SECOND, SOFT = "#2461c4", "#c4502a", "#59616b"
STRIP = 8  # frames of a film strip; of more, the word's strongest
PANELS = 5  # beside each other
ROW, THUMB, GAP = 0.32, 0.95, 0.1  # height of a row of a heat map; least width of a picture; between pictures
LEAST_WIDTH = 6.5


def drawn(found: Explanation, shown: Sequence[Pixels]) -> dict[str, bytes]:
    """PNGs by file name.

    - `attention.png`: words x frames; `words.png`: a film strip a word; `importance.png`: of the frames over time.
    - `where.png`: inside the frames, of a model with patches.
    - `occlusion.png`: what hiding each place does, where that was measured.

    Args:
        shown: the frames, as of `shown.pictures`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing an explanation", "plots") from error
    with rc_context({"text.parse_math": False, "font.size": 10}):
        return {name: png(figure) for name, figure in figures(found, shown)}


def figures(found: Explanation, shown: Sequence[Pixels]) -> Iterator[tuple[str, Figure]]:
    yield "attention.png", heat_map(found, shown, found.weights, "What each word attended to, %")
    yield "words.png", film_strips(found, shown)
    yield "importance.png", importance(found, shown)
    if found.patches is not None:
        yield "where.png", where(found, shown, found.patches)
    if found.occlusion is None or found.falls is None:
        return
    title = "How far the log-probability falls without a"
    if found.occlusion.of == "frames":
        yield "occlusion.png", heat_map(found, shown, found.falls, f"{title} frame", signed=True)
    else:
        side = math.isqrt(len(found.occlusion.caption))
        maps = [fall.reshape(side, side) for fall in (found.occlusion.caption, *found.falls)]
        notes = [f"by {fall.max():.2f} at most" for fall in maps]
        yield (
            "occlusion.png",
            panels(found, [shown[0]] * len(maps), maps, notes, f"{title} part of the picture"),
        )


def heat_map(
    found: Explanation, shown: Sequence[Pixels], values: Floats, title: str, *, signed: bool = False
) -> Figure:
    """Words x frames `[W, F]`, the frames and their times below."""
    from matplotlib.colors import Normalize, PowerNorm

    words = [word.text for word in found.caption.words]
    rows, columns = values.shape
    cell = min(max(9 / columns, 0.3), 1.3)
    every = math.ceil(THUMB / cell)  # so many columns share a picture
    width, height = cell * columns, ROW * rows
    thumb = cell * every * 0.92
    thumb_height = min(thumb / aspect(shown[0]), 1.3)
    left, bottom = label_width(words), thumb_height + 0.45
    sheet = Sheet(left + width + 0.9, bottom + height, title, found.caption.text)
    axes = sheet.axes(left, bottom, width, height)
    most = float(np.abs(values).max()) or 1.0
    norm = Normalize(-most, most) if signed else PowerNorm(0.6, 0, most)  # or a single peak would hide all else
    image = axes.imshow(values, aspect="auto", cmap="RdBu_r" if signed else "Blues", norm=norm)
    axes.set_yticks(range(rows), words)
    axes.set_xticks(range(columns), [""] * columns)
    axes.tick_params(length=2)
    if cell >= 0.45:
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if abs(value) > 0.55 * most else "black"
            note = f"{value:+.2f}" if signed else f"{100 * value:.0f}"
            axes.text(column, row, note, ha="center", va="center", fontsize=8, color=colour)
    bar = sheet.figure.colorbar(image, cax=sheet.axes(left + width + 0.15, bottom, 0.12, height))
    bar.outline.set_visible(False)
    if not signed:
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    for column in range((every - 1) // 2, columns, every):
        x = left + cell * (column + 0.5) - thumb / 2
        sheet.picture(shown[column], x, bottom - 0.1 - thumb_height, thumb, thumb_height, when(found, column))
    return sheet.figure


def film_strips(found: Explanation, shown: Sequence[Pixels]) -> Figure:
    """A row a word: its frames, or the strongest of many, in the order of time; the paler, the weaker."""
    words = found.caption.words
    columns = min(STRIP, len(shown))
    width = 1.25 if columns > 1 else 1.9
    height = min(width / aspect(shown[0]), 2.0)
    left, row_height = label_width([word.text for word in words], 0.16), height + 0.34
    many = "" if columns == len(shown) else f"; the {columns} strongest of {len(shown)}"
    title = f"Where each word came from: weights of its frames{many}"
    sheet = Sheet(left + columns * (width + GAP), len(words) * row_height, title, found.caption.text)
    for row, (word, weights) in enumerate(zip(words, found.weights, strict=True), 1):
        y = (len(words) - row) * row_height + 0.3
        chosen = np.sort(np.argsort(-weights, kind="stable")[:columns])
        note = f"{word.logprob:.2f}" + (f"\n{weights[chosen].sum():.0%} in these" if many else "")
        label: dict[str, Any] = {"x": left - 0.12, "y": y + height / 2, "ha": "right"}
        sheet.text(s=word.text, va="bottom", fontsize=12, fontweight="bold", **label)
        sheet.text(s=note, va="top", color=SOFT, fontsize=8, **label)
        for column, place in enumerate(chosen.tolist()):
            note = f"{when(found, place)}  {weights[place]:.0%}".strip()
            x, strength = left + column * (width + GAP), weights[place] / weights.max()
            sheet.picture(shown[place], x, y, width, height, note, alpha=0.25 + 0.75 * strength)
    return sheet.figure


def importance(found: Explanation, shown: Sequence[Pixels]) -> Figure:
    """The curve over time, with the most important frames above it."""
    times, values = np.array(found.caption.frames), 100 * found.importance
    width, left, bottom, height = 9.0, 0.75, 0.75, 3.2
    thumb = (width - 4 * GAP) / 5
    thumb_height = min(thumb / aspect(shown[0]), 1.9)
    compared = found.agreement is not None and len(times) > 1
    agreement = f"; rank correlation with occlusion {found.agreement:.2f}" if compared else ""
    title = f"How much each frame was attended to{agreement}"
    sheet = Sheet(left + width + 0.9, bottom + height + thumb_height + 0.5, title, found.caption.text)
    axes = sheet.axes(left, bottom, width, height)
    lines = axes.plot(times, values, color=MARK, marker=".", label="attention, mean of the words")
    axes.fill_between(times, values, color=MARK, alpha=0.12)
    lines.append(axes.axhline(100 / len(times), color=SOFT, linestyle=":", linewidth=1, label="if all counted alike"))
    axes.set(ylim=(0, 1.18 * values.max()), ylabel="weight of the frame, %")
    axes.set_xlabel("seconds" if found.caption.video.duration is not None else "the only frame")
    if len(times) == 1:
        axes.set_xticks(times)
    axes.spines[["top", "right"]].set_visible(False)
    rank = {place: number for number, place in enumerate(found.top.tolist(), 1)}
    for slot, place in enumerate(sorted(rank)):
        above: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "weight": "bold"}
        axes.annotate(str(rank[place]), (times[place], values[place]), **above)
        note = "  ".join(filter(None, (f"{rank[place]}.", when(found, place), f"{values[place]:.1f}%")))
        x = left + slot * (thumb + GAP)
        sheet.picture(shown[place], x, bottom + height + 0.4, thumb, thumb_height, note)
    if found.occlusion is not None and found.occlusion.of == "frames":
        other = axes.twinx()
        other.axhline(0, color=SECOND, linewidth=0.5)
        label = "occlusion: fall of the caption's log-probability"
        lines += other.plot(times, found.occlusion.caption, color=SECOND, marker=".", linestyle="--", label=label)
        other.set_ylabel("fall without the frame", color=SECOND)
        other.spines["top"].set_visible(False)
    axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False, fontsize=9)
    return sheet.figure


def where(found: Explanation, shown: Sequence[Pixels], patches: Floats) -> Figure:
    """Inside the most important frame of the whole caption, and inside the strongest frame of each word."""
    whole = int(found.top[0])
    strongest = found.weights.argmax(1)
    maps = [patches.mean(0)[whole], *patches[np.arange(len(strongest)), strongest]]
    places = [whole, *strongest.tolist()]
    notes = [when(found, place) for place in places]
    title = "Where in its strongest frame"
    if found.class_token is not None:
        title += "; beside the time, the share of the class token"
        tokens, weights = ([values.mean(0), *values] for values in (found.class_token, found.weights))
        shares = [token[place] / weight[place] for place, token, weight in zip(places, tokens, weights, strict=True)]
        notes = [f"{note}  {share:.0%}".strip() for note, share in zip(notes, shares, strict=True)]
    return panels(found, [shown[place] for place in places], maps, notes, title)


def panels(
    found: Explanation, pictures: Sequence[Pixels], maps: Sequence[Floats], notes: Sequence[str], title: str
) -> Figure:
    """The whole caption and then each word: a grid of weights `[G, G]` over a picture."""
    names = ["the whole caption", *(word.text for word in found.caption.words)]
    columns = min(PANELS, len(names))
    width, label = 2.1, 0.5
    height = min(width / aspect(pictures[0]), 2.8)
    rows = math.ceil(len(names) / columns)
    sheet = Sheet(columns * (width + GAP) + GAP, rows * (height + label), title, found.caption.text)
    for place, (name, picture, values, note) in enumerate(zip(names, pictures, maps, notes, strict=True)):
        row, column = divmod(place, columns)
        at = (GAP + column * (width + GAP), (rows - row - 1) * (height + label) + label, width, height)
        sheet.picture(picture, *at, f"{name}\n{note}")
        sheet.picture(veil(values), *at)
    return sheet.figure


def veil(values: Floats) -> Floats:
    """Squares of black, RGBA `[G, G, 4]`, the darker the lower the value; what is not above 0 is darkest."""
    strength = np.clip(values / max(float(values.max()), 1e-9), 0, 1)
    cover = np.zeros((*values.shape, 4))
    cover[..., 3] = 0.75 * (1 - strength**0.6)
    return cover


def when(found: Explanation, place: int) -> str:
    """The time of a frame; nothing for a still picture."""
    return "" if found.caption.video.duration is None else f"{found.caption.frames[place]:.1f} s"


def aspect(picture: Pixels) -> float:
    return float(picture.shape[1] / picture.shape[0])


def label_width(words: Sequence[str], letter: float = 0.1) -> float:
    return max(0.35 + letter * max(map(len, words)), 1.0)


class Sheet:
    """A figure with a title on which things are placed in inches from the lower left corner."""

    def __init__(self, width: float, height: float, title: str, subtitle: str) -> None:
        """`height` is that of what stands below the title."""
        from matplotlib.figure import Figure

        self.width = max(width, LEAST_WIDTH)
        lines = textwrap.wrap(title, int(self.width * 9)), textwrap.wrap(subtitle, int(self.width * 11))
        self.height = height + 0.3 + 0.2 * sum(map(len, lines))
        self.figure = Figure(figsize=(self.width, self.height), dpi=DPI)
        self.canvas = self.axes(0, 0, self.width, self.height)
        self.canvas.set(xlim=(0, self.width), ylim=(0, self.height), autoscale_on=False)
        self.canvas.axis("off")
        top = self.height - 0.1
        self.text(0.12, top, "\n".join(lines[0]), va="top", fontsize=12, fontweight="bold")
        self.text(0.12, top - 0.04 - 0.2 * len(lines[0]), "\n".join(lines[1]), va="top", color=SOFT)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / self.width, y / self.height, width / self.width, height / self.height))

    def picture(
        self, pixels: Floats | Pixels, x: float, y: float, width: float, height: float, note: str = "", alpha: float = 1
    ) -> None:
        """A picture with a note below."""
        place = (x, x + width, y, y + height)
        filtered = "nearest" if pixels.shape[2] == 4 else "auto"
        self.canvas.imshow(pixels, extent=place, aspect="auto", alpha=alpha, interpolation=filtered)
        self.text(x + width / 2, y - 0.04, note, ha="center", va="top", fontsize=8)

    def text(self, x: float, y: float, s: str, **style: Any) -> None:
        self.canvas.text(x, y, s, **style)


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
