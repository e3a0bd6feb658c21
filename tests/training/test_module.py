"""What is done to features and concepts before a model learns from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from video_captioning.data.dataset import Batch
from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced
from video_captioning.tokenizer import SPECIALS
from video_captioning.training.judge import Judge
from video_captioning.training.module import CaptioningModule, Optimization, mixed
from video_captioning.training.sentences import Sentences


def cosines(left: torch.Tensor, right: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(left - mean, right - mean, -1)


@given(st.floats(0.1, 0.99), st.integers(0, 1000))
def test_a_mixed_clip_is_as_long_as_it_was_and_nearest_to_itself(most: float, seed: int) -> None:
    torch.manual_seed(seed)
    features = 3 + torch.randn(4, 2, 3, 2000)
    mask = torch.ones(4, 2, dtype=torch.bool)
    made = mixed(features, mask, most)
    mean = features.flatten(0, 1).mean(0)
    lengths = (made - mean).norm(dim=-1) / (features - mean).norm(dim=-1)
    assert (lengths - 1).abs().max() < 0.45, "vectors of other clips are nearly at right angles"
    assert (cosines(made, features, mean) >= (1 - most**2) ** 0.5 - 0.45 * most).all()
    assert not torch.equal(made, features)


def test_nothing_is_mixed_unless_asked_for_or_where_the_other_clip_has_ended() -> None:
    features = torch.randn(3, 4, 1, 8)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True] * 4])
    assert torch.equal(mixed(features, mask, 0.0), features)
    assert torch.equal(mixed(features[:1], mask[:1], 0.9), features[:1]), "there is no other clip"
    made = mixed(features, mask, 0.9)
    assert torch.allclose(made[2, 2:], features[2, 2:], atol=1e-6), "the clip before it is two frames long"
    assert not torch.allclose(made[2, :2], features[2, :2], atol=1e-3)


def module(concepts: bool = True, sentences: Sentences | None = None, **options: float) -> CaptioningModule:
    """The tests' tiny model about to learn, without dropout."""
    model, _ = checkpoint.load(tiny.checkpoint(concepts=concepts))
    return CaptioningModule(model, Optimization(**options), Judge([], tiny.tokenizer()), sentences=sentences)  # type: ignore[arg-type]


def batch(model: torch.nn.Module, seed: int = 0) -> Batch:
    """Three clips of two, one and two frames."""
    assert isinstance(model, Advanced)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 2, model.config.positions, model.config.features, generator=generator)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    tokens = torch.randint(SPECIALS, len(tiny.tokenizer()), (3, 1, 6), generator=generator)
    return Batch(features, mask, tokens, torch.ones(3, 1), torch.arange(3))


@torch.no_grad()
def test_noise_changes_which_concepts_a_decoder_is_shown() -> None:
    quiet, loud = module(concept_noise=1e-6), module(concept_noise=50.0)
    data = batch(quiet.model)
    assert isinstance(quiet.model, Advanced)
    clean = quiet.model.concepts.likeliest(quiet.model.concepts(data.features[:, :, 0]), data.frame_mask)
    shown = quiet.noisy(data)["shown"]
    assert torch.equal(shown.concepts, clean.concepts) and torch.allclose(shown.logits, clean.logits, atol=1e-4)
    torch.manual_seed(0)
    first, second = (loud.noisy(data)["shown"] for _ in range(2))
    assert not torch.equal(first.concepts, clean.concepts) and not torch.equal(first.concepts, second.concepts)
    assert quiet.loss(data, data.features, 0.0, shown=clean) == pytest.approx(
        float(quiet.loss(data, data.features, 0.0))
    )
    assert loud.loss(data, data.features, 0.0, shown=first) != loud.loss(data, data.features, 0.0)


def test_noise_is_the_same_in_all_frames_of_a_clip() -> None:
    """Or it would be gone from their mean."""
    noisy = module(concept_noise=3.0)
    data = batch(noisy.model)
    still = replace(data, features=data.features[:, :1].expand(3, 2, -1, -1))
    torch.manual_seed(0)
    one = noisy.noisy(replace(still, frame_mask=torch.tensor([[True, False]] * 3)))["shown"]
    torch.manual_seed(0)
    two = noisy.noisy(replace(still, frame_mask=torch.ones(3, 2, dtype=torch.bool)))["shown"]
    assert torch.equal(one.concepts, two.concepts) and torch.allclose(one.logits, two.logits, atol=1e-4)


@pytest.mark.parametrize(("concepts", "noise"), [(True, 0.0), (False, 1.0)])
def test_without_noise_or_concepts_nothing_is_put_in_their_place(concepts: bool, noise: float) -> None:
    still = module(concepts, concept_noise=noise)
    assert still.noisy(batch(still.model)) == {}


@torch.no_grad()
def test_the_loss_on_sentences_sees_no_clip() -> None:
    names = [entry["name"] for entry in tiny.CONCEPTS]
    sentences = Sentences(tiny.CAPTIONS, names, tiny.tokenizer(), 20, tiny.SLOTS)
    told = module(sentences=sentences, text=2.0)
    one, other = batch(told.model), batch(told.model, seed=1)
    assert told.spoken(one, 0) == told.spoken(other, 0)
    assert told.spoken(one, 0) != told.spoken(one, 1), "each step draws others"
    few = module(sentences=sentences, text=0.1)
    tokens, shown = sentences.draw(1, np.random.default_rng([few.seed, few.current_epoch, 0, 0]))
    blind = torch.zeros(1, 1, *one.features.shape[2:]), torch.zeros(1, 1, dtype=torch.bool)
    outputs = few.model(*blind, tokens[:, :, :-1], shown=shown)
    wanted = torch.nn.functional.cross_entropy(
        few.model.logits(outputs[0, 0]), tokens[0, 0, 1:], label_smoothing=few.optimization.label_smoothing
    )
    assert float(few.spoken(one, 0)) == pytest.approx(float(wanted), abs=1e-5), "one at least"
