"""How far something long is, as people see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""


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
        new = what != self.what or done < self.first
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
                desc=self.what, total=total, initial=max(0, done - 1), miniters=1, smoothing=0.1, dynamic_ncols=True
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

    def along(self, items: Sequence[T], what: str) -> Iterator[T]:
        """The items, one after another, of `what`."""
        for done, item in enumerate(items, 1):
            yield item
            self(what, done, len(items))

    def aside(self) -> AbstractContextManager[object]:
        """Inside, others may print lines, which do not tear the bar."""
        if self.bar is None:
            return nullcontext()
        return self.bar.external_write_mode(sys.stderr)

    def close(self) -> None:
        self.what, self.first = "", 0
        if self.bar is not None:
            self.bar.close()
            self.bar = None
