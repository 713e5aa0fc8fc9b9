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
from text23d.method.warm import SharedNoise, WarmStarts

COUNTS = ("iteration", "evaluations", "rate", "stream")


@dataclass
class RunState:
    """phi              what is optimised, with whatever it keeps beside its parameters, such as a NeRF's occupancy
    optimizer        of phi; None: targets replace it
    average          of phi, of which results are made; None: of phi itself
    warm             noise of views that come again; None: there are none
    learner          what the method itself learns; None: nothing
    iteration        iterations done
    evaluations      of the network, so far
    thrift           how sparing of memory its iterations have become; they are not taken back with it
    rate             what the learning rates are multiplied by: less than 1 after the run has lost its health
    stream           which of the seed's random streams are drawn: another after each such time
    clock, loop      seconds by stage of the run, and of its iterations
    sheet            the stages looked at
    """

    phi: nn.Module
    optimizer: torch.optim.Optimizer | None
    average: Average | None = None
    warm: WarmStarts | SharedNoise | None = None
    learner: Learner | None = None
    iteration: int = 0
    evaluations: int = 0
    thrift: Thrift = field(default_factory=Thrift)
    rate: float = 1.0
    stream: int = 0
    clock: Clock = field(default_factory=Clock)
    loop: Clock = field(default_factory=Clock)
    sheet: Sheet = field(default_factory=Sheet)

    def result(self) -> Any:
        """phi as results show it: its average, where there is one."""
        return self.phi if self.average is None else self.average.view(self.phi)

    def state(self) -> dict[str, Any]:
        """All of it, as `checkpoint.save` takes it."""
        clocks = {"clock": self.clock.state(), "loop": self.loop.state()}
        return {**self._changing(), "clocks": clocks, "sheet": self.sheet.state(), "thrift": self.thrift.level}

    def snapshot(self) -> dict[str, Any]:
        """All that iterations change, to `restore` it; what the clocks say is not taken back."""
        return copied({**self._changing(), "rows": len(self.sheet.stages)})

    def _changing(self) -> dict[str, Any]:
        parts = {"average": self.average, "warm": self.warm, "learner": self.learner}
        return {
            "phi": self.phi.state_dict(),
            "optimizer": {} if self.optimizer is None else optimizer_state(self.optimizer),
            **{name: {} if part is None else part.state() for name, part in parts.items()},
            "counts": {name: getattr(self, name) for name in COUNTS},
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
        self.sheet.load(state["sheet"])
        self.restore({**state, "rows": len(self.sheet.stages)})
        self.thrift.level = max(self.thrift.level, state.get("thrift", 0))  # here there may be less memory
        self.clock.load(state["clocks"]["clock"])
        self.loop.load(state["clocks"]["loop"])

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` gave."""
        self.phi.load_state_dict(snapshot["phi"])
        if self.optimizer is not None:
            load_optimizer(self.optimizer, snapshot["optimizer"])
        for name, part in (("average", self.average), ("warm", self.warm), ("learner", self.learner)):
            if part is not None:
                part.load(snapshot[name])
        for name in COUNTS:
            setattr(self, name, snapshot["counts"][name])
        del self.sheet.stages[snapshot["rows"] :]
