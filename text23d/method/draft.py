"""The draft of an object: the first part of a run, in which targets are samples of the prior instead of steps towards
one, so that forms are decided before views are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from text23d.method.joint import StochSync
from text23d.settings import NonNegative, number, whole


@dataclass(frozen=True)
class Draft:
    """Algorithm 1 with noise that is not inverted ([0047]), no Langevin step, and S, the ODE from a noise level down to
    a sample, for a denoiser: x0_hat = S(x0 + sigma n), as StochSync has it (Yeo et al. 2025, section 4).

    end     the run's progress in (0, 1) up to which it goes
    steps   noise levels from an iteration's down to the sample
    round   iterations after which cameras come again, so that samples of one view agree with each other instead of
            being averaged; 0: they are always new
    guided  noise levels of samples that are not above it have no guidance; see `StochSync`
    noise   turning: n is that of one thing that turns before the cameras, in all iterations (see `turning`), so that
            samples of several views agree, too; own: each view's is its own, and comes again with its camera
    """

    end: Annotated[float, number(above=0, below=1)] = 0.4
    steps: Annotated[int, whole(1, 1000)] = 4
    round: Annotated[int, whole(0, 1_000_000)] = 4
    guided: NonNegative = 0.6
    noise: Literal["turning", "own"] = "turning"

    @property
    def method(self) -> StochSync:
        return StochSync(self.steps, guided=self.guided)

    def includes(self, progress: float) -> bool:
        """Whether an iteration at this progress of the run is one of the draft's."""
        return progress < self.end

    def turn(self, iteration: int) -> int:
        """The iteration whose cameras `iteration` has, and whose noise if views have their own."""
        return iteration % self.round if self.round else iteration


def turning(azimuth: Tensor, n: Tensor) -> Tensor:
    """Noise of views all around that goes with what they see: azimuth [B] in degrees, n [3, C, H, W] ~ N(0, I) ->
    [B, C, H, W], of which each view's own is N(0, I) as well.

        n(a) = E n_0 + cos(a) O n_1 + sin(a) O n_2,    E n = (n + n mirrored) / 2,    O n = (n - n mirrored) / 2

    with pictures mirrored left to right. At a + 180 degrees n is mirrored, as silhouettes are: views of both sides
    agree about where an arm is. Of E n and O n each has half of the variance, and what they correlate pixels with
    their mirror images cancels.
    """
    mirrored = n.flip(-1)
    even, odd = (n + mirrored) / 2, (n - mirrored) / 2
    a = torch.deg2rad(azimuth).reshape(-1, 1, 1, 1)
    return even[0] + a.cos() * odd[1] + a.sin() * odd[2]
