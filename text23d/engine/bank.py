"""A fixed set of cameras that keep the noise of their last visit: inversion goes on where it was (warm starts)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Cameras, UserError
from text23d.method.noise import gaussian, spread
from text23d.representation.cameras import CameraSampler
from text23d.rng import generator


class CameraBank:
    """`count` cameras, drawn once from `seed` as `CameraSampler` draws them, and the n of each one's last visit.

    n = (x' - D'(x')) / sigma is in units of sigma, and so goes on at another level. The state is a dict of tensors.
    Raises UserError as CameraSampler, and for a count that is no whole number above 0.
    """

    def __init__(self, count: int, seed: int, **ranges: Any) -> None:
        if type(count) is not int or count < 1:
            raise UserError(f"views.count={count}: expected a whole number of cameras, at least 1")
        self.cameras = CameraSampler(**ranges).sample(count, generator(seed, 0, 0, "camera bank"))
        self.noise: Tensor | None = None
        self.visited = torch.zeros(count, dtype=torch.bool)

    def sample(self, n: int, generator: torch.Generator) -> Cameras:
        """n different cameras, one from each n-th part of the circle, turned at random. Raises UserError for more than
        there are."""
        count = len(self.cameras)
        if n > count:
            raise UserError(
                f"method.views={n} of views.count={count} cameras: ask for fewer, or for a larger bank"
            )
        u = torch.rand(n + 1, generator=generator)
        edges = torch.arange(n + 1) * count // n
        which = edges[:-1] + (u[:n] * edges.diff()).long()
        return self.cameras.rows((which + (u[n] * count).long()) % count)

    def index(self, cameras: Cameras) -> Tensor:
        """Which of the bank's they are [B]."""
        return (cameras.azimuth.cpu()[:, None] == self.cameras.azimuth).long().argmax(1)

    def recall(self, cameras: Cameras, generator: torch.Generator) -> Tensor | None:
        """n [B, C, *S] to begin with: kept, or fresh where nobody was yet; None before the first visit of all."""
        if self.noise is None:
            return None
        which = self.index(cameras)
        kept = self.noise[which]
        return torch.where(spread(self.visited[which].to(kept.device), kept), kept, gaussian(kept, generator))

    def keep(self, cameras: Cameras, n: Tensor) -> None:
        """n [B, C, *S]: what a visit ended with."""
        which = self.index(cameras)
        if self.noise is None:
            self.noise = n.new_zeros(len(self.cameras), *n.shape[1:])
        self.noise[which], self.visited[which] = n, True

    def state(self) -> dict[str, Tensor]:
        return {"visited": self.visited, **({} if self.noise is None else {"noise": self.noise})}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.visited, self.noise = state["visited"], state.get("noise")
