"""The model on disk: a folder with three ONNX graphs, a tokenizer and `bundle.json`, which says what they are.

`read` checks everything before anything is run: schema, presence, size and SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from video_captioning.concepts import Concepts, read_concepts
from video_captioning.confidence import Confidence, read_confidence
from video_captioning.decoding import Arrays, Decoding
from video_captioning.errors import BundleError, ConfigError, OutputError
from video_captioning.frames import Resize, Sampling

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
GRAPHS = ("encoder", "memory", "step")
WEIGHTS, ARITHMETIC = "weights", "arithmetic"  # what of a graph is int8
FRAMES_PER_CALL = 4  # of the encoder: more take memory and save no time
BUILT_IN = Path(str(files("video_captioning"))) / "bundles"
REMAKE = "copy the bundle again, or export it again"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. Every file that it names has the size and hash that `bundle.json` states."""

    folder: Path
    name: str
    version: str
    kind: str
    """Which model it holds: `baseline`, `attention` or `advanced`."""
    licence: str
    preprocess: dict[str, Any]
    """`size`, `resize` (`mode`, `keep`, `filter`), `mean`, `std`; the last two are inside the graph and only stated."""
    resize: Resize
    """The same, as `frames.sample` takes it."""
    sampling: Sampling
    decoding: Decoding
    tokenizer: Path
    graphs: dict[str, Path]
    """Files of `encoder`, `memory` and `step`."""
    made_by: dict[str, Any]
    """Command, config, data fingerprint and commit."""
    scores: dict[str, Any]
    parity: dict[str, Any]
    int8: dict[str, str]
    """Of graphs in int8: `weights`, which become float32 when loaded, or `arithmetic`, which computes in int8, too."""
    quantization: dict[str, Any]
    """What int8 was measured to cost and to save; empty where it was not."""
    concepts: Concepts | None
    """What its memory graph tells of; None where it does not, as in bundles before there were any."""
    confidence: Confidence | None
    """How sure it is of what it says; None where that was not fitted."""
    sha256: str
    """Of `bundle.json`, which holds the hashes of all other files."""
    bytes: int
    """Size of all files together."""


def locate(name: str | Path) -> Path:
    """The folder of a bundle: a path, or the name of one that ships with the package."""
    if str(name) in built_in() and not Path(name).exists():
        return BUILT_IN / str(name)
    return Path(name)


def built_in() -> list[str]:
    """Names of the bundles that ship with the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob(f"*/{MANIFEST}"))


def read(name: str | Path) -> Bundle:
    """Read and verify a bundle.

    Args:
        name: a folder, or the name of a bundle that ships with the package.

    Raises:
        BundleError: nothing there, not a bundle, a newer schema, or a file that is missing, truncated or changed.
    """
    folder = locate(name)
    text = manifest_text(folder)
    try:
        manifest = json.loads(text)
        schema = operator.index(manifest["schema_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(folder / MANIFEST, "is damaged: it is not a bundle's JSON", REMAKE) from error
    if schema > SCHEMA_VERSION:
        raise BundleError(
            folder, f"has schema {schema}, newer than {SCHEMA_VERSION}, which this vidcap reads", "upgrade vidcap"
        )
    try:
        verify(folder, manifest["files"])
        return build(folder, manifest, hashlib.sha256(text).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BundleError(folder / MANIFEST, f"lacks or misstates a field ({error})", REMAKE) from error


def manifest_text(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = "holds no bundle.json" if folder.is_dir() else "no such bundle"
        names = ", ".join(built_in())
        raise BundleError(folder, problem, f"give a bundle's folder or one of: {names}") from error
    except OSError as error:
        raise BundleError(folder / MANIFEST, f"cannot be read ({error.strerror})", "check the permissions") from error


def build(folder: Path, manifest: Mapping[str, Any], sha256: str) -> Bundle:
    graphs = {name: manifest["graphs"][name]["file"] for name in GRAPHS}
    tokenizer = manifest["tokenizer"]["file"]
    concepts, confidence = manifest.get("concepts"), manifest.get("confidence")
    for name in (*graphs.values(), tokenizer, *([concepts["file"]] if concepts is not None else [])):
        if name not in manifest["files"]:
            raise BundleError(folder / MANIFEST, f"uses a file that it does not list: {name}", REMAKE)
    preprocess = dict(manifest["preprocess"])
    return Bundle(
        folder=folder,
        name=str(manifest["name"]),
        version=str(manifest["version"]),
        kind=str(manifest["kind"]),
        licence=str(manifest["licence"]),
        preprocess=preprocess,
        resize=Resize(size=preprocess["size"], **preprocess["resize"]),
        sampling=Sampling(**manifest["sampling"]),
        decoding=Decoding(**manifest["decoding"]),
        tokenizer=folder / tokenizer,
        graphs={name: folder / file for name, file in graphs.items()},
        made_by=dict(manifest["made_by"]),
        scores=dict(manifest["scores"]),
        parity=dict(manifest["parity"]),
        int8=precisions(manifest["graphs"]),
        quantization=dict(manifest.get("quantization", {})),
        concepts=None if concepts is None else named(folder, concepts, manifest["graphs"]["memory"]),
        confidence=None if confidence is None else read_confidence(confidence),
        sha256=sha256,
        bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
    )


def named(folder: Path, section: Mapping[str, Any], memory: Mapping[str, Any]) -> Concepts:
    """The concepts of a bundle, as many as its memory graph is said to tell of."""
    concepts = read_concepts(folder / section["file"], section)
    stated = memory["outputs"].get("concepts")
    if stated != (own := f"[B, T, {len(concepts.names)}]"):
        raise ValueError(f"{section['file']} names {own}, the memory graph gives {stated}")
    return concepts


def precisions(graphs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """How the graphs that say so are in int8."""
    stated = {name: str(graphs[name]["int8"]) for name in GRAPHS if "int8" in graphs[name]}
    if unknown := set(stated.values()) - {WEIGHTS, ARITHMETIC}:
        raise ValueError(f"int8: {min(unknown)}")
    return stated


def verify(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BundleError unless every listed file has its stated size and hash."""
    for name, stated in listed.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(folder / MANIFEST, f"names a file outside its folder: {name}", "do not use this bundle")
        try:
            size = path.stat().st_size
            if size != stated["bytes"]:
                raise BundleError(path, f"is {size} bytes instead of {stated['bytes']}: cut short or changed", REMAKE)
            if file_hash(path) != stated["sha256"]:
                raise BundleError(path, "does not have the stated SHA-256: changed or damaged", REMAKE)
        except OSError as error:
            raise BundleError(path, f"cannot be read ({error.strerror})", REMAKE) from error


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: the name is taken, or there is no room or permission.
    """
    target = Path(folder)
    try:
        if target.exists():
            raise OutputError(target, "exists already", "give another name or remove it first")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(target, f"cannot be made ({error.strerror})", "give another place") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError as error:
        raise OutputError(target, f"cannot be written ({error.strerror})", "make room or give another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Add `schema_version` and the sizes and hashes of the files in `folder`, and write `bundle.json` last."""
    listed = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    for name in listed:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"schema_version": SCHEMA_VERSION, **manifest, "files": listed}, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


@cache
def adds_bytes_exactly() -> bool:
    """Whether the processor has VNNI, as far as the system says; an x86 without cuts off large sums of products."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def session(graph: Path, threads: int, *, arithmetic: bool = False) -> onnxruntime.InferenceSession:
    """A graph, loaded; int8 weights are made float32 once unless it does its `arithmetic` in int8."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", "0" if arithmetic else "1")
    if arithmetic and not adds_bytes_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")  # slower, but no sum is cut off
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class Runtime:
    """The three graphs of a bundle, loaded: what `decoding.decode` and the captioner run."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load the graphs. Raises BundleError when ONNX Runtime cannot."""

        def load(graph: str) -> onnxruntime.InferenceSession:
            return session(bundle.graphs[graph], threads, arithmetic=bundle.int8.get(graph) == ARITHMETIC)

        try:
            with ThreadPoolExecutor(len(GRAPHS)) as pool:
                self._encoder, self._memory, self._step = pool.map(load, GRAPHS)
        except Exception as error:  # ONNX Runtime raises many unrelated classes
            raise BundleError(bundle.folder, f"its graphs cannot be loaded ({error})", "export it again") from error
        self._clip_by_clip = bundle.int8.get("encoder") == ARITHMETIC
        outputs = {output.name: output.shape for output in self._memory.get_outputs()}
        self._memory_names = list(outputs)
        self._remembered = {value.name for value in self._step.get_inputs()}
        if bundle.concepts and outputs.get("concepts", [0])[-1] != len(bundle.concepts.names):
            raise BundleError(bundle.folder, "its memory graph does not give the concepts that it names", REMAKE)

    def encode(self, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 `[T, H, W, 3]` of each clip → features `[B, T, P, D]` and mask `[B, T]`.

        The frames of all clips are packed, so that no padding is ever encoded. An encoder that computes in int8 may
        find its ranges in what it is given, and gets each clip alone: what is said of a clip depends on no other.
        """
        parts = [
            self._encoder.run(None, {"frames": frames[at : at + FRAMES_PER_CALL]})[0]
            for frames in (clips if self._clip_by_clip else [np.concatenate(clips)])
            for at in range(0, len(frames), FRAMES_PER_CALL)
        ]
        encoded = np.concatenate(parts)
        lengths = [len(clip) for clip in clips]
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        features = np.zeros((*mask.shape, *encoded.shape[1:]), encoded.dtype)
        features[mask] = encoded
        return features, mask

    def remember(self, features: np.ndarray, frame_mask: np.ndarray) -> tuple[Arrays, Arrays]:
        """Features and mask → memory and the state before the first word, each with first axis B.

        Of a model with concepts, their logits in each frame are in the memory as `concepts` `[B, T, C]`.
        """
        values = self._memory.run(None, {"features": features, "frame_mask": frame_mask})
        outputs = dict(zip(self._memory_names, values, strict=True))
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        return {name: value for name, value in outputs.items() if name not in state}, state

    def step(self, tokens: np.ndarray, state: Arrays, memory: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray]:
        """The step function of `decoding.decode`."""
        remembered = {name: value for name, value in memory.items() if name in self._remembered}
        logits, *following, attention = self._step.run(None, {"token": tokens, **remembered, **state})
        return logits, dict(zip(state, following, strict=True)), attention
