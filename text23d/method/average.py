"""Exponential moving average of phi (EMA): what an optimiser hovers about, smoother than where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from text23d.errors import UserError


class Average:
    """mean <- d mean + (1 - d) phi with d = min(decay, k / (k + 1)) at the k-th call from 0: a plain mean at first, so
    that nothing is left of the untrained phi. 0 <= decay < 1, or UserError.

    Its state is `count` and `means`, one tensor a parameter.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"method.ema={decay}: expected a decay of 0 (none) or more and below 1, such as 0.9")
        self.parameters, self.decay, self.count = list(parameters), decay, 0
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def add(self) -> None:
        """Take phi as it is now into the average."""
        kept = min(self.decay, self.count / (self.count + 1))
        torch._foreach_lerp_(self.means, [parameter.detach() for parameter in self.parameters], 1 - kept)
        self.count += 1

    @torch.no_grad()
    def exchange(self) -> None:
        """phi becomes its average; called again, it goes back."""
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            now = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(now)

    def state(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self.count), **{f"mean.{i}": mean for i, mean in enumerate(self.means)}}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.count = int(state["count"])
        for i, mean in enumerate(self.means):
            mean.copy_(state[f"mean.{i}"])
