"""What verbs without a configuration read from a terminal, and how runs and trainings show their progress there."""

from __future__ import annotations

import argparse
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from text23d.engine.events import Event, Exporting, Finished, Iterated
from text23d.engine.spoken import figures, spoken
from text23d.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

Self = TypeVar("Self", bound="Shown")
EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class Parser(argparse.ArgumentParser):
    """Reads a command line, and raises UserError where it is none."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: {self.prog} --help lists what there is")


class Meter:
    """How far something long is, on standard error: a bar on a terminal, else a line every few seconds, of the first
    and the last step always."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.what = ""
        self.bar: tqdm[Any] | None = None
        self.first, self.began, self.told = 0, 0.0, 0.0

    def __call__(self, what: str, done: int, total: int, said: str = "") -> None:
        """`done` steps of `total` of `what`; said: figures of this one."""
        new = what != self.what or done <= self.first
        if new:
            self.close()
            self.what, self.first, self.began = what, done, monotonic()
        if self.on_terminal:
            self.draw(done, total, said)
        elif new or done == total or monotonic() - self.told >= EVERY:
            self.told = monotonic()
            parts = (f"{what} {done} of {total}", said, self.left(done, total))
            self.say(f"text23d: {', '.join(part for part in parts if part)}")
        if done == total:
            self.close()

    def draw(self, done: int, total: int, said: str) -> None:
        if self.bar is None:
            from tqdm import tqdm  # here: the doctor reads its command line where this is missing

            self.bar = tqdm(
                desc=self.what, total=total, initial=done - 1, miniters=1, smoothing=0.1, dynamic_ncols=True
            )
        self.bar.set_postfix_str(said, refresh=False)
        self.bar.update(done - self.bar.n)

    def left(self, done: int, total: int) -> str:
        """The seconds until the end, at the mean pace so far."""
        steps = done - self.first
        return f"{(monotonic() - self.began) / steps * (total - done):.0f} s left" if steps and done < total else ""

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self.bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.what, self.first = "", 0
        if self.bar is not None:
            self.bar.close()
            self.bar = None


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
