"""Exponential moving average of phi (EMA): the mean that the iterates fluctuate around."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated

import torch
from torch import Tensor, nn

from text23d.settings import number

Decay = Annotated[float, number(least=0, below=1)]


class Average:
    """mean <- d mean + (1 - d) phi with d = min(decay, k / (k + 1)) at the k-th call from 0: a plain mean at first, so
    that nothing is left of the untrained phi. 0 <= decay < 1.

    Its state is `count` and the means, one tensor a parameter.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: Decay) -> None:
        self.parameters, self.decay, self.count = list(parameters), decay, 0
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def add(self) -> None:
        """Take phi as it is now into the average."""
        kept = min(self.decay, self.count / (self.count + 1))
        torch._foreach_lerp_(self.means, [parameter.detach() for parameter in self.parameters], 1 - kept)
        self.count += 1

    def view(self, phi: nn.Module) -> nn.Module:
        """A module like phi, whose parameters these are, with their means in their place; all else of phi is shared.
        phi itself before the first `add`."""
        if not self.count:
            return phi
        means = {id(p): nn.Parameter(m, requires_grad=False) for p, m in zip(self.parameters, self.means, strict=True)}
        return copy.deepcopy(phi, means | {id(each): each for each in phi.buffers()})

    def state(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self.count), **{f"mean.{i}": mean for i, mean in enumerate(self.means)}}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.count = int(state["count"])
        for i, mean in enumerate(self.means):
            mean.copy_(state[f"mean.{i}"])
