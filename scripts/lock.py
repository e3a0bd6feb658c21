"""Remake `requirements.lock` (every extra), `requirements-core.lock` (what captioning needs), `requirements-serve.lock`
(the service) and `requirements-triton.lock` (a Triton server for the tests): `make lock`.

Pins that still fit are kept; `python scripts/lock.py --upgrade` takes the newest of everything. Arguments go to
`uv pip compile` as they are.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNIVERSAL = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]

# torch has two Linux builds of each version: the registry's, which asks for gigabytes of CUDA, and a CPU build of
# PyTorch's own. The lock allows both, and leaves out CUDA; `make test` installs torch first, in the build that pip
# finds, and the rest from the lock.
CP311_X86_64 = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"  # pragma: allowlist secret
LINUX_CPU_BUILDS = {"2.13.0": [CP311_X86_64]}
CUDA = [
    "cuda-bindings",
    "cuda-toolkit",
    "nvidia-cudnn-cu13",
    "nvidia-cusparselt-cu13",
    "nvidia-nccl-cu13",
    "nvidia-nvshmem-cu13",
    "triton",
]

# The server's Python backend crashes on NumPy 2, so both are installed beside the environment, not into it.
TRITON_SERVER = "nvidia-pytriton==0.7.0\nnumpy==1.26.4"


def uv_compile(*options: str, stdin: str = "") -> str:
    """Run `uv pip compile` for every platform and Python we support; returns what it prints."""
    command = ["uv", "pip", "compile", "--quiet", *UNIVERSAL, *options, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, check=True, input=stdin, text=True, stdout=subprocess.PIPE).stdout


def write_lock(name: str, *options: str, requirements: str = "") -> None:
    """Resolve `pyproject.toml`, or `requirements` where there are some, into the lock `name`."""
    hashes_only = ["--generate-hashes", "--no-emit-index-url", "--custom-compile-command", "make lock"]
    source = "-" if requirements else "pyproject.toml"
    uv_compile(source, "--output-file", name, *hashes_only, *options, stdin=requirements)


def torch_hashes(version: str) -> list[str]:
    """The sha256 of each build of torch: the registry's, and the Linux CPU builds that it does not hold."""
    if version not in LINUX_CPU_BUILDS:
        sys.exit(f"torch {version}: add the sha256 of its Linux CPU builds to LINUX_CPU_BUILDS in {__file__}")
    pylock = tomllib.loads(uv_compile("-", "--no-deps", "--format", "pylock.toml", stdin=f"torch=={version}"))
    wheels = pylock["packages"][0]["wheels"]
    registry = [wheel["hashes"]["sha256"] for wheel in wheels]
    return sorted(LINUX_CPU_BUILDS[version] + registry)


def allow_every_torch(lock: Path) -> None:
    """Add the hashes of the CPU builds below torch's pin."""

    def with_hashes(pin: re.Match[str]) -> str:
        return " \\\n".join([pin[1], *(f"    --hash=sha256:{digest}" for digest in torch_hashes(pin[2]))])

    lock.write_text(re.sub(r"^(torch==(\S+))(?: \\\n +--hash=\S+)+", with_hashes, lock.read_text(), flags=re.MULTILINE))


def main() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excludes:
        excludes.write("\n".join(CUDA))
        excludes.flush()
        write_lock("requirements.lock", "--all-extras", "--excludes", excludes.name)
    allow_every_torch(ROOT / "requirements.lock")
    write_lock("requirements-core.lock", "--constraints", "requirements.lock")
    write_lock("requirements-serve.lock", "--extra", "serve", "--constraints", "requirements.lock")
    write_lock("requirements-triton.lock", "--no-deps", requirements=TRITON_SERVER)


if __name__ == "__main__":
    main()
