"""How trtexec is called, and what is left when it fails. TensorRT itself is not here: a stand-in is on the PATH."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests import tiny
from tests.conftest import MakeClip
from tests.export import trtexec
from video_captioning import bundle
from video_captioning.bundle import Runtime
from video_captioning.cli.export import export as export_command
from video_captioning.errors import BundleError, OutputError, VidcapError
from video_captioning.export import onnx as exporter
from video_captioning.export import quantize
from video_captioning.export.tensorrt import IMAGE, EngineRuntime, export

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_trt_engine.sh"
ENGINES = ["encoder.log", "encoder.plan", "memory.log", "memory.plan", "step.log", "step.plan"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_command_lines(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    export(tiny.bundle(), tmp_path / "engines")
    assert names(tmp_path / "engines") == ENGINES
    encoder, memory, step = trtexec.calls(programs)
    assert encoder == [
        "trtexec",
        "--onnx=encoder.onnx",
        "--saveEngine=encoder.plan",
        "--minShapes=frames:1x32x32x3",
        "--optShapes=frames:24x32x32x3",
        "--maxShapes=frames:96x32x32x3",
        "--fp16",
        "--skipInference",
    ]
    assert memory[3:6] == [
        "--minShapes=features:1x1x5x32,frame_mask:1x1",
        "--optShapes=features:8x8x5x32,frame_mask:8x8",
        "--maxShapes=features:32x64x5x32,frame_mask:32x64",
    ]
    width = "128"  # keys and values of two layers
    assert step[3:6] == [
        f"--minShapes=token:1,memory:1x1x{width},memory_mask:1x1,"
        "state_keys:1x2x0x32,state_values:1x2x0x32,state_position:1",
        f"--optShapes=token:24,memory:8x208x{width},memory_mask:8x208,"
        "state_keys:24x2x15x32,state_values:24x2x15x32,state_position:24",
        f"--maxShapes=token:96,memory:32x4096x{width},memory_mask:32x4096,"
        "state_keys:96x2x63x32,state_values:96x2x63x32,state_position:96",
    ]


def test_slots_of_concepts_stand_beside_those_of_frames(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    export(tiny.bundle(concepts=True) / "step.onnx", tmp_path / "step.plan")
    [step] = trtexec.calls(programs)
    for place, kind, sizes in ((3, "min", "1x5"), (4, "opt", "8x212"), (5, "max", "32x4100")):
        assert step[place].startswith(f"--{kind}Shapes=token:") and f",memory_mask:{sizes}," in step[place]


def test_float32_is_float32(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    export(tiny.bundle() / "step.onnx", tmp_path / "step.plan", half=False)
    [call] = trtexec.calls(programs)
    assert "--noTF32" in call and "--fp16" not in call


def test_one_graph_is_one_file(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    export(tiny.bundle() / "step.onnx", tmp_path / "a" / "step.plan")
    assert names(tmp_path / "a") == ["step.plan"]
    with pytest.raises(OutputError, match=r"step\.plan: exists already"):
        export(tiny.bundle() / "step.onnx", tmp_path / "a" / "step.plan")


@pytest.mark.parametrize("source", ["", "step.onnx"])
@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ("badly", r"trtexec could not make an engine of .*\.onnx \(status 3\): \[E\] Error\[4\]: the network is not"),
        ("silently", r"trtexec ended well but wrote no engine of .*\.onnx; see above"),
    ],
)
def test_when_it_fails_nothing_is_left(
    behave: str, message: str, source: str, programs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trtexec.install(programs, behave=behave)
    with pytest.raises(VidcapError, match=message) as caught:
        export(tiny.bundle() / source, tmp_path / "place" / "out")
    assert "\n" not in str(caught.value)
    assert "[I] here" in capfd.readouterr().err  # all that it said
    assert not list((tmp_path / "place").iterdir())


def test_neither_trtexec_nor_a_container_engine(programs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(export_command, ["tensorrt", str(tiny.bundle()), str(tmp_path / "place" / "out")])
    assert isinstance(done.exception, VidcapError)
    assert str(done.exception).startswith("there is neither trtexec nor docker nor podman on the PATH; install")
    assert not list((tmp_path / "place").iterdir())


def test_a_program_that_cannot_be_run(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    (programs / "trtexec").write_text("#!/nowhere/at/all\n")
    with pytest.raises(VidcapError, match="trtexec cannot be run"):
        export(tiny.bundle(), tmp_path / "out")


@pytest.mark.parametrize(
    ("engine", "options"),
    [("docker", ["--gpus=all", f"--user={os.getuid()}:{os.getgid()}"]), ("podman", ["--device=nvidia.com/gpu=all"])],
)
def test_the_container(engine: str, options: list[str], programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs, engine)
    export(tiny.bundle() / "step.onnx", tmp_path / "step.plan")
    [[called, *arguments]] = trtexec.calls(programs)
    volume = arguments[2 + len(options)]
    assert [called, *arguments[: 2 + len(options)]] == [engine, "run", "--rm", *options]
    assert volume.startswith(f"--volume={tmp_path}/") and volume.endswith(":/engines")
    assert arguments[3 + len(options) : 7 + len(options)] == [
        "--workdir=/engines",
        IMAGE,
        "trtexec",
        "--onnx=step.onnx",
    ]


def test_bad_graphs(programs: Path, tmp_path: Path) -> None:
    trtexec.install(programs)
    (tmp_path / "text.onnx").write_text("no graph")
    foreign = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[K] x) => (float[K] y) {y=Abs(x)}'
    )
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name, message in (
        ("text.onnx", "is no ONNX file that can be read"),
        ("missing.onnx", "is no ONNX file that can be read"),
        ("foreign.onnx", "input x has an axis 'K' that no graph of a bundle has"),
        ("nothing", "no such bundle"),
    ):
        with pytest.raises(BundleError, match=f"{name}: {message}"):
            export(tmp_path / name, tmp_path / "place" / "out")
    assert not (programs / "calls").exists()


def test_int8_weights_are_given_as_floats(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trtexec.install(programs)
    monkeypatch.setattr(quantize, "SMALLEST", 256)
    exporter.export(tiny.checkpoint(), tmp_path / "int8", name="int8", int8=True)
    export(tmp_path / "int8", tmp_path / "engines")
    given = onnx.load(tmp_path / "engines" / "encoder.plan")
    assert "DequantizeLinear" in {node.op_type for node in onnx.load(tmp_path / "int8" / "encoder.onnx").graph.node}
    assert "DequantizeLinear" not in {node.op_type for node in given.graph.node}
    frames = [np.stack(tiny.pictures(3, 5, (tiny.SIDE, tiny.SIDE)))]
    read = bundle.read(tmp_path / "int8")
    features, _ = EngineRuntime(read, tmp_path / "engines").encode(frames)
    assert np.allclose(features, Runtime(read, 1).encode(frames)[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("concepts", [False, True])
def test_engines_are_compared_with_onnx(concepts: bool, programs: Path, tmp_path: Path, make_clip: MakeClip) -> None:
    clips = [make_clip(tmp_path / f"{n}.mp4", tiny.pictures(2 * n, n), fps=2, gop=1) for n in (1, 2)]
    options = [option for clip in clips for option in ("--clip", str(clip))]
    trtexec.install(programs)
    done = CliRunner().invoke(
        export_command, ["tensorrt", str(tiny.bundle(concepts=concepts)), str(tmp_path / "engines"), *options]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("engines: fp16: 2 of 2 captions as by ONNX Runtime\n")
    assert names(tmp_path / "engines") == ENGINES
    trtexec.install(programs, behave="wrongly")
    with pytest.raises(BundleError, match=r"its engines say what ONNX says for only [01] of 2 clips; not written"):
        export(tiny.bundle(concepts=concepts), tmp_path / "wrong", clips=clips)
    assert not (tmp_path / "wrong").exists()


def test_the_script(tmp_path: Path) -> None:
    trtexec.install(tmp_path / "programs")
    graph = tmp_path / "step.onnx"
    graph.write_bytes((tiny.bundle() / "step.onnx").read_bytes())
    path = f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHON": sys.executable}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, cwd=SCRIPT.parents[1]
        )

    done = run(str(graph), "--fp32")
    assert done.returncode == 0, done.stderr
    assert graph.with_suffix(".plan").is_file()
    assert "--noTF32" in trtexec.calls(tmp_path / "programs")[0]
    again = run(str(graph))
    assert again.returncode == 1 and "exists already" in again.stderr and again.stderr.count("\n") == 1
    for wrong in ([], ["step.plan"], [str(graph), "--int8"]):
        assert run(*wrong).returncode == 2
