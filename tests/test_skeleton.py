"""The house stands as DESIGN.md draws it: rooms on floors, a light import, complete wheels, honest locks."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "video_captioning"

# A room imports only rooms on floors below its own; media.py is the part of frames that opens files.
FLOORS = {
    6: {"commands"},  # the classic names of what cli/ does
    5: {"cli"},
    4: {"serve", "archive", "explain", "evaluation", "training"},
    3: {"data", "export", "captioner"},
    2: {"scenes", "bundle"},
    1.5: {"confidence"},  # of what decoding found
    1: {"caption", "frames", "models", "metrics", "decoding", "tokenizer", "subtitles", "download"},
    0.5: {"files", "concepts"},  # whole files, whose only error is on the floor below; what words name
    0: {"errors", "parallel", "words"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
ROOM = dict.fromkeys(("media", "plan", "nal", "painter", "hdr", "aperture"), "frames") | {"cuts": "scenes"}
WITHOUT_TORCH = {
    "captioner",
    "caption",
    "scenes",
    "bundle",
    "frames",
    "metrics",
    "decoding",
    "tokenizer",
    "subtitles",
    "errors",
    "files",
    "parallel",
    "words",
    "concepts",
    "confidence",
}
TORCH = {"torch", "lightning", "pytorch_lightning", "transformers", "torchmetrics"}
NO_ROOM = {"__init__", "__main__", "configs", "bundles"}


def room_of(module: str) -> str | None:
    """The room that a dotted name inside the package belongs to; None for the package itself."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return None if name in NO_ROOM else ROOM.get(name, name)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the package: its dotted name and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text(), path.name)


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports, at its top or when called; names imported from the package resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            if source == PACKAGE.name:  # from video_captioning import bundle, __version__
                yield from (f"{source}.{a.name}" for a in node.names if a.name in FLOOR or a.name in ROOM)
            else:
                yield source


def package_imports() -> Iterator[tuple[str, str, str]]:
    """(module, its room, a room it imports) for every import from one room of the package into another."""
    for module, tree in modules():
        room = room_of(module)
        for name in imports(module, tree):
            other = room_of(name) if name.split(".")[0] == PACKAGE.name else None
            if room and other and other != room:
                yield module, room, other


def committed() -> list[Path]:
    """The files that git has, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git work tree")
    return [path for name in filter(None, listed.stdout.split("\0")) if (path := ROOT / name).is_file()]


def run_python(code: str, cwd: Path = ROOT) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_is_in_a_room() -> None:
    assert {room for module, _ in modules() if (room := room_of(module))} <= set(FLOOR)


def test_a_room_imports_only_rooms_on_floors_below() -> None:
    wrong = {f"{module} imports {other}" for module, room, other in package_imports() if FLOOR[other] >= FLOOR[room]}
    assert not wrong


def test_rooms_without_torch_import_neither_torch_nor_a_room_with_it() -> None:
    rooms = {(module, other) for module, room, other in package_imports() if {room, other} - WITHOUT_TORCH == {other}}
    trees = [(module, tree) for module, tree in modules() if room_of(module) in WITHOUT_TORCH]
    libraries = {
        (module, name) for module, tree in trees for name in imports(module, tree) if name.split(".")[0] in TORCH
    }
    assert not rooms | libraries


def test_rooms_without_torch_load_where_there_is_no_torch() -> None:
    names = [module.removesuffix(".__init__") for module, _ in modules() if room_of(module) in WITHOUT_TORCH]
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in sorted(TORCH))
    run_python(f"import importlib, sys; {blocked}[importlib.import_module(name) for name in {names}]")


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"av", "click", "numpy", "onnxruntime", "rich", "sentencepiece", "torch"}
    run_python(f"import sys, video_captioning; loaded = {heavy} & set(sys.modules); assert not loaded, loaded")


@pytest.mark.slow
def test_the_wheel_carries_every_file_of_the_package(tmp_path: Path) -> None:
    files = [path.relative_to(ROOT) for path in committed()]
    for file in files:
        (tmp_path / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / "source" / file)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        f"--wheel-dir={tmp_path}",
    ]
    done = subprocess.run([*build, tmp_path / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {file.as_posix() for file in files if file.parts[0] == PACKAGE.name}


def test_no_committed_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    names = ["pypi org", "pythonhosted org", "download pytorch org", "registry npmjs", "deb debian org"]
    hosts = [name.replace(" ", r"\.") for name in names]  # not written out, so that this file is checked, too
    folders = [r"(?<![\w.])/wor[k]/", r"(?<![\w.])/roo[t]/", r"(?<![\w.])/hom[e]/\w"]
    pattern = re.compile("|".join(hosts + folders).encode())
    named = {path.relative_to(ROOT): pattern.findall(path.read_bytes()) for path in committed()}
    assert not {path: found for path, found in named.items() if found}


def pins(lock: str) -> dict[str, str]:
    """Each package of a lock with its whole entry: version, marker, hashes."""
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    return {entry.split("==")[0]: entry for entry in entries}


def canonical(requirement: str) -> str:
    """The normalised name of a requirement such as `hydra-core>=1.3.2,<1.4`."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()  # type: ignore[index]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-core.lock", "requirements-triton.lock"])
def test_every_pin_has_hashes_and_none_names_an_address(lock: str) -> None:
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in pins(lock).values())
    assert not re.search(r"://|--(extra-)?index-url|--find-links", (ROOT / lock).read_text())


def test_locks_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, everything = pins("requirements-core.lock"), pins("requirements.lock")
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    assert {canonical(name) for name in project["dependencies"]} <= set(core)
    assert {canonical(name) for name in extras} <= set(everything)
    versions = {name: entry.split()[0] for name, entry in everything.items()}
    assert {name: entry.split()[0] for name, entry in core.items()}.items() <= versions.items()


def test_captioning_needs_no_torch_and_nothing_needs_cuda() -> None:
    core, everything = pins("requirements-core.lock"), pins("requirements.lock")
    assert not TORCH & set(core)
    assert not [name for name in everything if re.match("nvidia|cuda|triton$", name)]


def test_pre_commit_runs_the_locked_ruff() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"ruff==[\d.]+", hooks) == re.findall(r"ruff==[\d.]+", pins("requirements.lock")["ruff"])
