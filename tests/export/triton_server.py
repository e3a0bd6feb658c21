"""A real Triton Inference Server on the CPU: that of the wheel nvidia-pytriton, with its Python backend."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

WHEELS = Path(sys.prefix) / "triton"
"""The server, and the NumPy that it was built for, which is older than ours."""
DEADLINE = 120  # seconds until it is ready
PATIENCE = 30  # seconds until it has stopped


@dataclass(frozen=True)
class Server:
    http: str
    """host:port, as `grpc`."""
    grpc: str
    pid: int
    temporary: Path
    """Where its processes put temporary files."""


@contextmanager
def serving(repository: Path, models: Sequence[str], room: Path) -> Iterator[Server]:
    """Triton with some models of a repository, from when it is ready until the block ends; `room` is for its files."""
    if not (WHEELS / "pytriton").is_dir():
        pytest.skip("Triton's server is not here; `make test` installs it")
    http, grpc = free_ports(2)
    (room / "tmp").mkdir(parents=True)
    program = WHEELS / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    command = [
        *(str(program), f"--model-repository={repository}", f"--backend-directory={backends(room)}"),
        *("--model-control-mode=explicit", *(f"--load-model={model}" for model in models)),
        *(f"--http-port={http}", f"--grpc-port={grpc}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
        *("--allow-metrics=false", "--allow-gpu-metrics=false", "--exit-timeout-secs=5"),
    ]
    libraries = [str(WHEELS / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    environment = {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "VIRTUAL_ENV": str(environment_with_older_numpy(room)),
        "TMPDIR": str(room / "tmp"),
    }
    log = room / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait(f"http://127.0.0.1:{http}/v2/health/ready", process, log)
        yield Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", process.pid, room / "tmp")
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def backends(room: Path) -> Path:
    """The Python backend with the stub of this Python."""
    wheel = WHEELS / "pytriton" / "tritonserver"
    shutil.copytree(wheel / "backends" / "python", room / "backends" / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = shutil.copy(
        wheel / "python_backend_stubs" / version / "triton_python_backend_stub", room / "backends/python"
    )
    Path(stub).chmod(0o755)
    return room / "backends"


def environment_with_older_numpy(room: Path) -> Path:
    """A virtual environment that is this one, but for NumPy."""
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(room / "environment")}))
    packages.mkdir(parents=True)
    for name in ("numpy", "numpy.libs"):
        (packages / name).symlink_to(WHEELS / name)
    (packages / "rest.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return room / "environment"


def wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until the server says that it is ready."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"Triton {'ended' if process.poll() is not None else 'is not ready in time'}:\n{tail}")
