"""A network that learns, an iteration at a time, to denoise what the representation shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from text23d.checkpoint import load_optimizer, optimizer_state
from text23d.guide import rows
from text23d.method.noise import spread
from text23d.method.update import Reduce

SCALE = 1024.0
"""Of losses whose gradient passes through float16, which cannot hold each element's share of a mean over latents. A
power of two: dividing by it rounds nothing."""


class NetworkLearner:
    """D_phi is `network`, D(x; sigma, c); Adam at rate `lr` learns those of its weights that require a gradient, on the
    mean of ||eps_phi(x) - n||^2 = ||(D_phi(x) - x0) / sigma||^2 (Wang et al. 2023, Eq. 8).

    A call costs 3 evaluations: a forward, and a backward pass that counts as 2. `batch` is the number of examples that
    the network sees at once, for as much memory as those require: the gradients of a step add up. None: all. reduce:
    see `update.Reduce`. A network in float16 has the gradient of `SCALE` times the loss, which is divided afterwards.
    """

    evaluations = 3
    batch: int | None = None

    def __init__(self, network: nn.Module, lr: float, reduce: Reduce | None = None) -> None:
        self.network, self.reduce = network, reduce
        self.weights = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.adam = torch.optim.Adam(self.weights.values(), lr=lr, betas=(0.9, 0.99))
        self.scale = SCALE if any(each.dtype == torch.float16 for each in network.parameters()) else 1.0

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, c: Any) -> Tensor:
        """D_phi(x; sigma, c) before this step's learning, as x."""
        size = self.batch or len(x)
        parts = [slice(start, start + size) for start in range(0, len(x), size)]
        self.adam.zero_grad()
        denoised = torch.cat([self._add_gradient(x0, x, sigma, c, part) for part in parts])
        for each in self.weights.values():
            if each.grad is not None and self.scale != 1:
                each.grad /= self.scale
        if self.reduce is not None:
            self.reduce(list(self.weights.values()), 0.0)
        self.adam.step()
        return denoised

    def _add_gradient(self, x0: Tensor, x: Tensor, sigma: Tensor, c: Any, part: slice) -> Tensor:
        """D_phi of some of the examples, whose share of the loss, times `scale`, adds its gradient."""
        level = sigma if sigma.dim() == 0 else sigma[part]
        with torch.enable_grad():
            denoised: Tensor = self.network(x[part], level, rows(c, part))
            loss = ((denoised - x0[part]) / spread(level, x)).square().mean() * (self.scale * len(denoised) / len(x))
        torch.autograd.backward(loss, inputs=list(self.weights.values()))
        return denoised.detach()

    def state(self) -> dict[str, Tensor]:
        """The weights that learn, by name, and Adam's moments and steps of each."""
        weights = {f"weights.{name}": each.detach().clone() for name, each in self.weights.items()}
        return weights | {f"adam.{name}": each.clone() for name, each in optimizer_state(self.adam).items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, each in self.weights.items():
            each.copy_(state[f"weights.{name}"])
        kept = {name.removeprefix("adam."): each for name, each in state.items() if name.startswith("adam.")}
        load_optimizer(self.adam, kept)
