"""From files to captions: batches, errors, words and their places, threads that end."""

import json
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from PIL import Image

import video_captioning
from tests import tiny
from tests.conftest import MakeClip
from video_captioning import bundle
from video_captioning.captioner import Caption, Captioner, sentence
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, MissingFileError, NotMediaError
from video_captioning.export.onnx import export
from video_captioning.frames import Sampling, sample


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner(tiny.bundle(), threads=2)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """Three pictures and four clips, of 1 to 4 kept frames."""
    folder = tmp_path_factory.mktemp("media")
    paths = []
    for number, picture in enumerate(tiny.pictures(3)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    for seed, frames in enumerate((4, 40, 12, 20), 1):
        paths.append(make_clip(folder / f"clip {seed}.mp4", tiny.pictures(frames, seed), fps=8))
    return [paths[number] for number in (0, 3, 4, 1, 5, 2, 6)]


def assert_same(one: Caption, other: Caption) -> None:
    """The same but for times and the last digits."""
    assert (one.text, one.frames, one.video, one.model) == (other.text, other.frames, other.video, other.model)
    assert one.score == pytest.approx(other.score, abs=1e-4)
    assert [word.text for word in one.words] == [word.text for word in other.words]
    for a, b in zip(one.words, other.words, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert a.weights == pytest.approx(b.weights, abs=1e-4)
    assert [said.text for said in one.alternatives] == [said.text for said in other.alternatives]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_batch_is_one_by_one(media: list[Path], batch_size: int, threads: int) -> None:
    captioner = Captioner(tiny.bundle(), threads=threads)
    decoding = Decoding(beam=3, alternatives=3, max_tokens=12)
    together = list(captioner.captions(media, decoding=decoding, batch_size=batch_size))
    for path, caption in zip(media, together, strict=True):
        assert isinstance(caption, Caption)
        assert caption.video.path == str(path)
        assert_same(caption, captioner(path, decoding=decoding))
    assert len({caption.text for caption in together if isinstance(caption, Caption)}) > 2, "it looks at the pictures"


def test_an_error_stands_in_the_place_of_its_clip(captioner: Captioner, media: list[Path], tmp_path: Path) -> None:
    missing, text = tmp_path / "missing.mp4", tmp_path / "text.mp4"
    text.write_text("no video")
    paths = [missing, media[0], text, text, media[1], missing]
    for batch_size in (1, 2, 4):
        made = list(captioner.captions(paths, batch_size=batch_size))
        kinds = [type(item) for item in made]
        assert kinds == [MissingFileError, Caption, NotMediaError, NotMediaError, Caption, MissingFileError]
    with pytest.raises(MissingFileError):
        captioner(missing)
    assert list(captioner.captions([])) == []
    assert [type(item) for item in captioner.captions([text, missing])] == [NotMediaError, MissingFileError]


def test_a_caption_as_json(captioner: Captioner, media: list[Path]) -> None:
    caption = captioner(media[1], decoding=Decoding(beam=2, alternatives=2))
    said = json.loads(json.dumps(caption.to_dict(), allow_nan=False))
    assert set(said) == {
        *("text", "score", "confidence", "words", "alternatives", "frames", "segment", "tags", "video", "model"),
        *("timings", "warnings"),
    }
    assert set(said["words"][0]) == {"text", "logprob", "weights", "confidence"}
    assert set(said["alternatives"][0]) == {"text", "score", "confidence"}
    assert set(said["video"]) == {"path", "duration", "width", "height", "fps", "codec"}
    assert said["segment"] is None
    assert said["warnings"] == []
    read = bundle.read(tiny.bundle())
    assert said["model"] == {"name": "tiny", "version": read.version, "sha256": read.sha256}
    assert set(said["timings"]) == {"decode", "encode", "generate"}
    assert all(seconds >= 0 for seconds in said["timings"].values())
    assert (said["video"]["width"], said["video"]["height"], said["video"]["codec"]) == (128, 96, "h264")
    assert said["score"] < 0
    still = captioner(media[0]).to_dict()
    assert (still["video"]["duration"], still["frames"]) == (None, (0.0,))


def test_words_and_the_frames_they_look_at(captioner: Captioner, media: list[Path]) -> None:
    for caption in captioner.captions(media, batch_size=7):  # in a batch most clips are padded
        assert isinstance(caption, Caption)
        assert sentence(" ".join(word.text for word in caption.words)) == caption.text
        for word in caption.words:
            assert len(word.weights) == len(caption.frames)
            assert sum(word.weights) == pytest.approx(1, abs=1e-5)
            assert min(word.weights) >= 0
            assert word.logprob <= 0


def test_sampling_and_decoding_of_ones_own(captioner: Captioner, media: list[Path]) -> None:
    clip = media[2]
    assert len(captioner(clip).frames) == 4, "as the bundle says"
    assert len(captioner(clip, sampling=Sampling(frames=2)).frames) == 2
    assert len(captioner(clip, sampling=Sampling(fps=8, max_frames=40)).frames) == 40
    [caption] = captioner.captions([clip], sampling=Sampling(frames=3), decoding=Decoding(beam=1, max_tokens=2))
    assert isinstance(caption, Caption)
    assert len(caption.frames) == 3
    assert len(caption.words) <= 2
    one = captioner(clip, decoding=Decoding(temperature=2.0, seed=1, alternatives=4))
    assert captioner(clip, decoding=Decoding(temperature=2.0, seed=1, alternatives=4)).text == one.text
    assert len(one.alternatives) == 3


def test_longer_than_the_model_was_made_for(captioner: Captioner, media: list[Path]) -> None:
    decoding = Decoding(beam=2, min_tokens=40, max_tokens=60)
    assert captioner(media[2], sampling=Sampling(fps=8, max_frames=400), decoding=decoding).text


def workers() -> int:
    return sum("ThreadPoolExecutor" in thread.name for thread in threading.enumerate())


def test_it_reads_only_a_little_ahead_and_ends_its_threads(captioner: Captioner, media: list[Path]) -> None:
    before = workers()
    asked = count()

    def many() -> Iterator[Path]:
        for _ in range(200):
            next(asked)
            yield media[0]

    captions = captioner.captions(many(), batch_size=2)
    assert isinstance(next(captions), Caption)
    assert isinstance(next(captions), Caption)
    assert next(asked) <= 8
    captions.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if "ThreadPoolExecutor" in thread.name:
            thread.join(30)
    assert workers() <= before


def test_an_error_in_the_list_of_files_comes_through(captioner: Captioner, media: list[Path]) -> None:
    class ListError(Exception):
        pass

    def failing() -> Iterator[Path]:
        yield media[0]
        raise ListError

    with pytest.raises(ListError):
        list(captioner.captions(failing()))


def test_a_model_is_a_name_a_folder_or_a_bundle(media: list[Path], tmp_path: Path) -> None:
    said = Captioner(tiny.bundle())(media[0])
    assert_same(video_captioning.load(str(tiny.bundle()), threads=1)(str(media[0])), said)
    assert_same(Captioner(bundle.read(tiny.bundle()))(media[0]), said)
    with pytest.raises(BundleError, match="none: no such bundle"):
        video_captioning.load(tmp_path / "none")


def test_a_model_that_says_nothing(media: list[Path], tmp_path: Path) -> None:
    content = torch.load(tiny.checkpoint(), weights_only=True)
    content["state_dict"]["model.bias"][tiny.tokenizer().eos] = 1e4
    torch.save(content, tmp_path / "mute.ckpt")
    export(tmp_path / "mute.ckpt", tmp_path / "mute", name="mute")
    for caption in Captioner(tmp_path / "mute").captions(media[:2]):
        assert isinstance(caption, Caption)
        assert (caption.text, caption.words) == ("", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a dog runs", "A dog runs."), (" the sea. ", "The sea."), ("really?", "Really?"), ("", ""), ("é", "É.")],
)
def test_a_sentence(text: str, expected: str) -> None:
    assert sentence(text) == expected


def test_what_could_not_be_read_is_told(captioner: Captioner, make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", tiny.pictures(80, 9), fps=8, gop=8)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    caption = captioner(path)
    assert caption.text
    assert "the file ends early" in " ".join(caption.warnings)
    assert caption.to_dict()["warnings"] == caption.warnings


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_segments_are_captioned_as_clips_of_their_own(
    captioner: Captioner, make_clip: MakeClip, tmp_path: Path, batch_size: int
) -> None:
    scenes = [picture for picture in tiny.pictures(4, 5) for _ in range(24)]
    path = make_clip(tmp_path / "clip.mp4", scenes, fps=8)
    decoding = Decoding(beam=2, alternatives=2, max_tokens=9)
    captions = list(captioner.segments(path, decoding=decoding, batch_size=batch_size))
    assert [caption.segment for caption in captions] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert len({caption.text for caption in captions}) > 1
    for caption, start in zip(captions, (0, 3, 6, 9), strict=True):
        end = start + 3 if start < 9 else None
        frames = sample(path, captioner.bundle.sampling, captioner.bundle.resize, start=start, end=end)
        assert_same(caption, captioner.caption_frames([(frames, 0.0)], decoding)[0])
        assert all(start <= time < start + 3 for time in caption.frames)
        assert caption.timings.decode > 0


def test_segments_of_what_has_none(captioner: Captioner, media: list[Path], tmp_path: Path) -> None:
    [still] = captioner.segments(media[0])
    assert_same(still, captioner(media[0]))
    with pytest.raises(MissingFileError):
        next(captioner.segments(tmp_path / "missing.mp4"))
