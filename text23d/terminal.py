"""What verbs without a configuration read from a terminal, and how runs and trainings show their progress there."""

from __future__ import annotations

import argparse
from typing import NoReturn, TypeVar

from text23d.engine.events import Event, Exporting, Finished, Iterated, Paused
from text23d.engine.spoken import figures, spoken
from text23d.errors import UserError
from text23d.meter import Meter

Self = TypeVar("Self", bound="Shown")


class Parser(argparse.ArgumentParser):
    """Reads a command line, and raises UserError where it is none."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: {self.prog} --help lists what there is")


class Shown:
    """What shows its progress on a meter, which is taken away when it is left."""

    def __init__(self) -> None:
        self.meter = Meter()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.meter.close()


class Terminal(Shown):
    """Shows the events of a run."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Iterated):
            self.meter("iteration", event.iteration, event.iterations, figures(event.figures))
        elif isinstance(event, Paused):
            self.meter("iteration", event.iteration, event.iterations, "paused")
        elif isinstance(event, Exporting):
            self.meter(event.what, event.done, event.total)
        elif isinstance(event, Finished):
            self.meter.close()
        for line in spoken(event):
            self.meter.say(f"text23d: {line}")


class Bars(Shown):
    """Shows the progress of a training, with the mean loss. Implements `engine.training.Progress`."""

    mean = 0.0

    def __call__(self, what: str, done: int, total: int, loss: float | None = None) -> None:
        if loss is not None:
            self.mean = 0.99 * self.mean + 0.01 * loss if self.mean else loss
        self.meter(what, done, total, "" if loss is None else f"loss {self.mean:.4f}")
