"""Several prompts, each for a part of what is made: blended in D, not in what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.contracts import Denoiser, Shape
from text23d.errors import UserError
from text23d.guide import Guide
from text23d.prior.wrappers.guidance import Against, Guided


@dataclass(frozen=True)
class Blend:
    """What B examples are conditioned on under several prompts, as P pairs of example and prompt.

    c        of the pairs
    example  [P] int64: of which example
    weight   [P, 1, *S]: how much of it the pair makes at each place; those of an example sum to 1
    count    B
    """

    c: Any
    example: Tensor
    weight: Tensor
    count: int

    def __len__(self) -> int:
        return self.count

    def rows(self, which: slice) -> Blend:
        """Some of these examples."""
        kept = torch.arange(self.count, device=self.example.device)[which]
        pair, example = (self.example[:, None] == kept).nonzero().unbind(1)
        return Blend(self.c.rows(pair), example, self.weight[pair], len(kept))

    def unconditional(self) -> Blend:
        return replace(self, c=self.c.unconditional())

    @staticmethod
    def cat(blends: Sequence[Blend]) -> Blend:
        """Join batches."""
        starts = [sum(each.count for each in blends[:index]) for index in range(len(blends))]
        return Blend(
            blends[0].c.cat([each.c for each in blends]),
            torch.cat([each.example + start for each, start in zip(blends, starts, strict=True)]),
            torch.cat([each.weight for each in blends]),
            sum(each.count for each in blends),
        )


@dataclass(frozen=True)
class Regional:
    """D(x; sigma, c) = sum over prompts r of w_r D(x; sigma, c_r), c a `Blend`; only where w_r > 0 is D evaluated.

    Guidance is that of the blend: a plain one would be the same prompt by prompt, since both are linear in D, and what
    takes norms and projections takes them of all that an example shows."""

    inner: Denoiser

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B], c of length B -> x0 as x."""
        levels = sigma if sigma.numel() == 1 else sigma.flatten()[c.example]
        parts = c.weight.to(x) * self.inner(x[c.example], levels, c.c)
        return torch.zeros_like(x).index_add(0, c.example, parts)


def regional(guide: Guide, weights: Tensor) -> Guide:
    """The guide of a request whose prompt and `others` are for parts of a canvas; weights [R, *S], see
    `tasks.regions.Regions`.

    Raises UserError for a prior that reads no prompts.
    """
    conditions = (guide.conditions, *guide.others)
    if len(conditions) != len(weights):
        raise UserError("regions: this prior reads no prompts, so that it cannot have several; use prior=builtin")
    unguided = guide.unguided
    aux: Denoiser = Regional(guide.aux)
    main: Denoiser = aux if unguided is guide.aux else Regional(unguided)
    if isinstance(guide.main, Guided):
        against = tuple(partial(opposed, each) for each in guide.main.against)
        main = replace(guide.main, denoiser=main, away=partial(elsewhere, guide.main.away), against=against)
    factor = 1 if guide.latents is None else guide.latents.factor
    blended = partial(blends, conditions, weights, guide.shape, factor)
    return replace(guide, main=main, aux=aux, conditions=blended, others=())


def elsewhere(away: Callable[[Any], Any], c: Blend) -> Blend:
    """What guidance moves away from."""
    return replace(c, c=away(c.c))


def opposed(against: Against, c: Blend) -> tuple[Blend, Tensor]:
    """A prompt of Perp-Neg, and its weights; those of an example are the same for all its prompts."""
    found, weight = against(c.c)
    of_examples = weight.new_zeros(len(c)).scatter_(0, c.example.to(weight.device), weight)
    return replace(c, c=found), of_examples


def blends(
    conditions: Sequence[Callable[[Any], tuple[Any, Any]]], weights: Tensor, shape: Shape, factor: int, views: Any
) -> tuple[Blend, Blend]:
    """(c, c') of these views; the same object where all prompts' are."""
    seen = views.cut(weights.to(views.features().device), tuple(factor * side for side in shape))
    if factor > 1:
        seen = F.interpolate(seen, size=shape, mode="area")
    found: list[tuple[Any, Any, Tensor, Tensor]] = []
    for index, condition in enumerate(conditions):
        weight = seen[:, index : index + 1]
        example = (weight.flatten(1).amax(1) > 0).nonzero().flatten()
        if len(example):
            c, c_aux = condition(views.rows(example))
            found.append((c, c_aux, example, weight[example]))
    examples, shares = torch.cat([each[2] for each in found]), torch.cat([each[3] for each in found])

    def joined(which: int) -> Blend:
        parts: list[Any] = [each[which] for each in found]
        return Blend(parts[0].cat(parts), examples, shares, len(views))

    main = joined(0)
    return main, main if all(c is c_aux for c, c_aux, *_ in found) else joined(1)
