"""What `conf/method` says: the strategies of a step, and how they change along the run."""

from __future__ import annotations

from dataclasses import dataclass

from text23d.contracts import UserError
from text23d.method.invert import Inverter
from text23d.method.langevin import Scheme
from text23d.method.schedule import Schedule
from text23d.method.step import Method


@dataclass(frozen=True)
class Plan:
    """inversion, langevin, churn, leak   see `method.step.Method`.
    sigma, h, size                     by progress in [0, 1]; size is the update's, in pixels or latents.
    iterations, views, inner           iterations of `views` renderings each, `inner` optimiser steps a target.
    lr_grid, lr_mlp, lr_end            Adam's rates, and the fraction of themselves to which they fall linearly.

    Raises UserError where a number is out of range.
    """

    inversion: Inverter
    langevin: Scheme
    sigma: Schedule
    h: Schedule
    size: Schedule
    iterations: int = 200
    views: int = 4
    inner: int = 2
    churn: int = 1
    leak: float = 0.0
    lr_grid: float = 0.02
    lr_mlp: float = 0.006
    lr_end: float = 1.0

    def __post_init__(self) -> None:
        for name in ("iterations", "views", "inner", "churn"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise UserError(f"method.{name}={getattr(self, name)}: expected a whole number, at least 1")
        for name in ("lr_grid", "lr_mlp", "lr_end"):
            if not getattr(self, name) > 0:
                raise UserError(f"method.{name}={getattr(self, name)}: expected a number above 0")
        sizes = [self.size(step / 16) for step in range(17)]
        if min(sizes) < 1 or any(size != int(size) for size in sizes):
            raise UserError(f"method.size gives {sorted(set(sizes))}: expected whole numbers of pixels, at least 1")
        self.at(0.0)

    def at(self, progress: float) -> Method:
        """The method at this progress."""
        return Method(self.inversion, self.langevin, self.churn, self.leak).with_h(self.h(progress))
