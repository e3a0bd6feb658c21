"""A tiny encoder with convolutions, ReLUs and a Transformer: what can become int8 is all there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from tests import tiny


class HybridConfig(PretrainedConfig):  # type: ignore[misc]
    model_type = "vidcap_tests_hybrid"
    hidden_size = 32


class Hybrid(PreTrainedModel):  # type: ignore[misc]
    """Pictures `[N, 3, S, S]` → a class token and a token for each 8 x 8 pixels, `[N, 1 + (S/8)², 32]`."""

    config_class = HybridConfig
    main_input_name = "pixel_values"

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, width, 3, 1, 1), nn.ReLU())
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, width)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        patches = self.block(self.stem(pixel_values)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], 1)
        return BaseModelOutput(last_hidden_state=self.head(self.norm(self.layer(tokens))))


AutoConfig.register(HybridConfig.model_type, HybridConfig)
AutoModel.register(HybridConfig, Hybrid)


def save(folder: Path) -> Path:
    """One with random weights, as the hub would have it."""
    torch.manual_seed(0)
    model = Hybrid(HybridConfig())
    for parameter in model.parameters():  # as they come, all pictures look alike
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return tiny.save_backbone(folder, model)
