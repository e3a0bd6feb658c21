"""What decoding does at its edges, with step functions that say the same to everyone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from video_captioning.decoding import Arrays, Decoding, Hypothesis, Special, decode
from video_captioning.errors import ConfigError, VidcapError

EOS = 1
SPECIAL = Special(bos=2, eos=EOS, pad=0, unk=3)


def constant(logits: list[float] | np.ndarray) -> Any:
    """A step function that always says the same."""

    def step(tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        return np.tile(np.asarray(logits), (len(tokens), 1)), state, np.ones((len(tokens), 1), np.float32)

    return step


def say(logits: list[float] | np.ndarray, decoding: Decoding, batch: int = 1) -> list[list[Hypothesis]]:
    return decode(constant(logits), {}, {"memory": np.zeros((batch, 1))}, decoding, SPECIAL)


def test_equal_scores_go_to_the_lower_token() -> None:
    found = say(np.zeros(9, np.float32), Decoding(beam=3, alternatives=3, max_tokens=2, min_tokens=2), batch=2)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == [[(4, 4), (4, 5), (4, 6)]] * 2


def test_length_penalty_decides_between_short_and_long() -> None:
    logits = np.log([1e-9, 0.3, 1e-9, 1e-9, 0.7])  # the end or the one word
    lengths = [
        len(say(logits, Decoding(beam=5, max_tokens=4, length_penalty=penalty))[0][0].tokens) for penalty in (0, 1)
    ]
    assert lengths == [0, 4]  # log 0.3 against 4 log 0.7, then their means


def test_a_cut_sentence_competes_and_says_so() -> None:
    best, ended = say([0, 0, 0, 0, 3.0], Decoding(beam=3, alternatives=2, max_tokens=2))[0]
    assert (best.tokens, best.finished, len(best.logprobs)) == ((4, 4), False, 2)
    assert (ended.tokens, ended.finished, len(ended.logprobs)) == ((4,), True, 2)
    assert best.attention.shape == (2, 1)


def test_an_empty_sentence_is_a_sentence() -> None:
    (best,) = say([0, 9.0, 0, 0, 0], Decoding(beam=1))[0]
    assert (best.tokens, best.finished, best.attention.shape) == ((), True, (0, 1))


def test_done_clips_leave_the_batch_and_decoding_stops_early() -> None:
    sizes = []

    def step(tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        sizes.append((len(tokens), len(memory["ends"])))
        logits = np.zeros((len(tokens), 9), np.float32)
        logits[:, EOS] = np.where(np.repeat(memory["ends"], len(tokens) // len(memory["ends"])) <= len(sizes), 20, -20)
        return logits, state, np.zeros((len(tokens), 1), np.float32)

    memory = {"ends": np.array([2, 1, 4])}
    found = decode(step, {}, memory, Decoding(beam=2, length_penalty=0), SPECIAL)
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [1, 0, 3]
    assert memory["ends"].tolist() == [2, 1, 4], "a memory is the caller's"
    assert sizes == [(3, 3), (4, 2), (2, 1), (2, 1)]


@pytest.mark.parametrize("decoding", [Decoding(beam=8, alternatives=8), Decoding(temperature=1.0, top_k=50)])
def test_a_vocabulary_smaller_than_the_beam(decoding: Decoding) -> None:
    (found,) = say(np.zeros(5, np.float32), decoding)
    assert found
    (found,) = say(np.zeros(4, np.float32), decoding)  # no words at all
    assert [h.tokens for h in found] == [()]


@pytest.mark.parametrize("how", [{"beam": 2}, {"temperature": 1.0}])
def test_where_no_word_is_left_the_sentence_ends_early(how: dict[str, Any]) -> None:
    decoding = Decoding(**how, no_repeat_ngram=1, min_tokens=9)
    assert {len(h.tokens) for h in say([0, -np.inf, 0, 0, 1, 1], decoding)[0]} == {2}


def test_no_clips_give_no_sentences() -> None:
    assert say(np.zeros(9), Decoding(), batch=0) == []


def test_half_precision_logits_lose_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=999).astype(np.float16)
    logits[7] = -np.inf  # a model may rule out a token itself
    decoding = Decoding(beam=2, max_tokens=3)
    (half,), (single,) = say(logits, decoding)[0], say(logits.astype(np.float32), decoding)[0]
    assert (half.tokens, half.logprobs, half.score) == (single.tokens, single.logprobs, single.score)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=1.0)])
def test_a_broken_model_is_called_broken(broken: float, decoding: Decoding) -> None:
    with pytest.raises(VidcapError, match="model is broken"):
        say([0, 0, 0, 0, broken, 0], decoding)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("beam", {"beam": 0}),
        ("beam", {"beam": 2.5}),
        ("beam", {"beam": "3"}),
        ("beam", {"beam": True}),
        ("max_tokens", {"max_tokens": 0}),
        ("min_tokens", {"min_tokens": -1}),
        ("min_tokens", {"min_tokens": 5, "max_tokens": 4}),
        ("length_penalty", {"length_penalty": -0.1}),
        ("length_penalty", {"length_penalty": float("nan")}),
        ("no_repeat_ngram", {"no_repeat_ngram": -1}),
        ("consensus", {"consensus": -0.1}),
        ("consensus", {"consensus": float("inf")}),
        ("temperature", {"temperature": 0}),
        ("temperature", {"temperature": float("inf")}),
        ("top_k", {"top_k": 5}),
        ("top_k", {"temperature": 1.0, "top_k": -1}),
        ("top_p", {"top_p": 0.9}),
        ("top_p", {"temperature": 1.0, "top_p": 0.0}),
        ("top_p", {"temperature": 1.0, "top_p": 1.1}),
        ("seed", {"seed": -1}),
        ("alternatives", {"alternatives": 0}),
        ("alternatives", {"beam": 2, "alternatives": 3}),
    ],
)
def test_options_out_of_range_are_named(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^{field} must be .*; it is {options[field]!r}$"):
        Decoding(**options)
