"""The Lightning module: label-smoothed cross-entropy on every caption, warm-up and cosine, any of the models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from video_captioning.data.dataset import Batch
from video_captioning.errors import ConfigError
from video_captioning.models.advanced import Advanced
from video_captioning.tokenizer import Tokenizer
from video_captioning.training.optimizer import scheduled_adamw


@dataclass(frozen=True)
class Optimization:
    """How weights are changed."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.08
    """Share of the steps over which the learning rate rises."""
    label_smoothing: float = 0.1
    feature_dropout: float = 0.1
    """Share of the places whose features are hidden while training."""
    ema: float = 0.995
    """How much of the moving average of the weights, which is what is kept, each step leaves."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"training.learning_rate must be above 0, not {self.learning_rate}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"training.weight_decay must be at least 0, not {self.weight_decay}")
        for name in ("warmup", "label_smoothing", "feature_dropout", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be from 0 to below 1, not {getattr(self, name)}")


class CaptioningModule(lightning.LightningModule):
    """A captioner under training."""

    def __init__(self, model: Advanced, optimization: Optimization) -> None:
        super().__init__()
        self.model = model
        self.optimization = optimization

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        """Mean cross-entropy a token; padding counts for nothing and is not computed."""
        outputs = self.model(batch.features, batch.frame_mask, batch.tokens[:, :, :-1])
        targets = batch.tokens[:, :, 1:]
        real = targets != Tokenizer.pad
        return functional.cross_entropy(self.model.logits(outputs[real]), targets[real], label_smoothing=smoothing)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        kept = torch.rand(batch.features.shape[:3], device=self.device) >= self.optimization.feature_dropout
        batch = Batch(batch.features * kept[..., None], batch.frame_mask, batch.tokens)
        loss = self.loss(batch, self.optimization.label_smoothing)
        self.log("loss", loss, prog_bar=True, batch_size=len(batch.tokens))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        count = int((batch.tokens[:, :, 1:] != Tokenizer.pad).sum())
        self.log("val_loss", self.loss(batch, 0.0), prog_bar=True, batch_size=count)

    def configure_optimizers(self) -> Any:
        options = self.optimization
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(options.warmup * total))

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))

        return scheduled_adamw(self.model, options.learning_rate, options.weight_decay, rate)
