"""Muon: steps whose singular values are all alike, for the matrices of hidden layers; AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the quintic that drives singular values to about 1 (Jordan et al. 2024, "Muon")."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024), its steps scaled to the size of AdamW's (Liu et al. 2025, "Muon is scalable", eq. 4).

    `torch.optim.Muon` refuses convolutions, and Lightning wants one optimizer; so here a convolution's kernel is a
    matrix of a row an output channel, and the other parameters are in this optimizer as well.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        learning_rate: float,
        others_learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        """Weight decay acts on the matrices alone."""
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum},
            {"params": list(others), "lr": others_learning_rate, "betas": betas},
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, others = self.param_groups
        for parameter in matrices["params"]:
            if parameter.grad is not None:
                self.step_matrix(parameter, parameter.grad, matrices)
        for parameter in others["params"]:
            if parameter.grad is not None:
                self.step_other(parameter, parameter.grad, others)
        return loss

    def step_matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        average = state.setdefault("momentum", torch.zeros_like(parameter))
        average.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(average, group["momentum"]).flatten(1)  # Nesterov's
        scale = 0.2 * math.sqrt(max(update.shape))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalised(update).view_as(parameter), alpha=-group["lr"] * scale)

    def step_other(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        first = state.setdefault("first", torch.zeros_like(parameter))
        second = state.setdefault("second", torch.zeros_like(parameter))
        state["step"] = count = state.get("step", 0) + 1
        slow, slower = group["betas"]
        first.lerp_(gradient, 1 - slow)
        second.lerp_(gradient.square(), 1 - slower)
        deviation = (second / (1 - slower**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(first, deviation, value=-group["lr"] / (1 - slow**count))


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The matrix with singular values near 1 (0.7 to 1.2), by Newton-Schulz iterations in bfloat16."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = (x / (x.norm() + 1e-7)).contiguous()
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
