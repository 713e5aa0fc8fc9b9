"""Classifier-free guidance: a denoiser that leans towards its conditioning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.prior.builtin.edm import column
from text23d.settings import number

Scale = Annotated[float, number(least=0, most=1000)]


def nothing_said(c: Any) -> Any:
    """The conditioning's twin without a caption: what plain guidance moves away from."""
    return c.unconditional()


@dataclass(frozen=True)
class Guided:
    """D(x; c) = D(x; away(c)) + scale (D(x; c) - D(x; away(c))), both halves in one batch (Ho and Salimans, 2022).

    Scale 1 is the denoiser itself. The conditioning has a static `cat([c1, c2])` along the batch. `away` gives what to
    move away from: nothing said, or what a negative prompt says. Guidance belongs to D alone: D' stays unguided.
    """

    denoiser: Denoiser
    scale: float
    away: Callable[[Any], Any] = nothing_said

    @property
    def evaluations(self) -> int:
        """Network evaluations a call makes."""
        return (1 if self.scale == 1 else 2) * getattr(self.denoiser, "evaluations", 1)

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None, towards: Tensor | None = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B], c of length B -> x0 as x. towards: D(x; c) unguided, where it is known.

        Raises UserError if c is None and scale not 1.
        """
        if self.scale == 1:
            return self.denoiser(x, sigma, c) if towards is None else towards
        if c is None:
            raise UserError(f"guidance scale {self.scale} without conditioning: give a prompt, or set the scale to 1")
        if towards is not None:
            from_ = self.denoiser(x, sigma, self.away(c))
            return from_ + self.scale * (towards - from_)
        sigma = column(sigma, x).flatten()
        both = self.denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), c.cat([c, self.away(c)]))
        towards, from_ = both.chunk(2)
        return from_ + self.scale * (towards - from_)
