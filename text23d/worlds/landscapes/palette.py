"""Colours of the times of day and of the weather. All are display colours [3] in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Palette:
    """zenith, horizon    the sky's colours, above and low
    glow               what is added to them around the sun or the moon
    light, ambient     a surface of albedo a shows a (ambient + light * how much it faces the sun)
    haze               what things far away fade to; density: how fast, a distance of 1 being the nearest things'
    cover              share of the sky that clouds take; bright, dark: their colours
    height             of the sun or the moon, in degrees of elevation
    stars              their brightness; lamps: that of lit windows
    night              whether it is the moon
    """

    zenith: Array
    horizon: Array
    glow: Array
    light: Array
    ambient: Array
    haze: Array
    density: float
    cover: float
    bright: Array
    dark: Array
    height: float
    stars: float = 0.0
    lamps: float = 0.0
    night: bool = False


def rgb(*values: float) -> Array:
    return np.array(values, np.float32)


def mixed(a: Array, b: Array, share: float) -> Array:
    """a to b."""
    return (a + (b - a) * np.float32(share)).astype(np.float32)


TIMES = {
    "dawn": Palette(
        zenith=rgb(0.40, 0.50, 0.80), horizon=rgb(1.00, 0.78, 0.76), glow=rgb(0.45, 0.30, 0.08),
        light=rgb(0.62, 0.46, 0.42), ambient=rgb(0.40, 0.38, 0.50), haze=rgb(0.88, 0.74, 0.80), density=0.10,
        cover=0.25, bright=rgb(1.00, 0.86, 0.84), dark=rgb(0.68, 0.58, 0.74), height=5.0, lamps=0.3,
    ),
    "day": Palette(
        zenith=rgb(0.13, 0.40, 0.84), horizon=rgb(0.66, 0.84, 0.97), glow=rgb(0.30, 0.24, 0.12),
        light=rgb(0.66, 0.62, 0.54), ambient=rgb(0.40, 0.44, 0.52), haze=rgb(0.66, 0.79, 0.93), density=0.07,
        cover=0.28, bright=rgb(1.00, 1.00, 1.00), dark=rgb(0.72, 0.77, 0.85), height=25.0,
    ),
    "sunset": Palette(
        zenith=rgb(0.17, 0.18, 0.47), horizon=rgb(0.98, 0.48, 0.24), glow=rgb(0.40, 0.38, 0.14),
        light=rgb(0.66, 0.34, 0.16), ambient=rgb(0.28, 0.21, 0.32), haze=rgb(0.82, 0.43, 0.36), density=0.09,
        cover=0.32, bright=rgb(1.00, 0.60, 0.40), dark=rgb(0.48, 0.26, 0.42), height=4.0, lamps=0.5,
    ),
    "night": Palette(
        zenith=rgb(0.015, 0.025, 0.09), horizon=rgb(0.12, 0.18, 0.36), glow=rgb(0.24, 0.28, 0.36),
        light=rgb(0.20, 0.23, 0.32), ambient=rgb(0.18, 0.23, 0.38), haze=rgb(0.13, 0.19, 0.34), density=0.08,
        cover=0.16, bright=rgb(0.26, 0.30, 0.42), dark=rgb(0.08, 0.10, 0.18), height=13.0, stars=1.0, lamps=1.0,
        night=True,
    ),
}  # fmt: skip


def palette(time: str, weather: str, rng: np.random.Generator) -> Palette:
    """The colours of a time of day in some weather, a little different each time."""
    base = TIMES[time]
    shift = rng.normal(0.0, 0.03, 3).astype(np.float32)
    height = base.height * rng.uniform(0.7, 1.35) if time != "day" else rng.uniform(12.0, 50.0)
    base = replace(
        base,
        zenith=base.zenith * np.float32(rng.uniform(0.85, 1.15)) + shift * 0.6,
        horizon=base.horizon + shift,
        haze=base.haze + shift,
        height=height,
        cover=base.cover * rng.uniform(0.0, 1.6),
        density=base.density * rng.uniform(0.7, 1.4),
    )
    return WEATHERS[weather](base, rng)


def clear(p: Palette, rng: np.random.Generator) -> Palette:
    return p


def cloudy(p: Palette, rng: np.random.Generator) -> Palette:
    """A sky of thick clouds, and less light."""
    grey = _grey(p)
    return replace(
        p,
        zenith=mixed(p.zenith, grey, 0.35),
        horizon=mixed(p.horizon, grey, 0.3),
        glow=p.glow * 0.5,
        light=p.light * 0.55,
        cover=rng.uniform(0.62, 0.85),
        bright=mixed(p.bright, grey, 0.25),
        dark=mixed(p.dark, grey * 0.6, 0.6),
        stars=p.stars * 0.3,
    )


def foggy(p: Palette, rng: np.random.Generator) -> Palette:
    """Things fade within a few steps."""
    pale = mixed(p.haze, _grey(p) * np.float32(1.08), 0.75)
    return replace(
        p,
        zenith=mixed(p.zenith, pale, 0.75),
        horizon=pale,
        haze=pale,
        glow=p.glow * 0.35,
        light=p.light * 0.3,
        density=rng.uniform(0.4, 0.9),
        cover=0.0,
        stars=0.0,
    )


def rainy(p: Palette, rng: np.random.Generator) -> Palette:
    """Dark and grey."""
    grey = mixed(_grey(p) * np.float32(0.62), rgb(0.30, 0.36, 0.42) * _level(p), 0.5)
    return replace(
        p,
        zenith=mixed(p.zenith, grey * 0.7, 0.85),
        horizon=mixed(p.horizon, grey * 1.25, 0.75),
        haze=mixed(p.haze, grey * 1.2, 0.8),
        glow=p.glow * 0.15,
        light=p.light * 0.2,
        ambient=mixed(p.ambient, _grey(p) * 0.5, 0.3),
        density=p.density * 2.5,
        cover=rng.uniform(0.8, 0.95),
        bright=mixed(p.bright, grey * 1.3, 0.85),
        dark=mixed(p.dark, grey * 0.6, 0.85),
        stars=0.0,
        lamps=max(p.lamps, 0.3),
    )


def snowy(p: Palette, rng: np.random.Generator) -> Palette:
    """Pale, and somewhat hazy."""
    grey = _grey(p) * np.float32(1.05)
    return replace(
        p,
        zenith=mixed(p.zenith, grey, 0.25),
        horizon=mixed(p.horizon, grey, 0.25),
        haze=mixed(p.haze, grey, 0.35),
        light=p.light * 0.8,
        density=p.density * 1.6,
        cover=rng.uniform(0.3, 0.75),
        stars=p.stars * 0.4,
    )


WEATHERS = {"clear": clear, "cloudy": cloudy, "foggy": foggy, "rainy": rainy, "snowy": snowy}


def _level(p: Palette) -> np.float32:
    """How bright it is, from 0 to about 1."""
    return np.float32(np.clip((p.horizon.mean() + p.zenith.mean()) * 0.75, 0.15, 1.0))


def _grey(p: Palette) -> Array:
    """The sky without its colour, a little blue, and more so at night."""
    level = 0.6 * p.horizon.mean() + 0.4 * p.haze.mean()
    return level * (rgb(0.80, 0.95, 1.25) if p.night else rgb(0.97, 1.0, 1.04))
