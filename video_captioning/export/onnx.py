"""Checkpoint → bundle: three graphs, the tokenizer, `bundle.json`, and proof that they say what torch says."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from video_captioning import __version__, bundle
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, CheckpointError
from video_captioning.export.int8 import quantize
from video_captioning.export.parity import Parity, check
from video_captioning.export.runtime import TorchRuntime
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import checkpoint
from video_captioning.models.backbone import Backbone
from video_captioning.models.interface import CaptioningModel, State

OPSET = 18
TOLERANCE = 1e-3
CONCEPTS = "concepts.json"
UNCALIBRATED = {"scale": 1.0, "shift": 0.0, "threshold": 0.5}
FILES = {"encoder": "encoder.onnx", "memory": "memory.onnx", "step": "step.onnx"}

REMEMBERED, TOLD = ("memory", "memory_mask"), ("concepts",)
"""What of a memory the step graph takes, and what is there to be read."""

Graphs = dict[str, dict[str, Any]]


class MemoryGraph(nn.Module):
    def __init__(self, model: CaptioningModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, frame_mask: Tensor) -> tuple[Tensor, ...]:
        memory, state = self.model.encode(features, frame_mask)
        return *(memory[name] for name in (*REMEMBERED, *TOLD) if name in memory), *state.values()


class StepGraph(nn.Module):
    def __init__(self, model: CaptioningModel, names: Sequence[str]) -> None:
        """`names` of the parts of the state."""
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, token: Tensor, memory: Tensor, memory_mask: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before = dict(zip(self.names, state, strict=True))
        logits, following, attention = self.model.step(token, before, {"memory": memory, "memory_mask": memory_mask})
        return logits, *(following[name] for name in self.names), attention


def export(
    path: str | Path,
    out: str | Path,
    *,
    name: str,
    licence: str = "Apache-2.0",
    command: str = "",
    int8: bool = False,
    force: bool = False,
    clips: Sequence[str | Path] = (),
    references: Mapping[Path, Sequence[str]] | None = None,
    decoding: Decoding = Decoding(no_repeat_ngram=3),  # noqa: B008 (it is frozen)
) -> dict[str, Parity]:
    """Write the bundle of a checkpoint to the folder `out`, which must not exist.

    Args:
        int8: quantize once the float32 graphs have proved equal to torch: what pays and holds on `clips`, and without
            any only the weights.
        force: even where int8 changes too much.
        clips: files to compare on, beside clips of random shapes.
        references: captions of clips, by which int8 is scored where every clip has some.
        decoding: how the bundle searches unless told otherwise, but for `max_tokens`.

    Returns:
        the measured parity, which the bundle also states: `float32`, and `int8` where asked for.

    Raises:
        CheckpointError, ConfigError, MediaError: the checkpoint, its backbone or a clip cannot be loaded.
        BundleError: torch and ONNX disagree, or int8 changes too much; nothing is written.
        OutputError: `out` exists or cannot be written.
    """
    model, description = checkpoint.load(path)
    backbone = exact_backbone(description)
    if backbone.identity["sha256"] != description.backbone["identity"]["sha256"]:
        problem = f"was trained on other weights than the backbone '{description.backbone['name']}' has now"
        raise CheckpointError(path, problem, "put the old weights back or train again")
    sampling = Sampling(**description.sampling)
    given = [sample(clip, sampling, Resize(**backbone.resize)).pixels for clip in clips]
    trials = [*trial_clips(backbone), *given]
    check_names(path, model, description)
    torch_runtime = TorchRuntime(backbone, model)
    with bundle.writing(out) as folder:
        graphs = write_graphs(folder, backbone, model)
        (folder / "tokenizer.model").write_bytes(description.tokenizer)
        if description.concepts:
            (folder / CONCEPTS).write_text(json.dumps(description.concepts, ensure_ascii=False, indent=0) + "\n")
        manifest = describe(backbone, description, graphs, name, licence, command, decoding)

        def measure() -> Parity:
            bundle.write_manifest(folder, manifest)
            return check(torch_runtime, bundle.Runtime(bundle.read(folder), threads=1), trials)

        parity = {"float32": measure()}
        if not parity["float32"].holds(TOLERANCE):
            raise BundleError(out, f"torch and ONNX disagree: {parity}", "not written; report this with the versions")
        if int8:
            captions = [(references or {}).get(Path(clip), ()) for clip in clips]
            try:
                found = quantize(bundle.read(folder), given, captions, force=force)
            except BundleError as error:
                raise BundleError(out, error.problem, error.way_out) from error
            for graph, precision in found.int8.items():
                graphs[graph]["int8"] = precision
            manifest["quantization"] = found.to_dict()
            parity["int8"] = measure()
        bundle.write_manifest(folder, manifest | {"parity": {kind: asdict(found) for kind, found in parity.items()}})
    return parity


def check_names(path: str | Path, model: CaptioningModel, description: checkpoint.Description) -> None:
    """Raise CheckpointError unless it names as many concepts as its model tells of."""
    told, named = getattr(model.config, "concepts", 0), len(description.concepts)
    if told != named:
        raise CheckpointError(path, f"tells of {told} concepts but names {named}", "use another checkpoint of the run")


def exact_backbone(description: checkpoint.Description) -> Backbone:
    """The checkpoint's backbone in float32, in whatever precision it made features for training."""
    return Backbone(
        **{key: value for key, value in description.backbone.items() if key not in ("identity", "precision")}
    )


def describe(
    backbone: Backbone,
    description: checkpoint.Description,
    graphs: Graphs,
    name: str,
    licence: str,
    command: str,
    decoding: Decoding,
) -> dict[str, Any]:
    """`bundle.json` without what `bundle.write_manifest` adds."""
    resize = dict(backbone.resize)
    size = resize.pop("size")
    return {
        "name": name,
        "version": __version__,
        "kind": description.kind,
        "licence": licence,
        "preprocess": {"size": size, "resize": resize, "mean": backbone.mean, "std": backbone.std},
        "sampling": asdict(Sampling(**description.sampling)),
        "decoding": asdict(replace(decoding, max_tokens=min(30, description.model["max_tokens"] - 2))),
        "tokenizer": {"kind": "sentencepiece", "file": "tokenizer.model"},
        "graphs": graphs,
        "made_by": {
            "command": command,
            "config": description.config,
            "backbone": description.backbone["identity"],
            "data": description.data,
            "commit": description.commit,
        },
        "scores": {},
        "parity": {},
        **({"concepts": {"file": CONCEPTS, **UNCALIBRATED}} if description.concepts else {}),
    }


@torch.inference_mode()
def write_graphs(folder: Path, backbone: Backbone, model: CaptioningModel) -> Graphs:
    """Write the three graphs; returns their part of `bundle.json`."""
    side = backbone.resize["size"]
    frames = torch.randint(0, 256, (6, side, side, 3), dtype=torch.uint8)
    features = backbone(frames).unflatten(0, (2, 3))
    mask = torch.tensor([[True, True, True], [True, True, False]])
    memory, state = model.encode(features, mask)
    rows = {name: value.repeat_interleave(3, 0) for name, value in state.items()}
    token = torch.full((6,), 2)
    _, rows, attention = model.step(token, rows, memory)
    slots = slot_axis(memory["memory"].shape[1] - attention.shape[1])
    remembered = {name: {0: "B", 1: slots} for name in REMEMBERED}
    told = {name: {0: "B", 1: "T"} for name in TOLD if name in memory}
    features_axes = {0: "B", 1: "T"}
    states = state_axes(state, rows)
    following = {f"next_{name}": axes for name, axes in states.items()}
    write(folder / FILES["encoder"], backbone, {"frames": frames}, {"frames": {0: "N"}}, {"features": {0: "N"}})
    write(
        folder / FILES["memory"],
        MemoryGraph(model),
        {"features": features, "frame_mask": mask},
        {"features": features_axes, "frame_mask": features_axes},
        remembered | told | {name: {0: "B"} for name in states},
    )
    write(
        folder / FILES["step"],
        StepGraph(model, list(states)),
        {"token": token, **{name: memory[name] for name in REMEMBERED}, **rows},
        {"token": {0: "N"}, **remembered, **states},
        {"logits": {0: "N"}, **following, "attention": {0: "N", 1: "S"}},
    )
    concepts = {name: shape(memory[name], axes) for name, axes in told.items()}
    return describe_graphs({name: shape(value, states[name]) for name, value in rows.items()}, slots, concepts)


def slot_axis(more: int) -> str:
    """Slots of a memory: the S positions of all frames that attention is told of, and `more`."""
    return f"S + {more}" if more else "S"


def state_axes(before: State, after: State) -> dict[str, dict[int, str]]:
    """The open axes of each part of the state: the first, and the one that grows with every word."""
    return {
        name: {0: "N"} | {axis: "t" for axis in range(1, value.ndim) if value.shape[axis] != after[name].shape[axis]}
        for name, value in before.items()
    }


def shape(value: Tensor, axes: dict[int, str]) -> str:
    kind = "" if value.is_floating_point() else f"{str(value.dtype).removeprefix('torch.')} "
    return f"{kind}[{', '.join(axes.get(axis, str(size)) for axis, size in enumerate(value.shape))}]"


def describe_graphs(states: dict[str, str], slots: str, told: dict[str, str]) -> Graphs:
    """What goes in and out of each graph, given the shapes of the state's parts and of what the memory tells."""
    remembered = {"memory": f"[B, {slots}, M]", "memory_mask": f"bool [B, {slots}]"}
    inputs_and_outputs = {
        "encoder": ({"frames": "uint8 [N, S, S, 3]"}, {"features": "[N, P, D]"}),
        "memory": ({"features": "[B, T, P, D]", "frame_mask": "bool [B, T]"}, remembered | told | states),
        "step": (
            {"token": "int64 [N]"} | remembered | states,
            {"logits": "[N, V]"} | states | {"attention": "[N, S]"},
        ),
    }
    return {
        name: {"file": FILES[name], "inputs": inputs, "outputs": outputs}
        for name, (inputs, outputs) in inputs_and_outputs.items()
    }


Axes = dict[str, dict[int, str]]


def write(path: Path, module: nn.Module, inputs: dict[str, Tensor], axes: Axes, outputs: Axes) -> None:
    """One graph in one file, its axes dynamic where named."""
    with warnings.catch_warnings():
        # The tracing exporter is deprecated but keeps N a multiple of B open, which torch.export cannot express.
        warnings.simplefilter("ignore")
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no operator for a whole Transformer layer
        try:
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes | outputs,
                opset_version=OPSET,
                dynamo=False,
            )
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def trial_clips(backbone: Backbone) -> list[np.ndarray]:
    """Clips of one to four frames of smooth random shapes, always the same."""
    rng = np.random.default_rng(0)
    side = backbone.resize["size"]
    clips = []
    for length in (1, 4, 2):
        coarse = torch.from_numpy(rng.uniform(0, 255, (length, 3, 6, 6)))
        smooth = nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 255)
        clips.append(smooth.permute(0, 2, 3, 1).byte().contiguous().numpy())
    return clips
