"""Guidance: a denoiser that leans towards its conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.guide import rows
from text23d.prior.builtin.edm import column
from text23d.prior.wrappers.rule import Rule
from text23d.settings import number

Scale = Annotated[float, number(least=0, most=1000)]
Against = Callable[[Any], tuple[Any, Tensor]]
"""Conditions of B examples -> those of a prompt of Perp-Neg, and its weights [B]."""


def nothing_said(c: Any) -> Any:
    """The conditioning's twin without a caption: what plain guidance moves away from."""
    return c.unconditional()


def guided(
    denoiser: Denoiser,
    scale: float,
    rule: Rule,
    kept: Callable[[Tensor], Tensor],
    negative: Callable[[Any], Any] | None = None,
    against: Sequence[Against] = (),
) -> Denoiser:
    """D guided at `scale` by `rule`, or the denoiser itself where that changes nothing.

    negative: the conditioning with a negative prompt for its caption; None: there is none. kept, against: see `Guided`.
    Raises UserError for a weight of a negative prompt that is not there.
    """
    require_negative(rule, negative is not None)
    if rule.perp_neg is not None:
        assert negative is not None
        against, negative = (partial(weighed, negative, rule.perp_neg), *against), None
    made = Guided(denoiser, scale, negative or nothing_said, rule, against, kept)
    return denoiser if made.idle else made


def require_negative(rule: Rule, given: bool) -> None:
    """Raises UserError for a weight of a negative prompt that is not there."""
    if rule.perp_neg is not None and not given:
        raise UserError(f"prior.rule.perp_neg={rule.perp_neg:g} is the weight of prior.negative: give that, too")


def weighed(negative: Callable[[Any], Any], weight: float, c: Any) -> tuple[Any, Tensor]:
    """A negative prompt for each example, and its weights."""
    return negative(c), torch.full((len(c),), weight)


@dataclass(frozen=True)
class Guided:
    """D(x; c) = D(x; away(c)) + scale (D(x; c) - D(x; away(c))), all in one batch (Ho and Salimans, 2022), or what
    `rule` makes of the same.

    Scale 1 is the denoiser itself. The conditioning has a static `cat([c1, c2])` along the batch. `away` gives what to
    move away from: nothing said, or what a negative prompt says. Each of `against` gives a prompt of Perp-Neg, with its
    weight [B] for each example. `kept` is that of what the network predicts; see `rule.kept`. Guidance belongs to D
    alone: D' stays unguided.
    """

    denoiser: Denoiser
    scale: float
    away: Callable[[Any], Any] = nothing_said
    rule: Rule = field(default_factory=Rule)
    against: Sequence[Against] = ()
    kept: Callable[[Tensor], Tensor] = torch.zeros_like  # of a network that predicts x0

    @property
    def evaluations(self) -> int:
        """Network evaluations a call makes at most."""
        return (1 if self.idle else 2 + len(self.against)) * getattr(self.denoiser, "evaluations", 1)

    def evaluations_at(self, sigma: Tensor) -> int:
        """Network evaluations a call at these levels makes: fewer where none of them has guidance."""
        inside = self.rule.inside(sigma)
        return getattr(self.denoiser, "evaluations", 1) if inside is not None and not inside.any() else self.evaluations

    @property
    def idle(self) -> bool:
        """Whether it is the denoiser itself."""
        return self.scale == 1 and not self.against

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None, towards: Tensor | None = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B], c of length B -> x0 as x. towards: D(x; c) unguided, where it is known.

        Raises UserError if c is None where there is guidance.
        """
        if self.idle:
            return self.denoiser(x, sigma, c) if towards is None else towards
        if c is None:
            raise UserError(f"guidance scale {self.scale} without conditioning: give a prompt, or set the scale to 1")
        inside = self.rule.inside(column(sigma, x).flatten())
        if inside is None or inside.all():
            return self.everywhere(x, sigma, c, towards)
        found = self.denoiser(x, sigma, c) if towards is None else towards
        which: Any = inside.nonzero().flatten()
        if not len(which):
            return found
        return found.index_copy(0, which, self.everywhere(x[which], sigma[which], rows(c, which), found[which]))

    def everywhere(self, x: Tensor, sigma: Tensor, c: Any, towards: Tensor | None) -> Tensor:
        """The same, where all levels have guidance."""
        opposed = [each(c) for each in self.against]
        asked = [*([c] if towards is None else []), self.away(c), *(each for each, _ in opposed)]
        if len(asked) == 1:
            answers = [self.denoiser(x, sigma, asked[0])]
        else:
            levels = column(sigma, x).flatten()
            joined = self.denoiser(torch.cat([x] * len(asked)), torch.cat([levels] * len(asked)), c.cat(asked))
            answers = list(joined.chunk(len(asked)))
        if towards is None:
            towards = answers.pop(0)
        s = column(sigma, x)
        weighed = [(answer, weight) for answer, (_, weight) in zip(answers[1:], opposed, strict=True)]
        return self.rule(self.scale, towards, answers[0], weighed, self.kept(s) * x)
