"""Warm starts: each view's noise goes on from one visit to the next, so that an inversion step or two may do."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from text23d.contracts import Views
from text23d.method.noise import gaussian
from text23d.rng import Stream

Key = tuple[float, ...]


class WarmStarts:
    """n = (x' - D'(x')) / sigma of each view's last visit: in units of sigma, and so good at another level. Views are
    known by their features."""

    def __init__(self) -> None:
        self.noise: dict[Key, Tensor] = {}

    def recall(self, views: Views, stream: Stream) -> Tensor | None:
        """n [B, C, *S] to begin with: what was kept, or fresh for views that were not visited before. None before any
        visit."""
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


def keys(views: Views) -> list[Key]:
    """Each view as numbers; float32 as it is, so that the same view has the same."""
    return [tuple(row) for row in views.features().float().tolist()]
