"""AdamW as every training here uses it (Loshchilov & Hutter 2019), with a learning rate that follows the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def scheduled_adamw(
    model: nn.Module, learning_rate: float, weight_decay: float, rate: Callable[[int], float]
) -> dict[str, Any]:
    """What a Lightning module's `configure_optimizers` returns.

    Args:
        weight_decay: of matrices; biases and norms are not decayed.
        rate: the learning rate of a step, as a share of `learning_rate`.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    kept = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, learning_rate, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}
