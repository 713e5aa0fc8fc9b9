"""Where windows into a canvas lie: anywhere, or all of a fixed grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from text23d.cameras import check_count
from text23d.contracts import Shape
from text23d.errors import UserError
from text23d.settings import Finite, Flag, whole
from text23d.windows import Telling, Windows

Extents = tuple[Annotated[int, whole(1, 2**24)], ...]


class Placing:
    """What samplers of windows share of `contracts.Sampler`."""

    words: ClassVar = ("",)
    whole: Extents
    wrap: tuple[bool, ...]
    shared: bool

    @property
    def warm(self) -> bool:
        return self.shared

    @property
    def wraps(self) -> tuple[bool, ...]:
        """`wrap`, for each axis."""
        return self.wrap or (False,) * len(self.whole)


@dataclass(frozen=True)
class WindowSampler(Placing):
    """Windows of extent `window` anywhere in a canvas of extent `whole`; p(psi) of the method.

    wrap    whether the canvas goes on at its beginning, along each axis; none: along no axis.
    told    see `Windows`.
    shared  whether overlapping windows begin from one noise, that of the last visit; see `method.warm.SharedNoise`.
    Raises UserError for a window that is larger than the canvas.
    """

    count: ClassVar = None

    whole: Extents
    window: Extents
    wrap: tuple[Flag, ...] = ()
    told: tuple[Finite, ...] | Telling | None = None
    shared: Flag = False

    def __post_init__(self) -> None:
        require_room(self.whole, self.window, self.wraps)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Windows:
        """n windows, all drawn from `generator` (None: torch's global one).

        Along the axis with the most room they are stratified: it is cut into n equal bins with one window anywhere in
        each, so that all of the canvas is seen about equally often. Where it ends, bins reach half a window beyond, and
        windows are moved inside, or else its ends would be seen less often.
        """
        check_count(n)
        u = torch.rand(len(self.whole), n, generator=generator)
        room = [extent if wrap else extent - side for extent, side, wrap in self._axes()]
        longest = max(range(len(room)), key=lambda axis: room[axis])
        u[longest] = (torch.arange(n) + u[longest]) / n
        starts = [self._start(share, *axis) for share, axis in zip(u, self._axes(), strict=True)]
        return Windows(torch.stack(starts, -1), self.wraps, self.told or ())

    def _start(self, share: Tensor, extent: int, side: int, wrap: bool) -> Tensor:
        """Starts [n] at shares [n] in [0, 1) of an axis."""
        if wrap:
            return (share * extent).long() % extent
        margin = min(side // 2, extent - side)
        return ((share * (extent - side + 1 + 2 * margin)).long() - margin).clamp(0, extent - side)

    def _axes(self) -> list[tuple[int, int, bool]]:
        return list(zip(self.whole, self.window, self.wraps, strict=True))


@dataclass(frozen=True)
class WindowGrid(Placing):
    """All windows of extent `window` of a canvas, `stride` elements apart along each axis; the last one ends where the
    canvas does.

    wrap, told, shared: as of `WindowSampler`. Raises UserError as it does, and for strides that leave gaps.
    """

    whole: Extents
    window: Extents
    stride: Extents
    wrap: tuple[Flag, ...] = ()
    told: tuple[Finite, ...] | Telling | None = None
    shared: Flag = False

    def __post_init__(self) -> None:
        require_room(self.whole, self.window, self.wraps)
        if len(self.stride) != len(self.window) or any(
            step > side for step, side in zip(self.stride, self.window, strict=True)
        ):
            raise UserError(
                f"views.stride={list(self.stride)}: expected one for each axis of views.window={list(self.window)}, at "
                "most as large, so that there are no gaps"
            )

    @property
    def count(self) -> int:
        return len(self.all())

    def all(self) -> Windows:
        axes = zip(self.whole, self.window, self.stride, self.wraps, strict=True)
        return Windows(torch.tensor(list(product(*(starts(*axis) for axis in axes)))), self.wraps, self.told or ())

    def sample(self, n: int, generator: torch.Generator | None = None) -> Windows:
        """All of them; nothing is drawn. Raises UserError for another n than there are."""
        if n != self.count:
            raise UserError(
                f"method.views={n}: there are {self.count} windows on this grid; use method.views={self.count}"
            )
        return self.all()


def starts(extent: int, side: int, stride: int, wrap: bool) -> list[int]:
    """Where windows begin along an axis."""
    if wrap:
        return list(range(0, extent, stride))
    return sorted({*range(0, extent - side + 1, stride), extent - side})


def require_room(whole: Shape, window: Shape, wrap: Sequence[bool]) -> None:
    """Raises UserError for a window that is larger than the canvas, or has not as many axes."""
    fits = len(whole) == len(window) == len(wrap) and all(
        side <= all_ for side, all_ in zip(window, whole, strict=True)
    )
    if not fits:
        raise UserError(
            f"views.whole={list(whole)}, views.window={list(window)}, views.wrap={list(wrap)}: expected as many "
            "of each, and a canvas at least as large as a window; make it longer"
        )
