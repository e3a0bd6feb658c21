"""What of a bundle becomes int8: candidates are made, measured on clips beside float32, and the best is kept.

Weights alone save size. Arithmetic is taken only where it clearly saves time, too: in ranges found on some of the clips
(static), or at each call (dynamic). Only the encoder's: it can be given each clip alone, while a step's ranges would
come from all hypotheses of a batch, and what is said of a clip would depend on the others.
"""

from __future__ import annotations

import platform
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from video_captioning.bundle import ARITHMETIC, GRAPHS, WEIGHTS, Bundle, Runtime
from video_captioning.decoding import Arrays
from video_captioning.errors import BundleError
from video_captioning.export.half import greedy
from video_captioning.export.quantize import quantize_operators, quantize_products, quantize_weights
from video_captioning.metrics.cider import Consensus
from video_captioning.metrics.tokenization import tokenize
from video_captioning.tokenizer import Tokenizer

AGREEMENT = 0.9
"""Share of the clips whose greedy captions are those of float32; or else"""
CIDER = 0.98
"""of float32's CIDEr-D."""
FASTER = 1.1
"""Times float32, and more by as much as the graphs are larger than with int8 weights; less is not worth its price."""
ENOUGH = 8
"""Clips from which on those that calibrate are not those that are measured on."""
CALIBRATION = 24  # clips at most
BATCH, FRAMES, WORDS, REPEATS = 8, 8, 8, 7  # clips of a batch, frames of a timed call, words before one, timed calls

FLOAT32, DYNAMIC = "float32", "MatMul dynamic"
WITHOUT_CLIPS = "only weights become int8: whether int8 arithmetic pays is measured on clips; name some with --clip"


@dataclass(frozen=True)
class Row:
    """A bundle as it could be, beside the same in float32."""

    encoder: str
    words: str
    """What of memory and step is int8."""
    megabytes: float
    """Of the three graphs."""
    frame_ms: float
    """To encode a frame: processor time of one thread, the least of several calls."""
    frame_speed: float
    """Times float32, timed in turns."""
    step_ms: float
    """To find the next word of each clip of a batch."""
    step_speed: float
    same_captions: int
    """Clips whose greedy tokens are those of float32."""
    cider: float | None
    """CIDEr-D of the greedy captions, where every clip has references."""


@dataclass(frozen=True)
class Quantization:
    """What of a bundle is int8, and what that was measured to cost and to save."""

    int8: dict[str, str]
    """By graph: `weights` or `arithmetic`."""
    calibrated_on: int = 0
    """Clips."""
    clips: int = 0
    """Measured on: others, where there are ENOUGH."""
    processor: str = ""
    held_by: str = ""
    """What is close enough to float32: `captions` or `CIDEr-D`; or `force`."""
    chosen: int = 0
    """The row that the bundle is."""
    rows: tuple[Row, ...] = ()
    """float32 first."""

    def to_dict(self) -> dict[str, Any]:
        """For `bundle.json`, which states `int8` with the graphs; empty where nothing was measured."""
        return {name: value for name, value in asdict(self).items() if name != "int8"} if self.rows else {}


def quantize(
    exact: Bundle, clips: Sequence[np.ndarray], references: Sequence[Sequence[str]] = (), *, force: bool = False
) -> Quantization:
    """Rewrite the graphs of a float32 bundle in their folder.

    Args:
        clips: frames uint8 `[T, S, S, 3]` of each; without any, only weights become int8 and nothing is measured.
        references: captions of each clip, for CIDEr-D; it is left out where a clip has none.
        force: even where int8 changes too much.

    Raises:
        BundleError: int8 changes too much; the graphs are as they were.
    """
    with TemporaryDirectory(prefix="vidcap-") as room:
        weights = rewritten(exact, exact, GRAPHS, WEIGHTS, Path(room, WEIGHTS), quantize_weights)
        if not clips:
            warnings.warn(WITHOUT_CLIPS, stacklevel=2)
            keep(weights, exact)
            return Quantization(weights.int8)
        calibration, measured = split(len(clips))
        bench = Bench(exact, [clips[n] for n in measured], [references[n] for n in measured] if references else [])
        plain = Candidate(weights, bench.measure(weights, WEIGHTS, WEIGHTS))
        encoders = list(other_encoders(plain, bench, [clips[n] for n in calibration], Path(room)))
        chosen = bench.best(plain, encoders)
        held_by = bench.held_by(chosen.row) or ("force" if force else "")
        if not held_by:
            raise BundleError(exact.folder, bench.loss(chosen.row), "not written; give other clips, or add --force")
        keep(chosen.bundle, exact)
    rows = (bench.row, *(each.row for each in (plain, *encoders)))
    used = len(calibration), len(measured)
    return Quantization(chosen.bundle.int8, *used, processor(), held_by, rows.index(chosen.row), rows)


def split(count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Numbers of the clips to calibrate on, and of those to measure on."""
    if count < ENOUGH:
        return range(count), range(count)
    calibration = range(0, count, 4)[:CALIBRATION]
    return calibration, [number for number in range(count) if number not in calibration]


def processor() -> str:
    """Which one, as far as the system says."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def rewritten(
    base: Bundle, exact: Bundle, names: Sequence[str], precision: str, folder: Path, rewrite: Callable[[Path], None]
) -> Bundle:
    """`base` with the graphs `names` made, in `folder`, from those of `exact`."""
    folder.mkdir()
    files = {name: folder / exact.graphs[name].name for name in names}
    for name, file in files.items():
        shutil.copyfile(exact.graphs[name], file)
        rewrite(file)
    return replace(base, graphs=base.graphs | files, int8=base.int8 | dict.fromkeys(names, precision))


def keep(chosen: Bundle, exact: Bundle) -> None:
    """Put the graphs of `chosen` in the place of those of `exact`."""
    for name, file in chosen.graphs.items():
        if file != exact.graphs[name]:
            shutil.copyfile(file, exact.graphs[name])


@dataclass(frozen=True)
class Candidate:
    """A bundle as it could be, and what was measured of it."""

    bundle: Bundle
    row: Row


def other_encoders(base: Candidate, bench: Bench, calibration: Sequence[np.ndarray], room: Path) -> Iterator[Candidate]:
    """`base` with encoders that compute in int8."""

    def convolutions(path: Path) -> None:
        quantize_operators(path, calibration, ["Conv"])

    def convolutions_and_products(path: Path) -> None:
        convolutions(path)
        quantize_products(path)

    def everything(path: Path) -> None:
        quantize_operators(path, calibration, [])

    ways = {
        DYNAMIC: quantize_products,
        "Conv static": convolutions,
        f"Conv static, {DYNAMIC}": convolutions_and_products,
        "all static": everything,
    }
    for name, rewrite in ways.items():
        with left_out_if_impossible(f"encoder: {name}"):
            found = rewritten(base.bundle, bench.exact, ["encoder"], ARITHMETIC, room / name, rewrite)
            yield Candidate(found, bench.measure(found, name, base.row.words))


@contextmanager
def left_out_if_impossible(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's tools raise many unrelated classes on graphs that they do not know
        warnings.warn(f"int8 was not tried: {what} ({error})", stacklevel=3)


class Bench:
    """Clips on which bundles are held against one in float32."""

    def __init__(self, exact: Bundle, clips: Sequence[np.ndarray], references: Sequence[Sequence[str]]) -> None:
        self.exact, self.clips = exact, clips
        self.tokenizer = Tokenizer.load(exact.tokenizer)
        complete = references and all(references)
        self.consensus = Consensus([[tokenize(text) for text in each] for each in references]) if complete else None
        self.runtime = Runtime(exact, threads=1)
        self.said = self.say(self.runtime)
        self.frames = np.concatenate(clips)[:FRAMES]
        self.step = self.middle(clips[:BATCH])
        self.row = self.measure(exact, FLOAT32, FLOAT32)

    def say(self, runtime: Runtime) -> list[tuple[int, ...]]:
        """Greedy tokens of each clip."""
        batches = (self.clips[at : at + BATCH] for at in range(0, len(self.clips), BATCH))
        return [tokens for batch in batches for tokens in greedy(runtime, batch)]

    def middle(self, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, Arrays, Arrays]:
        """Inputs of a step amid captions: tokens, state and memory."""
        memory, state = self.runtime.remember(*self.runtime.encode(clips))
        tokens = np.full(len(clips), Tokenizer.bos)
        for _ in range(WORDS):
            logits, state, _ = self.runtime.step(tokens, state, memory)
            tokens = logits.argmax(-1)
        return tokens, state, memory

    def measure(self, bundle: Bundle, encoder: str, words: str) -> Row:
        runtime = Runtime(bundle, threads=1)
        said = self.say(runtime)
        frame_ms, frame_speed = self.race(runtime, lambda one: one.encode([self.frames]))
        step_ms, step_speed = self.race(runtime, lambda one: one.step(*self.step))
        return Row(
            encoder,
            words,
            sum(file.stat().st_size for file in bundle.graphs.values()) / 1e6,
            frame_ms / len(self.frames),
            frame_speed,
            step_ms,
            step_speed,
            sum(one == other for one, other in zip(said, self.said, strict=True)),
            self.cider(said),
        )

    def race(self, runtime: Runtime, work: Callable[[Runtime], object]) -> tuple[float, float]:
        """Milliseconds of processor time, and how many times float32 that is; the least of calls in turns."""
        least = [np.inf, np.inf]
        for _ in range(REPEATS):
            for place, one in enumerate((self.runtime, runtime)):
                start = process_time()
                work(one)
                least[place] = min(least[place], process_time() - start)
        return 1000 * least[1], least[0] / least[1]

    def cider(self, said: Sequence[tuple[int, ...]]) -> float | None:
        if self.consensus is None:
            return None
        sentences = [tokenize(self.tokenizer.decode(tokens)) for tokens in said]
        return float(self.consensus.score(range(len(said)), sentences).mean())

    def best(self, base: Candidate, others: Sequence[Candidate]) -> Candidate:
        """The fastest of those that hold and are clearly faster than float32, and more so than larger, else `base`."""

        def least(row: Row) -> float:
            return FASTER * max(1.0, row.megabytes / base.row.megabytes)

        paying = [other for other in others if self.held_by(other.row) and other.row.frame_speed >= least(other.row)]
        return max(paying, key=lambda other: other.row.frame_speed, default=base)

    def held_by(self, row: Row) -> str:
        """What of a row is close enough to float32; empty if nothing is."""
        if row.same_captions >= AGREEMENT * len(self.clips):
            return "captions"
        return "CIDEr-D" if row.cider and self.row.cider and row.cider >= CIDER * self.row.cider else ""

    def loss(self, row: Row) -> str:
        """Why a row does not hold."""
        captions = f"only {row.same_captions} of {len(self.clips)} captions stay as in float32, under {AGREEMENT:.0%}"
        score = "" if row.cider is None else f", and CIDEr-D falls from {self.row.cider:.4f} to {row.cider:.4f}"
        return f"int8 changes too much: {captions}{score}"


def table(stated: Mapping[str, Any]) -> str:
    """What `Quantization.to_dict` gives, for a terminal."""
    columns = ["encoder", "memory, step", "MB", "ms a frame", "", "ms a step", "", "captions", "CIDEr-D"]
    grid = Table("", *columns, box=SIMPLE_HEAD, show_edge=False)
    for column in grid.columns[3:]:
        column.justify = "right"
    for place, row in enumerate(stated["rows"]):
        grid.add_row(
            "→" if place == stated["chosen"] else "",
            row["encoder"],
            row["words"],
            f"{row['megabytes']:.1f}",
            f"{row['frame_ms']:.2f}",
            f"{row['frame_speed']:.2f}x",
            f"{row['step_ms']:.2f}",
            f"{row['step_speed']:.2f}x",
            f"{row['same_captions']} of {stated['clips']}",
            "" if row["cider"] is None else f"{row['cider']:.4f}",
        )
    console = Console(markup=False, highlight=False, width=200)
    with console.capture() as captured:
        console.print(grid)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    calibrated, clips = stated["calibrated_on"], stated["clips"]
    which = "the same" if calibrated == clips else f"{calibrated} other"
    return "\n".join(
        [*lines, f"Measured on {clips} clips, calibrated on {which}; one thread of {stated['processor']}."]
    )
