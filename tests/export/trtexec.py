"""A stand-in for trtexec, which needs a GPU: run as a program, it keeps its arguments and plays what it is told to.

Building copies the ONNX graph; running runs it by ONNX Runtime and writes the outputs as trtexec does. It shows how the
process is handled, and nothing about TensorRT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8}


def install(folder: Path, name: str = "trtexec", *, behave: str = "well") -> None:
    """Put the program into a folder; `behave`: `well`, `badly`, `silently` (no engine) or `wrongly` (other outputs)."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import trtexec\nsys.exit(trtexec.main(sys.argv, {behave!r}))\n"
    )
    program.chmod(0o755)


def calls(folder: Path) -> list[list[str]]:
    """Arguments of each call, the program's name first."""
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def main(arguments: list[str], behave: str) -> int:
    with (Path(arguments[0]).parent / "calls").open("a") as file:
        file.write(json.dumps([Path(arguments[0]).name, *arguments[1:]]) + "\n")
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if "=" in argument)
    print(f"[I] here {Path.cwd()}")
    if behave == "badly":
        Path(options["saveEngine"]).write_text("half an engine")
        print("[E] Error[4]: the network is not to my taste", file=sys.stderr)
        print("&&&& FAILED TensorRT.trtexec")
        return 3
    if "loadEngine" in options:
        run(options, factor=-1 if behave == "wrongly" else 1)
    elif "onnx" in options and behave != "silently":
        Path(options["saveEngine"]).write_bytes(Path(options["onnx"]).read_bytes())
    return 0


def run(options: dict[str, str], factor: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(options["loadEngine"], providers=["CPUExecutionProvider"])
    shapes = dict(spec.split(":") for spec in options["shapes"].split(","))
    files = dict(spec.split(":") for spec in options["loadInputs"].split(","))
    feeds = {}
    for value in session.get_inputs():
        shape = [int(size) for size in shapes[value.name].split("x")]
        content = Path(files[value.name]).read_bytes() if value.name in files else b""
        feeds[value.name] = np.frombuffer(content, TYPES[value.type]).reshape(shape)
    outputs = zip(session.get_outputs(), session.run(None, feeds), strict=True)
    with Path(options["exportOutput"]).open("w") as file:
        file.write("[\n")
        for place, (value, array) in enumerate(outputs):
            numbers = array * factor if array.dtype == np.float32 else array.astype(np.int64)
            file.write(f'{", " if place else "  "}{{ "name" : "{value.name}"\n')
            file.write(f'  , "dimensions" : "{"x".join(map(str, array.shape))}"\n')
            file.write(f'  , "values" : [ {", ".join(f"{number:.9g}" for number in numbers.ravel())} ]\n  }}\n')
        file.write("]\n")
