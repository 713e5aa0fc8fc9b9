"""Every other row of what cameras see, which is what one inner step of an update looks at ([0036])."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from text23d.cameras import Cameras
from text23d.closeups import Closeups
from text23d.contracts import Shape

FIELDS = 2
"""Fields of a picture, as in television: the even rows, and the odd ones."""


@dataclass(frozen=True, eq=False)
class Interlaced:
    """One of the FIELDS, by its first row, of what B views see."""

    views: Cameras | Closeups
    first: int

    def __len__(self) -> int:
        return len(self.views)

    def rays(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """As `Cameras.rays`, through the rows of a field of `shape` (H, W), of pictures FIELDS times as high."""
        high, wide = shape
        origins, directions = self.views.rays((FIELDS * high, wide))
        return origins[:, self.first :: FIELDS], directions[:, self.first :: FIELDS]
