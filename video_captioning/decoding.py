"""From a step function to sentences: greedy, beam search and sampling in one loop over NumPy arrays.

Sizes in the docstrings: B clips, b of them not done yet, k hypotheses a clip, N = b * k rows, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from video_captioning.errors import ConfigError, VidcapError

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

LEAST_LOGPROB = -1e4  # for a token that must be taken although the model calls it impossible
_LEAST = {"beam": 1, "max_tokens": 1, "min_tokens": 0, "no_repeat_ngram": 0, "top_k": 0, "seed": 0, "alternatives": 1}


class Step(Protocol):
    """One step of a decoder: the next token's logits for N rows at once.

    Rows `i*k … i*k+k-1` are the hypotheses of clip i of `memory`, k = N // b (1 at the first call), so memory
    is never repeated for a beam. Done clips leave the batch: b shrinks. A step must not overwrite what it returned.
    """

    def __call__(self, tokens: Ints, state: Arrays, memory: Arrays, /) -> tuple[Floats, Arrays, Floats]:
        """Tokens [N], state (arrays [N, …]), memory (arrays [b, …]) → logits [N, V], state, attention [N, slots]."""


@dataclass(frozen=True)
class Decoding:
    """How sentences are searched for. Raises ConfigError for a value out of range."""

    beam: int = 3  # hypotheses kept a clip; 1 is greedy; unused when sampling
    max_tokens: int = 30  # steps at most, the end token's included
    min_tokens: int = 0  # no end before this many tokens, unless nothing else is allowed
    length_penalty: float = 1.0  # score = sum of log-probabilities / length ** this; 0 favours short sentences
    no_repeat_ngram: int = 0  # no n-gram of this size twice (Paulus et al. 2018, section 2.5); 0: off
    consensus: float = 0.0  # how much agreement with the other hypotheses counts beside the score; 0: not at all
    support: float = 0.0  # how much the confidence of content words counts beside it, where a model has one; 0: not
    temperature: float | None = None  # None: beam search; above 0: sampling, the lower the safer
    top_k: int = 0  # sample from this many likeliest tokens; 0: all
    top_p: float = 1.0  # then from the fewest that hold this share of probability (Holtzman et al. 2020)
    seed: int = 0  # of sampling
    alternatives: int = 1  # hypotheses returned a clip (fewer where fewer exist): of the beam, or samples

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            _check(name, value, type(value) is int and value >= least, f"a whole number from {least}")
        penalty, share, heat = self.length_penalty, self.top_p, self.temperature
        _check("length_penalty", penalty, _is_number(penalty) and 0 <= penalty <= 10, "a number from 0 to 10")
        _check("consensus", self.consensus, _is_number(self.consensus) and self.consensus >= 0, "a number from 0")
        _check("support", self.support, _is_number(self.support) and self.support >= 0, "a number from 0")
        _check("top_p", share, _is_number(share) and 0 < share <= 1, "a number above 0, up to 1")
        _check("temperature", heat, heat is None or (_is_number(heat) and heat > 0), "a number above 0, or unset")
        few, many = self.min_tokens, self.alternatives
        _check("min_tokens", few, few <= self.max_tokens, f"at most max_tokens, which is {self.max_tokens}")
        if heat is None:
            _check("alternatives", many, many <= self.beam, f"at most the beam, which is {self.beam}")
            _check("top_k", self.top_k, self.top_k == 0, "0 unless temperature is set: it is for sampling")
            _check("top_p", share, share == 1, "1 unless temperature is set: it is for sampling")

    @property
    def width(self) -> int:
        """Hypotheses that grow side by side for one clip."""
        return self.beam if self.temperature is None else self.alternatives

    @property
    def wanted(self) -> int:
        """Hypotheses of a clip that must be known before the search may stop."""
        return self.width if self.consensus else self.alternatives

    def score(self, total: float, length: int) -> float:
        """Normalised log-probability: Wu et al. 2016 (GNMT), eq. 14, without its constant 5, as fairseq does."""
        return float(total / length**self.length_penalty)


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _check(field: str, value: object, valid: bool, meaning: str) -> None:
    if not valid:
        raise ConfigError(f"{field} must be {meaning}; it is {value!r}")


@dataclass(frozen=True)
class Special:
    """Ids of the tokens that are no words; of these only `eos` is ever generated."""

    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One decoded sentence."""

    tokens: tuple[int, ...]  # without bos and eos
    logprobs: tuple[float, ...]  # the model's own, one a token and one more for eos where it was reached
    attention: NDArray[np.float32]  # [tokens, slots]
    score: float  # what hypotheses are ranked by: Decoding.score, whose length counts eos, and agreement if wanted

    @property
    def finished(self) -> bool:
        """False where the sentence was cut at `max_tokens`."""
        return len(self.logprobs) > len(self.tokens)

    @property
    def mean_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs)


class Candidates(NamedTuple):
    """Live hypotheses with one token more, [b, m] each, in the order in which they are taken."""

    rows: Ints  # the row that is extended
    tokens: Ints
    logprobs: Floats
    totals: Floats  # sum of log-probabilities; -inf: no candidate


class Live(NamedTuple):
    """The hypotheses that are growing, and how each came to be."""

    clips: Ints  # [b] index of the clip in the whole batch
    totals: Floats  # [b, k] sum of log-probabilities; -inf: an empty place
    tokens: Ints  # [N, 1 + t], bos first
    logprobs: Floats  # [N, t]
    path: Ints  # [N, t] row of the step's output that each token came from


def decode(
    step: Step,
    state: Arrays,
    memory: Arrays,
    decoding: Decoding,
    special: Special,
    keys: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The best `alternatives` hypotheses of each clip, best first.

    state: initial state, arrays [B, …]. memory: arrays [B, …].
    keys: a number from 0 for each clip that picks its random stream (default: its index), so that a sample
    depends on seed, key and model only, never on the batch.

    Beam search keeps the `beam` best unfinished hypotheses; those among the `beam` best that end leave for a pool,
    as in fairseq and openai/whisper. A clip is done when `beam` have ended, or no live one can still enter its
    best. Those still live after `max_tokens` compete as they are. Equal scores: the one that ended earlier, then
    the earlier place in the beam, then the lower token id.

    Raises VidcapError where the model's logits are not numbers.
    """
    batch = len(next(iter(memory.values())))
    pools: list[list[Hypothesis]] = [[] for _ in range(batch)]
    streams = [np.random.default_rng([decoding.seed, key]) for key in (range(batch) if keys is None else keys)]
    live = Live(
        clips=np.arange(batch),
        totals=np.zeros((batch, 1)),
        tokens=np.full((batch, 1), special.bos, np.int64),
        logprobs=np.empty((batch, 0), np.float32),
        path=np.empty((batch, 0), np.int64),
    )
    memory = {name: array.copy() for name, array in memory.items()}  # `move` overwrites done clips
    attention: list[Floats] = []
    while len(live.clips) and len(attention) < decoding.max_tokens:
        logits, state, weights = step(np.ascontiguousarray(live.tokens[:, -1]), state, memory)
        attention.append(weights)
        logprobs = log_softmax(logits)
        forbid(logprobs, live.tokens, decoding, special)
        if decoding.temperature is None:
            candidates = rank(logprobs, live.totals, decoding.beam)
        else:
            candidates = sample(logprobs, live.totals, decoding, [streams[clip] for clip in live.clips])
        for clip, hypothesis in ended(candidates, live, attention, decoding, special.eos):
            pools[clip].append(hypothesis)
        totals, order = survivors(candidates, decoding.width, special.eos)
        going = np.array(
            [not is_done(pools[c], best, decoding) for c, best in zip(live.clips, totals.max(axis=1), strict=True)]
        )
        clips = closed_up(going)
        rows, live = update(live, candidates, totals, order, clips)
        state, memory = take(state, rows), move(memory, clips)
    for (i, j), total in np.ndenumerate(live.totals):  # cut at max_tokens
        if total > -np.inf:
            row = i * live.totals.shape[1] + j
            pools[live.clips[i]].append(finalize(live, row, (), float(total), attention, decoding))
    return [answers(pool, decoding) for pool in pools]


def log_softmax(logits: Floats) -> NDArray[np.float32]:
    """Logits [N, V] → log-probabilities [N, V], a new array. Raises VidcapError for NaN and infinity."""
    logits = logits.astype(np.float32, copy=False)
    peak = logits.max(axis=1, keepdims=True)  # NaN where the row holds one
    if not np.isfinite(peak).all():
        raise VidcapError(
            "the model is broken: its logits are not numbers (NaN or infinity); install or export it anew"
        )
    logprobs: NDArray[np.float32] = logits - peak
    logprobs -= np.log(np.exp(logprobs).sum(axis=1, keepdims=True))
    return logprobs


def forbid(logprobs: Floats, tokens: Ints, decoding: Decoding, special: Special) -> None:
    """Set to -inf, in place, what may not follow: logprobs [N, V] after tokens [N, 1 + t]."""
    last_resort = np.maximum(logprobs[:, special.eos], LEAST_LOGPROB)
    logprobs[:, [special.bos, special.pad, special.unk]] = -np.inf
    n, length = decoding.no_repeat_ngram, tokens.shape[1]
    if 0 < n <= length:
        count = length - n + 1  # n-grams that are there; the next begins with the last n - 1 tokens
        same_start = np.ones((len(tokens), count), np.bool_)
        for i in range(n - 1):
            same_start &= tokens[:, i : i + count] == tokens[:, count + i, None]
        rows, places = np.nonzero(same_start)
        logprobs[rows, tokens[rows, places + n - 1]] = -np.inf
    if length - 1 < decoding.min_tokens:
        logprobs[:, special.eos] = -np.inf
    stuck = logprobs.max(axis=1) == -np.inf
    logprobs[stuck, special.eos] = last_resort[stuck]


def rank(logprobs: Floats, totals: Floats, beam: int) -> Candidates:
    """The best extensions of each clip, best first: enough for `beam` that go on beside all that end.

    logprobs [N, V] (overwritten), totals [b, k]. A row ends in one way only, so its `beam` + 1 best will do.
    """
    clips, width = totals.shape
    choices = min(beam + 1, logprobs.shape[1])
    tokens, values = largest(logprobs, choices)
    sums = (totals.reshape(-1, 1) + values).reshape(clips, -1)
    order = np.argsort(-sums, axis=1, kind="stable")[:, : 2 * beam]

    def ordered(array: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(array.reshape(clips, -1), order, axis=1)

    rows = np.arange(clips)[:, None] * width + order // choices
    return Candidates(rows, ordered(tokens), ordered(values), ordered(sums))


def largest(values: Floats, n: int) -> tuple[Ints, Floats]:
    """Indices and values [N, n] of each row's n largest, largest first, the lower index first among equals.

    n passes of argmax, which overwrite `values`: for a beam's few that is faster than a partition, and ties are exact.
    """
    flat, starts = values.reshape(-1), np.arange(len(values)) * values.shape[1]
    places, found = np.empty((len(values), n), np.int64), np.empty((len(values), n), values.dtype)
    for i in range(n):
        places[:, i] = best = starts + values.argmax(axis=1)
        found[:, i] = flat[best]
        flat[best] = -np.inf
    return places - starts[:, None], found


def sample(logprobs: Floats, totals: Floats, decoding: Decoding, streams: Sequence[np.random.Generator]) -> Candidates:
    """One drawn extension for each of `alternatives` hypotheses of each clip; temperature, then top-k, then top-p.

    logprobs [N, V], totals [b, k] where k is 1 at the first step, one stream a clip.
    """
    assert decoding.temperature is not None
    clips, width = totals.shape
    with np.errstate(over="ignore"):  # a temperature next to 0 leaves only the likeliest
        weights = np.exp((logprobs.astype(np.float64) - logprobs.max(axis=1, keepdims=True)) / decoding.temperature)
    if decoding.top_k or decoding.top_p < 1:
        truncate(weights, decoding)
    mass = np.cumsum(weights, axis=1)
    rows = np.broadcast_to(np.arange(clips * width).reshape(clips, width), (clips, decoding.alternatives))
    level = np.stack([stream.random(decoding.alternatives) for stream in streams]) * mass[rows, -1]
    tokens = (mass[rows] <= level[:, :, None]).sum(axis=2)
    drawn = logprobs[rows, tokens]
    return Candidates(rows, tokens, drawn, totals + drawn)


def truncate(weights: Floats, decoding: Decoding) -> None:
    """Set to 0, in place, what top-k and then top-p leave out: weights [N, V], not normalised."""
    order = np.argsort(-weights, axis=1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=1)
    if decoding.top_k:
        ranked[:, decoding.top_k :] = 0
    mass = np.cumsum(ranked, axis=1)
    ranked[mass - ranked >= decoding.top_p * mass[:, -1:]] = 0  # the likeliest stays: nothing is above it
    np.put_along_axis(weights, order, ranked, axis=1)


def ended(
    candidates: Candidates, live: Live, attention: list[Floats], decoding: Decoding, eos: int
) -> Iterator[tuple[int, Hypothesis]]:
    """(clip, hypothesis) of each candidate that ends and is among the best `width` of its clip."""
    ends = (candidates.tokens == eos) & (candidates.totals > -np.inf)
    for i, j in np.argwhere(ends[:, : decoding.width]):
        row, end, total = candidates.rows[i, j], candidates.logprobs[i, j], candidates.totals[i, j]
        yield int(live.clips[i]), finalize(live, row, (float(end),), total, attention, decoding)


def survivors(candidates: Candidates, width: int, eos: int) -> tuple[Floats, Ints]:
    """The first `width` candidates of each clip that do not end: their totals and places among the candidates [b, k].

    Where too few exist, ended ones fill the places with a total of -inf.
    """
    ends = candidates.tokens == eos
    order = np.argsort(ends, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(np.where(ends, -np.inf, candidates.totals), order, axis=1), order


def is_done(pool: list[Hypothesis], best_total: float, decoding: Decoding) -> bool:
    """Whether a clip's answer is settled, given the best live sum of log-probabilities (-inf: none is live).

    A sum only falls and a length only grows, so no live hypothesis can score above its sum at full length.
    """
    if len(pool) >= decoding.width or best_total == -np.inf:
        return True
    if len(pool) < decoding.wanted:
        return False
    to_beat = nlargest(decoding.wanted, (h.score for h in pool))[-1]
    return to_beat >= decoding.score(best_total, decoding.max_tokens)


def update(live: Live, candidates: Candidates, totals: Floats, order: Ints, clips: Ints) -> tuple[Ints, Live]:
    """The rows [N] that live on, and the hypotheses they become, of these clips."""

    def kept(array: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(array, order, axis=1)[clips].reshape(-1, 1)

    rows = kept(candidates.rows)[:, 0]
    return rows, Live(
        clips=live.clips[clips],
        totals=totals[clips],
        tokens=np.concatenate([live.tokens[rows], kept(candidates.tokens)], axis=1),
        logprobs=np.concatenate([live.logprobs[rows], kept(candidates.logprobs)], axis=1),
        path=np.concatenate([live.path[rows], rows[:, None]], axis=1),
    )


def closed_up(going: NDArray[np.bool_]) -> Ints:
    """The clips that go on, where they are but for the last ones, which take the places of the done ones."""
    count = np.count_nonzero(going)
    clips = np.arange(count)
    clips[~going[:count]] = count + np.flatnonzero(going[count:])
    return clips


def move(arrays: Arrays, places: Ints) -> Arrays:
    """As `take`, but in place, and only from back to front: a memory is too large to be copied for each done clip."""
    for array in arrays.values():
        for to in np.flatnonzero(places != np.arange(len(places))):
            array[to] = array[places[to]]
    return {name: array[: len(places)] for name, array in arrays.items()}


def take(arrays: Arrays, rows: Ints) -> Arrays:
    """The given rows of every array; no copy where all stay in place."""
    return {
        name: array if np.array_equal(rows, np.arange(len(array))) else array[rows] for name, array in arrays.items()
    }


def finalize(
    live: Live, row: int, end: tuple[float, ...], total: float, attention: list[Floats], decoding: Decoding
) -> Hypothesis:
    """The hypothesis of one live row; `end` holds the log-probability of eos where it was reached.

    total: sum of log-probabilities. attention: for each step so far its [N, slots]; the end's own is left out.
    """
    tokens = tuple(live.tokens[row, 1:].tolist())
    logprobs = (*live.logprobs[row].tolist(), *end)
    weights = np.empty((len(tokens), attention[0].shape[1]), np.float32)
    for t, source in enumerate(live.path[row]):
        weights[t] = attention[t][source]
    return Hypothesis(tokens, logprobs, weights, decoding.score(total, len(logprobs)))


def answers(pool: Sequence[Hypothesis], decoding: Decoding) -> list[Hypothesis]:
    """The `alternatives` best of what was found, best first."""
    ranked = sorted(pool, key=lambda h: -h.score)[: decoding.wanted]
    if decoding.consensus and len(ranked) > 1:
        shared = decoding.consensus * agreement([h.tokens for h in ranked])
        scored = [replace(h, score=h.score + float(more)) for h, more in zip(ranked, shared, strict=True)]
        ranked = sorted(scored, key=lambda h: -h.score)
    return ranked[: decoding.alternatives]


def agreement(sentences: Sequence[tuple[int, ...]]) -> Floats:
    """How much each of m > 1 sentences has in common with the others, from 0 to 1 [m].

    The mean cosine of n-gram counts, n = 1 … 4: of like sentences the one in their midst is the safest, as in minimum
    Bayes risk decoding (Kumar and Byrne 2004).
    """
    columns: dict[tuple[int, ...], int] = {}  # one for each n-gram of any of the sentences
    held = []
    for tokens in sentences:
        ngrams = chain(*(zip(*(tokens[i:] for i in range(n)), strict=False) for n in range(1, 5)))
        held.append([columns.setdefault(ngram, len(columns)) for ngram in ngrams])
    counts = np.array([np.bincount(own, minlength=len(columns)) for own in held], np.float64)
    sizes = np.fromiter(map(len, columns), np.int64)
    squares = counts**2 @ (sizes[:, None] == np.arange(1, 5))  # [m, 4] summed for each n
    counts /= np.sqrt(np.maximum(squares, 1))[:, sizes - 1]
    similar = counts @ counts.T
    shared: Floats = (similar.sum(axis=1) - similar.diagonal()) / (4 * (len(sentences) - 1))
    return shared
