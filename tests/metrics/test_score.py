"""All metrics from raw captions on, against the whole COCO caption tool with its Java."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.captions import corrupted, random_captions
from video_captioning.metrics.files import read_captions
from video_captioning.metrics.score import compare, score

HARD = (
    "A 3 1/2 inch nail.",
    "Call (555) 123-4567 now!",
    "(a dog)",
    "...",
    "don't, can't: \u201cwon't\u201d",
    "U.S. 1,000.50",
)


@pytest.fixture(scope="module")
def captions(shared: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """References of Flickr8k dev but the first of each picture, which is the hypothesis, changed in part."""
    real = read_captions(shared / "data" / "flickr8k" / "dev.jsonl")
    hypotheses = {name: corrupted(said[0], rng) for rng in [random_captions()] for name, said in real.items()}
    references = {name: said[1:] for name, said in real.items()}
    for name, hard in zip(list(real)[::40], HARD * 5, strict=False):
        hypotheses[name] = hard
        references[name][0] = hard
    return references, hypotheses


@pytest.mark.slow
def test_the_numbers_of_the_whole_tool(captions: tuple[dict[str, list[str]], dict[str, str]]) -> None:
    pytest.importorskip("pycocoevalcap")
    if not shutil.which("java"):
        pytest.skip("no Java")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    references, hypotheses = captions
    said = PTBTokenizer().tokenize({name: [{"caption": one}] for name, one in hypotheses.items()})
    wanted = PTBTokenizer().tokenize({name: [{"caption": one} for one in of] for name, of in references.items()})
    ours = score(references, hypotheses)
    scores, segments = Bleu(4).compute_score(wanted, said, verbose=0)
    for number, value in enumerate(scores):
        assert ours.scores[f"BLEU-{number + 1}"] == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(ours.segments[f"BLEU-{number + 1}"], segments[number], rtol=0, atol=1e-9)
    for name, tool in (("ROUGE-L", Rouge()), ("CIDEr-D", Cider())):
        value, found = tool.compute_score(wanted, said)
        assert ours.scores[name] == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(ours.segments[name], found, rtol=0, atol=1e-9)
    value, found = Meteor().compute_score(wanted, said)
    assert ours.scores["METEOR"] == pytest.approx(value, abs=1e-4)
    assert np.mean(np.abs(ours.segments["METEOR"] - found) > 1e-3) < 0.005


def test_a_score_lies_in_its_interval_and_a_system_beats_a_worse_one(
    captions: tuple[dict[str, list[str]], dict[str, str]],
) -> None:
    references, hypotheses = captions
    ids = list(hypotheses)
    better = score(references, hypotheses)
    worse = score(references, {name: hypotheses[other] for name, other in zip(ids, ids[1:] + ids[:1], strict=True)})
    for name, value in better.scores.items():
        assert better.intervals[name].low < value < better.intervals[name].high
        assert worse.intervals[name].high < better.intervals[name].low
    assert max(compare(better, worse).values()) < 0.001
    assert compare(better, better) == dict.fromkeys(better.scores, 1.0)
