"""The optimisers of phi ([0037]), as a configuration says them; None of them: the target replaces phi's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import torch

from text23d.settings import number

Decay = Annotated[float, number(least=0, below=1)]


class Optimizers(Protocol):
    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Groups of parameters, each with its `lr` -> their optimiser."""
        ...


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba (2015), with what radiance fields want: a short memory, and no floor under the steps of entries
    whose gradients are small."""

    betas: tuple[Decay, Decay] = (0.9, 0.99)
    eps: Annotated[float, number(above=0, most=1e-3)] = 1e-15

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        # One pass over a table instead of six. On a GPU it would count its steps there, which checkpoints do not.
        fused = all(each.device.type == "cpu" for group in groups for each in group["params"])
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps, fused=fused or None)


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum, as the patent has it ([0037])."""

    momentum: Decay = 0.9

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, momentum=self.momentum)
