"""What is true of captions, tags and confidences, held against references."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from tests.captions import corrupted
from tests.conftest import MakeClip
from tests.evaluation.test_report import Page
from video_captioning.captioner import Caption, Captioner
from video_captioning.cli import vidcap
from video_captioning.concepts import Concepts
from video_captioning.data.items import Item
from video_captioning.decoding import Decoding
from video_captioning.evaluation import report
from video_captioning.evaluation.calibration import calibration, of_sentences, of_words
from video_captioning.evaluation.evaluate import Evaluation, evaluate
from video_captioning.evaluation.support import Support, support
from video_captioning.evaluation.tags import precision

REFERENCES = [("a red ball in the grass", "a ball rolls"), ("two dogs running", "dogs"), ("the sea", "blue waves")]


# Content words


def test_content_words_that_a_reference_uses() -> None:
    references = {"a": ["two dogs running", "a dog"], "b": ["the sea"], "c": ["a man"]}
    found = support(references, {"a": "A dog runs in the snow.", "b": "The sea.", "c": "A man and a woman."})
    assert found == Support(words=(3, 1, 0), supported=(1, 1, 0))
    assert (found.share, found.all, found.none) == (0.5, 1, 1)
    assert found.right == (False, True, False)


def test_as_the_tool_counts(shared: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On people's sentences, corrupted or of another clip."""
    tool = shared / "tools" / "word_support.py"
    listing = shared / "data" / "clips" / "validation.jsonl"
    if not tool.is_file() or not listing.is_file():
        pytest.skip("the tool or its clips are not here")
    spec = importlib.util.spec_from_file_location("word_support", tool)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    people = {str(place): row["captions"] for place, row in enumerate(rows)}
    rng = random.Random(5)
    for _ in range(5):
        hypotheses = {
            name: corrupted(rng.choice(people[rng.choice([name, *people])]), rng)
            for name in rng.sample(list(people), 20)
        }
        references = {name: rng.sample(captions, min(3, len(captions))) for name, captions in people.items()}
        for name, content in (("r.json", references), ("h.json", hypotheses)):
            (tmp_path / name).write_text(json.dumps(content))
        before, sys.argv = sys.argv, ["word_support.py", str(tmp_path / "r.json"), str(tmp_path / "h.json")]
        try:
            module.main()
        finally:
            sys.argv = before
        found = support(references, hypotheses)
        assert capsys.readouterr().out == (
            f"content words supported {found.share:.3f}, clips with all {found.all}, with none {found.none}, of 20\n"
        )


# Tags


CONCEPTS = Concepts(("dog", "giant panda", "run", "sea"), ("a dog", "a giant panda", "", "the sea"))


def test_average_precision_of_what_references_speak_of() -> None:
    references = [
        ["two dogs run", *["a cat"] * 3],  # one of four is enough: dog and run
        ["the giant panda", "a panda", "two pandas", "a giant", "giant pandas"],  # two of five: both words
        ["the sea", *["a cat"] * 19],  # one of twenty is not
    ]
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.6], [0.0, 0.0, 0.0, 1.0]])
    found = precision(CONCEPTS, scores, references)
    assert found.items == 2
    assert found.mean == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert precision(CONCEPTS, scores[:1], [["a cat"]]) == replace(found, mean=0.0, items=0)


@given(st.permutations(range(4)))
def test_the_best_order_has_precision_1(order: list[int]) -> None:
    """What is right stands first; the worst order is below."""
    scores = np.array([order], float)
    right = [CONCEPTS.names[place] for place in np.argsort(-scores[0])[:2]]
    assert precision(CONCEPTS, scores, [[" ".join(right)]]).mean == 1
    assert precision(CONCEPTS, -scores, [[" ".join(right)]]).mean == pytest.approx((1 / 3 + 2 / 4) / 2)


# Confidence


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_bins(told: list[tuple[float, bool]]) -> None:
    found = calibration([sure for sure, _ in told], [right for _, right in told])
    assert len(found.bins) == min(10, len(told))
    counts = [one.count for one in found.bins]
    assert sum(counts) == len(told)
    assert not counts or max(counts) - min(counts) <= 1
    assert sum(one.count * one.right for one in found.bins) == pytest.approx(sum(right for _, right in told))
    assert sum(one.count * one.confidence for one in found.bins) == pytest.approx(sum(sure for sure, _ in told))
    for one, following in zip(found.bins, found.bins[1:], strict=False):
        assert one.low <= one.high <= following.low
    assert 0 <= found.error <= 1


def test_the_error_of_the_sure_and_the_honest() -> None:
    half = [True, False] * 50
    assert calibration([1.0] * 100, half).error == pytest.approx(0.5)
    assert calibration([0.5] * 100, half).error == pytest.approx(0)
    assert calibration([0.1, 0.9], [True, False]).error == pytest.approx(0.9)
    assert calibration([], []).error == 0


# In an evaluation


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Item]:
    folder = tmp_path_factory.mktemp("clips")
    clips = [make_clip(folder / f"{n}.mp4", tiny.pictures(n + 1, n), fps=2, gop=1) for n in range(3)]
    return [Item(path.stem, path, captions) for path, captions in zip(clips, REFERENCES, strict=True)]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner(tiny.sure_bundle(), threads=1)


@pytest.fixture(scope="module")
def found(captioner: Captioner, items: list[Item]) -> Evaluation:
    return evaluate(captioner, items, Decoding(beam=2, max_tokens=8))


def test_it_is_of_what_the_captioner_says(captioner: Captioner, items: list[Item], found: Evaluation) -> None:
    each = [captioner.examine(item.path, decoding=found.decoding) for item in items]
    assert found.support == support(found.references, {i.id: e.caption.text for i, e in zip(items, each, strict=True)})
    known = captioner.bundle.concepts
    assert known is not None
    scores = np.stack([known.calibrated(one.concepts) for one in each if one.concepts is not None])
    assert found.tags == precision(known, scores, REFERENCES)
    assert found.tags.items == 3 and 0 < found.tags.mean < 1
    captions = [one.caption for one in each]
    sentences, words = of_sentences(captions, found.support), of_words(captions, REFERENCES)
    assert sentences and sum(one.count for one in sentences.bins) == 3
    assert words and sum(one.count for one in words.bins) == sum(
        word.confidence is not None for caption in captions for word in caption.words
    )
    for of, expected in (("sentences", sentences), ("words", words)):
        assert found.calibration[of].error == pytest.approx(expected.error, abs=1e-5)


def test_shuffled_tags_are_those_of_the_next_item(captioner: Captioner, items: list[Item], found: Evaluation) -> None:
    shuffled = evaluate(captioner, items, found.decoding, shuffle=True)
    moved = evaluate(
        captioner, [replace(item, captions=REFERENCES[n - 1]) for n, item in enumerate(items)], found.decoding
    )
    assert shuffled.tags == moved.tags != found.tags


def test_a_word_is_right_where_a_reference_uses_its_stem(found: Evaluation) -> None:
    word = replace(found.captions[0].words[0], text="dogs", confidence=0.25)
    caption = replace(
        found.captions[0], words=(word, replace(word, text="sea"), replace(word, text="the", confidence=None))
    )
    told = of_words([caption], [["a dog runs"]])
    assert told and [(one.count, one.right) for one in told.bins] == [(1, 1.0), (1, 0.0)]
    assert of_words([replace(caption, words=())], [["a dog"]]) is None


def test_json_and_page(found: Evaluation) -> None:
    told = json.loads(report.scores_json(found, "data", "command"))
    assert told["support"] == {
        "content_words": sum(found.support.words),
        "supported": found.support.share,
        "all": found.support.all,
        "none": found.support.none,
    }
    assert found.tags and told["tags"] == {"mean": found.tags.mean, "items": 3}
    assert set(told["calibration"]) == {"sentences", "words"}
    bins = told["calibration"]["sentences"]["bins"]
    assert set(bins[0]) == {"low", "high", "count", "confidence", "right"}
    assert told["calibration"]["words"]["expected_calibration_error"] == found.calibration["words"].error
    page = Page(report.page(found, "data", "command"))
    texts = page.texts
    assert {"Confidence", "content words supported", "average precision of tags", "calibration error, words"} <= set(
        texts
    )
    assert f"{found.tags.mean:.3f}, mean of 3" in texts
    assert all(f"{one['confidence']:.3f}" in texts for one in bins)
    assert texts.count("confidence") == 2 + 3 + 1, "of two tables of bins, of each card and of the column of all items"


def test_a_model_without(items: list[Item]) -> None:
    found = evaluate(Captioner(tiny.bundle(), threads=1), items, Decoding(beam=1, max_tokens=4))
    told = json.loads(report.scores_json(found, "data", "command"))
    assert told["tags"] is None and told["calibration"] is None and told["support"]["content_words"] > 0
    texts = Page(report.page(found, "data", "command")).texts
    assert "content words supported" in texts and not {"Confidence", "average precision of tags"} & set(texts)


def test_the_command_prints_them(items: list[Item], tmp_path: Path) -> None:
    rows = [{"id": item.id, "file": str(item.path), "captions": item.captions} for item in items]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["evaluate", str(tiny.sure_bundle()), str(tmp_path / "clips.jsonl"), "--beam", "1", "--max-tokens", "6"]
    result = CliRunner().invoke(vidcap, arguments)
    assert result.exit_code == 0, result.output
    for name in ("content words supported", "captions, none supported", "average precision of tags"):
        assert f"\n {name}" in result.stdout
    assert "\n calibration error, sentences  0." in result.stdout


def test_captions_of_the_report_hold_tags_and_confidence(found: Evaluation) -> None:
    line = json.loads(report.written(found, "data", "command")["captions.jsonl"].splitlines()[0])
    caption: Caption = found.captions[0]
    assert line["confidence"] == caption.confidence
    assert [tag["name"] for tag in line["tags"]] == [tag.name for tag in caption.tags or ()]
