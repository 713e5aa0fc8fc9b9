"""The draft of an object: the first part of a run, in which targets are samples of the prior instead of steps towards
one, so that forms are decided before views are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from text23d.method.joint import StochSync
from text23d.settings import number, whole


@dataclass(frozen=True)
class Draft:
    """Algorithm 1 with noise that is not inverted ([0047]), no Langevin step, and S, the ODE from a noise level down to
    a sample, for a denoiser: x0_hat = S(x0 + sigma n), as StochSync has it (Yeo et al. 2025, section 4).

    end     the run's progress in (0, 1) up to which it goes
    steps   noise levels from an iteration's down to the sample
    round   iterations after which cameras and their noise come again, so that samples of one view agree with each
            other instead of being averaged; 0: they are always new
    """

    end: Annotated[float, number(above=0, below=1)] = 0.4
    steps: Annotated[int, whole(1, 1000)] = 4
    round: Annotated[int, whole(0, 1_000_000)] = 4

    @property
    def method(self) -> StochSync:
        return StochSync(self.steps)

    def includes(self, progress: float) -> bool:
        """Whether an iteration at this progress of the run is one of the draft's."""
        return progress < self.end

    def turn(self, iteration: int) -> int:
        """The iteration whose cameras and noise `iteration` has."""
        return iteration % self.round if self.round else iteration
