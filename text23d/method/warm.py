"""Warm starts: each view's noise goes on from one visit to the next, so that an inversion step or two may do."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from text23d.contracts import Shape, Views
from text23d.method.noise import gaussian
from text23d.rng import Stream
from text23d.windows import CanvasViews, mean

Key = tuple[float, ...]


class WarmStarts:
    """n = (x' - D'(x')) / sigma of each view's last visit: in units of sigma, and so good at another level. Views are
    known by their features."""

    def __init__(self) -> None:
        self.noise: dict[Key, Tensor] = {}

    def recall(self, views: Views, stream: Stream, shape: Shape) -> Tensor | None:
        """n [B, C, *shape] to begin with: what was kept, or fresh for views that were not visited before. None before
        any visit."""
        if not self.noise:
            return None
        known = [self.noise.get(key) for key in keys(views)]
        like = next(iter(self.noise.values()))
        fresh = gaussian(like.expand(len(known), *like.shape), stream)
        return torch.stack([new if kept is None else kept for kept, new in zip(known, fresh, strict=True)])

    def keep(self, views: Views, n: Tensor) -> None:
        """n [B, C, *S]: what a visit ended with."""
        self.noise.update(zip(keys(views), n.clone(), strict=True))

    def state(self) -> dict[str, Tensor]:
        """views [K, F] and noise [K, C, *S]; empty before any visit."""
        if not self.noise:
            return {}
        views = torch.tensor(list(self.noise), dtype=torch.float32)
        return {"views": views, "noise": torch.stack(list(self.noise.values()))}

    def load(self, state: Mapping[str, Tensor]) -> None:
        rows = map(tuple, state["views"].tolist()) if state else ()
        self.noise = dict(zip(rows, state.get("noise", ()), strict=True))


class SharedNoise:
    """n = (x - D(x)) / sigma of the whole that windows show parts of, so that those which overlap begin from the same
    noise: as `WarmStarts`, for views that `cut` and `paste`.

    noise  [C, *S] of the whole at first, ~ N(0, I).
    """

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def recall(self, views: CanvasViews, stream: Stream, shape: Shape) -> Tensor:
        """n [B, C, *shape] to begin with; nothing is drawn."""
        return views.cut(self.noise, shape)

    def keep(self, views: CanvasViews, n: Tensor) -> None:
        """n [B, C, *S]: what a visit ended with; see `windows.mean`."""
        self.noise = mean(views, n.to(self.noise), self.noise)

    def state(self) -> dict[str, Tensor]:
        return {"noise": self.noise}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.noise = state["noise"].to(self.noise)


def keys(views: Views) -> list[Key]:
    """Each view as numbers; float32 as it is, so that the same view has the same."""
    return [tuple(row) for row in views.features().float().tolist()]
