"""What `conf/method` says: the method of a step, and how it changes along the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from text23d.errors import UserError
from text23d.method.algorithm import Algorithm1
from text23d.method.baselines import VSD
from text23d.method.invert import Inverter
from text23d.method.langevin import Scheme
from text23d.method.learner import NetworkLearner
from text23d.method.levels import Levels
from text23d.method.proposal import Method
from text23d.method.schedule import Constant, Schedule
from text23d.prior.wrappers.lora import adapt

ADAM = partial(torch.optim.Adam, betas=(0.9, 0.99), eps=1e-15)
LOSSES = ("prior", "pixels")


@dataclass(frozen=True)
class Plan:
    """strategy                        the method at a progress in [0, 1].
    sigma, size                        by progress; size is the update's, in pixels or latents.
    iterations, views, inner           iterations of `views` renderings each, `inner` optimiser steps a target.
    optimizer                          groups of parameters -> their optimiser; None: the target replaces phi's pixels.
    lr_grid, lr_mlp, lr_end            its rates, and the fraction of themselves to which they fall linearly.
    loss                               where the update compares: in the prior's space, or in pixels.
    ema                                decay of the average of phi that results are made of; 0: phi itself.

    Raises UserError where a number is out of range.
    """

    strategy: Callable[[float], Method]
    sigma: Schedule
    size: Schedule
    iterations: int = 200
    views: int = 4
    inner: int = 2
    optimizer: Callable[..., torch.optim.Optimizer] | None = ADAM
    lr_grid: float = 0.02
    lr_mlp: float = 0.006
    lr_end: float = 1.0
    loss: str = "prior"
    ema: float = 0.0

    def __post_init__(self) -> None:
        for name in ("iterations", "views", "inner"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise UserError(f"method.{name}={getattr(self, name)}: expected a whole number, at least 1")
        for name in ("lr_grid", "lr_mlp", "lr_end"):
            if not getattr(self, name) > 0:
                raise UserError(f"method.{name}={getattr(self, name)}: expected a number above 0")
        if self.loss not in LOSSES:
            raise UserError(f"method.loss={self.loss}: expected one of {', '.join(LOSSES)}")
        sizes = [self.size(step / 16) for step in range(17)]
        if min(sizes) < 1 or any(size != int(size) for size in sizes):
            raise UserError(f"method.size gives {sorted(set(sizes))}: expected whole numbers of pixels, at least 1")
        self.strategy(0.0)


def langevin(
    inversion: Inverter,
    langevin: Scheme,
    h: Schedule,
    churn: int = 1,
    leak: float | Schedule = 0.0,
    renorm: bool = False,
    levels: Sequence[float] = (1.0,),
    **plan: Any,
) -> Plan:
    """A plan of Algorithm 1, whose Langevin step h and leak follow the run's progress; see `Algorithm1`, `Levels` and
    `Plan`.

    Raises UserError where a number is out of range.
    """
    if type(churn) is not int or churn < 1:
        raise UserError(f"method.churn={churn}: expected a whole number, at least 1")
    leaks = leak if callable(leak) else Constant(leak)

    def strategy(progress: float) -> Method:
        one = Algorithm1(inversion, replace(langevin, h=h(progress)), churn, leaks(progress), renorm)
        return one if list(levels) == [1.0] else Levels(one, list(levels))

    return Plan(strategy, **plan)


def unchanging(strategy: Method, **plan: Any) -> Plan:
    """A plan whose method is the same all along; see `Plan`."""
    return Plan(lambda progress: strategy, **plan)


def vsd(rank: int, lr: float, **plan: Any) -> Plan:
    """A plan of VSD, which learns a low-rank adaptation of D at rate `lr`; see `prior.lora`, `VSD` and `Plan`.

    Raises UserError where a number is out of range.
    """
    if type(rank) is not int or rank < 1 or not lr > 0:
        raise UserError(f"method.rank={rank}, method.lr={lr}: expected a whole rank, at least 1, and a rate above 0")
    return unchanging(VSD(lambda denoiser, stream: NetworkLearner(adapt(denoiser, rank, stream), lr)), **plan)
