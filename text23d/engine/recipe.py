"""What `conf/method` says: the method of a step, and how it changes along the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from text23d.contracts import Denoiser, Learner
from text23d.method.algorithm import Algorithm1, Leak
from text23d.method.average import Decay
from text23d.method.baselines import VSD
from text23d.method.invert import Factor, FixedPoint, Inverter
from text23d.method.langevin import LevelPreserving, Scheme
from text23d.method.learner import NetworkLearner
from text23d.method.levels import Levels
from text23d.method.optimizers import Adam, Optimizers
from text23d.method.proposal import Method
from text23d.method.schedule import Constant, Linear, LogLinear, Schedule
from text23d.method.update import Reduce
from text23d.prior.wrappers.lora import adapt
from text23d.settings import Flag, checked, number, whole

Rate = Annotated[float, number(above=0, most=1e4)]
Level = Annotated[float, number(above=0, most=1000)]
Side = Annotated[float, Field(ge=1, le=1024, multiple_of=1, description="a whole number of pixels, 1 to 1024")]
"""Elements along an axis of the update's rendering."""
LOOKS = 1000
"""Parts of a run at which its schedules are checked before it starts; each iteration of most runs."""


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """What every method shares: the loop round its step.

    sigma, size                  noise level and side of the update's rendering ([0036]), by progress in [0, 1]; size
                                 None: the prior's own shape
    iterations, views, inner     iterations of `views` renderings each, `inner` optimiser steps a target
    optimizer                    of phi; None: the target replaces phi's pixels
    lr_grid, lr_mlp, lr_end      its rates, and the share of themselves to which they fall linearly
    loss                         where the update compares: in the prior's space, or in pixels
    ema                          decay of the average of phi that results are made of; 0: phi itself

    Raises UserError where a number is out of range.
    """

    sigma: Schedule = field(default_factory=lambda: LogLinear(4.0, 0.8))
    size: Schedule | None = field(default_factory=lambda: Constant(64))
    iterations: Annotated[int, whole(1, 10_000_000)] = 200
    views: Annotated[int, whole(1, 16384)] = 4
    inner: Annotated[int, whole(1, 1000)] = 2
    optimizer: Optimizers | None = field(default_factory=Adam)
    lr_grid: Rate = 0.02
    lr_mlp: Rate = 0.006
    lr_end: Rate = 1.0
    loss: Literal["prior", "pixels"] = "prior"
    ema: Decay = 0.0

    def __post_init__(self) -> None:
        last = min(self.iterations, LOOKS) - 1
        for progress in [step / max(1, last) for step in range(last + 1)]:
            if self.size is not None:
                checked(self.size(progress), Side, "method.size")
            checked(self.sigma(progress), Level, "method.sigma")
            self.method_at(progress)

    @abstractmethod
    def method_at(self, progress: float) -> Method:
        """The method of a step at this progress in [0, 1]."""

    def learner(self, denoiser: Denoiser, stream: torch.Generator, reduce: Reduce | None = None) -> Learner | None:
        """What the method itself learns in a run, made of D without guidance; None: nothing. reduce: of its gradient,
        where several processes share the views."""
        return None


@dataclass(frozen=True, kw_only=True)
class LangevinRecipe(Recipe):
    """Algorithm 1, whose Langevin step h and leak follow the run's progress; see `Algorithm1` and `Levels`."""

    inversion: Inverter = field(default_factory=FixedPoint)
    langevin: Scheme = field(default_factory=LevelPreserving)
    h: Schedule = field(default_factory=lambda: Linear(0.35, 0.2))
    churn: Annotated[int, whole(1, 10_000)] = 1
    leak: Leak | Schedule = 0.0
    renorm: Flag = False
    levels: tuple[Factor, ...] = (1.0,)

    def method_at(self, progress: float) -> Method:
        leak = checked(self.leak(progress), Leak, "method.leak") if isinstance(self.leak, Schedule) else self.leak
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

    def learner(self, denoiser: Denoiser, stream: torch.Generator, reduce: Reduce | None = None) -> Learner:
        return NetworkLearner(adapt(denoiser, self.rank, stream), self.lr, reduce)
