"""Read a bundle's int8 weights back into torch, so that training can go on from the embedded model.

The same graphs are exported from a module with random weights; equal values show which parameter each initializer is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from video_captioning import bundle
from video_captioning.export.onnx import FILES, write_graphs
from video_captioning.export.quantize import float_weights
from video_captioning.models import checkpoint
from video_captioning.models.advanced import Advanced, AdvancedConfig
from video_captioning.models.backbone import Backbone, CompactConfig, CompactModel
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.distillation import save_model


def initializers(path: Path) -> dict[str, np.ndarray]:
    """The weights of a graph by name, int8 ones as float32; those that export numbers get their rank for a name."""
    model = onnx.load(path)
    float_weights(model)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {name: values for name, values in found.items() if values.dtype == np.float32}
    numbered = sorted((name for name in found if "::" in name), key=lambda name: int(name.rpartition("_")[2]))
    return {name: found[name] for name in found if "::" not in name} | {
        str(rank): found[name] for rank, name in enumerate(numbered)
    }


@torch.no_grad()
def restore(folder: Path, backbone: Backbone, model: Advanced) -> None:
    """Give `backbone` and `model` the weights of the bundle in `folder`, whose shapes they must have.

    Batch normalisation comes back as the identity with a shift, since export folds it into the convolutions.
    """
    modules: list[nn.Module] = [backbone, model]
    learned = [parameter for module in modules for parameter in module.parameters()]
    learned += [tensor for name, tensor in backbone.model.named_buffers() if name in ("mean", "std")]
    for tensor in learned:
        tensor.copy_(torch.randn(tensor.shape) * 0.05)
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:  # export multiplies by the weight over the deviation
        norm.weight.fill_(1.0)
        norm.running_mean.zero_()  # type: ignore[union-attr]
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
    wanted = {id(tensor) for tensor in learned} - {id(norm.weight) for norm in norms}
    with tempfile.TemporaryDirectory() as temporary:
        write_graphs(Path(temporary), backbone, model)
        for file in FILES.values():
            saved, fresh = (initializers(place / file) for place in (folder, Path(temporary)))
            for name, values in fresh.items():
                for tensor in learned:
                    if id(tensor) in wanted and (turned := same(tensor, values)) is not None:
                        value = torch.from_numpy(saved[name].copy())
                        tensor.copy_(value.T if turned else value)
                        wanted.remove(id(tensor))
    if wanted:
        raise ValueError(f"{len(wanted)} tensors of the model are not in {folder}")


def same(tensor: Tensor, values: np.ndarray) -> bool | None:
    """Whether `values` are those of the tensor (False), its transpose (True) or neither (None)."""
    own = tensor.numpy()
    if own.shape == values.shape and np.allclose(own, values, atol=1e-5):
        return False
    if own.ndim == 2 and own.T.shape == values.shape and np.allclose(own.T, values, atol=1e-5):
        return True
    return None


@torch.no_grad()
def calibrate(encoder: nn.Module, pictures: Iterable[Tensor]) -> None:
    """Let every batch normalisation normalise again, without changing what the encoder computes.

    `pictures` are batches as the encoder takes them; their statistics become the layers' own.
    """
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[norm].append(torch.stack([inputs[0].mean((0, 2, 3)), (inputs[0] ** 2).mean((0, 2, 3))]))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    for batch in pictures:
        encoder(batch)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = torch.stack(seen[norm]).mean(0)
        variance = square - mean**2
        norm.bias.add_(mean)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]


def read_back(folder: Path, views: Iterable[Tensor], out: Path) -> tuple[Path, Path]:
    """Write a bundle's encoder as a Hugging Face model folder and its decoder as a checkpoint of `vidcap train`.

    Args:
        views: batches of pictures float32 `[N, 3, S, S]` in [-1, 1], such as the encoder is to learn from.
    """
    found = bundle.read(folder)
    made_by = found.made_by
    encoder = out / "encoder"
    save_model(CompactModel(CompactConfig()), encoder, found.resize.size)
    backbone = Backbone(str(encoder), grid=made_by["backbone"]["grid"])
    tokenizer = found.tokenizer.read_bytes()
    named = {field.name for field in fields(AdvancedConfig)} - {"vocabulary"}
    chosen = {name: value for name, value in made_by["config"]["model"].items() if name in named}
    shape = AdvancedConfig(backbone.width, backbone.positions, len(Tokenizer(tokenizer)), **chosen)
    model = Advanced(shape).eval()
    restore(found.folder, backbone, model)
    calibrate(backbone.model.encoder, views)
    save_model(backbone.model, encoder, found.resize.size)
    saved: dict[str, Any] = {"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}
    description = checkpoint.Description(
        kind=found.kind,
        model=asdict(shape),
        backbone={name: made_by["backbone"][name] for name in ("positions", "grid")}
        | {"name": str(encoder), "identity": made_by["backbone"]},
        sampling=made_by["config"]["model"]["sampling"],
        tokenizer=tokenizer,
        config=made_by["config"],
        data=made_by["data"],
        commit=made_by["commit"],
    )
    checkpoint.describe(saved, description)
    torch.save(saved, out / "decoder.ckpt")
    return encoder, out / "decoder.ckpt"


def with_backbone(path: Path, folder: Path, out: Path) -> Path:
    """Write a copy of a checkpoint that reads the features of another backbone, the model in `folder`."""
    _, description = checkpoint.load(path)
    name = {"name": str(folder)}
    settings = {key: value for key, value in description.backbone.items() if key != "identity"} | name
    config = description.config | {"model": description.config["model"] | {"backbone": settings}}
    identity = {"identity": Backbone(**settings).identity}
    saved = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint.describe(
        saved,
        replace(description, backbone=settings | identity, config=config, commit=checkpoint.current_commit()),
    )
    torch.save(saved, out)
    return out


def mean(paths: Sequence[Path], out: Path) -> Path:
    """Write a checkpoint whose weights are the mean of those of some, for the rest the last of them."""
    saved = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    weights = {
        name: torch.stack([one["state_dict"][name] for one in saved]).mean(0) if value.is_floating_point() else value
        for name, value in saved[-1]["state_dict"].items()
    }
    torch.save({"state_dict": weights, "vidcap": saved[-1]["vidcap"]}, out)
    return out
