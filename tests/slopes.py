"""Gradients against differences, for whatever is learnt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn


def expect_finite_differences(model: nn.Module, loss: Callable[[], Tensor], bound: float) -> None:
    """The gradients of `loss` by each of the model's parameters, at their three largest entries, are its central
    differences, within 1e-5 of them or `bound`. Everything is float64."""
    loss().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-4, name
        for entry in parameter.grad.abs().flatten().topk(min(3, parameter.numel())).indices.tolist():
            flat, h = parameter.data.view(-1), 1e-6
            flat[entry] += h
            above = loss().item()
            flat[entry] -= 2 * h
            below = loss().item()
            flat[entry] += h
            assert parameter.grad.view(-1)[entry].item() == pytest.approx(
                (above - below) / (2 * h), rel=1e-5, abs=bound
            )
