"""Files that are damaged, no media at all, or out to make FFmpeg do something else: one clear line, nothing hangs."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeClip
from video_captioning.errors import (
    MediaError,
    MissingFileError,
    NoPictureError,
    NotMediaError,
    PlaylistError,
    TooLargeError,
)
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.media import Limits


def problem(path: str | Path, kind: type[MediaError]) -> str:
    """The message of the error that sampling `path` raises: one line, with something to do."""
    with pytest.raises(MediaError) as caught:
        sample(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.isprintable()
    assert caught.value.way_out
    return message


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Not a media file


def test_missing(tmp_path: Path) -> None:
    assert problem(tmp_path / "no such.mp4", MissingFileError).endswith("there is no such file; check the name")
    problem(tmp_path / ("long" * 100), MissingFileError)
    problem(tmp_path / "nul\0.mp4", MissingFileError)
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    problem(tmp_path / "loop.mp4", MissingFileError)
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    problem(tmp_path / "dangling.mp4", MissingFileError)
    problem(write(tmp_path / "file", b"x") / "clip.mp4", MissingFileError)


def test_no_permission(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", 2)
    path.chmod(0)
    is_root = os.geteuid() == 0  # who may read everything
    if is_root:
        os.seteuid(65534)
    try:
        assert "no permission" in problem(path, MissingFileError)
    finally:
        if is_root:
            os.seteuid(0)


def test_folder_pipe_socket_device(tmp_path: Path) -> None:
    assert "is a folder" in problem(tmp_path, NotMediaError)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "named pipe" in problem(tmp_path / "pipe.mp4", NotMediaError)
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)  # a socket's whole path must be short
        try:
            listener.bind("socket.mp4")
        finally:
            os.chdir(here)
        assert "socket" in problem(tmp_path / "socket.mp4", NotMediaError)
    assert "device" in problem("/dev/zero", NotMediaError)


@pytest.mark.parametrize("name", ["clip.mp4", "picture.jpg", "list.m3u8"])
@pytest.mark.parametrize("content", [b"just words\n" * 1000, b"\0" * 5000, bytes(range(256)) * 50, b"x"])
def test_no_media(tmp_path: Path, content: bytes, name: str) -> None:
    problem(write(tmp_path / name, content), NotMediaError)


def test_empty(tmp_path: Path) -> None:
    assert "empty" in problem(write(tmp_path / "clip.mp4", b""), NotMediaError)


# Files that name other files, and names that FFmpeg would take for something else

PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
    "a.mp4": "ffconcat version 1.0\nfile {clip}\n",
    "a.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
    "a.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{clip}</BaseURL></MPD>',
    "a.pls": "[playlist]\nFile1={clip}\n",
    "a.asx": '\ufeff<asx version="3"><entry><ref href="{clip}"/></entry></asx>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlist_is_refused_and_what_it_names_is_not_opened(tmp_path: Path, make_clip: MakeClip, name: str) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 3)
    os.utime(clip, (1, 2))  # a read would bring the time of access up to date
    playlist = write(tmp_path / name, PLAYLISTS[name].format(clip=clip).encode())
    assert "other files or addresses" in problem(playlist, PlaylistError)
    assert clip.stat().st_atime == 1


def test_numbered_names_stay_one_file(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (8 + i, 8)).save(tmp_path / f"picture{i:03d}.jpg")
    Image.new("RGB", (99, 8)).save(tmp_path / "picture%03d.jpg")
    assert sample(tmp_path / "picture%03d.jpg").info.width == 99


STRANGE_NAMES = [
    *(
        "two  words.mp4",
        "Ünïcødé 视频.mp4",
        "new\nline.mp4",
        "a:b.mp4",
        "concat:a.mp4|b.mp4",
        "pipe:0",
        "file:clip.mp4",
    ),
    *("*?[a-z]{b}.mp4", "-i.mp4", "no ending", 'it\'s "it".mp4', "clip.m3u8", "clip.txt", os.fsdecode(b"\xff\xfe.mp4")),
]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_strange_names(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make_clip(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    assert len(sample(tmp_path / name).times) == 1
    monkeypatch.chdir(tmp_path)
    assert len(sample(name).times) == 1
    problem(f"http://localhost/{name}", MissingFileError)


# Media without a picture


def test_what_the_formats_lack(shared: Path) -> None:
    folder = shared / "data" / "formats"
    assert "headers but no frames" in problem(folder / "init.mp4", NoPictureError)
    assert "is encrypted" in problem(folder / "bear-640x360-v_frag-cenc-senc.mp4", NoPictureError)
    assert "audio only" in problem(folder / "sample.audio.mp4", NoPictureError)
    assert "subtitle only" in problem(folder / "full_blocks.mkv", NoPictureError)
    assert "init segment" in problem(folder / "sample_fragmented_sideloaded_track.mp4", NoPictureError)
    assert "could be decoded" in problem(folder / "invalid-bitstream.webm", NoPictureError)


def silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts = 44100, 0
    return frame


def test_audio_with_a_cover_is_audio_only(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (64, 64), "red").save(cover)
    with av.open(str(path), "w") as output:
        audio = output.add_stream("aac", rate=44100, layout="mono")
        output.add_attachment("cover.jpg", "image/jpeg", cover.read_bytes())
        output.mux(audio.encode(silence()))
        output.mux(audio.encode())
    assert "audio only with a cover picture" in problem(path, NoPictureError)


def test_video_with_a_cover_gives_the_video(tmp_path: Path, make_clip: MakeClip) -> None:
    cover = tmp_path / "cover.png"
    Image.new("RGB", (640, 480), "red").save(cover)
    path = tmp_path / "film.mkv"
    with av.open(str(make_clip(tmp_path / "clip.mp4", 30))) as source, av.open(str(path), "w") as output:
        output.add_attachment("cover.png", "image/png", cover.read_bytes())
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    frames = sample(path)
    assert (frames.info.width, frames.info.height) == (128, 96)
    assert len(frames.times) == 2


def test_a_video_of_no_length(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.start_encoding()
    problem(path, NoPictureError)


# Too large


def test_too_large(tmp_path: Path, make_clip: MakeClip) -> None:
    Image.new("1", (16_385, 10)).save(tmp_path / "wide.png")
    assert "pictures of 16385x10 are larger than" in problem(tmp_path / "wide.png", TooLargeError)
    for name in ("vast.png", "vast.gif"):
        Image.new("P", (10_001, 10_000)).save(tmp_path / name)
        assert "larger than the limit" in problem(tmp_path / name, TooLargeError)
    clip = make_clip(tmp_path / "clip.mp4", 3)
    assert len(sample(clip, limits=Limits(128, 128 * 96)).times) == 1
    for limits in (Limits(side=127), Limits(pixels=128 * 96 - 1)):
        with pytest.raises(TooLargeError):
            sample(clip, limits=limits)


# Damage


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    return make_clip(folder / "clip.mp4", 250, 25, container={"movflags": "faststart"})


def test_truncated_mp4(tmp_path: Path, long_clip: Path) -> None:
    data = long_clip.read_bytes()
    start = data.index(b"mdat")  # the packets follow; the index is before them
    half = sample(write(tmp_path / "half.mp4", data[: start + (len(data) - start) * 6 // 10]))
    (warning,) = [warning for warning in half.warnings if "ends early" in warning]
    readable = float(warning.split(": ")[1].split(" of 10.0 s")[0])
    assert 3 < readable < 9
    assert np.diff([0, *half.times, readable]).max() < 1.5
    fifth = sample(write(tmp_path / "fifth.mp4", data[: start + (len(data) - start) // 5]), Sampling(fps=8))
    assert len(fifth.times) >= 8  # at intervals of what is there, not of ten seconds
    header = write(tmp_path / "header.mp4", data[:40])
    assert "moov" in problem(header, NoPictureError)


def test_moov_missing(tmp_path: Path, make_clip: MakeClip) -> None:
    data = make_clip(tmp_path / "clip.mp4", 100).read_bytes()  # moov is at the end
    assert "moov" in problem(write(tmp_path / "cut.mp4", data[: data.index(b"moov") - 4]), NoPictureError)


@pytest.mark.parametrize("ending", ["mkv", "ts", "avi", "flv", "gif"])
def test_truncated_files_give_their_beginning(tmp_path: Path, make_clip: MakeClip, ending: str) -> None:
    codec, pix_fmt = {"avi": ("mpeg4", "yuv420p"), "gif": ("gif", "rgb8")}.get(ending, ("libx264", "yuv420p"))
    data = make_clip(tmp_path / f"clip.{ending}", 250, 25, codec=codec, pix_fmt=pix_fmt).read_bytes()
    frames = sample(write(tmp_path / f"cut.{ending}", data[: len(data) // 2]))
    assert 4 <= len(frames.times) <= 16
    assert 2 < frames.times[-1] < 9


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", 100, 25, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for i in (0, 30, 31, 99):
        place, size = places[i]
        data[place : place + size] = bytes(size)
    frames = sample(write(tmp_path / "damaged.mp4", bytes(data)), Sampling(fps=25, max_frames=1000))
    assert len(frames.times) == 96
    assert frames.warnings == ("4 damaged packets were skipped",)
    keys = sample(tmp_path / "damaged.mp4", Sampling(keyframes=True, max_frames=100))
    assert keys.times.tolist() == frames.times.tolist()


def test_noise_over_a_file_never_gives_anything_but_frames_or_one_line(tmp_path: Path, long_clip: Path) -> None:
    data = np.frombuffer(long_clip.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for share in (1e-4, 1e-3, 1e-2, 0.1):
        for _ in range(6):
            noisy = data.copy()
            places = random.random(len(data)) < share
            noisy[places] = random.integers(0, 256, places.sum())
            path = write(tmp_path / "noisy.mp4", noisy.tobytes())
            try:
                frames = sample(path, Sampling(), Resize(32))
            except MediaError as error:
                assert str(error).isprintable()
            else:
                assert np.all(np.diff(frames.times) > 0)
                assert 1 <= len(frames.times) <= 16


def test_tags_that_are_no_text(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mkv", 30)
    data = path.read_bytes()
    assert data.count(b"Lavf") >= 1
    broken = write(tmp_path / "broken.mkv", data.replace(b"Lavf", b"\xff\xfe\x80\xc3"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(broken))
    assert len(sample(broken).times) == 2


def test_ffmpeg_says_nothing_on_its_own(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sample(shared / "data" / "formats" / "corrupted.mp4")
    problem(shared / "data" / "formats" / "invalid-bitstream.webm", NoPictureError)
    assert capfd.readouterr() == ("", "")


def test_no_file_stays_open(tmp_path: Path, make_clip: MakeClip) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0  # noqa: PTH208

    clip, words = make_clip(tmp_path / "clip.mp4", 30), write(tmp_path / "words.mp4", b"words")
    calls: list[Callable[[], object]] = [lambda: sample(clip), lambda: problem(words, NotMediaError)]
    gc.collect()
    before = count()
    for call in calls * 3:
        call()
    assert count() <= before
