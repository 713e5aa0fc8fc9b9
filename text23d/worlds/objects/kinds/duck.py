"""Toy ducks sitting on the water, facing -Y: round or long, with a beak, wings and a turned-up tail."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import TYRE, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, cylinder, ellipsoid, sections

BEAK: Rgb = (0.96, 0.52, 0.10)
HORN: Rgb = (0.98, 0.80, 0.20)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    length, wide, tall = rng.uniform(1.35, 1.6), rng.uniform(0.42, 0.52), rng.uniform(0.38, 0.46)
    shape = [(-0.50, 0.10, 0.25), (-0.44, 0.04, 0.60), (-0.28, 0.0, 0.92), (-0.05, 0.0, 1.0), (0.20, 0.04, 0.86)]
    shape += [(0.36, 0.16, 0.56), (0.46, 0.30, 0.30), (0.52, 0.42, 0.10)]
    stations = [(length * at, tall + tall * up, wide * share, tall * share) for at, up, share in shape]
    parts = [Part("body", sections(stations), colour)]
    size, neck = rng.uniform(0.34, 0.40), rng.uniform(0.10, 0.30)
    y, z = -length * 0.30, tall * 1.75 + neck + size * 0.7
    throat = cylinder(size * 0.78, z - tall, top=0.9).moved(0, y, tall)
    parts += [Part("neck", throat, colour), Part("head", ellipsoid(size, size, size, sides=20).moved(0, y, z), colour)]
    orange = max(abs(a - b) for a, b in zip(BEAK, colour, strict=True)) < 0.35
    beak, reach = HORN if orange else BEAK, rng.uniform(0.26, 0.34)
    parts.append(Part("beak", ellipsoid(size * 0.60, reach, 0.10).moved(0, y - size - 0.06, z - 0.03), beak))
    parts.append(Part("beak", ellipsoid(size * 0.42, reach * 0.75, 0.16).moved(0, y - size, z), shaded(beak, 0.95)))
    ink: Rgb = (0.85, 0.85, 0.80) if brightness(colour) < 0.2 else TYRE
    for side in (-1, 1):
        eye = ellipsoid(0.08, 0.07, 0.09).moved(side * size * 0.58, y - size * 0.70, z + size * 0.38)
        parts.append(Part("eye", eye, ink))
        feather = ellipsoid(0.11, length * 0.27, tall * 0.52).turned("x", 14)
        feather = feather.moved(side * wide * 0.93, length * 0.08, tall * 1.12)
        parts.append(Part("wing", feather, shaded(colour, 0.72) if brightness(colour) > 0.2 else (0.36, 0.36, 0.38)))
    return parts


KIND = Kind(
    build,
    parts={"beak": ("beak",), "wings": ("wing",)},
    also=("duckling",),
    part_also={"bill": "beak", "nose": "beak"},
)
