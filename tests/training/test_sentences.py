"""Sentences alone as training: what is drawn, what a model with concepts learns from them, and what cannot be."""

import gzip
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.training.conftest import Run
from video_captioning.errors import CheckpointError, ConfigError, DataError
from video_captioning.models import checkpoint
from video_captioning.models.advanced import NAME_TOKENS, Advanced, Shown
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


NAMES = ["ball", "grass", "dog", "beach", "man", "guitar", "sea", "night", "woman", "onion", "car", "road", "child",
         "stage", "cat", "red ball"]  # fmt: skip
NAMED = [{"name": name, "phrase": f"a {name}"} for name in NAMES]
UNSEEN = "a cat plays the guitar at night"
"""A sentence of which there is no picture."""


@pytest.fixture
def seeing(run: Run, tmp_path: Path) -> Path:
    """A checkpoint of the tests' tiny model that has concepts."""
    model, description = checkpoint.load(run(out="blind"))
    assert isinstance(model, Advanced)
    config = replace(model.config, concepts=len(NAMES))
    torch.manual_seed(0)
    other = Advanced(config)
    other.load_state_dict(model.state_dict(), strict=False)
    for row, name in enumerate(NAMES):
        tokens = Tokenizer(description.tokenizer).encode(name)[:NAME_TOKENS]
        other.concepts.names[row, : len(tokens)] = torch.tensor(tokens)
    saved = {"state_dict": {f"model.{name}": value for name, value in other.state_dict().items()}}
    checkpoint.describe(saved, replace(description, model=asdict(config), concepts=NAMED))
    torch.save(saved, tmp_path / "seeing.ckpt")
    return tmp_path / "seeing.ckpt"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(f"{UNSEEN}\nit is what it is\n")
    return path


def difficulty(path: Path) -> float:
    """Cross-entropy of UNSEEN where its own words are shown, and nothing else."""
    model, description = checkpoint.load(path)
    assert isinstance(model, Advanced)
    tokenizer = Tokenizer(description.tokenizer)
    tokens = torch.tensor([[[tokenizer.bos, *tokenizer.encode(UNSEEN), tokenizer.eos]]])
    logits = torch.full((1, 16), -torch.inf)
    logits[0, :3] = 5.0
    numbers = torch.tensor([[NAMES.index("cat"), NAMES.index("guitar"), NAMES.index("night")] + [0] * 13])
    blind = torch.zeros(1, 1, model.config.positions, model.config.features), torch.zeros(1, 1, dtype=torch.bool)
    with torch.no_grad():
        outputs = model(*blind, tokens[:, :, :-1], Shown(numbers, logits))
        return float(functional.cross_entropy(model.logits(outputs[0, 0]), tokens[0, 0, 1:]))


def test_a_run_keeps_the_concepts_of_the_checkpoint_that_it_goes_on_from(seeing: Path, run: Run) -> None:
    for epochs in (1, 2):  # resumed, the run has them from itself
        last = run(f"training.initial={seeing}", f"training.max_epochs={epochs}", "training.concept_noise=1", out="on")
        model, description = checkpoint.load(last)
        assert description.concepts == NAMED
        assert isinstance(model, Advanced) and model.config.concepts == len(NAMES)
    before = checkpoint.load(seeing)[0].state_dict()
    still = ("concepts.names", "concepts.head.weight", "concepts.head.bias")
    after = model.state_dict()
    assert {name for name in still if torch.equal(before[name], after[name])} == set(still), "learned with the encoder"
    assert not torch.equal(before["concepts.sure.weight"], after["concepts.sure.weight"])


@pytest.mark.slow
def test_sentences_teach_what_no_picture_shows(
    seeing: Path, text: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    options = [f"training.initial={seeing}", "training.max_epochs=6", "training.ema=0"]
    without = run(*options, out="without", weight=4)
    taught = run(*options, f"dataset.text={text}", "training.text=0.5", out="taught", weight=4)
    losses = [float(loss) for loss in re.findall(r"epoch 1/6: loss (\S+),", capfd.readouterr().err)]
    assert len(losses) == 2 and losses[1] > 1.2 * losses[0], "that of sentences is added"
    assert difficulty(taught) < 0.5 * difficulty(without)


def test_what_is_drawn_depends_on_the_seed_alone(seeing: Path, text: Path, run: Run) -> None:
    options = [f"training.initial={seeing}", f"dataset.text={text}", "training.text=1", "training.concept_noise=1"]
    one, again, other = (run(*options, f"seed={seed}", out=out) for seed, out in ((1, "a"), (1, "b"), (2, "c")))
    first, second, third = (checkpoint.load(path)[0].state_dict() for path in (one, again, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, third[name]) for name, value in first.items())


def test_sentences_alone_need_sentences_and_concepts(seeing: Path, text: Path, run: Run) -> None:
    with pytest.raises(ConfigError) as caught:
        run(f"training.initial={seeing}", "training.text=0.5", out="no text")
    assert str(caught.value) == "training.text needs dataset.text, sentences in a file; give it or training.text=0"
    says = "training.text needs training.initial, a checkpoint with concepts; give it or training.text=0"
    for initial in ([], [f"training.initial={seeing.parent}/blind/last.ckpt"]):
        with pytest.raises(ConfigError) as caught:
            run(*initial, f"dataset.text={text}", "training.text=0.5", out="no concepts")
        assert str(caught.value) == says
    with pytest.raises(DataError, match=r"none\.txt: cannot be read \(No such file or directory\); give a text file"):
        run(f"training.initial={seeing}", f"dataset.text={text.parent}/none.txt", "training.text=1", out="no file")


def test_what_sentences_lack_is_known_before_features_are_computed(seeing: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs dataset\.text"):
        run(f"training.initial={seeing}", "training.text=1", f"training.store={tmp_path}/store", out="early")
    assert not (tmp_path / "store").exists()


def test_self_critical_training_has_no_use_for_sentences(seeing: Path, text: Path, run: Run) -> None:
    options = [f"training.initial={seeing}", f"dataset.text={text}", "training.text=1"]
    with pytest.raises(ConfigError, match=r"training\.text is for training\.objective=cross_entropy; give training\."):
        run(*options, "training=scst", out="rewarded")


def test_another_model_does_not_go_on_from_one_with_concepts(seeing: Path, run: Run) -> None:
    with pytest.raises(CheckpointError, match=r"seeing\.ckpt: is of the model 'advanced'"):
        run(f"training.initial={seeing}", kind="baseline")


def test_as_many_concepts_are_shown_as_before(seeing: Path, text: Path, run: Run, tmp_path: Path) -> None:
    saved = torch.load(seeing, weights_only=True)
    saved["vidcap"]["model"]["concept_slots"] = 5
    torch.save(saved, tmp_path / "five.ckpt")
    last = run(f"training.initial={tmp_path}/five.ckpt", f"dataset.text={text}", "training.text=1", out="five")
    assert checkpoint.load(last)[1].model["concept_slots"] == 5
