"""All models: one step at a time is teacher forcing, padding is nothing, a beam is as many clips."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from video_captioning.errors import ConfigError
from video_captioning.models import registry
from video_captioning.models.advanced import Advanced, Shown
from video_captioning.models.interface import CaptioningModel, Memory, State

FEATURES, POSITIONS, VOCABULARY, MAX_FRAMES, MAX_TOKENS = 6, 3, 11, 5, 8
COMMON = {"features": FEATURES, "positions": POSITIONS, "vocabulary": VOCABULARY, "width": 16, "max_tokens": MAX_TOKENS}
ADVANCED = {"heads": 2, "encoder_layers": 2, "decoder_layers": 2, "feedforward": 32, "max_frames": MAX_FRAMES}
CONCEPTS = "advanced_concepts"
SIZES: dict[str, dict[str, Any]] = {
    "baseline": COMMON,
    "attention": COMMON | {"encoder_width": 8, "attention_width": 4},
    "advanced": COMMON | ADVANCED,
    CONCEPTS: COMMON | ADVANCED | {"concepts": 7, "concept_slots": 3},
}
every_model = pytest.mark.parametrize("kind", SIZES)


def model(kind: str) -> CaptioningModel:
    torch.manual_seed(0)
    made = registry.create(kind.partition("_")[0], **SIZES[kind]).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if isinstance(made, Advanced) and kind == CONCEPTS:  # each is named by other words
        made.concepts.names[:, 0] = torch.arange(4, 11)
    return made


def clips(lengths: list[int], frames: int | None = None, fill: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random features of clips of these lengths, and their mask; `fill` stands where there is no frame."""
    frames = frames or max(lengths)
    values = torch.full((len(lengths), frames, POSITIONS, FEATURES), fill)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + row)
        values[row, :length] = torch.randn(length, *values.shape[2:], generator=generator)
    return values, torch.arange(frames) < torch.tensor(lengths)[:, None]


def sentences(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def follow(made: CaptioningModel, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
    """Logits `[N, L, V]` and attention `[N, L, S]` of steps along tokens `[N, L]`."""
    state = {name: value.repeat_interleave(len(tokens) // len(value), 0) for name, value in state.items()}
    logits, attention = [], []
    for column in tokens.T:
        scores, state, weights = made.step(column, state, memory)
        logits.append(scores)
        attention.append(weights)
    return torch.stack(logits, 1), torch.stack(attention, 1)


lengths_of_clips = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@every_model
@settings(max_examples=25, deadline=None)
@given(lengths_of_clips, st.integers(1, 3), st.integers(1, 8), st.integers(0, 9))
@torch.inference_mode()
def test_step_by_step_is_teacher_forcing(kind: str, lengths: list[int], captions: int, length: int, seed: int) -> None:
    made = model(kind)
    features, mask = clips(lengths, seed=seed)
    tokens = sentences(len(lengths) * captions, length, seed)
    memory, state = made.encode(features, mask)
    stepped, attention = follow(made, tokens, state, memory)
    forced = made.logits(made(features, mask, tokens.view(len(lengths), captions, length)))
    assert forced.shape == (len(lengths), captions, length, VOCABULARY)
    assert torch.allclose(stepped, forced.flatten(0, 1), atol=1e-4)
    if kind == CONCEPTS:  # the rest goes to them
        assert (attention.sum(2) < 1).all() and (attention.sum(2) > 0).all()
    else:
        assert torch.allclose(attention.sum(2), torch.ones(attention.shape[:2]), atol=1e-5)


@every_model
@torch.inference_mode()
def test_a_word_does_not_see_the_words_after_it(kind: str) -> None:
    made = model(kind)
    features, mask = clips([2])
    tokens = sentences(1, 6)[None]
    changed = tokens.clone()
    changed[:, :, 3:] = (tokens[:, :, 3:] + 1) % VOCABULARY
    one, other = made(features, mask, tokens), made(features, mask, changed)
    assert torch.equal(one[:, :, :3], other[:, :, :3])
    assert not torch.allclose(one[:, :, 3:], other[:, :, 3:])


@every_model
@settings(max_examples=25, deadline=None)
@given(lengths_of_clips, st.integers(0, 2), st.sampled_from([0.0, 7.0, -1e3]))
@torch.inference_mode()
def test_padding_frames_change_nothing(kind: str, lengths: list[int], more: int, fill: float) -> None:
    made = model(kind)
    tokens = sentences(len(lengths), 5)
    features, mask = clips(lengths, min(max(lengths) + more, MAX_FRAMES), fill)
    memory, state = made.encode(features, mask)
    together, attention = follow(made, tokens, state, memory)
    for row, length in enumerate(lengths):
        memory, state = made.encode(features[row : row + 1, :length], mask[row : row + 1, :length])
        alone, weights = follow(made, tokens[row : row + 1], state, memory)
        assert torch.allclose(together[row], alone[0], atol=1e-4)
        real = length * POSITIONS
        assert torch.allclose(attention[row, :, :real], weights[0], atol=1e-5)
        assert not attention[row, :, real:].any(), "padding gets no attention at all"


@every_model
@settings(max_examples=25, deadline=None)
@given(lengths_of_clips, st.integers(1, 4), st.integers(1, 6))
@torch.inference_mode()
def test_several_hypotheses_a_clip_are_as_many_calls(kind: str, lengths: list[int], beam: int, length: int) -> None:
    made = model(kind)
    tokens = sentences(len(lengths) * beam, length)
    memory, state = made.encode(*clips(lengths))
    together, attention = follow(made, tokens, state, memory)
    for k in range(beam):
        logits, weights = follow(made, tokens[k::beam], state, memory)
        assert torch.allclose(together[k::beam], logits, atol=1e-4)
        assert torch.allclose(attention[k::beam], weights, atol=1e-5)


@every_model
@torch.inference_mode()
def test_a_state_is_reordered_by_its_first_axis(kind: str) -> None:
    made = model(kind)
    memory, state = made.encode(*clips([3]))
    rows = {name: value.repeat_interleave(3, 0) for name, value in state.items()}
    first = torch.tensor([4, 5, 6])
    _, rows, _ = made.step(first, rows, memory)
    order = torch.tensor([2, 0, 0])
    logits, _, _ = made.step(torch.tensor([7, 8, 9]), {name: value[order] for name, value in rows.items()}, memory)
    expected, _ = follow(made, torch.tensor([[6, 7], [4, 8], [4, 9]]), state, memory)
    assert torch.allclose(logits, expected[:, 1], atol=1e-5)


@every_model
@torch.inference_mode()
def test_the_picture_and_the_order_of_frames_matter(kind: str) -> None:
    made = model(kind)
    tokens = sentences(1, 4)[None]
    features, mask = clips([3])
    said = made(features, mask, tokens)
    assert not torch.allclose(said, made(clips([3], seed=1)[0], mask, tokens), atol=1e-3)
    if kind != "baseline":  # which is shown the mean
        assert not torch.allclose(said, made(features.flip(1), mask, tokens), atol=1e-3)


@torch.inference_mode()
def test_concepts_are_what_the_frames_show_and_can_be_put_in_their_place() -> None:
    made = model(CONCEPTS)
    features, mask = clips([4, 2], fill=50.0)
    memory, _ = made.encode(features, mask)
    logits = made.concepts.head(features[:, :, 0])
    assert torch.equal(memory["concepts"], logits)
    assert memory["memory"].shape[1] == memory["memory_mask"].shape[1] == 4 * POSITIONS + 3
    means = torch.stack([logits[0].mean(0), logits[1, :2].mean(0)])
    shown = Shown(means.topk(3).indices, means.topk(3).values)
    assert torch.allclose(made.encode(features, mask, shown)[0]["memory"], memory["memory"], atol=1e-5)
    other = Shown((shown.concepts + 1) % 7, shown.logits)
    assert not torch.allclose(made.encode(features, mask, other)[0]["memory"], memory["memory"], atol=1e-3)
    nothing = Shown(shown.concepts, torch.full_like(shown.logits, -torch.inf))
    assert not made.encode(features, mask, nothing)[0]["memory_mask"][:, 4 * POSITIONS :].any()


def test_more_slots_than_concepts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.concept_slots must be at most model\.concepts, which is 2"):
        registry.create("advanced", **SIZES["advanced"], concepts=2, concept_slots=3)


@every_model
def test_every_weight_learns_and_no_gradient_is_wild(kind: str) -> None:
    made = model(kind).train()
    features, mask = clips([1, 5, 3], fill=1e3)
    tokens = sentences(6, 8).view(3, 2, 8)
    made.logits(made(features, mask, tokens)).log_softmax(3)[..., 3].sum().backward()
    for name, parameter in made.named_parameters():
        if name.startswith("concepts.head"):  # it learns from what people say, not from what the decoder would like
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every_model
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_masks_survive_half_precision(kind: str, dtype: torch.dtype) -> None:
    made, half = model(kind), model(kind).to(dtype)
    features, mask = clips([1, 5, 2], fill=100.0)
    mask[2] = False  # no frame at all: only a finite mask gives numbers
    tokens = sentences(3, 6)
    memory, state = half.encode(features.to(dtype), mask)
    logits, attention = follow(half, tokens, state, memory)
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert attention.isfinite().all()
    assert not attention[0, :, POSITIONS:].any()
    expected, _ = follow(made, tokens, made.encode(features, mask)[1], made.encode(features, mask)[0])
    assert (logits.float() - expected).abs().mean() < 0.1 * expected.abs().mean()


@every_model
@torch.inference_mode()
def test_longer_than_any_position_still_works(kind: str) -> None:
    made = model(kind)
    features, mask = clips([MAX_FRAMES + 4])
    memory, state = made.encode(features, mask)
    logits, attention = follow(made, sentences(1, MAX_TOKENS + 4), state, memory)
    assert logits.isfinite().all()
    assert attention.shape[2] == (MAX_FRAMES + 4) * POSITIONS


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((kind, change) for kind in registry.MODELS for change in ({"width": 0}, {"max_tokens": 2}, {"dropout": 1.0})),
        *(("attention", change) for change in ({"encoder_width": 0}, {"attention_width": 0})),
        *(
            ("advanced", change)
            for change in (
                *({"heads": 0}, {"heads": 3}, {"decoder_layers": 0}, {"encoder_layers": -1}),
                *({"concepts": -1}, {"concept_slots": 0}),
                *({"feedforward": 0}, {"max_frames": 0}, {"dropout": -0.1}),
            )
        ),
    ],
)
def test_sizes_out_of_range_are_named(kind: str, change: dict[str, int]) -> None:
    [name] = change
    with pytest.raises(ConfigError, match=rf"model\.{name} "):
        registry.create(kind, **SIZES[kind] | change)
