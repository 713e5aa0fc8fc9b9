"""Priors that complete pictures, told what is known of each view beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.contracts import Representation, Shape
from text23d.guide import Guide

Keep = Callable[[Any, Shape], Tensor]


@dataclass(frozen=True)
class Masked:
    """Pictures of what is known: grey without coverage elsewhere. keep: (views, shape) -> [B, 1, *shape], 1 where it is
    known."""

    known: Representation[Any]
    keep: Keep

    def render(self, views: Any, shape: Shape) -> Tensor:
        """[B, C, *shape] in picture space."""
        x = self.known.render(views, shape)
        blank = torch.zeros_like(x)
        blank[:, 3:] = -1
        return torch.lerp(blank, x, self.keep(views, shape).to(x))

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        return self.known.parameters()


def completing(guide: Guide, known: Representation[Any], keep: Keep) -> Guide:
    """The guide of a prior that is told of each view what is known of it; other priors are as they were.

    known renders it in picture space; keep: see `Masked`.
    """
    if guide.complete is None:
        return guide
    seen = guide.wrap(Masked(known, keep))
    told = [partial(conditions, guide, seen, keep, each) for each in (guide.conditions, *guide.others)]
    return replace(guide, conditions=told[0], others=told[1:])


@torch.no_grad()
def conditions(guide: Guide, seen: Representation[Any], keep: Keep, of: Callable[[Any], Any], views: Any) -> Any:
    """(c, c') of these views, with what is known; the same object where they were."""
    c, c_aux = of(views)
    code = seen.render(views, guide.shape)
    factor = 1 if guide.latents is None else guide.latents.factor
    pixels = keep(views, tuple(factor * side for side in guide.shape))
    unknown = (F.interpolate(pixels, size=guide.shape, mode="area") < 1).to(code)  # unless all of its pixels are known
    complete: Any = guide.complete
    told = complete(c, code, unknown)
    return told, told if c_aux is c else complete(c_aux, code, unknown)
