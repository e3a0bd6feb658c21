"""Laws of decoding over random languages, against a loop for greedy, lists for the beam, enumeration for the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_captioning.decoding import Arrays, Decoding, Hypothesis, Special, decode

PAD, BOS, EOS, UNK = range(4)
SPECIAL = Special(bos=BOS, eos=EOS, pad=PAD, unk=UNK)
WIDTH = 3  # of the memory


class Language:
    """A random language model: the whole prefix and the clip's memory decide the next token, by table."""

    def __init__(self, seed: int, words: int = 4, end: float = 0.0) -> None:
        self.seed, self.size, self.end = seed, 4 + words, end
        self.readout = np.random.default_rng(seed).normal(size=(WIDTH, self.size))
        self.predict = cache(self._predict)

    def _predict(self, prefix: tuple[int, ...], memory: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Logits [V] and attention [slots] after a prefix, for the slots that are there."""
        rng = np.random.default_rng([self.seed, *prefix])
        slots = np.frombuffer(memory).reshape(-1, WIDTH)
        attention = np.exp(slots @ rng.normal(size=WIDTH))
        attention /= attention.sum()
        logits = rng.normal(scale=1.5, size=self.size) + attention @ slots @ self.readout
        logits[EOS] += self.end
        return logits.astype(np.float32), attention.astype(np.float32)

    def step(self, tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        k = len(tokens) // len(memory["mask"])
        assert tokens.dtype == np.int64
        assert tokens.flags.c_contiguous
        assert np.array_equal(state["clip"], np.repeat(memory["clip"], k)), "a row left its clip"
        prefixes = np.concatenate([state["prefix"], tokens[:, None]], axis=1)
        logits = np.empty((len(tokens), self.size), np.float32)
        attention = np.zeros((len(tokens), memory["mask"].shape[1]), np.float32)
        for row, prefix in enumerate(prefixes):
            mask = memory["mask"][row // k]
            logits[row], attention[row, mask] = self.predict(
                tuple(prefix.tolist()), memory["memory"][row // k][mask].tobytes()
            )
        return logits, {"clip": state["clip"], "prefix": prefixes}, attention


def clips(seed: int, lengths: list[int], slots: int | None = None) -> tuple[Arrays, Arrays]:
    """Initial state and memory of clips with that many slots, padded with rubbish to `slots`."""
    slots = slots or max(lengths)
    memory = np.full((len(lengths), slots, WIDTH), 1e9)
    for i, length in enumerate(lengths):
        memory[i, :length] = np.random.default_rng([seed, i]).normal(size=(length, WIDTH))
    index = np.arange(len(lengths))
    state = {"clip": index, "prefix": np.empty((len(lengths), 0), np.int64)}
    return state, {"clip": index, "memory": memory, "mask": np.arange(slots) < np.array(lengths)[:, None]}


def one(arrays: Arrays, clip: int) -> Arrays:
    return {name: array[clip : clip + 1] for name, array in arrays.items()}


def run(language: Language, lengths: list[int], decoding: Decoding, **kwargs: Any) -> list[list[Hypothesis]]:
    return decode(language.step, *clips(language.seed, lengths), decoding, SPECIAL, **kwargs)


def logprobs_after(language: Language, prefix: tuple[int, ...], memory: Arrays) -> np.ndarray:
    """The model's own log-probabilities [V] after words, for a batch of one clip."""
    logits, _ = language.predict((BOS, *prefix), memory["memory"][0][memory["mask"][0]].tobytes())
    logits = logits - logits.max()
    logprobs: np.ndarray = logits - np.log(np.exp(logits).sum())
    return logprobs


def allowed(language: Language, prefix: tuple[int, ...], decoding: Decoding) -> list[int]:
    """Tokens that may follow, spelt out."""

    def repeats(token: int) -> bool:
        n, grown = decoding.no_repeat_ngram, (*prefix, token)
        return n > 0 and grown[-n:] in [grown[i : i + n] for i in range(len(grown) - n)]

    words = [token for token in range(4, language.size) if not repeats(token)]
    return sorted([EOS, *words] if len(prefix) >= decoding.min_tokens or not words else words)


def greedy_reference(language: Language, memory: Arrays, decoding: Decoding) -> tuple[int, ...]:
    prefix: tuple[int, ...] = ()
    while len(prefix) < decoding.max_tokens:
        logprobs = logprobs_after(language, prefix, memory)
        token = max(allowed(language, prefix, decoding), key=lambda t: logprobs[t])
        if token == EOS:
            break
        prefix += (token,)
    return prefix


Scored = tuple[float, tuple[int, ...]]


def beam_reference(language: Language, memory: Arrays, decoding: Decoding) -> list[Scored]:
    """Beam search with lists, which never stops before `beam` have ended or `max_tokens` is reached."""
    live: list[Scored] = [(0.0, ())]
    pool: list[Scored] = []
    for t in range(1, decoding.max_tokens + 1):
        grown = [
            (total + float(logprobs_after(language, prefix, memory)[token]), (*prefix, token))
            for total, prefix in live
            for token in allowed(language, prefix, decoding)
        ]
        grown.sort(key=lambda item: -item[0])
        pool += [(total / t**decoding.length_penalty, p[:-1]) for total, p in grown[: decoding.beam] if p[-1] == EOS]
        live = [item for item in grown if item[1][-1] != EOS][: decoding.beam]
        if len(pool) >= decoding.beam or not live:
            break
    else:
        pool += [(total / decoding.max_tokens**decoding.length_penalty, prefix) for total, prefix in live]
    return sorted(pool, key=lambda item: -item[0])[: decoding.alternatives]


def every_sentence(
    language: Language, memory: Arrays, decoding: Decoding, prefix: tuple[int, ...] = (), total: float = 0.0
) -> Iterator[Scored]:
    length = len(prefix) + 1
    logprobs = logprobs_after(language, prefix, memory)
    for token in allowed(language, prefix, decoding):
        grown = total + float(logprobs[token])
        if token == EOS:
            yield grown / length**decoding.length_penalty, prefix
        elif length == decoding.max_tokens:
            yield grown / length**decoding.length_penalty, (*prefix, token)
        else:
            yield from every_sentence(language, memory, decoding, (*prefix, token), grown)


def assert_same(one: list[Hypothesis], other: list[Hypothesis]) -> None:
    """Bit for bit, but for slots of padding, which must have no weight."""
    assert [(h.tokens, h.logprobs, h.score) for h in one] == [(h.tokens, h.logprobs, h.score) for h in other]
    for a, b in zip(one, other, strict=True):
        slots = min(a.attention.shape[1], b.attention.shape[1])
        assert np.array_equal(a.attention[:, :slots], b.attention[:, :slots])
        assert not a.attention[:, slots:].any()
        assert not b.attention[:, slots:].any()


law = settings(deadline=None)
languages = st.builds(Language, st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([-2.0, 0.0, 2.0]))
batches = st.lists(st.integers(1, 4), min_size=2, max_size=4)
penalties = st.sampled_from([0.0, 0.5, 1.0, 2.0])
limits: Any = {
    "max_tokens": st.integers(3, 8),
    "min_tokens": st.integers(0, 3),
    "no_repeat_ngram": st.integers(0, 3),
}
beams = st.builds(
    lambda share, beam, **kwargs: Decoding(beam=beam, alternatives=1 + int(share * (beam - 1)), **kwargs),
    st.floats(0, 1),
    st.integers(1, 6),
    length_penalty=penalties,
    **limits,
)
samplings = st.builds(
    Decoding,
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, 5),
    top_p=st.floats(0.1, 1),
    seed=st.integers(0, 99),
    alternatives=st.integers(1, 4),
    **limits,
)


@law
@given(languages, batches, st.builds(Decoding, beam=st.just(1), length_penalty=penalties, **limits))
def test_beam_1_is_greedy(language: Language, lengths: list[int], decoding: Decoding) -> None:
    _, memory = clips(language.seed, lengths)
    for clip, (found,) in enumerate(run(language, lengths, decoding)):
        assert found.tokens == greedy_reference(language, one(memory, clip), decoding)


@law
@given(
    st.builds(Language, st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([-2.0, 0.0, 2.0])),
    st.builds(
        Decoding,
        beam=st.just(400),
        alternatives=st.just(5),
        length_penalty=penalties,
        max_tokens=st.integers(2, 4),
        min_tokens=st.integers(0, 2),
        no_repeat_ngram=st.integers(0, 2),
    ),
)
def test_a_beam_as_wide_as_the_search_space_finds_the_optimum(language: Language, decoding: Decoding) -> None:
    (found,) = run(language, [2], decoding)
    best = sorted(every_sentence(language, clips(language.seed, [2])[1], decoding), key=lambda item: -item[0])[:5]
    assert [h.tokens for h in found] == [tokens for _, tokens in best]
    assert [h.score for h in found] == pytest.approx([score for score, _ in best])


@settings(law, max_examples=300)
@given(languages, batches, beams)
def test_early_stopping_gives_what_running_on_would_give(
    language: Language, lengths: list[int], decoding: Decoding
) -> None:
    _, memory = clips(language.seed, lengths)
    for clip, found in enumerate(run(language, lengths, decoding)):
        expected = beam_reference(language, one(memory, clip), decoding)
        assert [h.tokens for h in found] == [tokens for _, tokens in expected]
        assert [h.score for h in found] == pytest.approx([score for score, _ in expected])


def agreement_reference(sentence: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
    """The mean cosine of the counts of 1- to 4-grams, spelt out."""

    def counts(tokens: tuple[int, ...], n: int) -> Counter[tuple[int, ...]]:
        return Counter(tokens[i : i + n] for i in range(len(tokens) - n + 1))

    def cosine(a: Counter[tuple[int, ...]], b: Counter[tuple[int, ...]]) -> float:
        lengths = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
        return sum(a[ngram] * b[ngram] for ngram in a) / lengths if lengths else 0.0

    return float(np.mean([cosine(counts(sentence, n), counts(other, n)) for other in others for n in range(1, 5)]))


@law
@given(languages, batches, beams | samplings, st.sampled_from([0.1, 0.5, 4.0]))
def test_consensus_ranks_all_that_was_found_anew(
    language: Language, lengths: list[int], decoding: Decoding, strength: float
) -> None:
    everything = replace(decoding, alternatives=decoding.width)
    found = run(language, lengths, replace(decoding, consensus=strength))
    for hypotheses, known in zip(found, run(language, lengths, everything), strict=True):
        scores = []
        for place, h in enumerate(known):
            others = [other.tokens for other in known[:place] + known[place + 1 :]]
            scores.append(h.score + (strength * agreement_reference(h.tokens, others) if others else 0))
        assert [h.score for h in hypotheses] == pytest.approx(sorted(scores)[::-1][: decoding.alternatives])
        for h in hypotheses:
            assert h.score == pytest.approx(scores[[other.tokens for other in known].index(h.tokens)])


@settings(law, max_examples=300)
@given(languages, batches, beams | samplings)
def test_batched_equals_one_by_one(language: Language, lengths: list[int], decoding: Decoding) -> None:
    keys = [10 + i for i in range(len(lengths))]
    state, memory = clips(language.seed, lengths)
    for clip, found in enumerate(run(language, lengths, decoding, keys=keys)):
        alone = decode(language.step, one(state, clip), one(memory, clip), decoding, SPECIAL, keys=[keys[clip]])
        assert_same(found, alone[0])


@law
@given(languages, batches, st.integers(1, 4), beams | samplings)
def test_padding_never_changes_a_result(
    language: Language, lengths: list[int], padding: int, decoding: Decoding
) -> None:
    padded = decode(language.step, *clips(language.seed, lengths, slots=max(lengths) + padding), decoding, SPECIAL)
    for found, expected in zip(padded, run(language, lengths, decoding), strict=True):
        assert_same(found, expected)


@law
@given(languages, batches, beams | samplings)
def test_hypotheses_hold_what_the_model_says_of_them(
    language: Language, lengths: list[int], decoding: Decoding
) -> None:
    _, memory = clips(language.seed, lengths)
    for clip, found in enumerate(run(language, lengths, decoding)):
        assert 1 <= len(found) <= decoding.alternatives
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            said = (*h.tokens, EOS) if h.finished else h.tokens
            again = [logprobs_after(language, h.tokens[:t], one(memory, clip))[x] for t, x in enumerate(said)]
            assert h.logprobs == pytest.approx(again, abs=1e-5)
            assert h.score == pytest.approx(sum(again) / len(said) ** decoding.length_penalty, abs=1e-5)
            assert h.mean_logprob == pytest.approx(np.mean(again), abs=1e-5)
            assert len(said) <= decoding.max_tokens
            assert h.finished or len(h.tokens) == decoding.max_tokens
            mask = memory["mask"][clip]
            expected = [
                language.predict((BOS, *h.tokens[:t]), memory["memory"][clip][mask].tobytes())[1]
                for t in range(len(h.tokens))
            ]
            assert np.array_equal(h.attention[:, mask], np.reshape(expected, (len(h.tokens), mask.sum())))


@law
@given(languages, batches, beams | samplings)
def test_constraints_are_obeyed(language: Language, lengths: list[int], decoding: Decoding) -> None:
    for found in run(language, lengths, decoding):
        for h in found:
            assert set(h.tokens) <= set(range(4, language.size))
            n = decoding.no_repeat_ngram
            ngrams = [h.tokens[i : i + n] for i in range(len(h.tokens) - n + 1)]
            assert n == 0 or len(set(ngrams)) == len(ngrams)
            if len(h.tokens) < decoding.min_tokens:  # only where no word was left
                assert allowed(language, h.tokens, decoding) == [EOS]


@law
@given(languages, batches, st.sampled_from([{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-310}]))
def test_sampling_from_the_likeliest_alone_is_greedy(
    language: Language, lengths: list[int], narrow: dict[str, Any]
) -> None:
    greedy = run(language, lengths, Decoding(beam=1, max_tokens=8, no_repeat_ngram=2))
    sampling = Decoding(**({"temperature": 1.3, "max_tokens": 8, "no_repeat_ngram": 2} | narrow))
    for found, expected in zip(run(language, lengths, sampling), greedy, strict=True):
        assert_same(found, expected)


def filtered(logits: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Probabilities [V] that sampling should follow."""
    assert decoding.temperature
    p: np.ndarray = np.exp(logits.astype(np.float64) / decoding.temperature)
    p[[PAD, BOS, UNK]] = 0
    order = np.argsort(-p)
    p[order[decoding.top_k or len(p) :]] = 0
    p /= p.sum()
    kept = int(np.searchsorted(np.cumsum(p[order]), decoding.top_p)) + 1
    p[order[kept:]] = 0
    p /= p.sum()
    return p


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"temperature": 2.0, "top_k": 4}, {"top_p": 0.8}, {"top_k": 4, "top_p": 0.7}]
)
def test_samples_have_the_model_s_frequencies(options: dict[str, Any]) -> None:
    draws, language = 20_000, Language(3, words=6)
    decoding = Decoding(**({"temperature": 1.0, "max_tokens": 2, "alternatives": draws} | options))
    (found,) = run(language, [2], decoding)
    counts = Counter((*h.tokens, EOS) if h.finished else h.tokens for h in found)
    _, memory = clips(language.seed, [2])
    first = filtered(logprobs_after(language, (), memory), decoding)
    expected: dict[tuple[int, ...], float] = {(EOS,): first[EOS]} | {
        (a, b): first[a] * p
        for a in range(4, language.size)
        for b, p in enumerate(filtered(logprobs_after(language, (a,), memory), decoding))
    }
    assert sum(counts.values()) == draws
    assert all(expected[tokens] > 0 for tokens in counts)
    likely = {tokens: draws * p for tokens, p in expected.items() if draws * p >= 5}
    chi_square = sum((counts[tokens] - n) ** 2 / n for tokens, n in likely.items())
    assert chi_square < len(likely) + 4 * np.sqrt(2 * len(likely))


def test_the_seed_decides_a_sample_and_nothing_else_does() -> None:
    language, decoding = Language(1, words=20), Decoding(temperature=1.5, alternatives=3, max_tokens=12)
    samples = {
        (seed, key): [h.tokens for h in run(language, [3], replace(decoding, seed=seed), keys=[key])[0]]
        for seed in (0, 1)
        for key in (0, 1)
    }
    assert samples[0, 0] == [h.tokens for h in run(language, [3], decoding)[0]]
    assert len({tokens for found in samples.values() for tokens in found}) == 12  # all differ
