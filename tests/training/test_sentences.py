"""Sentences alone as training: what is drawn, and what cannot be."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from video_captioning.errors import ConfigError, DataError
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.sentences import Sentences, read_sentences

LINES = ["a dog is running on the beach", "two cats sit on a sofa", "it is what it is", "a giant panda eats bamboo"] * 3
CONCEPTS = ["dog", "cat", "beach", "giant panda", "running", "violin"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(LINES, 60)


def sentences(tokenizer: Tokenizer, slots: int = 4) -> Sentences:
    return Sentences(LINES, CONCEPTS, tokenizer, 40, slots)


def test_a_sentence_shows_its_own_concepts_in_whatever_form(tokenizer: Tokenizer) -> None:
    found = {tokenizer.decode(s.tokens): {CONCEPTS[c] for c in s.concepts} for s in sentences(tokenizer).sentences}
    assert found == {
        "a dog is running on the beach": {"dog", "running", "beach"},
        "two cats sit on a sofa": {"cat"},
        "a giant panda eats bamboo": {"giant panda"},
    }


def test_own_concepts_are_surer_than_others(tokenizer: Tokenizer) -> None:
    drawn = sentences(tokenizer)
    tokens, shown = drawn.draw(400, np.random.default_rng(0))
    assert shown.concepts.shape == shown.logits.shape == (400, 4)
    texts = [tokenizer.decode(row[0].tolist()) for row in tokens]
    own = torch.tensor(
        [
            [any(part in text for part in CONCEPTS[c].split()[-1:]) for c in row]
            for text, row in zip(texts, shown.concepts.tolist(), strict=True)
        ]
    )
    assert shown.logits[own].mean() > shown.logits[~own].mean() + 1
    assert 0 < int((~own).sum()) < own.numel()


def test_a_draw_depends_on_its_generator_alone(tokenizer: Tokenizer) -> None:
    drawn = sentences(tokenizer)
    first, second = (drawn.draw(7, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].concepts, second[1].concepts) and torch.equal(first[1].logits, second[1].logits)


def test_sentences_without_concepts_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.text holds no sentence that names a concept"):
        Sentences(["it is what it is"], CONCEPTS, tokenizer, 40, 4)


def test_a_text_is_read_plain_or_gzipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a dog\n\na cat\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"a dog\n\na cat\n"))
    assert read_sentences(tmp_path / "a.txt") == read_sentences(tmp_path / "b.txt.gz") == ["a dog", "a cat"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", "cut"])
def test_a_text_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "text.txt.gz"
    if content is not None:
        path.write_bytes(gzip.compress(b"a dog " * 99)[:20] if content == "cut" else gzip.compress(bytes(content)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"text\.txt\.gz.*one sentence per line"):
        read_sentences(path)
