"""Muon takes the steps of torch's Muon and AdamW, for convolutions as well."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from video_captioning.training.muon import Muon, orthogonalised


def matrix(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], count: int = 4) -> list[Tensor]:
    """The parameters after steps of the same gradients."""
    for step in range(count):
        for parameter in parameters:
            gradient = matrix(*parameter.shape, seed=10 + step).detach()
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_singular_values_become_alike_and_vectors_stay(shape: tuple[int, int]) -> None:
    given = matrix(*shape).detach()
    found = orthogonalised(given)
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    values = left.T @ found @ right.T
    assert values.diag().min() > 0.5 and values.diag().max() < 1.3
    assert (values - values.diag().diag()).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_matrices_step_as_with_torch(shape: tuple[int, int]) -> None:
    options: dict[str, Any] = {"weight_decay": 0.1, "momentum": 0.9}
    ours, theirs = matrix(*shape), matrix(*shape)
    [found] = steps(Muon([ours], [], 0.02, 0.0, **options), [ours])
    [expected] = steps(torch.optim.Muon([theirs], 0.02, adjust_lr_fn="match_rms_adamw", **options), [theirs])
    assert torch.allclose(found, expected, atol=2e-3)
    assert not torch.allclose(found, matrix(*shape), atol=2e-2)


def test_a_convolution_steps_as_the_matrix_of_its_kernels() -> None:
    kernel, flat = matrix(8, 4, 3, 3), nn.Parameter(matrix(8, 4, 3, 3).detach().flatten(1))
    kernel.grad = matrix(8, 4, 3, 3, seed=1).detach()
    flat.grad = kernel.grad.flatten(1)
    Muon([kernel, flat], [], 0.1, 0.0, 0.0).step()
    assert torch.equal(kernel.flatten(1), flat)


def test_the_others_step_as_with_adamw() -> None:
    ours, theirs = [matrix(7), matrix(3, 5)], [matrix(7), matrix(3, 5)]
    found = steps(Muon([], ours, 0.0, 0.01, 0.1), ours)
    expected = steps(torch.optim.AdamW(theirs, 0.01, (0.9, 0.98), weight_decay=0.0), theirs)
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, expected, strict=True))


def test_its_state_is_saved_and_read() -> None:
    def some() -> tuple[list[nn.Parameter], Muon]:
        parameters = [matrix(6, 4), matrix(6)]
        return parameters, Muon(parameters[:1], parameters[1:], 0.1, 0.1, 0.0)

    whole, first = some()
    steps(first, whole, 2)
    again, second = some()
    with torch.no_grad():
        for other, parameter in zip(again, whole, strict=True):
            other.copy_(parameter)
    second.load_state_dict(deepcopy(first.state_dict()))
    assert all(torch.equal(*pair) for pair in zip(steps(first, whole), steps(second, again), strict=True))
