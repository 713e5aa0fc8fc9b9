"""Mushrooms: a spotted cap, domed, flat, conical or a bell, on a thick cream stem; some with a small one beside."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, WOOD, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.tree import apart
from text23d.worlds.objects.parts import Floats, Part, Rgb, ellipsoid, lathe

# The cap's height for a radius of 1, and its outline (radius, height) from the rim to the top.
CAPS = {
    "dome": (0.78, [(1.0, 0.0), (0.98, 0.22), (0.90, 0.45), (0.76, 0.66), (0.55, 0.84), (0.29, 0.96), (0.0, 1.0)]),
    "flat": (0.56, [(1.0, 0.0), (1.0, 0.25), (0.93, 0.50), (0.78, 0.72), (0.55, 0.88), (0.29, 0.97), (0.0, 1.0)]),
    "cone": (1.05, [(1.0, 0.0), (0.96, 0.12), (0.80, 0.34), (0.60, 0.56), (0.39, 0.77), (0.19, 0.94), (0.0, 1.0)]),
    "bell": (1.20, [(1.0, 0.0), (0.90, 0.15), (0.82, 0.36), (0.72, 0.58), (0.54, 0.80), (0.29, 0.95), (0.0, 1.0)]),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(CAPS)))
    stem = WOOD if is_pale(colour) else shaded(IVORY, rng.uniform(0.93, 1.03))
    parts = _mushroom(rng, style, colour, stem)
    if rng.random() < 0.3:
        size, turn, out = rng.uniform(0.42, 0.55), rng.uniform(0, 360), rng.uniform(0.46, 0.54)
        for part in _mushroom(rng, style, colour, stem):
            small = part.mesh.scaled(size, size, size).moved(out).turned("z", turn)
            parts.append(Part(part.name, small, part.colour))
    return parts


def _mushroom(rng: np.random.Generator, style: str, colour: Rgb, pale: Rgb) -> list[Part]:
    rise, outline = CAPS[style]
    cap = rng.uniform(0.66, 0.84) * (0.85 if rise > 1 else 1.0)
    dome = cap * rise * rng.uniform(0.9, 1.1)
    stem, tall = rng.uniform(0.21, 0.28), rng.uniform(0.75, 1.0)
    bulge = rng.uniform(1.1, 1.45)
    foot = [(stem * bulge * 0.8, 0.0), (stem * bulge, 0.10), (stem * (1 + bulge) / 2, tall * 0.35)]
    parts = [Part("stem", lathe([*foot, (stem, tall * 0.65), (stem * 0.95, tall + 0.05)]), pale)]
    under = [(stem * 0.9, tall + 0.03), (cap * 0.90, tall - 0.07)]
    shell = np.array([(cap * r, tall + dome * h) for r, h in outline])
    parts.append(Part("cap", lathe([*under, *map(tuple, shell)], sides=28), colour))
    gills = [(stem * 0.8, tall - 0.01), (cap * 0.84, tall - 0.095), (cap * 0.84, tall - 0.03)]
    parts.append(Part("gills", lathe([*gills, (stem * 0.8, tall + 0.02)], sides=28), shaded(pale, 0.85)))
    return parts + _spots(rng, shell, cap, apart(colour, IVORY, shaded(WOOD, 0.8)))


def _spots(rng: np.random.Generator, shell: Floats, cap: float, colour: Rgb) -> list[Part]:
    """Flattened balls half sunk in the cap: one at its top, then two staggered rings of them."""
    size, count, twist = cap * rng.uniform(0.18, 0.22), int(rng.integers(3, 5)), rng.uniform(0, 360)
    top = ellipsoid(size * 1.1, size * 1.1, size * 0.5, sides=12)
    parts = [Part("spot", top.moved(z=float(shell[-1, 1]) - size * 0.1), colour)]
    for row, (along, many, scale) in enumerate(((0.62, count, 1.0), (0.27, count + 2, 0.9))):
        at, before, after = (_along(shell, along + step) for step in (0.0, -0.05, 0.05))
        slope = np.rad2deg(np.arctan2(after[1] - before[1], before[0] - after[0]))
        spot = ellipsoid(size * scale, size * scale, size * 0.4, sides=12).turned("y", slope)
        for k in range(many):
            turn = twist + 360 * (k + row / 2) / many
            parts.append(Part("spot", spot.moved(at[0], 0, at[1]).turned("z", turn), colour))
    return parts


def _along(shell: Floats, share: float) -> tuple[float, float]:
    """The point (radius, z) at that share of the way from the rim to the top."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(shell, axis=0), axis=1))])
    r, z = (float(np.interp(share * length[-1], length, shell[:, axis])) for axis in (0, 1))
    return r, z


KIND = Kind(
    build,
    parts={"stem": ("stem",), "spots": ("spot",)},
    also=("toadstool",),
    front=False,
    part_also={"stalk": "stem", "foot": "stem", "trunk": "stem", "dots": "spots"},
)
