"""What `conf/method` says: the method of a step, and how it changes along the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch

from text23d.contracts import Denoiser, Learner
from text23d.errors import UserError
from text23d.method.algorithm import Algorithm1
from text23d.method.average import Decay
from text23d.method.baselines import VSD
from text23d.method.invert import FixedPoint, Inverter
from text23d.method.langevin import LevelPreserving, Scheme
from text23d.method.learner import NetworkLearner
from text23d.method.levels import Levels
from text23d.method.optimizers import Adam, Optimizers
from text23d.method.proposal import Method
from text23d.method.schedule import Constant, Linear, LogLinear, Schedule
from text23d.prior.wrappers.lora import adapt
from text23d.settings import Count, Flag, NonNegative, Positive, number, whole

Rate = Annotated[float, number(above=0, most=1e4)]
LARGEST = 1024
"""Elements along an axis of the update's rendering."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every method shares: the loop round its step.

    sigma, size                  noise level and side of the update's rendering ([0036]), by progress in [0, 1]
    iterations, views, inner     iterations of `views` renderings each, `inner` optimiser steps a target
    optimizer                    of phi; None: the target replaces phi's pixels
    lr_grid, lr_mlp, lr_end      its rates, and the share of themselves to which they fall linearly
    loss                         where the update compares: in the prior's space, or in pixels
    ema                          decay of the average of phi that results are made of; 0: phi itself

    Raises UserError where a number is out of range.
    """

    sigma: Schedule = field(default_factory=lambda: LogLinear(4.0, 0.8))
    size: Schedule = field(default_factory=lambda: Constant(64))
    iterations: Annotated[int, whole(1, 10_000_000)] = 200
    views: Annotated[int, whole(1, 1024)] = 4
    inner: Annotated[int, whole(1, 1000)] = 2
    optimizer: Optimizers | None = field(default_factory=Adam)
    lr_grid: Rate = 0.02
    lr_mlp: Rate = 0.006
    lr_end: Rate = 1.0
    loss: Literal["prior", "pixels"] = "prior"
    ema: Decay = 0.0

    def __post_init__(self) -> None:
        sizes = [self.size(step / 16) for step in range(17)]
        if not all(1 <= size <= LARGEST and size == int(size) for size in sizes):
            raise UserError(
                f"method.size gives {', '.join(f'{size:g}' for size in sorted(set(sizes)))}: expected whole numbers of "
                f"pixels, 1 to {LARGEST}"
            )
        self.method_at(0.0)

    def method_at(self, progress: float) -> Method:
        """The method of a step at this progress in [0, 1]."""
        raise NotImplementedError

    def learner(self, denoiser: Denoiser, stream: torch.Generator) -> Learner | None:
        """What the method itself learns in a run, made of D without guidance; None: nothing."""
        return None


@dataclass(frozen=True, kw_only=True)
class LangevinRecipe(Recipe):
    """Algorithm 1, whose Langevin step h and leak follow the run's progress; see `Algorithm1` and `Levels`."""

    inversion: Inverter = field(default_factory=FixedPoint)
    langevin: Scheme = field(default_factory=LevelPreserving)
    h: Schedule = field(default_factory=lambda: Linear(0.35, 0.2))
    churn: Count = 1
    leak: NonNegative | Schedule = 0.0
    renorm: Flag = False
    levels: tuple[Positive, ...] = (1.0,)

    def method_at(self, progress: float) -> Method:
        leak = self.leak(progress) if isinstance(self.leak, Schedule) else self.leak
        scheme = replace(self.langevin, h=self.h(progress))
        one = Algorithm1(self.inversion, scheme, self.churn, leak, self.renorm)
        return one if self.levels == (1.0,) else Levels(one, self.levels)


@dataclass(frozen=True, kw_only=True)
class FixedRecipe(Recipe):
    """A method that does not change during the run."""

    strategy: Method

    def method_at(self, progress: float) -> Method:
        return self.strategy


@dataclass(frozen=True, kw_only=True)
class VsdRecipe(Recipe):
    """VSD, which learns a low-rank adaptation of D at rate `lr`; see `prior.wrappers.lora` and `VSD`."""

    rank: Annotated[int, whole(1, 512)] = 4
    lr: Rate = 0.003

    def method_at(self, progress: float) -> Method:
        return VSD()

    def learner(self, denoiser: Denoiser, stream: torch.Generator) -> Learner:
        return NetworkLearner(adapt(denoiser, self.rank, stream), self.lr)
