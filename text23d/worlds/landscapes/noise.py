"""Random shapes without seams: tiles of fractal noise, and profiles around the horizon."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TILE = 512


@cache
def tile(slope: float) -> Array:
    """A square of noise [TILE, TILE] float32 that goes on at its edges, amplitudes falling as frequency^-slope; mean 0
    and standard deviation 1."""
    rng = np.random.default_rng(round(100 * slope))
    fx, fy = np.fft.rfftfreq(TILE) * TILE, np.fft.fftfreq(TILE) * TILE
    frequency = np.hypot(fy[:, None], fx)
    amplitude = np.where(frequency < 2, 0.0, np.maximum(frequency, 1.0) ** -slope)
    spectrum = amplitude * np.exp(2j * np.pi * rng.random(frequency.shape))
    values = np.fft.irfft2(spectrum, (TILE, TILE))
    return ((values - values.mean()) / values.std()).astype(np.float32)


def lookup(x: Array, y: Array, slope: float, offset: Array) -> Array:
    """Noise at places in tiles: x and y of any one shape, 1 = a whole tile, moved by offset [2]."""
    offset = offset.astype(np.float32) + 64  # what is truncated below is positive
    column = ((x + offset[0]) * TILE).astype(np.int32) & (TILE - 1)
    row = ((y + offset[1]) * TILE).astype(np.int32) & (TILE - 1)
    return tile(slope).ravel()[row * TILE + column]


def profile(rng: np.random.Generator, width: int, low: float, high: float, slope: float) -> Array:
    """A periodic random line [width] float32: cycles from `low` to `high` around the circle, amplitudes falling as
    frequency^-slope, mean 0 and standard deviation 1."""
    frequency = np.arange(width // 2 + 1, dtype=np.float64)
    band = (frequency >= low) & (frequency <= high)
    amplitude = np.where(band, np.maximum(frequency, 1.0) ** -slope, 0.0) * rng.normal(1.0, 0.35, frequency.shape)
    values = np.fft.irfft(amplitude * np.exp(2j * np.pi * rng.random(frequency.shape)), width)
    return ((values - values.mean()) / values.std()).astype(np.float32)


def smoothstep(low: float | Array, high: float | Array, x: Array) -> Array:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)
