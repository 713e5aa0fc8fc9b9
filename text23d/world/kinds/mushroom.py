"""Mushrooms: a coloured cap, domed, flat or conical, on a cream stem, with spots."""

from __future__ import annotations

import numpy as np

from text23d.world.colours import IVORY, is_pale, shaded
from text23d.world.parts import Part, Rgb, ellipsoid, lathe


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    cap, dome = rng.uniform(0.62, 0.82), rng.uniform(0.42, 0.62)
    stem, tall = rng.uniform(0.20, 0.28), rng.uniform(0.85, 1.15)
    power = rng.uniform(0.75, 1.25)
    bulge = rng.uniform(1.1, 1.5)
    profile = [(stem * bulge * 0.8, 0.0), (stem * bulge, 0.08), (stem * (1 + bulge) / 2, tall * 0.3)]
    parts = [Part("stem", lathe([*profile, (stem, tall * 0.6), (stem * 0.95, tall + 0.05)]), IVORY)]
    turn = np.linspace(0, np.pi / 2, 10)[:-1]
    shell = [(cap * float(np.cos(a)), tall + dome * float(np.sin(a)) ** power) for a in turn]
    skirt = [(stem * 0.9, tall + 0.03), (cap * 0.93, tall - 0.05), (cap, tall - 0.02)]
    parts.append(Part("cap", lathe([*skirt, *shell, (0.0, tall + dome)], sides=28), colour))
    gills = [(stem * 0.8, tall - 0.01), (cap * 0.86, tall - 0.075), (cap * 0.86, tall - 0.03)]
    parts.append(Part("gills", lathe([*gills, (stem * 0.8, tall + 0.02)], sides=28), shaded(IVORY, 0.9)))
    if rng.random() < 0.5:
        ring = [(stem * 0.8, tall * 0.62), (stem * 1.55, tall * 0.56), (stem * 1.0, tall * 0.70)]
        parts.append(Part("ring", lathe(ring), shaded(IVORY, 1.04)))
    return parts + _spots(rng, cap, dome, tall, power, colour)


def _spots(rng: np.random.Generator, cap: float, dome: float, tall: float, power: float, colour: Rgb) -> list[Part]:
    """Flattened balls half sunk in the cap: one near the top, then two staggered rings of them."""
    pale = shaded(IVORY, 0.66) if is_pale(colour) else IVORY
    size, count, twist = rng.uniform(0.10, 0.14), int(rng.integers(4, 7)), rng.uniform(0, 360)
    places = [(80.0, twist, 1.1)]
    places += [(50.0, twist + 360 * k / (count - 1), 1.0) for k in range(count - 1)]
    places += [(20.0, twist + 30 + 360 * k / (count + 1), 0.9) for k in range(count + 1)]
    parts = []
    for height, azimuth, scale in places:
        a = np.deg2rad(height)
        r, z = cap * np.cos(a), dome * np.sin(a) ** power
        slope = np.rad2deg(np.arctan2(z / dome**2, r / cap**2))
        spot = ellipsoid(size * scale, size * scale, size * 0.4, sides=12).turned("y", 90 - slope)
        parts.append(Part("spot", spot.moved(r, 0, tall + z).turned("z", azimuth), pale))
    return parts
