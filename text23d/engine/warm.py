"""Warm starts: each camera's noise goes on from one visit to the next, so that an inversion step or two may do."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from text23d.cameras import Cameras
from text23d.method.noise import gaussian

Key = tuple[float, ...]


class WarmStarts:
    """n = (x' - D'(x')) / sigma of each camera's last visit: in units of sigma, and so good at another level. The state
    is a dict of tensors."""

    def __init__(self) -> None:
        self.noise: dict[Key, Tensor] = {}

    def recall(self, cameras: Cameras, generator: torch.Generator) -> Tensor | None:
        """n [B, C, *S] to begin with: what was kept, or fresh where nobody was yet; None before any visit."""
        if not self.noise:
            return None
        known = [self.noise.get(key) for key in keys(cameras)]
        like = next(iter(self.noise.values()))
        fresh = gaussian(like.expand(len(known), *like.shape), generator)
        return torch.stack([new if kept is None else kept for kept, new in zip(known, fresh, strict=True)])

    def keep(self, cameras: Cameras, n: Tensor) -> None:
        """n [B, C, *S]: what a visit ended with."""
        self.noise.update(zip(keys(cameras), n.clone(), strict=True))

    def state(self) -> dict[str, Tensor]:
        """cameras [K, 4] and noise [K, C, *S]; empty before any visit."""
        if not self.noise:
            return {}
        return {"cameras": torch.tensor(list(self.noise)), "noise": torch.stack(list(self.noise.values()))}

    def load(self, state: Mapping[str, Tensor]) -> None:
        rows = map(tuple, state["cameras"].tolist()) if state else ()
        self.noise = dict(zip(rows, state.get("noise", ()), strict=True))


def keys(cameras: Cameras) -> list[Key]:
    """Each camera as numbers; float32 as it is, so that the same camera has the same."""
    columns = (cameras.azimuth, cameras.elevation, cameras.distance, cameras.fov)
    return [tuple(row) for row in torch.stack(columns, -1).float().tolist()]
