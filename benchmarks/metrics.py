"""`vidcap score` against the COCO caption tool on as many captions as MSR-VTT's test set has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.cold import run
from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.metrics.bleu import bleu
from video_captioning.metrics.cider import Consensus, cider
from video_captioning.metrics.files import read_captions
from video_captioning.metrics.meteor import meteor
from video_captioning.metrics.ngrams import Tokens
from video_captioning.metrics.rouge import rouge
from video_captioning.metrics.tokenization import tokenize

TOOL, OURS = "COCO tool", "vidcap"
REWARDS = 128
"""Captions a call, as many as a training step samples."""
BARS = {"METEOR": 1.0, "all": 5.0}


@dataclass(frozen=True)
class Captions:
    hypotheses: dict[str, str]
    references: dict[str, list[str]]


def load(path: Path) -> Captions:
    """All references of each video; the hypothesis is the first of the next video's."""
    references = read_captions(path)
    ids = list(references)
    return Captions({name: references[ids[n - 1]][0] for n, name in enumerate(ids)}, references)


def measure(path: Path, repeat: int) -> Report:
    confine(1)
    most = memory(path)  # first: the memory of this process, which the other is forked from, counts as its own
    captions = load(path)
    rounds = in_turns({TOOL: partial(tool, captions), OURS: partial(ours, captions)}, repeat)
    setting = {
        "captions": len(captions.hypotheses),
        "references": sum(map(len, captions.references.values())),
        "cores": 1,
        "rounds": repeat,
        **machine(),
    }
    return Report("metrics", setting, (tabulate(rounds), [reward(captions)], [most]))


def timed(stages: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each stage, and of all."""
    found = {}
    for name, work in stages.items():
        start = perf_counter()
        work()
        found[name] = perf_counter() - start
    return found | {"all": sum(found.values())}


def ours(captions: Captions) -> dict[str, float]:
    said: list[Tokens] = []
    wanted: list[list[Tokens]] = []

    def read() -> None:
        said.extend(map(tokenize, captions.hypotheses.values()))
        wanted.extend([tokenize(reference) for reference in known] for known in captions.references.values())

    return timed(
        {
            "tokenizer": read,
            "BLEU": lambda: bleu(said, wanted),
            "METEOR": lambda: meteor(said, wanted),
            "ROUGE-L": lambda: rouge(said, wanted),
            "CIDEr-D": lambda: cider(said, wanted),
        }
    )


def tool(captions: Captions) -> dict[str, float]:
    """What the tool's own `eval.py` calls; its Java starts are part of it."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    said: dict[str, list[str]] = {}
    wanted: dict[str, list[str]] = {}

    def read() -> None:
        said.update(PTBTokenizer().tokenize({k: [{"caption": v}] for k, v in captions.hypotheses.items()}))
        rows = {name: [{"caption": one} for one in known] for name, known in captions.references.items()}
        wanted.update(PTBTokenizer().tokenize(rows))

    return timed(
        {
            "tokenizer": read,
            "BLEU": lambda: Bleu(4).compute_score(wanted, said, verbose=0),
            "METEOR": lambda: Meteor().compute_score(wanted, said),
            "ROUGE-L": lambda: Rouge().compute_score(wanted, said),
            "CIDEr-D": lambda: Cider().compute_score(wanted, said),
        }
    )


def tabulate(rounds: Mapping[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians over the rounds, a row a stage."""
    return [
        {
            "stage": stage,
            f"{TOOL}, s": median(found[stage] for found in rounds[TOOL]),
            f"{OURS}, s": median(found[stage] for found in rounds[OURS]),
            "times as fast": median_ratio([a[stage] for a in rounds[TOOL]], [b[stage] for b in rounds[OURS]]),
            "bar": BARS.get(stage),
        }
        for stage in rounds[OURS][0]
    ]


def reward(captions: Captions) -> dict[str, Any]:
    """CIDEr-D while training: references are made ready once, captions come in small batches."""
    wanted = [[tokenize(reference) for reference in known] for known in captions.references.values()]
    said = [tokenize(caption) for caption in captions.hypotheses.values()]
    consensus = Consensus(wanted)
    start = perf_counter()
    for at in range(0, len(said), REWARDS):
        part = said[at : at + REWARDS]
        consensus.score(range(at, at + len(part)), part)
    return {"reward": "CIDEr-D", "captions/s": round(len(said) / (perf_counter() - start)), "bar": 5000}


def memory(path: Path) -> dict[str, Any]:
    """Most that all metrics need, in a process of their own."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.metrics import load, ours; ours(load(Path(sys.argv[1])))"
    )
    return {"peak of": "all metrics", "MB": round(run([sys.executable, "-c", code, str(path)]).memory), "bar": 1000}
