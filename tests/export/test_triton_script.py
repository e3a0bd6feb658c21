"""`scripts/run_triton_server.sh`: what it asks docker or podman for, and what it says where it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from video_captioning.export import triton

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run_triton_server.sh"
TOOLS = ("bash", "cat", "dirname", "grep", "ls", "mktemp", "realpath", "rm")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with what the script needs, and neither docker nor podman nor a GPU's tool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = next(path for place in ("/bin", "/usr/bin") if (path := Path(place, tool)).exists())
        (folder / tool).symlink_to(found)
    return folder


def add(tools: Path, name: str) -> None:
    """A program that prints its arguments, one a line, and what is in the folder that is mounted as /models."""
    program = tools / name
    program.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'
        'for argument; do [[ $argument == *:/models:ro ]] && ls "${argument%:/models:ro}"; done; true\n'
    )
    program.chmod(0o755)


def run(tools: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(tools), "TMPDIR": str(tools.parent), "PYTHON": sys.executable}
    return subprocess.run(["/bin/bash", SCRIPT, *arguments], capture_output=True, text=True, env=environment)


def refused(tools: Path, *arguments: str | Path) -> str:
    done = run(tools, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    triton.export(tiny.bundle(), tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_a_repository_is_served(program: str, tools: Path, repository: Path) -> None:
    add(tools, program)
    done = run(tools, "advanced", "onnx", repository)
    assert done.returncode == 0, done.stderr
    assert {"run", f"{repository}:/models:ro", "8000:8000", "8001:8001", "--rm"} <= set(done.stdout.splitlines())
    assert "tritonserver --model-repository=/models" in done.stdout
    assert "--gpus" not in done.stdout


@pytest.mark.parametrize(
    ("program", "option"), [("docker", "--gpus\nall\n"), ("podman", "--device\nnvidia.com/gpu=all\n")]
)
def test_a_gpu_is_used_where_there_is_one(program: str, option: str, tools: Path, repository: Path) -> None:
    add(tools, program)
    add(tools, "nvidia-smi")
    assert option in run(tools, "advanced", "onnx", repository).stdout


def test_a_bundle_is_made_a_repository_that_does_not_stay(tools: Path) -> None:
    add(tools, "docker")
    done = run(tools, "advanced", "onnx", tiny.bundle())
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("captioner\nencoder\nmemory\nstep\n")
    assert not list(tools.parent.glob("tmp.*"))


def test_neither_docker_nor_podman(tools: Path, repository: Path) -> None:
    assert "neither docker nor podman is installed; install one" in refused(tools, "advanced", "onnx", repository)


def test_what_does_not_fit(tools: Path, repository: Path, tmp_path: Path) -> None:
    add(tools, "docker")
    assert "does not hold a model of the kind baseline" in refused(tools, "baseline", "onnx", repository)
    assert "was not written for trt" in refused(tools, "advanced", "trt", repository)
    assert "TensorRT needs an NVIDIA GPU" in refused(tools, "advanced", "trt", tiny.bundle())
    assert "neither a bundle nor a model repository" in refused(tools, "advanced", "onnx", tmp_path)


@pytest.mark.parametrize("arguments", [(), ("advanced", "onnx"), ("other", "onnx", "."), ("advanced", "tf", ".")])
def test_wrong_usage(arguments: tuple[str, ...], tools: Path) -> None:
    done = run(tools, *arguments)
    assert done.returncode == 2
    assert "usage: scripts/run_triton_server.sh baseline|attention|advanced onnx|trt PATH" in done.stderr
