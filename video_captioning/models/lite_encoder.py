"""The embedded encoder in Hugging Face form: EfficientNet-Lite with a class token and a token per position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from video_captioning.models.efficientnet_lite import HEAD, VARIANTS, EfficientNetLite


class LiteEncoderConfig(PretrainedConfig):  # type: ignore[misc]
    model_type = "vidcap_lite_encoder"

    def __init__(self, variant: str = "efficientnet-lite2", hidden_size: int = 384, **rest: Any) -> None:
        super().__init__(**rest)
        self.variant = variant
        self.hidden_size = hidden_size


class LiteEncoder(PreTrainedModel):  # type: ignore[misc]
    """Pictures `[N, 3, S, S]`, normalised as (x - 127) / 128, → features `[N, 1 + ⌈S/32⌉², hidden_size]`.

    The class token comes first. It is linear in the mean of the map that the network's classifier sees, and each
    position in its own column of that map.
    """

    config_class = LiteEncoderConfig
    main_input_name = "pixel_values"

    def __init__(self, config: LiteEncoderConfig) -> None:
        super().__init__(config)
        self.trunk = EfficientNetLite(VARIANTS[config.variant])
        del self.trunk._fc  # its classes are among the captioner's concepts
        self.class_head = nn.Linear(HEAD, config.hidden_size)
        self.patch_head = nn.Linear(HEAD, config.hidden_size)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        features = self.trunk(pixel_values)
        token = self.class_head(features.mean((2, 3)))
        patches = self.patch_head(features.flatten(2).transpose(1, 2))
        return BaseModelOutput(last_hidden_state=torch.cat([token[:, None], patches], 1))


AutoConfig.register(LiteEncoderConfig.model_type, LiteEncoderConfig)
AutoModel.register(LiteEncoderConfig, LiteEncoder)
