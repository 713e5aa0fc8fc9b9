"""An iteration in less memory: the same result up to rounding, for more time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from text23d.errors import TooLarge
from text23d.memory import advice, is_out_of_memory, let_go
from text23d.prior.wrappers.batches import in_batches

if TYPE_CHECKING:
    from text23d.engine.build import Parts
    from text23d.engine.state import RunState

Made = TypeVar("Made")
CHUNKS = 4096, 1024, 256
"""Rays, or places of a picture, that are rendered at once."""


@dataclass(frozen=True)
class Economy:
    """chunk: rays of a view that are rendered at once, None: all. batch: examples that a network sees at once, None:
    those of all views. Views are rendered one after another."""

    chunk: int | None
    batch: int | None

    def __str__(self) -> str:
        rays = f"rays in chunks of {self.chunk}, " if self.chunk else ""
        return f"{rays}views one at a time" + (f", the prior in batches of {self.batch}" if self.batch else "")


def economies(views: int, chunked: bool, group: int = 1) -> list[Economy]:
    """What a run of `views` an iteration can spare, the cheapest first. chunked: whether phi is rendered by rays.
    group: examples that the prior sees together, of which `views` is a multiple."""
    chunks: list[int | None] = [*CHUNKS] if chunked else []
    groups = views // group
    halves = [group * (groups >> half) for half in range(1, groups.bit_length())]
    return [Economy(chunk, None) for chunk in chunks] + [Economy(CHUNKS[-1] if chunked else None, n) for n in halves]


@dataclass
class Thrift:
    """How much a run spares: the first `level` of its economies, 0 for none. It stays so to the end of the run, and of
    the runs that resume it."""

    level: int = 0

    def economy(self, state: RunState, parts: Parts) -> Economy | None:
        """That of this level; None: nothing is spared."""
        return next(iter(economies_of(state, parts)[: self.level][-1:]), None)

    def apply(self, state: RunState, parts: Parts) -> Parts:
        """The parts that an iteration takes at this level; what phi and the learner do at once is set accordingly."""
        now = self.economy(state, parts)
        for part, name, value in (
            (state.phi, "chunk", now.chunk if now else None),
            (state.learner, "batch", now.batch if now else None),
        ):
            if hasattr(part, name):
                setattr(part, name, value)
        if not now:
            return parts
        guide = in_batches(parts.guide, now.batch) if now.batch else parts.guide
        fine = parts.fine
        if fine is not None and now.batch:
            fine = replace(fine, guide=in_batches(fine.guide, now.batch))
        return replace(parts, guide=guide, fine=fine, one_by_one=True)

    def escalate(self, state: RunState, parts: Parts) -> str:
        """Spare more from now on; the line that tells it. Raises TooLarge where there is nothing left to spare."""
        ladder, failed = economies_of(state, parts), f"iteration {state.iteration + 1} ran out of memory"
        if self.level >= len(ladder):
            spared = f", with {ladder[-1]}" if ladder else ""
            lower = "lower method.size, method.views or the size of the representation"
            raise TooLarge(f"{failed}{spared}: {advice()}, or {lower}")
        self.level += 1
        return f"{failed}: {ladder[self.level - 1]} from now on"


def economies_of(state: RunState, parts: Parts) -> list[Economy]:
    return economies(len(parts.share), hasattr(state.phi, "chunk"), parts.guide.group)


def thriftily(take: Callable[[Parts], Made], state: RunState, parts: Parts, tell: Callable[[str], object]) -> Made:
    """take(parts), an iteration that leaves `state` as it was where it fails, in as little memory as it needs.

    Each time that it runs out of memory, `tell` is called with a line and it is taken again, more sparingly. Raises
    TooLarge where nothing is left to spare.
    """
    while True:
        try:
            return take(state.thrift.apply(state, parts))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            let_go(error)
        tell(state.thrift.escalate(state, parts))
