"""Dogs standing on four legs, facing -Y: short or long, with hanging or pricked ears, a collar and a tail."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, TYRE, brightness, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, cylinder, ellipsoid, lathe, tube

COLLARS: tuple[Rgb, ...] = ((0.75, 0.12, 0.12), (0.15, 0.25, 0.60), (0.95, 0.80, 0.20))


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    length, thick, leg = rng.uniform(1.05, 1.45), rng.uniform(0.30, 0.36), rng.uniform(0.40, 0.62)
    back = leg + thick * 0.8
    parts = [Part("body", ellipsoid(thick, length / 2, thick, sides=20).moved(z=back), colour)]
    for x in (-1, 1):
        for y in (-1, 1):
            at = x * thick * 0.58, y * length * 0.31
            parts.append(Part("leg", cylinder(0.13, back, top=1.15).moved(*at), shaded(colour, 0.92)))
            parts.append(
                Part("paw", ellipsoid(0.15, 0.19, 0.10).moved(at[0], at[1] - 0.05, 0.09), shaded(colour, 0.85))
            )
    turn = np.linspace(0, 1, 6)
    up = rng.uniform(0.35, 0.6)
    path = np.stack([0 * turn, length * 0.42 + 0.38 * turn, back + 0.1 + up * turn**1.5], -1)
    tail = tube(np.stack([path[:, 1], path[:, 0], path[:, 2]], -1), 0.085).turned("z", 90)
    parts.append(Part("tail", tail, colour))
    return parts + _head(rng, length, thick, back, colour)


def _head(rng: np.random.Generator, length: float, thick: float, back: float, colour: Rgb) -> list[Part]:
    size, y, z = rng.uniform(0.33, 0.39), -length / 2 - 0.06, back + thick + rng.uniform(0.12, 0.26)
    ink: Rgb = (0.85, 0.85, 0.80) if brightness(colour) < 0.2 else TYRE
    neck = np.array([(-0.30, 0.0, back + 0.02), (0.0, 0.0, z)])
    parts = [Part("neck", tube(neck, thick * 0.72).turned("z", 90).moved(0, y, 0), colour)]
    band = lathe([(thick * 0.70, -0.07), (thick * 0.90, -0.07), (thick * 0.90, 0.07), (thick * 0.70, 0.07)])
    parts.append(Part("collar", band.turned("x", 35).moved(0, y + 0.13, (back + z) / 2 + 0.01), _collar(rng, colour)))
    parts.append(Part("head", ellipsoid(size, size * 1.05, size * 0.95, sides=20).moved(0, y - 0.05, z + 0.08), colour))
    snout = rng.uniform(0.26, 0.38)
    muzzle = shaded(IVORY, 0.95) if not is_pale(colour) else shaded(colour, 0.82)
    parts.append(Part("muzzle", ellipsoid(size * 0.55, snout, size * 0.48).moved(0, y - size - 0.06, z - 0.02), muzzle))
    parts.append(Part("nose", ellipsoid(0.10, 0.09, 0.085).moved(0, y - size - snout - 0.02, z + 0.05), TYRE))
    for side in (-1, 1):
        eye = ellipsoid(0.07, 0.05, 0.08).moved(side * size * 0.42, y - size * 0.95, z + 0.22)
        parts.append(Part("eye", eye, ink))
    return parts + _ears(str(rng.choice(["hanging", "hanging", "pricked"])), size, y, z, colour)


def _ears(style: str, size: float, y: float, z: float, colour: Rgb) -> list[Part]:
    shade = shaded(colour, 0.62) if brightness(colour) > 0.2 else (0.34, 0.28, 0.24)
    parts = []
    for side in (-1, 1):
        if style == "hanging":
            ear = ellipsoid(0.10, 0.17, 0.31).turned("y", -side * 12).moved(side * size * 1.0, y, z + 0.02)
        else:
            ear = lathe([(0.17, 0.0), (0.13, 0.2), (0.0, 0.42)]).scaled(1, 0.55, 1).turned("y", side * 14)
            ear = ear.moved(side * size * 0.55, y, z + size * 0.75)
        parts.append(Part("ear", ear, shade))
    return parts


def _collar(rng: np.random.Generator, colour: Rgb) -> Rgb:
    """One that stands out from the coat."""
    apart = [max(abs(a - b) for a, b in zip(each, colour, strict=True)) for each in COLLARS]
    return COLLARS[int(rng.choice([k for k, far in enumerate(apart) if far > 0.35]))]


KIND = Kind(
    build,
    parts={"ears": ("ear",), "collar": ("collar",)},
    also=("puppy", "hound"),
    part_also={"neckband": "collar"},
)
