"""Any Hugging Face vision model, or an EfficientNet-Lite, frozen, as `frames uint8 → features`.

Our own encoders are of Hugging Face's form.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging
from transformers.utils.hub import cached_file

from video_captioning.errors import ConfigError
from video_captioning.models.efficientnet_lite import NAME, VARIANTS, EfficientNetLite, pretrained
from video_captioning.models.lite_encoder import LiteEncoder  # noqa: F401 (so that AutoModel knows it)

Positions = Literal["class", "patches", "both"]
Precision = Literal["float32", "bfloat16", "float16"]
UNCROPPED = 384  # pixels; models with a `crop_pct` look at a whole picture from this size on


class LiteMap(nn.Module):
    """An EfficientNet-Lite that is called as Hugging Face's models are; its last hidden state is a map."""

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """Pixels `[N, 3, S, S]` → `[N, 1280, ⌈S/32⌉, ⌈S/32⌉]`."""
        return BaseModelOutput(last_hidden_state=self.network(pixel_values))


class Backbone(nn.Module):
    """A frozen vision model and the picture it wants.

    Attributes:
        resize: how a frame becomes its input, the fields of `frames.Resize`, from its own `preprocessor_config.json`.
        mean, std: of the normalisation that `forward` does.
        positions, width: places a frame and width of the features.
        identity: name, revision and hash of the weights; features of two backbones of one identity are equal.
    """

    scale: Tensor
    shift: Tensor
    pooling: Tensor

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        positions: Positions = "both",
        grid: int = 7,
        layers: Sequence[int] = (),
        precision: Precision = "float32",
    ) -> None:
        """Load by hub name, local folder, or the name of an EfficientNet-Lite.

        Args:
            positions: the class token, patches pooled to `grid` x `grid`, or both (the class token first).
            layers: whose outputs, normalised, stand beside those of the last layer: what a classifier drops at its
                end, a sentence may need. 1 is the first layer.
            precision: of the model's weights and arithmetic; what is exported is float32 whatever it was.

        Raises:
            ConfigError: the name is not one of these, not a vision model, or without the layers.
        """
        super().__init__()
        if positions not in get_args(Positions):
            raise ConfigError(f"backbone.positions must be one of {', '.join(get_args(Positions))}, not {positions}")
        if precision not in get_args(Precision):
            raise ConfigError(f"backbone.precision must be one of {', '.join(get_args(Precision))}, not {precision}")
        if grid < 1:
            raise ConfigError(f"backbone.grid must be at least 1, not {grid}")
        model, settings = load(name, revision)
        self.model = model.eval().requires_grad_(False)
        self.resize = resize_of(settings)
        self.kinds = positions
        self.layers = list(layers)
        self.precision = getattr(torch, precision)
        side = self.resize["size"]
        self.check_layers(torch.zeros(1, 3, side, side))
        self.identity = {
            "name": Path(name).name if Path(name).is_dir() else name,
            "revision": revision or getattr(getattr(model, "config", None), "_commit_hash", None),
            "sha256": weights_hash(self.model),
            "positions": positions,
            "grid": grid,
        }
        if self.layers:  # else as before there were any: stores keep their keys
            self.identity["layers"] = self.layers
        if precision != "float32":
            self.identity["precision"] = precision
            self.model = folded(self.model, side).to(self.precision)
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
        self.mean, self.std, factor = normalisation_of(settings)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        self.register_buffer("scale", factor / std)
        self.register_buffer("shift", -mean / std)
        with torch.inference_mode():
            hidden = self.hidden(torch.zeros(1, side, side, 3, dtype=torch.uint8))
        patches = hidden.shape[1] - self.prefix(hidden.shape[1])
        self.side = int(patches**0.5)
        self.grid = min(grid, self.side)
        self.register_buffer("pooling", pooling(self.side, self.grid))
        self.width = hidden.shape[2]
        self.positions = {"class": 1, "patches": self.grid**2, "both": 1 + self.grid**2}[positions]

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 `[N, S, S, 3]` → features float32 `[N, positions, width]`."""
        hidden = self.hidden(frames)
        prefix = self.prefix(hidden.shape[1])
        patches = hidden[:, prefix:]
        token = hidden[:, :1] if prefix else patches.mean(1, keepdim=True)
        if self.kinds == "class":
            return token
        pooled = self.pooling @ patches
        return torch.cat([token, pooled], 1) if self.kinds == "both" else pooled

    def hidden(self, frames: Tensor) -> Tensor:
        """Class and register tokens, if any, then patches: float32 `[N, tokens, width]`."""
        pixels = frames.permute(0, 3, 1, 2).float() * self.scale + self.shift
        outputs = self.model(pixel_values=pixels.to(self.precision), output_hidden_states=bool(self.layers))
        hidden: Tensor = outputs.last_hidden_state
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        if not self.layers:
            return hidden.float()
        width = (int(hidden.shape[2]),)  # a number: export would take the shape for an unknown
        between = (functional.layer_norm(outputs.hidden_states[layer].float(), width) for layer in self.layers)
        return torch.cat([hidden.float(), *between], 2)

    @torch.inference_mode()
    def check_layers(self, pixels: Tensor) -> None:
        """Raises ConfigError for a layer that the model has not, or whose places are not those of the last."""
        if not self.layers:
            return
        outputs = self.model(pixel_values=pixels, output_hidden_states=True)
        last, between = outputs.last_hidden_state, getattr(outputs, "hidden_states", None) or ()
        usable = [number for number, output in enumerate(between) if number and output.shape == last.shape]
        if last.ndim != 3:  # a map, whose layers differ in size
            usable = []
        for layer in self.layers:
            if layer not in usable:
                raise ConfigError(f"backbone.layers must be among {usable}, the layers of this model, not {layer}")

    def prefix(self, tokens: int) -> int:
        """How many tokens stand before the patches, which fill a square."""
        return tokens - int(tokens**0.5) ** 2


@torch.no_grad()
def folded(model: nn.Module, side: int) -> nn.Module:
    """The model with each batch normalisation folded into the convolution registered before it.

    The model itself where there is none, or where that is not the convolution whose output it takes, by what they say
    of noise.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    other = copy.deepcopy(model)
    for module in other.modules():
        for (first, conv), (second, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, second, nn.Identity())
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    was, made = (one(pixel_values=noise).last_hidden_state for one in (model, other))
    return other if torch.allclose(made, was, rtol=1e-3, atol=1e-3 * float(was.abs().max())) else model


def load(name: str, revision: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """A vision model (of a model of pictures and words, the vision part) and its preprocessor's settings."""
    if name in VARIANTS or (name.startswith(NAME) and not Path(name).exists()):
        return load_lite(name, revision)
    logging.set_verbosity_error()  # its report on weights that are not used
    logging.disable_progress_bar()
    try:
        model, report = AutoModel.from_pretrained(
            name, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        settings = json.loads(Path(str(cached_file(name, "preprocessor_config.json", revision=revision))).read_text())
    except Exception as error:  # transformers, its hub client and safetensors raise many unrelated classes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"backbone '{name}' cannot be loaded ({reason}); give a model of the hub or a folder with config.json, "
            f"model.safetensors and preprocessor_config.json, or one of {', '.join(VARIANTS)}"
        ) from error
    model = getattr(model, "vision_model", model)
    if model.main_input_name != "pixel_values":
        raise ConfigError(f"backbone '{name}' is no vision model ({type(model).__name__}); give one that is")
    if absent := sorted(key for key in report["missing_keys"] if "pooler." not in key):
        raise ConfigError(f"backbone '{name}' lacks weights, such as {absent[0]}; give a complete model")
    return model, settings


def load_lite(name: str, revision: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """An EfficientNet-Lite with the weights of its package, and what a preprocessor's settings would be.

    Pictures are squashed into a square, not cropped: a caption is of the whole picture, and of a wide one a crop would
    leave out almost half.
    """
    if revision is not None:
        raise ConfigError(f"backbone.revision is for models of the hub, and '{name}' is not one; leave it null")
    network = pretrained(name)
    picture = {"size": VARIANTS[name].size, "resample": 3}  # bicubic
    return LiteMap(network), picture | {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}


def resize_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The picture that a `preprocessor_config.json` describes, as fields of `frames.Resize`."""
    size = settings.get("size", 224)
    crop = settings.get("crop_size")
    sides: dict[str, Any] = size if isinstance(size, dict) else {"shortest_edge": size}
    chosen = {"filter": "bicubic" if settings.get("resample", 2) == 3 else "bilinear"}
    shorter = sides.get("shortest_edge", sides.get("height", 224))
    if settings.get("crop_pct") and shorter < UNCROPPED:
        return {"size": shorter, "mode": "crop", "keep": settings["crop_pct"], **chosen}
    if settings.get("do_center_crop") and crop is not None:
        side = crop["height"] if isinstance(crop, dict) else crop
        return {"size": side, "mode": "crop", "keep": side / shorter, **chosen}
    return {"size": shorter, "mode": "squash", **chosen}


def normalisation_of(settings: dict[str, Any]) -> tuple[list[float], list[float], float]:
    """Mean and deviation of each channel, and the factor that pixels are multiplied with before."""
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    if not settings.get("do_normalize", True):
        return [0.0] * 3, [1.0] * 3, factor
    return settings.get("image_mean") or [0.5] * 3, settings.get("image_std") or [0.5] * 3, factor


def pooling(side: int, grid: int) -> Tensor:
    """Matrix `[grid², side²]` that averages the patches under each cell of a coarser grid."""
    places = torch.eye(side * side).view(side * side, 1, side, side)
    return nn.functional.adaptive_avg_pool2d(places, grid).flatten(1).T.contiguous()


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the weights; a pooler is left out, since it may be freshly initialised and is not used."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith("pooler."):
            continue
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
