"""Windows into what is larger than a prior's examples: crops of a panorama, stretches of a clip or of a sound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from text23d.contracts import Shape


class Telling(Protocol):
    """What a prior is told of windows."""

    def __call__(self, start: Tensor) -> Tensor:
        """Of those that begin at start [B, D]: [B, F], in about [-1, 1]."""
        ...


class CanvasViews(Protocol):
    """B views of a canvas."""

    def cut(self, whole: Tensor, shape: Shape) -> Tensor:
        """What they show of whole [K, *S]: [B, K, *shape], linear in it."""
        ...

    def paste(self, pieces: Tensor, shape: Shape) -> Tensor:
        """The transpose of `cut`: the sum [K, *shape] of pieces [B, K, *S] where they lie in a whole."""
        ...


@dataclass(frozen=True)
class Windows:
    """B windows into a whole of D axes; implements `contracts.Views`.

    start  [B, D] int64: the first element of each window along each axis.
    wrap   whether the whole goes on at its beginning, along each axis.
    told   what a prior is told of every window, in about [-1, 1], or of each as it begins; empty: nothing.
    """

    start: Tensor
    wrap: tuple[bool, ...]
    told: tuple[float, ...] | Telling = ()

    @staticmethod
    def untold(count: int, axes: int) -> Windows:
        """So many windows of which a prior is told nothing, such as where they lie."""
        return Windows(torch.zeros(count, axes, dtype=torch.int64), (False,) * axes)

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, which: slice | Tensor) -> Windows:
        return replace(self, start=self.start[which])

    def to(self, device: torch.device | str) -> Windows:
        return replace(self, start=self.start.to(device))

    def words(self) -> list[str]:
        return [""] * len(self)

    def features(self) -> Tensor:
        if not isinstance(self.told, tuple):
            return self.told(self.start)
        return torch.tensor(self.told, device=self.start.device).expand(len(self), len(self.told))

    def given(self, shape: Shape) -> None:
        """Nothing."""

    def cut(self, whole: Tensor, shape: Shape) -> Tensor:
        """What the windows show of whole [K, *S]: [B, K, *shape], differentiable in it. Raises IndexError where a
        window reaches beyond the end of an axis that does not wrap."""
        flat = self._flat(tuple(whole.shape[1:]), shape)
        return whole.flatten(1).index_select(1, flat).unflatten(1, (len(self), *shape)).transpose(0, 1)

    def paste(self, pieces: Tensor, shape: Shape) -> Tensor:
        """The transpose of `cut`: the sum [K, *shape] of pieces [B, K, *S] where they lie in a whole."""
        flat, total = self._flat(shape, tuple(pieces.shape[2:])), pieces.new_zeros(pieces.shape[1], math.prod(shape))
        total.index_add_(1, flat, pieces.transpose(0, 1).reshape(len(total), -1))
        return total.reshape(-1, *shape)

    def _flat(self, whole: Shape, shape: Shape) -> Tensor:
        """Where the windows' elements lie in the flattened whole, [B * prod(shape)]."""
        flat = self.start.new_zeros(len(self), *[1] * len(shape))
        for axis, (side, extent) in enumerate(zip(shape, whole, strict=True)):
            index = self.start[:, axis, None] + torch.arange(side, device=self.start.device)
            index = index % extent if self.wrap[axis] else index
            if index.amax() >= extent:
                raise IndexError(f"a window of {side} reaches beyond an axis of {extent}")
            view = [len(self), *(side if each == axis else 1 for each in range(len(shape)))]
            flat = flat * extent + index.reshape(view)
        return flat.flatten()


LEAST = 1e-12


def mean(views: CanvasViews, pieces: Tensor, whole: Tensor) -> Tensor:
    """whole [K, *S] with pieces [B, K, *shape] where the views lie: where they overlap their mean, to which each gives
    the less the nearer its edge is, so that no edge shows (Jimenez 2023, with a tent for the Gaussian)."""
    weight, shape = tent(tuple(pieces.shape[2:])).to(pieces), tuple(whole.shape[1:])
    weights = weight.expand(len(pieces), 1, *weight.shape)
    pasted = views.paste(torch.cat([weight * pieces, weights], dim=1), shape)
    total, weights = pasted[:-1], pasted[-1:]
    return torch.where(weights > 0, total / weights.clamp(min=LEAST), whole)


def tent(shape: Shape) -> Tensor:
    """Weights [*shape] in (0, 1] that rise evenly from the edges to the middle, along every axis."""
    found = torch.ones(())
    for extent in shape:
        at = torch.arange(extent) + 0.5
        found = found[..., None] * torch.minimum(at, extent - at) / (extent / 2)
    return found
