"""A real Triton with what `vidcap export triton` wrote: the right captions, and errors for those who asked for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.triton_smoke import Client
from tests import tiny
from tests.conftest import MakeClip
from tests.export.triton_bundles import SIZES, of_kind
from tests.export.triton_server import Server, serving
from video_captioning import bundle, load
from video_captioning.captioner import Captioner
from video_captioning.decoding import Arrays, Decoding, Special, decode
from video_captioning.export import triton
from video_captioning.frames import sample
from video_captioning.tokenizer import Tokenizer

http = pytest.importorskip("tritonclient.http", reason="Triton's client is not installed")
utils = pytest.importorskip("tritonclient.utils")

CLIENTS, REQUESTS = 16, 500
SPECIAL = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the captioner of `tiny.sure_bundle()`, and the graphs of each kind of model as `KIND_GRAPH`."""
    room = tmp_path_factory.mktemp("triton")
    repository = room / "repository"
    triton.export(tiny.sure_bundle(), repository)
    models = ["captioner"]
    for kind in SIZES:
        triton.export(of_kind(kind), room / kind)
        for graph in bundle.GRAPHS:
            models.append(f"{kind}_{graph}")
            stand_in(room / kind / graph, repository / models[-1])
    with serving(repository, models, room) as running:
        yield running


def stand_in(source: Path, target: Path) -> None:
    """A graph's model with its own `config.pbtxt`, but run by the Python backend: the wheel has no other."""
    shutil.copytree(source, target)
    config = (source / "config.pbtxt").read_text()
    renamed = config.replace(f'name: "{source.name}"', f'name: "{target.name}"', 1)
    (target / "config.pbtxt").write_text(renamed.replace('backend: "onnxruntime"', 'backend: "python"'))
    shutil.copyfile(Path(__file__).with_name("triton_graph.py"), target / "1" / "graph.py")
    (target / "1" / "model.py").write_text(triton.MODEL.replace("video_captioning.export.triton_model", "graph"))


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load(tiny.sure_bundle(), threads=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """Clips that differ, of which the model says different things."""
    folder = tmp_path_factory.mktemp("clips")
    return [make_clip(folder / f"{seed}.mp4", tiny.pictures(2 + seed % 4, seed), fps=2) for seed in range(8)]


def client(server: Server, protocol: str = "http") -> Client:
    return Client(protocol, server.http if protocol == "http" else server.grpc)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_video_is_captioned_as_by_the_local_captioner(
    protocol: str, server: Server, captioner: Captioner, clips: list[Path]
) -> None:
    asking = client(server, protocol)
    for clip in clips:
        expected = captioner(clip)
        text, score, tokens = asking.ask(video=clip.read_bytes())
        assert text == expected.text
        assert score == pytest.approx(expected.score, abs=1e-5)
        assert captioner.tokenizer.decode(tokens).strip().lower() == expected.text.lower().rstrip(".")
    assert len({captioner(clip).text for clip in clips}) > 1


def test_frames_are_captioned_as_their_video(server: Server, captioner: Captioner, clips: list[Path]) -> None:
    frames = sample(clips[0], captioner.bundle.sampling, captioner.bundle.resize).pixels
    for protocol in ("http", "grpc"):
        asking = client(server, protocol)
        assert asking.ask(frames=frames) == asking.ask(video=clips[0].read_bytes())


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 1},
        {"beam": 6, "support": 100.0},
        {"beam": 5, "length_penalty": 0.3, "no_repeat_ngram": 2},
        {"min_tokens": 6, "max_tokens": 9},
        {"temperature": 1.3, "seed": 7},
        {"temperature": 0.9, "seed": 2**40, "top_k": 20, "top_p": 0.9},
    ],
)
def test_options_mean_what_they_mean_to_the_captioner(
    options: dict[str, Any], server: Server, captioner: Captioner, clips: list[Path]
) -> None:
    expected = captioner(clips[1], decoding=replace(captioner.bundle.decoding, **options))
    text, score, _ = client(server).ask(video=clips[1].read_bytes(), **options)
    assert (text, score) == (expected.text, pytest.approx(expected.score, abs=1e-5))


CORRUPT = bytes(range(256)) * 40
BAD: list[tuple[Mapping[str, Any], str]] = [
    ({}, "a request needs either video .* or frames"),
    ({"video": CORRUPT}, "video: holds nothing that FFmpeg knows as video or picture"),
    ({"video": b""}, "video: the file is empty"),
    ({"video": b"#EXTM3U\nhttp://localhost/a.ts\n"}, "video: is a playlist"),
    ({"beam": 0}, "beam must be a whole number from 1; it is 0"),
    ({"beam": 10**9}, "beam must be 1 to 32 here; it is 1000000000"),
    ({"max_tokens": 10**9}, "max_tokens must be 1 to 256 here"),
    ({"min_tokens": 99}, "min_tokens must be at most max_tokens"),
    ({"temperature": float("nan")}, "temperature must be a number above 0"),
    ({"top_p": 0.5}, "top_p must be 1 unless temperature is set"),
    ({"beam": 2.5}, "data-type|data type"),
    ({"beam": np.array([1, 2])}, "unexpected shape for input 'beam'"),
    ({"colour": 1}, "unexpected inference input 'colour'"),
    ({"frames": np.zeros((2, 8, 8, 3), np.uint8)}, "unexpected shape for input 'frames'"),
    ({"frames": np.zeros((300, tiny.SIDE, tiny.SIDE, 3), np.uint8)}, "frames must be 1 to 256 here; it is 300"),
    ({"frames": np.zeros((0, tiny.SIDE, tiny.SIDE, 3), np.uint8)}, "frames must be 1 to 256 here; it is 0"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_bad_input_is_told_in_one_line(
    protocol: str, given: Mapping[str, Any], message: str, server: Server, clips: list[Path]
) -> None:
    own = {} if not given or {"video", "frames"} & set(given) else {"video": clips[0].read_bytes()}
    with pytest.raises(utils.InferenceServerException, match=message) as caught:
        client(server, protocol).ask(**own, **given)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert caught.value.status() in {"400", "StatusCode.INVALID_ARGUMENT"}


def test_video_and_frames_together(server: Server, clips: list[Path]) -> None:
    with pytest.raises(utils.InferenceServerException, match=r"either video .* or frames"):
        client(server).ask(video=clips[0].read_bytes(), frames=np.zeros((1, tiny.SIDE, tiny.SIDE, 3), np.uint8))


@pytest.mark.slow
def test_sixteen_clients_at_once(server: Server, captioner: Captioner, clips: list[Path]) -> None:
    """Every tenth request is corrupt; each gets its own answer, and nothing is left behind."""
    videos = [clip.read_bytes() for clip in clips]
    client(server).ask(video=videos[0])  # ONNX Runtime keeps a small file of its own
    expected = [captioner(clip).text for clip in clips]
    before = files(server.temporary)

    def ask(numbers: range) -> list[str]:
        asking = client(server, "http" if numbers[0] % 2 else "grpc")
        answers = []
        for number in numbers:
            try:
                video = CORRUPT if number % 10 == 9 else videos[number % len(videos)]
                answers.append(asking.ask(video=video)[0])
            except utils.InferenceServerException as error:
                answers.append(str(error.status()))
        return answers

    shares = [range(first, REQUESTS, CLIENTS) for first in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = {
            n: answer
            for share, said in zip(shares, pool.map(ask, shares), strict=True)
            for n, answer in zip(share, said, strict=True)
        }
    assert len(answers) == REQUESTS
    for number, answer in answers.items():
        if number % 10 == 9:
            assert answer in {"400", "StatusCode.INVALID_ARGUMENT"}
        else:
            assert answer == expected[number % len(videos)]
    assert files(server.temporary) <= before
    assert not open_videos(server)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def open_videos(server: Server) -> list[str]:
    """Videos that processes of the server still hold in memory."""
    held = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == server.pid:
                held += [str(path.readlink()) for path in (process / "fd").iterdir()]
        except OSError:  # it has just ended
            continue
    assert held
    return [path for path in held if "memfd:video" in path]


class Remote:
    """The three graphs on the server, as `bundle.Runtime` has them here."""

    def __init__(self, server: Server, kind: str) -> None:
        self.client = http.InferenceServerClient(server.http, network_timeout=60)
        self.kind = kind

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        tensors = []
        for name, value in inputs.items():
            tensor = http.InferInput(name, list(value.shape), utils.np_to_triton_dtype(value.dtype))
            tensors.append(tensor.set_data_from_numpy(value))
        result = self.client.infer(f"{self.kind}_{graph}", tensors)
        return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}

    def remember(self, features: np.ndarray, frame_mask: np.ndarray) -> tuple[Arrays, Arrays]:
        memory = self.run("memory", {"features": features, "frame_mask": frame_mask})
        state = {name: memory.pop(name) for name in list(memory) if name.startswith("state_")}
        if "state_position" in state:
            state["state_position"] = state["state_position"][:, 0]  # Triton has no tensor without axes
        return memory, state

    def step(self, tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        remembered = {name: memory[name] for name in ("memory", "memory_mask")}
        outputs = self.run("step", {"token": tokens, **remembered, **state})
        return outputs["logits"], {name: outputs[f"next_{name}"] for name in state}, outputs["attention"]


@pytest.mark.parametrize("kind", SIZES)
def test_the_graphs_one_by_one_say_the_same(kind: str, server: Server) -> None:
    """Names, types and shapes of each `config.pbtxt` suit the graph in every call of a beam search over a batch."""
    here, there = bundle.Runtime(bundle.read(of_kind(kind)), threads=1), Remote(server, kind)
    clips = [np.stack(tiny.pictures(3, seed, (tiny.SIDE, tiny.SIDE))) for seed in range(4)]
    features, mask = here.encode(clips)
    encoded = there.run("encoder", {"frames": np.concatenate(clips)})["features"]
    assert np.allclose(encoded.reshape(features.shape), features, atol=1e-5)
    decoding = Decoding(beam=3, max_tokens=8)
    one, other = (
        [best.tokens for best, *_ in decode(runtime.step, state, memory, decoding, SPECIAL)]
        for runtime, (memory, state) in ((here, here.remember(features, mask)), (there, there.remember(features, mask)))
    )
    assert one == other
    (told, _), (heard, _) = here.remember(features, mask), there.remember(features, mask)
    assert told.keys() == heard.keys()
    assert all(np.allclose(value, heard[name], atol=1e-4) for name, value in told.items())


@pytest.mark.parametrize("graph", ["encoder", "memory"])
def test_calls_of_several_clients_are_joined(graph: str, server: Server) -> None:
    """With one row each, all at once: every client gets the row that is its own."""
    here = bundle.Runtime(bundle.read(of_kind("attention")), threads=1)
    clips = [np.stack(tiny.pictures(1, seed, (tiny.SIDE, tiny.SIDE))) for seed in range(CLIENTS)]
    features, mask = here.encode(clips)
    memory, _ = here.remember(features, mask)

    def ask(row: int) -> np.ndarray:
        rows = slice(row, row + 1)
        remote = Remote(server, "attention")
        if graph == "encoder":
            return remote.run("encoder", {"frames": clips[row]})["features"][0]
        return remote.remember(features[rows], mask[rows])[0]["memory"][0]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(CLIENTS)))
    for row, answer in enumerate(answers):
        assert np.allclose(answer, features[row, 0] if graph == "encoder" else memory["memory"][row], atol=1e-4)
