"""The options of a request: text in form fields or in the query, held to what the service can bear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from video_captioning.bundle import Bundle
from video_captioning.decoding import Decoding
from video_captioning.errors import ConfigError
from video_captioning.frames import Sampling
from video_captioning.serve.refusals import RefusalError


class Given(TypedDict, total=False):
    """What was asked for. What was not is as the model's bundle says."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[misc]

    model: Annotated[str, Field(description="Name of a model, see /v1/models")]
    fps: Annotated[float, Gt(0), Le(1000), Field(description="Frames looked at per second")]
    max_frames: Annotated[int, Ge(1), Le(64), Field(description="A longer clip is covered evenly by this many")]
    frames: Annotated[int, Ge(1), Le(64), Field(description="A fixed number, evenly spread, instead of fps")]
    keyframes: Annotated[bool, Field(description="Only key frames: faster, less exact")]
    beam: Annotated[int, Ge(1), Le(16), Field(description="Hypotheses kept; 1 is greedy")]
    max_tokens: Annotated[int, Ge(1), Le(100), Field(description="Word pieces at most")]
    min_tokens: Annotated[int, Ge(0), Le(100), Field(description="Word pieces at least")]
    length_penalty: Annotated[float, Ge(0), Le(10), Field(description="0 favours short sentences")]
    no_repeat_ngram: Annotated[int, Ge(0), Le(100), Field(description="No n-gram of this size twice; 0: off")]
    consensus: Annotated[float, Ge(0), Le(100), Field(description="How much agreement in the search counts")]
    support: Annotated[
        float, Ge(0), Le(100), Field(description="How much the confidence of its words counts in the search")
    ]
    temperature: Annotated[float, Gt(0), Le(100), Field(description="Draw at random; the lower, the safer")]
    top_k: Annotated[int, Ge(0), Le(100_000), Field(description="Draw from the k likeliest; 0: all")]
    top_p: Annotated[float, Gt(0), Le(1), Field(description="Draw from the likeliest with this share")]
    seed: Annotated[int, Ge(0), Le(2**63 - 1), Field(description="Of the draw")]
    alternatives: Annotated[int, Ge(1), Le(16), Field(description="Sentences, best first; at most the beam")]
    min_confidence: Annotated[float, Ge(0), Le(1), Field(description="Below it a caption says less, or nothing")]
    segments: Annotated[bool, Field(description="One caption per scene of a long video, answered as several clips are")]
    explain: Annotated[bool, Field(description="Each word's weights over the frames; true unless given")]


_ADAPTER = TypeAdapter(Given)
SCHEMA: dict[str, Any] = _ADAPTER.json_schema()["properties"]
"""JSON schema of each option by name."""


@dataclass(frozen=True)
class Options:
    """How one request's clips are captioned."""

    model: str
    sampling: Sampling
    decoding: Decoding
    min_confidence: float | None
    segments: bool
    explain: bool


def read(pairs: Iterable[tuple[str, str]], bundles: dict[str, Bundle]) -> Options:
    """Options from (name, text) pairs; the first of the bundles is the default model.

    Raises:
        RefusalError: 422 for a name that is unknown or given twice, and for a value out of range.
    """
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name in texts:
            raise _invalid(f"{name[:50]} is given twice", "give it once")
        texts[name] = text
    try:
        given: dict[str, Any] = dict(_ADAPTER.validate_python(texts))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])[:50]
        if first["type"] == "extra_forbidden":
            raise _invalid(f"there is no option {name}", f"options are {', '.join(SCHEMA)}") from error
        raise _invalid(f"{name}: {first['msg']}", "see /docs for what it may be") from error
    return _options(given, bundles)


def _options(given: dict[str, Any], bundles: dict[str, Bundle]) -> Options:
    model = given.get("model", next(iter(bundles)))
    if model not in bundles:
        raise _invalid(f"model: there is none called {model[:50]}", f"models are {', '.join(bundles)}")
    bundle = bundles[model]
    try:
        sampling = replace(bundle.sampling, **_of(Sampling, given))
        decoding = replace(bundle.decoding, **_of(Decoding, given))
    except ConfigError as error:
        raise _invalid(str(error), "see /docs for what it may be") from error
    segments = given.get("segments", False)
    if segments and sampling.keyframes:
        raise _invalid("segments need every frame, not only key frames", "leave keyframes or segments out")
    least = given.get("min_confidence")
    if least is not None and bundle.confidence is None:
        problem = f"min_confidence: the model {model} does not tell how sure it is"
        raise _invalid(problem, "leave min_confidence out, or choose another model")
    return Options(model, sampling, decoding, least, segments, given.get("explain", True))


def _of(kind: type[Sampling | Decoding], given: dict[str, Any]) -> dict[str, Any]:
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _invalid(message: str, hint: str) -> RefusalError:
    return RefusalError(422, "invalid_option", message, hint)
