"""Captions over HTTP are those of the captioner in this process, whoever else asks at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.comparing import comparable, local, rounded
from tests.serve.running import Client, metric, running, said
from video_captioning.captioner import Captioner
from video_captioning.decoding import Decoding
from video_captioning.frames import Sampling


def test_a_caption_is_the_local_one(client: Client, captioner: Captioner, media: list[Path]) -> None:
    for path in media:
        response = client.post(path)
        assert response.status_code == 200, response.text
        caption = response.json()
        assert caption["id"] == response.headers["x-request-id"]
        assert comparable(caption) == local(captioner, path)
        assert caption["video"]["path"] == path.name
        assert all(seconds > 0 for seconds in caption["timings"].values())


def test_captions_of_a_crowd_are_the_local_ones(client: Client, captioner: Captioner, media: list[Path]) -> None:
    beams = {beam: replace(captioner.bundle.decoding, beam=beam) for beam in (1, 3)}
    wanted = {(path, beam): local(captioner, path, decoding=beams[beam]) for path in media for beam in beams}
    asked = list(wanted) * 3
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda each: client.post(each[0], beam=each[1]).json(), asked))
    for each, caption in zip(asked, found, strict=True):
        assert comparable(caption) == wanted[each]
    sizes = client.get("/metrics").text
    assert metric(sizes, "vidcap_batch_clips_sum") > metric(sizes, "vidcap_batch_clips_count"), "in batches"
    assert client.files == []


def test_options(client: Client, captioner: Captioner, media: list[Path]) -> None:
    clip, bundle = media[2], captioner.bundle
    for look, say in [
        ({}, {"beam": 5, "alternatives": 4, "max_tokens": 12}),
        ({}, {"temperature": 1.5, "seed": 7, "top_k": 9}),
        ({}, {"consensus": 0.5, "length_penalty": 0}),
        ({"fps": 0.5}, {}),
        ({"frames": 6, "keyframes": False}, {}),
        ({"max_frames": 2, "keyframes": True}, {"beam": 1}),
    ]:
        sampling: Sampling = replace(bundle.sampling, **look)
        decoding: Decoding = replace(bundle.decoding, **say)
        caption = client.post(clip, **look, **say).json()
        assert comparable(caption) == local(captioner, clip, sampling=sampling, decoding=decoding)
    plain = client.post(clip).json()
    assert comparable(client.post(clip, path="/v1/captions?beam=1").json()) == comparable(
        client.post(clip, beam=1).json()
    )
    unexplained = client.post(clip, explain="false").json()
    assert [word["weights"] for word in unexplained["words"]] == [[]] * len(plain["words"])
    assert unexplained["text"] == plain["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": "0"}, "beam: "),
        ({"beam": "17"}, "beam: "),
        ({"beam": "3.5"}, "beam: "),
        ({"beam": ["2", "3"]}, "beam is given twice"),
        ({"fps": "nan"}, "fps: "),
        ({"fps": "inf"}, "fps: "),
        ({"max_frames": "65"}, "max_frames: "),
        ({"temperature": "-1"}, "temperature: "),
        ({"seed": "9" * 500}, "seed: "),
        ({"alternatives": "4"}, "at most the beam"),
        ({"top_k": "4"}, "temperature"),
        ({"explain": "perhaps"}, "explain: "),
        ({"model": "other"}, "there is none called other"),
        ({"segments": "true", "keyframes": "true"}, "segments need every frame"),
        ({"url": "http://127.0.0.1/"}, "there is no option url"),
    ],
)
def test_options_that_make_no_sense(client: Client, media: list[Path], options: dict[str, Any], message: str) -> None:
    response = client.post(media[0], **options)
    assert response.status_code == 422
    assert said(response)["code"] == "invalid_option"
    assert message in said(response)["message"]


def test_a_batch_keeps_the_order_and_tells_what_failed(client: Client, captioner: Captioner, media: list[Path]) -> None:
    clips = [media[3], ("notes.txt", b"no video"), media[0], media[1], ("list.mp4", b"#EXTM3U\n")]
    response = client.post(*clips, path="/v1/captions:batch", beam=2)
    assert response.status_code == 200
    answer = response.json()
    first, text, *others, playlist = answer["results"]
    decoding = replace(captioner.bundle.decoding, beam=2)
    for path, caption in zip((media[3], media[0], media[1]), (first, *others), strict=True):
        assert comparable(caption) == local(captioner, path, decoding=decoding)
    assert [text["error"]["code"], playlist["error"]["code"]] == ["not_media", "playlist"]
    assert text["error"]["message"].startswith("notes.txt: ")
    assert [result["id"] for result in answer["results"]] == [f"{answer['id']}-{number}" for number in range(5)]
    assert client.files == []


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    """Twenty scenes of three seconds: more than a batch."""
    pictures = [picture for picture in tiny.pictures(20) for _ in range(12)]
    return make_clip(tmp_path_factory.mktemp("films") / "film.mp4", pictures, fps=4)


def test_segments_are_the_local_ones(client: Client, captioner: Captioner, film: Path, media: list[Path]) -> None:
    decoding = replace(captioner.bundle.decoding, beam=2)
    wanted = [rounded(comparable(each.to_dict())) for each in captioner.segments(film, decoding=decoding)]
    assert len(wanted) == 20
    with ThreadPoolExecutor(3) as pool:  # with others who want the models at the same time
        clips = [pool.submit(client.post, media[1]) for _ in range(6)]
        response = client.post(film, beam=2, segments="true")
    answer = response.json()
    assert answer["id"] == response.headers["x-request-id"]
    assert [comparable(each) for each in answer["results"]] == wanted
    assert [each["id"] for each in answer["results"]] == [f"{answer['id']}-{number}" for number in range(20)]
    assert all(comparable(clip.result().json()) == local(captioner, media[1]) for clip in clips)

    [still] = client.post(media[0], segments="true", explain="false").json()["results"]
    assert still["text"] == captioner(media[0]).text
    assert [word["weights"] for word in still["words"]] == [[]] * len(still["words"])
    assert "results" not in client.post(film, segments="false").json()
    assert client.files == []


def test_segments_that_cannot_be(client: Client, film: Path, tmp_path: Path) -> None:
    response = client.post(film, path="/v1/captions:batch", segments="true")
    assert (response.status_code, said(response)["code"]) == (422, "invalid_option")
    response = client.post(("notes.txt", b"no video"), segments="true")
    assert (response.status_code, said(response)["code"]) == (415, "not_media")
    routes = client.get("/openapi.json").json()["paths"]
    takes = {path: {each["name"] for each in routes[path]["post"]["parameters"]} for path in routes if "capt" in path}
    assert takes["/v1/captions"] - takes["/v1/captions:batch"] == {"segments"}


def test_a_film_beyond_the_limit(captioner: Captioner, film: Path) -> None:
    with running([captioner], duration=30.0) as client:
        response = client.post(film, segments="true")
        assert (response.status_code, said(response)["code"]) == (413, "clip_too_large")
    with running([captioner], work_seconds=1e-3) as client:
        assert said(client.post(film, segments="true"))["code"] == "too_slow"
        assert client.get("/health").ok


def test_which_model(captioner: Captioner, media: list[Path]) -> None:
    other = Captioner("default", threads=1)
    with running([captioner, other]) as client:
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["tiny", "default"]
        assert client.post(media[1]).json()["model"]["name"] == "tiny"
        caption = client.post(media[1], model="default").json()
        assert comparable(caption) == local(other, media[1])


def test_models_do_not_tell_where_they_are(client: Client, captioner: Captioner) -> None:
    response = client.get("/v1/models")
    [model] = response.json()["models"]
    assert (model["sha256"], model["decoding"]["beam"]) == (captioner.bundle.sha256, captioner.bundle.decoding.beam)
    assert str(captioner.bundle.folder.parent) not in response.text


def test_state(client: Client, media: list[Path]) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").json() == {"status": "ready"}
    client.post(media[0])
    client.get("/none")
    metrics = client.get("/metrics").text
    assert metric(metrics, 'vidcap_requests_total{route="/v1/captions",status="200"}') >= 1
    assert metric(metrics, 'vidcap_requests_total{route="none",status="404"}') >= 1
    for stage in ("upload", "wait", "decode", "encode", "generate", "request"):
        assert metric(metrics, f'vidcap_stage_seconds_count{{stage="{stage}"}}') >= 1
    assert metric(metrics, "vidcap_queue_clips") == 0


def test_pages_need_no_other_host(client: Client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]
        assert not [word for word in page.text.split('"') if word.startswith(("http:", "https:", "//"))]
    scripts = [word for word in client.get("/docs").text.split('"') if word.startswith("/static-offline-docs/")]
    assert len(scripts) == 3
    assert all(client.get(path).status_code == 200 for path in scripts)
    assert "/v1/captions" in client.get("/openapi.json").json()["paths"]


def test_headers_that_browsers_heed(client: Client) -> None:
    for path in ("/", "/none", "/v1/models"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
