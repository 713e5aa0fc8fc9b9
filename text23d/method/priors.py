"""What an iteration may ask: the two denoisers ([0040]), each with what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from text23d.contracts import Denoiser


@dataclass(frozen=True)
class Priors:
    """main = D draws towards what was asked for, aux = D' moves between level 0 and level sigma; c and c_aux are what
    they are told.

    reference_rms(sigma) is the tabulated rms(x - D'(x)) of D' on real data; None where that is not known.
    """

    main: Denoiser
    aux: Denoiser
    c: Any = None
    c_aux: Any = None
    reference_rms: Callable[[float], float] | None = None

    def D(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.main(x, sigma, self.c)

    def D_aux(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.aux(x, sigma, self.c_aux)

    @property
    def shared(self) -> bool:
        """Whether D is D', or D' guided, and both are told the same: D'(x) is then a part of D(x)."""
        return self.c is self.c_aux and self.bare is self.aux

    @property
    def bare(self) -> Denoiser:
        """D without its guidance."""
        return getattr(self.main, "denoiser", self.main)

    def D_given(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
        """D(x) where denoised = D'(x) is known: what is `shared` is not evaluated again."""
        if not self.shared:
            return self.D(x, sigma)
        if self.main is self.aux:
            return denoised
        guided: Any = self.main
        return guided(x, sigma, self.c, towards=denoised)

    def D_untold(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D without guidance, told nothing of the prompt, where its conditioning can leave that out."""
        return self.bare(x, sigma, self.c.unconditional() if hasattr(self.c, "unconditional") else self.c)

    def led(self, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        """D under another guidance than its own: untold + scale (told - untold)."""
        told = partial(self.bare, c=self.c)
        if scale in (0, 1):
            return told if scale else self.D_untold

        def led(x: Tensor, sigma: Tensor) -> Tensor:
            untold = self.D_untold(x, sigma)
            return untold + scale * (told(x, sigma) - untold)

        return led

    def expected_rms(self, sigma: Tensor) -> Tensor:
        """sigma [] or [B] -> the rms expected of x - D'(x), as sigma; sigma itself where no table is known."""
        if self.reference_rms is None:
            return sigma
        return sigma.new_tensor([self.reference_rms(level) for level in sigma.reshape(-1).tolist()])


def cost(denoiser: Denoiser) -> int:
    """Network evaluations a call of this denoiser makes: its `evaluations`, or 1."""
    return getattr(denoiser, "evaluations", 1)
