"""Checkpoint → bundle: three graphs, the tokenizer, `bundle.json`, and proof that they say what torch says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from video_captioning import __version__, bundle
from video_captioning.decoding import Decoding
from video_captioning.errors import BundleError, CheckpointError
from video_captioning.export.parity import Parity, TorchRuntime, check
from video_captioning.export.quantize import quantize_weights
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced
from video_captioning.models.backbone import Backbone

OPSET = 18
STATE = ("state_keys", "state_values", "state_position")
TOLERANCE = 1e-3


class MemoryGraph(nn.Module):
    def __init__(self, model: Advanced) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, frame_mask: Tensor) -> tuple[Tensor, ...]:
        memory, state = self.model.encode(features, frame_mask)
        return memory["memory"], memory["memory_mask"], *(state[name] for name in STATE)


class StepGraph(nn.Module):
    def __init__(self, model: Advanced) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, token: Tensor, memory: Tensor, memory_mask: Tensor, keys: Tensor, values: Tensor, position: Tensor
    ) -> tuple[Tensor, ...]:
        state = dict(zip(STATE, (keys, values, position), strict=True))
        logits, following, attention = self.model.step(token, state, {"memory": memory, "memory_mask": memory_mask})
        return logits, *(following[name] for name in STATE), attention


def export(
    path: str | Path,
    out: str | Path,
    *,
    name: str,
    licence: str = "Apache-2.0",
    command: str = "",
    int8: bool = False,
    clips: Sequence[str | Path] = (),
) -> dict[str, Parity]:
    """Write the bundle of a checkpoint to the folder `out`, which must not exist.

    Args:
        int8: store the weights as int8 once the float32 graphs have proved equal to torch.
        clips: files to compare on, beside clips of random shapes.

    Returns:
        the measured parity, which the bundle also states: `float32`, and `int8` where asked for.

    Raises:
        CheckpointError, ConfigError, MediaError: the checkpoint, its backbone or a clip cannot be loaded.
        BundleError: torch and ONNX disagree; nothing is written.
        OutputError: `out` exists or cannot be written.
    """
    model, description = checkpoint.load(path)
    backbone = Backbone(**{key: value for key, value in description.backbone.items() if key != "identity"})
    if backbone.identity["sha256"] != description.backbone["identity"]["sha256"]:
        problem = f"was trained on other weights than the backbone '{description.backbone['name']}' has now"
        raise CheckpointError(path, problem, "put the old weights back or train again")
    sampling = Sampling(**description.sampling)
    trials = [*trial_clips(backbone), *(sample(clip, sampling, Resize(**backbone.resize)).pixels for clip in clips)]
    torch_runtime = TorchRuntime(backbone, model)
    with bundle.writing(out) as folder:
        write_graphs(folder, backbone, model)
        (folder / "tokenizer.model").write_bytes(description.tokenizer)
        manifest = describe(backbone, description, name, licence, command)

        def measure() -> Parity:
            bundle.write_manifest(folder, manifest)
            return check(torch_runtime, bundle.Runtime(bundle.read(folder), threads=1), trials)

        parity = {"float32": measure()}
        if not parity["float32"].holds(TOLERANCE):
            raise BundleError(out, f"torch and ONNX disagree: {parity}", "not written; report this with the versions")
        if int8:
            for graph in GRAPHS.values():
                quantize_weights(folder / graph["file"])
            parity["int8"] = measure()
        bundle.write_manifest(folder, manifest | {"parity": {kind: asdict(found) for kind, found in parity.items()}})
    return parity


def describe(
    backbone: Backbone, description: checkpoint.Description, name: str, licence: str, command: str
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
        "decoding": asdict(Decoding(max_tokens=min(30, description.model["max_tokens"] - 2), no_repeat_ngram=3)),
        "tokenizer": {"kind": "sentencepiece", "file": "tokenizer.model"},
        "graphs": GRAPHS,
        "made_by": {
            "command": command,
            "config": description.config,
            "backbone": description.backbone["identity"],
            "data": description.data,
            "commit": description.commit,
        },
        "scores": {},
        "parity": {},
    }


STATE_INPUTS = {"state_keys": "[N, layers, t, W]", "state_values": "[N, layers, t, W]", "state_position": "[N]"}
GRAPHS: dict[str, Any] = {
    "encoder": {
        "file": "encoder.onnx",
        "inputs": {"frames": "uint8 [N, S, S, 3]"},
        "outputs": {"features": "[N, P, D]"},
    },
    "memory": {
        "file": "memory.onnx",
        "inputs": {"features": "[B, T, P, D]", "frame_mask": "bool [B, T]"},
        "outputs": {"memory": "[B, T*P, M]", "memory_mask": "bool [B, T*P]", **STATE_INPUTS},
    },
    "step": {
        "file": "step.onnx",
        "inputs": {"token": "int64 [N]", "memory": "[B, S, M]", "memory_mask": "bool [B, S]", **STATE_INPUTS},
        "outputs": {"logits": "[N, V]", **STATE_INPUTS, "attention": "[N, S]"},
    },
}


@torch.inference_mode()
def write_graphs(folder: Path, backbone: Backbone, model: Advanced) -> None:
    side = backbone.resize["size"]
    frames = torch.randint(0, 256, (6, side, side, 3), dtype=torch.uint8)
    features = backbone(frames).unflatten(0, (2, 3))
    mask = torch.tensor([[True, True, True], [True, True, False]])
    memory, state = model.encode(features, mask)
    rows = {name: value.repeat_interleave(3, 0) for name, value in state.items()}
    _, rows, _ = model.step(torch.full((6,), 2), rows, memory)
    features_axes, state_axes = {0: "B", 1: "T"}, {0: "N", 2: "t"}
    states = dict(zip(STATE, (state_axes, state_axes, {0: "N"}), strict=True))
    following = {f"next_{name}": axes for name, axes in states.items()}
    slots = {"memory": {0: "B", 1: "S"}, "memory_mask": {0: "B", 1: "S"}}
    write(folder / "encoder.onnx", backbone, {"frames": frames}, {"frames": {0: "N"}}, {"features": {0: "N"}})
    write(
        folder / "memory.onnx",
        MemoryGraph(model),
        {"features": features, "frame_mask": mask},
        {"features": features_axes, "frame_mask": features_axes},
        slots | {name: {0: "B"} for name in STATE},
    )
    write(
        folder / "step.onnx",
        StepGraph(model),
        {"token": torch.full((6,), 2), **memory, **rows},
        {"token": {0: "N"}, **slots, **states},
        {"logits": {0: "N"}, **following, "attention": {0: "N", 1: "S"}},
    )


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
