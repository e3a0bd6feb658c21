"""What is done to features before a model learns from them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from video_captioning.training.module import mixed


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
