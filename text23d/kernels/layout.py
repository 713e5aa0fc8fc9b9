"""How a multiresolution hash grid lies in memory: shared by the compiled kernel and its torch twin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class GridLayout:
    """A multiresolution hash grid over [0, 1]^3 (Müller et al. 2022, "Instant neural graphics primitives", section 3).

    Level l has N_l = floor(base * growth^l) cells and N_l + 1 vertices per axis, so that vertex v sits at v / N_l and
    both faces of the cube carry vertices (no half-cell shift). A level whose (N_l + 1)^3 vertices fit in
    2^log2_table is stored densely, vertex (i, j, k) at i + (N_l + 1) (j + (N_l + 1) k); any other level has
    2^log2_table entries and keeps that vertex at (i xor 2654435761 j xor 805459861 k) mod 2^log2_table. The levels lie
    one behind another in ONE table [entries, features].

    levels      number of levels, 1 to 64.
    features    numbers per table entry, at least 1.
    log2_table  at most 2^log2_table entries per level, 1 to 30.
    base        cells per axis of the coarsest level, at least 1.
    growth      ratio of the resolutions of neighbouring levels, at least 1; the finest level has at most 2^20 cells.

    Raises ValueError outside these ranges.
    """

    levels: int = 12
    features: int = 2
    log2_table: int = 16
    base: int = 16
    growth: float = 1.3819

    def __post_init__(self) -> None:
        ranges = {"levels": (1, 64), "features": (1, 64), "log2_table": (1, 30), "base": (1, 2**20)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"GridLayout {name} = {value}: expected {low} to {high}")
        if not self.growth >= 1:
            raise ValueError(f"GridLayout growth = {self.growth}: expected at least 1")
        if math.log2(self.base) + (self.levels - 1) * math.log2(self.growth) > 20:
            raise ValueError(f"{self}: the finest level exceeds 2^20 cells per axis; lower levels, base or growth")

    @classmethod
    def spanning(cls, levels: int, features: int, log2_table: int, base: int, finest: int) -> GridLayout:
        """The layout whose resolutions run geometrically from `base` to exactly `finest` (Müller et al., Eq. 3)."""
        if levels < 2 or finest < base:
            raise ValueError(f"from {base} to {finest} cells in {levels} levels: expected 2 levels or more, going up")
        return cls(levels, features, log2_table, base, (finest / base) ** (1 / (levels - 1)))

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """N_l, cells per axis. The 1e-6 keeps a growth that was computed as a root from missing its whole number."""
        return tuple(math.floor(self.base * self.growth**level + 1e-6) for level in range(self.levels))

    @cached_property
    def dense(self) -> tuple[bool, ...]:
        """Whether each level is stored densely."""
        return tuple((n + 1) ** 3 <= 2**self.log2_table for n in self.resolutions)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Table entries of each level."""
        return tuple(
            (n + 1) ** 3 if dense else 2**self.log2_table for n, dense in zip(self.resolutions, self.dense, strict=True)
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first table entry of each level."""
        return tuple(sum(self.sizes[:level]) for level in range(self.levels))

    @property
    def entries(self) -> int:
        """T: rows of the table."""
        return sum(self.sizes)

    @property
    def out_features(self) -> int:
        """Columns of an encoding, levels * features, level after level."""
        return self.levels * self.features
