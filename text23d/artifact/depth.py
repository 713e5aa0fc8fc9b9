"""How much matter hides a point of a density field: the least optical depth at which it lies."""

from __future__ import annotations

from itertools import product

import numpy as np


def least_depth(field: np.ndarray, cell: float) -> np.ndarray:
    """D [X, Y, Z] at the centres of cells of side `cell`: the least, over the 26 directions to a cell's neighbours, of
    the integral of the density [X, Y, Z] (float32, per scene unit) from outside the grid up to there.

    D grows along every ray that comes from outside. So {D > d} has no cavities, and no holes but those that one of the
    directions sees through; and a thin part that stops half of the light from both its sides has ln(2) / 2 in its
    middle, however soft it is. Integrals are trapezoidal, from centre to centre (short characteristics: Kunasz and
    Auer 1988).
    """
    least = np.full(field.shape, np.inf, np.float32)
    for step in product((-1, 0, 1), repeat=3):
        if any(step):
            _sweep(field, step, cell, least)
    return least


def _sweep(field: np.ndarray, step: tuple[int, ...], cell: float, least: np.ndarray) -> None:
    """Lower `least` to the depth along rays that go by `step` from cell to cell."""
    axis = next(index for index, by in enumerate(step) if by)
    onwards = slice(None, None, step[axis])
    layers, best = (np.moveaxis(each, axis, 0)[onwards] for each in (field, least))
    across, half = step[:axis] + step[axis + 1 :], np.float32(cell * np.linalg.norm(step) / 2)
    through = np.zeros(layers.shape[1:], np.float32)
    for layer, lowest in zip(layers, best, strict=True):
        own = layer * half
        through = _shifted(through, *across) + own
        np.minimum(lowest, through, out=lowest)
        through += own


def _shifted(layer: np.ndarray, a: int, b: int) -> np.ndarray:
    """The layer moved by a and b cells; zero where nothing comes from."""
    high, wide = layer.shape
    return np.pad(layer, 1)[1 - a : 1 - a + high, 1 - b : 1 - b + wide]
