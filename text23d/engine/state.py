"""All mutable state of a run; the immutable parts are `build.Parts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from text23d.checkpoint import copied, load_optimizer, optimizer_state
from text23d.clock import Clock
from text23d.contracts import Learner
from text23d.engine.sheet import Sheet
from text23d.engine.thrift import Thrift
from text23d.errors import UserError
from text23d.method.average import Average
from text23d.method.warm import WarmStarts


@dataclass
class RunState:
    """phi              what is optimised, with whatever it keeps beside its parameters, such as a NeRF's occupancy
    optimizer        of phi; None: targets replace it
    average          of phi, of which results are made; None: of phi itself
    warm             noise of views that come again; None: there are none
    learner          what the method itself learns; None: nothing
    iteration        iterations done
    evaluations      of the network, so far
    thrift           how sparing of memory its iterations have become
    clock, loop      seconds by stage of the run, and of its iterations
    sheet            the stages looked at
    """

    phi: nn.Module
    optimizer: torch.optim.Optimizer | None
    average: Average | None = None
    warm: WarmStarts | None = None
    learner: Learner | None = None
    iteration: int = 0
    evaluations: int = 0
    thrift: Thrift = field(default_factory=Thrift)
    clock: Clock = field(default_factory=Clock)
    loop: Clock = field(default_factory=Clock)
    sheet: Sheet = field(default_factory=Sheet)

    def result(self) -> Any:
        """phi as results show it: its average, where there is one."""
        return self.phi if self.average is None else self.average.view(self.phi)

    def state(self) -> dict[str, Any]:
        """All of it, as `checkpoint.save` takes it."""
        totals = {"iteration": self.iteration, "evaluations": self.evaluations, "thrift": self.thrift.level}
        return {
            **self.changing(),
            "totals": {**totals, "clock": self.clock.state(), "loop": self.loop.state()},
            "sheet": self.sheet.state(),
        }

    def changing(self) -> dict[str, Any]:
        """What an iteration changes before it is done: all that must be as it was where one diverges."""
        parts = {"average": self.average, "warm": self.warm, "learner": self.learner}
        return {
            "phi": self.phi.state_dict(),
            "optimizer": {} if self.optimizer is None else optimizer_state(self.optimizer),
            **{name: {} if part is None else part.state() for name, part in parts.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises UserError, and changes nothing, where it is of another run's parts."""
        before = copied(self.state())
        try:
            self._load(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            self._load(before)
            raise UserError("the checkpoint is of a run with other parts: resume with its own configuration") from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.restore(state)
        totals = state["totals"]
        self.iteration, self.evaluations = totals["iteration"], totals["evaluations"]
        self.thrift.level = totals.get("thrift", 0)
        self.clock.load(totals["clock"])
        self.loop.load(totals["loop"])
        self.sheet.load(state["sheet"])

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `changing` gave."""
        self.phi.load_state_dict(state["phi"])
        if self.optimizer is not None:
            load_optimizer(self.optimizer, state["optimizer"])
        for name, part in (("average", self.average), ("warm", self.warm), ("learner", self.learner)):
            if part is not None:
                part.load(state[name])
