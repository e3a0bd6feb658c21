"""Tags and confidence over HTTP are those of the captioner in this process, and `min_confidence` means the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.comparing import comparable, local, rounded
from tests.serve.running import Client, metric, running, said
from video_captioning.captioner import Captioner

LEASTS = (None, 0.0, 0.5, 0.99)
CLIPS, BATCHES = "vidcap_batch_clips_sum", "vidcap_batch_clips_count"
CONFIDENCES = "vidcap_caption_confidence_count"


@pytest.fixture(scope="module")
def sure() -> Captioner:
    """A model with concepts and confidence."""
    return Captioner(tiny.sure_bundle(), threads=1)


@pytest.fixture(scope="module")
def service(sure: Captioner, captioner: Captioner) -> Iterator[Client]:
    """With that model, and one without either."""
    with running([sure, captioner]) as client:
        yield client


def test_a_caption_has_its_tags_and_confidence(service: Client, sure: Captioner, media: list[Path]) -> None:
    for path in media:
        caption = service.post(path, alternatives=2, beam=2).json()
        assert 0 < caption["confidence"] < 1
        assert all(0 < other["confidence"] < 1 for other in caption["alternatives"])
        assert any(word["confidence"] is not None for word in caption["words"])
        scores = [tag["score"] for tag in caption["tags"]]
        assert scores == sorted(scores, reverse=True) != []
        assert all(tag["times"] and set(tag["times"]) <= set(caption["frames"]) for tag in caption["tags"])
        assert comparable(service.post(path).json()) == local(sure, path)
    unexplained = service.post(media[1], explain="false").json()
    assert [word["weights"] for word in unexplained["words"]] == [[]] * len(unexplained["words"])
    assert unexplained["tags"] == service.post(media[1]).json()["tags"] != []


def test_a_crowd_with_different_thresholds(service: Client, sure: Captioner, media: list[Path]) -> None:
    wanted = {(path, least): local(sure, path, min_confidence=least) for path in media for least in LEASTS}
    texts = [caption["text"] for caption in wanted.values()]
    assert "" in texts, "a caption that says nothing"
    assert any(text.startswith("A video of ") for text in texts), "one that says less"
    asked = list(wanted) * 2
    before = service.get("/metrics").text
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda each: service.post(each[0], **given(each[1])).json(), asked))
    for each, caption in zip(asked, found, strict=True):
        assert comparable(caption) == wanted[each]
    after = service.get("/metrics").text
    clips, batches = (metric(after, name) - metric(before, name) for name in (CLIPS, BATCHES))
    assert clips == len(asked) > batches, "in batches"
    assert metric(after, CONFIDENCES) - metric(before, CONFIDENCES) == len(asked)


def given(least: float | None) -> dict[str, Any]:
    return {} if least is None else {"min_confidence": least}


def test_a_threshold_wherever_captions_are_made(
    service: Client, sure: Captioner, media: list[Path], make_clip: MakeClip, tmp_path: Path
) -> None:
    wanted = [local(sure, path, min_confidence=0.5) for path in media]
    assert comparable(service.post(media[1], path="/v1/captions?min_confidence=0.5").json()) == wanted[1]
    answer = service.post(*media, path="/v1/captions:batch", min_confidence=0.5).json()
    assert [comparable(each) for each in answer["results"]] == wanted

    film = make_clip(tmp_path / "film.mp4", [each for each in tiny.pictures(3) for _ in range(12)], fps=4)
    scenes = service.post(film, segments="true", min_confidence=0.5).json()["results"]
    assert len(scenes) == 3
    local_scenes = sure.segments(film, min_confidence=0.5)
    assert [comparable(each) for each in scenes] == [rounded(comparable(each.to_dict())) for each in local_scenes]


@pytest.mark.parametrize("value", ["-0.1", "1.01", "50%", "nan", ""])
def test_a_threshold_out_of_range(service: Client, media: list[Path], value: str) -> None:
    response = service.post(media[0], min_confidence=value)
    assert response.status_code == 422
    assert said(response)["code"] == "invalid_option"
    assert said(response)["message"].startswith("min_confidence: ")


def test_a_model_without_confidence(service: Client, media: list[Path]) -> None:
    caption = service.post(media[1], model="tiny", alternatives=2, beam=2).json()
    assert caption["text"]
    assert caption["confidence"] is caption["tags"] is None
    assert {word["confidence"] for word in caption["words"]} == {None}
    assert {other["confidence"] for other in caption["alternatives"]} == {None}
    response = service.post(media[1], model="tiny", min_confidence=0.5)
    assert response.status_code == 422
    error = said(response)
    assert error["code"] == "invalid_option"
    assert error["message"] == "min_confidence: the model tiny does not tell how sure it is"
    assert error["hint"] == "leave min_confidence out, or choose another model"


def test_clients_can_know_what_a_model_tells(service: Client) -> None:
    models = service.get("/v1/models").json()["models"]
    told = {model["name"]: (model["tags"], model["confidence"]) for model in models}
    assert told == {"sure": (True, True), "tiny": (False, False)}
    api = service.get("/openapi.json").json()
    for path in ("/v1/captions", "/v1/captions:batch"):
        operation = api["paths"][path]["post"]
        [option] = [each["schema"] for each in operation["parameters"] if each["name"] == "min_confidence"]
        assert (option["type"], option["minimum"], option["maximum"]) == ("number", 0, 1)
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["properties"]["min_confidence"] == option
    schemas = api["components"]["schemas"]
    for name in ("CaptionAnswer", "Word", "Alternative"):
        assert "confidence" in schemas[name]["required"]
    assert "tags" in schemas["CaptionAnswer"]["required"]
    assert set(schemas["Tag"]["properties"]) == {"name", "score", "times"}
