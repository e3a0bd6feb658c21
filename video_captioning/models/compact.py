"""The compact encoder: a small convolutional network with a Transformer at its coarsest scale, trained from scratch.

Residual stages (He et al. 2016) down to stride 16 keep the places; a Transformer at stride 32 (as in BoTNet,
Srinivas et al. 2021) gives every place the whole picture and a class token; the coarse map is added back to the
finer one (as in FPN, Lin et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, `[N, C, H, W]` → the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width, 3)
        self.second = convolution(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = convolution(inputs, outputs, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convolution(x))


def stage(width: int, blocks: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(blocks)]


class CompactEncoder(nn.Module):
    """Frames `[N, 3, S, S]`, normalised, S a multiple of 32 → features `[N, 1 + (S/16)², features]`, class token first.

    Args:
        widths: channels at strides 4, 8, 16 and 32.
        blocks: residual blocks at strides 4, 8 and 16.
        layers: Transformer layers at stride 32.
        features: width of the output, that of the teacher.
        grid: side of the learned position grid at stride 32; other sizes are interpolated.
    """

    def __init__(
        self,
        widths: Sequence[int] = (48, 96, 256, 384),
        blocks: Sequence[int] = (1, 1, 2),
        layers: int = 4,
        heads: int = 6,
        features: int = 192,
        grid: int = 5,
    ) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.stem = convolution(3, first, 6, 4)
        self.fine = nn.Sequential(
            *stage(first, blocks[0]),
            Downsample(first, second),
            *stage(second, blocks[1]),
            Downsample(second, third),
            *stage(third, blocks[2]),
        )
        self.coarse = Downsample(third, fourth)
        self.class_token = nn.Parameter(torch.zeros(1, 1, fourth))
        self.positions = nn.Parameter(torch.randn(1, fourth, grid, grid) * 0.02)
        layer = nn.TransformerEncoderLayer(fourth, heads, 4 * fourth, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(fourth), enable_nested_tensor=False)
        self.lateral = nn.Linear(fourth, third)
        self.merge = ResidualBlock(third)
        self.class_head = nn.Linear(fourth, features)
        self.patch_head = nn.Linear(third, features)

    def forward(self, frames: Tensor) -> Tensor:
        fine = self.fine(functional.relu(self.stem(frames)))
        coarse = self.coarse(fine)
        positions = functional.interpolate(self.positions, coarse.shape[2:], mode="bilinear", align_corners=False)
        tokens = (coarse + positions).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = self.transformer(tokens)
        context = self.lateral(tokens[:, 1:]).transpose(1, 2).reshape(-1, fine.shape[1], *coarse.shape[2:])
        merged = self.merge(fine + functional.interpolate(context, scale_factor=2.0, mode="nearest"))
        patches = self.patch_head(merged.flatten(2).transpose(1, 2))
        return torch.cat([self.class_head(tokens[:, :1]), patches], 1)
