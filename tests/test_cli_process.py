"""`vidcap caption` as a process: bad input of every kind, exit statuses, pipes, full disks, Ctrl-C, a terminal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import video_captioning
from tests.conftest import MakeClip
from video_captioning.errors import printable

COMMAND = [sys.executable, "-m", "video_captioning", "caption"]
FAST = ["--beam", "1", "--max-tokens", "4", "--frames", "1"]
PATIENCE = 300  # seconds until a process is taken to hang
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(video_captioning.__file__).parents[1]), "PYTHONUTF8": "1"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 5)


@contextmanager
def started(*arguments: str, command: Sequence[str] = COMMAND, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The running command; killed at the end, should it still run."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [*command, *arguments, *FAST],
        text=True,
        errors="surrogateescape",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        **{**pipes, "env": ENVIRONMENT, **options},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str, **options: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    with started(*arguments, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out or "", err or ""


def link(clip: Path, *names: str) -> list[str]:
    for name in names:
        os.link(clip, name)
    return list(names)


# Bad input


def write_bad_files(make_clip: MakeClip) -> dict[str, str]:
    """Files that give no caption, each with a word of what is said about it."""
    Path("text.mp4").write_text("just words\n" * 100)
    Path("empty.mp4").touch()
    Path("folder").mkdir()
    Path("playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n")
    os.mkfifo("pipe.mp4")
    Image.new("1", (16_385, 10)).save("huge.png")
    whole = make_clip(Path("whole.mp4"), 100).read_bytes()
    Path("moov missing.mp4").write_bytes(whole[: whole.index(b"moov") - 4])
    fragments = make_clip(Path("fragments.mp4"), 5, container={"movflags": "empty_moov+frag_keyframe"}).read_bytes()
    Path("init.mp4").write_bytes(fragments[: fragments.index(b"moof") - 4])
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0f" * 16, "encryption_kid": "f0" * 16}
    make_clip(Path("encrypted.mp4"), 5, container=secret)
    with av.open("no length.mp4", "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.start_encoding()
    with av.open("sound.mp4", "w") as output:
        sound = output.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    return {
        "no such\nfile.mp4": "no such file",
        "text.mp4": "nothing that FFmpeg knows",
        "empty.mp4": "empty",
        "folder": "holds no video",
        "playlist.mp4": "playlist",
        "pipe.mp4": "pipe",
        "huge.png": "larger than",
        "moov missing.mp4": "moov",
        "init.mp4": "no frames",
        "encrypted.mp4": "encrypted",
        "no length.mp4": "",
        "sound.mp4": "audio only",
    }


def write_damaged_files(make_clip: MakeClip) -> dict[str, str]:
    """Files that give a caption and a warning, each with a word of it."""
    data = make_clip(Path("source.mp4"), 250, 25, container={"movflags": "faststart"}).read_bytes()
    packets = data.index(b"mdat")
    Path("cut.mp4").write_bytes(data[: packets + (len(data) - packets) // 2])
    path = make_clip(Path("corrupt.mp4"), 10, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packets_found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        place, size = packets_found[len(packets_found) // 2]  # which is looked at
    noisy = bytearray(path.read_bytes())
    noisy[place : place + size] = bytes(size)
    path.write_bytes(noisy)
    return {"cut.mp4": "the file ends early", "corrupt.mp4": "1 damaged packet was skipped"}


def test_bad_input_is_one_line_a_file_and_the_others_are_captioned(clip: Path, make_clip: MakeClip) -> None:
    bad, damaged = write_bad_files(make_clip), write_damaged_files(make_clip)
    strange = link(clip, "two  words.mp4", "Ünïcødé 视频.mp4", "new\nline.mp4", os.fsdecode(b"\xff\xfe.mp4"), "*.mp4")
    good = [*damaged, *strange]
    names = [name for pair in zip(bad, [*good, *good], strict=False) for name in pair]
    status, out, err = run(*names, "--format", "jsonl", "--frames", "99")
    assert status == 1
    assert [json.loads(line)["video"]["path"] for line in out.splitlines()] == good
    lines = err.splitlines()
    for name, word in bad.items():
        (line,) = [line for line in lines if line.startswith(f"vidcap: {printable(name)}: ")]
        assert word in line
        assert "; " in line  # the way out
        assert line.isprintable()
    warnings = [line for line in lines if line.startswith("vidcap: warning: ")]
    for name, word in damaged.items():
        assert any(line.startswith(f"vidcap: warning: {name}: ") and word in line for line in warnings)
    assert len(lines) == len(bad) + len(warnings)


def test_strange_names_stay_on_one_line_of_text(clip: Path) -> None:
    names = link(clip, "new\nline.mp4", "tab\t.mp4", os.fsdecode(b"\xff.mp4"), "ü.mp4")
    status, out, err = run(*names, env=ENVIRONMENT | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert (status, err) == (0, "")
    shown = [line.split("\t")[0] for line in out.splitlines()]
    assert shown == ["new\\nline.mp4", "tab\\t.mp4", "\\udcff.mp4", "\\xfc.mp4"]


def test_every_file_of_formats_is_captioned_or_told(shared: Path) -> None:
    formats = shared / "data" / "formats"
    status, out, err = run(str(formats), "--threads", "2", "--max-tokens", "2")
    media = {path for path in formats.iterdir() if path.suffix != ".tsv"}
    captioned = {Path(line.split("\t")[0]) for line in out.splitlines()}
    told = [line for line in err.splitlines() if not line.startswith("vidcap: warning: ")]
    assert status == 1
    assert len(captioned) == len(out.splitlines())
    assert len(captioned) + len(told) == len(media)
    for path in media - captioned:
        assert len([line for line in told if line.startswith(f"vidcap: {path}: ")]) == 1


def test_no_permission(clip: Path) -> None:
    shutil.copyfile(clip, "locked.mp4")
    Path("locked.mp4").chmod(0)
    Path("locked").mkdir(mode=0)
    link(clip, "open.mp4")
    bound: list[str] = []
    if os.geteuid() == 0:  # who may read everything, unless he gives that up
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything here")
        bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    status, out, err = run("locked.mp4", "locked", "open.mp4", command=[*bound, *COMMAND])
    Path("locked").chmod(0o700)
    assert status == 1
    assert out.startswith("open.mp4\t")
    assert sorted(err.splitlines()) == [
        "vidcap: locked.mp4: no permission to read it; change its mode or owner",
        "vidcap: locked: cannot be read (Permission denied); change its mode or owner",
    ]


@pytest.mark.parametrize("model", ["no such model", "."])
def test_a_model_that_is_none_is_one_line(clip: Path, model: str) -> None:
    status, out, err = run(str(clip), "--model", model, "-o", "out.txt")
    assert (status, out) == (1, "")
    assert err.startswith(f"vidcap: {model}: ")
    assert err.count("\n") == 1
    assert not Path("out.txt").exists()


# Where results go


def test_closed_pipe_ends_quietly(clip: Path) -> None:
    link(clip, *(f"{i}.mp4" for i in range(4)))
    with started(".", "--batch-size", "1") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith("0.mp4\t")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_one_line(clip: Path) -> None:
    with Path("/dev/full").open("w") as full:
        status, _, err = run(str(clip), stdout=full)
    assert status == 1
    assert err == "vidcap: standard output: cannot be written (No space left on device); make room\n"
    status, out, err = run(str(clip), "-o", "/dev/full")
    assert (status, out) == (1, "")
    assert err == "vidcap: /dev/full: cannot be written (No space left on device); make room or name another place\n"
    assert Path("/dev/full").is_char_device()


def test_a_file_that_outgrows_its_limit_leaves_what_was_there(clip: Path) -> None:
    Path("out.jsonl").write_text("before")
    limited = ["sh", "-c", 'ulimit -f 1; trap "" XFSZ; exec "$@"', "sh", *COMMAND]
    status, out, err = run(*([str(clip), "."]), "-o", "out.jsonl", "--prefix", "long " * 1000, command=limited)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == (
        "vidcap: out.jsonl: cannot be written (File too large); make room or name another place"
    )
    assert [path.name for path in Path.cwd().iterdir()] == ["out.jsonl"]
    assert Path("out.jsonl").read_text() == "before"


@pytest.mark.parametrize("place", ["no such folder/out.txt", "."])
def test_a_place_that_cannot_be_written_is_known_before_any_work(clip: Path, place: str) -> None:
    status, out, err = run(str(clip), "-o", place)
    assert (status, out) == (1, "")
    assert err.startswith(f"vidcap: {place}: cannot be written (")
    assert err.count("\n") == 1
    assert not list(Path.cwd().iterdir())


def write_endless(path: Path, make_clip: MakeClip) -> None:
    """A clip that takes minutes to decode: a transport stream may be repeated, and has no index to skip by."""
    grey = np.full((720, 1280, 3), 128, np.uint8)
    second = make_clip(path, [grey] * 50, 50, gop=50).read_bytes()
    with path.open("wb") as file:
        for _ in range(4000):
            file.write(second)


@pytest.mark.parametrize("form", ["text", "json"])
def test_ctrl_c_keeps_what_was_finished_and_waits_for_nothing(clip: Path, make_clip: MakeClip, form: str) -> None:
    link(clip, "a.mp4", "b.mp4")
    write_endless(Path("c.ts"), make_clip)
    with started("a.mp4", "b.mp4", "c.ts", "--batch-size", "1", "--format", form) as process:
        assert process.stdout
        first = [process.stdout.readline() for _ in range(2 if form == "text" else 3)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not err.strip()
    if form == "text":
        assert [line.split("\t")[0] for line in first] == ["a.mp4", "b.mp4"]
        assert out == ""
    else:
        assert [made["video"]["path"] for made in json.loads("".join(first) + out)] == ["a.mp4", "b.mp4"]


def test_ctrl_c_leaves_a_whole_file_of_what_was_finished(clip: Path, make_clip: MakeClip) -> None:
    link(clip, "a.mp4", "b.mp4")
    write_endless(Path("c.ts"), make_clip)
    with started("a.mp4", "b.mp4", "no such.mp4", "c.ts", "--batch-size=1", "-o", "out.txt") as process:
        assert process.stderr
        assert "no such" in process.stderr.readline()  # told when its turn has come, after the first two
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert [line.split("\t")[0] for line in Path("out.txt").read_text().splitlines()] == ["a.mp4", "b.mp4"]
    assert not list(Path.cwd().glob(".*"))


def test_progress_bar_on_a_terminal_only(clip: Path) -> None:
    import pty

    link(clip, "a.mp4", "b.mp4")
    for names, bar in ((["a.mp4", "b.mp4"], True), (["a.mp4"], False)):
        terminal, stderr = pty.openpty()
        with started(*names, stderr=stderr) as process:
            os.close(stderr)
            shown = b""
            with suppress(OSError):  # how Linux says that nobody writes any more
                while part := os.read(terminal, 4096):
                    shown += part
            assert process.stdout
            assert len(process.stdout.read().splitlines()) == len(names)
        os.close(terminal)
        assert (b"2/2" in shown) == bar
        assert bool(shown) == bar
