"""What changes along a run, as functions of its progress in [0, 1]: sigma, the Langevin step h, resolutions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.settings import Finite, Flag, Share, number


class Schedule(ABC):
    """A number that changes with progress."""

    @abstractmethod
    def __call__(self, progress: float) -> float: ...

    def draw(self, progress: float, count: int, generator: torch.Generator) -> Tensor:
        """The values of `count` views: [], one for all, or [count], one for each where they are drawn."""
        return torch.tensor(self(progress))


@dataclass(frozen=True)
class Constant(Schedule):
    value: Finite

    def __call__(self, progress: float) -> float:
        _require_progress(progress)
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """start + progress (end - start), downwards: start >= end > 0, or UserError."""

    start: Finite
    end: Finite

    def __post_init__(self) -> None:
        _require_downwards(self.start, self.end)

    def __call__(self, progress: float) -> float:
        _require_progress(progress)
        return self.start + progress * (self.end - self.start)


@dataclass(frozen=True)
class LogLinear(Schedule):
    """start^(1 - progress) end^progress, downwards: start >= end > 0, or UserError."""

    start: Finite
    end: Finite

    def __post_init__(self) -> None:
        _require_downwards(self.start, self.end)

    def __call__(self, progress: float) -> float:
        _require_progress(progress)
        return self.start ** (1 - progress) * self.end**progress


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Stages of (first progress, value): `Piecewise([(0.0, 32), (0.5, 64)])` is 32, then 64 from the middle on.

    The first stage starts at 0 and the starts rise, or UserError.
    """

    stages: tuple[tuple[Share, Finite], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.stages]
        rising = all(a < b for a, b in pairwise(starts))
        if not starts or starts[0] != 0 or not rising or starts[-1] > 1:
            raise UserError(
                f"stages start at {starts}: expected rising numbers in [0, 1], the first of them 0; correct the starts"
            )

    def __call__(self, progress: float) -> float:
        _require_progress(progress)
        return self.stages[bisect_right([start for start, _ in self.stages], progress) - 1][1]


@dataclass(frozen=True)
class Random(Schedule):
    """Drawn log-uniformly between `low` and `high`, which change with progress; as a function, their geometric mean.

    together: all views of an iteration have one level. Raises UserError where the two are not 0 < low <= high.
    """

    low: Schedule
    high: Schedule
    together: Flag = False

    def __post_init__(self) -> None:
        for progress in (0.0, 1.0):
            if not 0 < self.low(progress) <= self.high(progress) < math.inf:
                raise UserError(
                    f"a random schedule from {self.low(progress)} to {self.high(progress)}: expected finite "
                    "0 < low <= high; swap or fix them"
                )

    def __call__(self, progress: float) -> float:
        return math.sqrt(self.low(progress) * self.high(progress))

    def draw(self, progress: float, count: int, generator: torch.Generator) -> Tensor:
        """Values [count], one for each view; [] together."""
        low, high = self.low(progress), self.high(progress)
        return low * (high / low) ** torch.rand([] if self.together else [count], generator=generator)


@dataclass(frozen=True)
class Staggered(Schedule):
    """One after another: the last view begins later than the first by `delay` of its course, the others in between (a
    queue of noise levels, as in FIFO-Diffusion, Kim et al. 2024). As a function, the first view's level.

    ring    whether the last view is the first one's neighbour: the one opposite the first begins last, so that
            neighbours have levels that are close on either side.
    """

    course: Schedule
    delay: Annotated[float, number(least=0, most=1000)] = 1.0
    ring: Flag = False

    def __call__(self, progress: float) -> float:
        _require_progress(progress)
        return self.course(min(1.0, progress * (1 + self.delay)))

    def draw(self, progress: float, count: int, generator: torch.Generator) -> Tensor:
        """Values [count]; nothing is drawn."""
        last = count // 2 if self.ring else count - 1
        places = (min(view, count - view) if self.ring else view for view in range(count))
        shares = [progress * (1 + self.delay) - self.delay * place / max(1, last) for place in places]
        return torch.tensor([self.course(min(1.0, max(0.0, share))) for share in shares])


def _require_downwards(start: float, end: float) -> None:
    if not (math.isfinite(start) and start >= end > 0):
        raise UserError(
            f"a schedule from {start} (maximum) to {end} (minimum): expected finite start >= end > 0; swap or fix them"
        )


def _require_progress(progress: float) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(f"progress {progress} is outside [0, 1]")
