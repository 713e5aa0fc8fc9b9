"""Castles: battlemented walls between four round or square towers round a keep; the gate is towards -Y."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, box, cylinder, lathe

SLATES: tuple[Rgb, ...] = ((0.36, 0.27, 0.22), (0.30, 0.32, 0.38), (0.55, 0.36, 0.28))
SLIT: Rgb = (0.14, 0.14, 0.16)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    wide, wall = rng.uniform(1.2, 1.4), rng.uniform(0.50, 0.66)
    tower, tall = rng.uniform(0.22, 0.27), wall + rng.uniform(0.22, 0.42)
    slate = SLATES[int(rng.integers(len(SLATES)))]
    ink = SLIT if brightness(colour) > 0.2 else (0.62, 0.62, 0.64)
    parts = [Part("walls", box(wide, wide, wall), colour)]
    for side in (-1, 1):
        for k in (-0.5, -0.17, 0.17, 0.5):
            merlon = box(0.16, 0.14, 0.15)
            at = k * wide * 0.75, side * (wide / 2 - 0.07), wall - 0.01
            parts.append(Part("merlon", merlon.moved(*at), shaded(colour, 0.95)))
            parts.append(Part("merlon", merlon.moved(*at).turned("z", 90), shaded(colour, 0.95)))
    square, pointed = rng.random() < 0.3, rng.random() < 0.75
    for x in (-1, 1):
        for y in (-1, 1):
            parts += _tower(x * wide / 2, y * wide / 2, tower, tall, square, pointed, colour, slate, ink)
    high = rng.uniform(0.5, 0.8)
    parts.append(Part("keep", box(wide * 0.48, wide * 0.48, wall + high).moved(0, wide * 0.08), shaded(colour, 0.97)))
    roof = box(wide * 0.58, wide * 0.58, high * 0.75, taper=(0.08, 0.08)).moved(0, wide * 0.08, wall + high)
    parts.append(Part("roof", roof, slate))
    return parts + _gate(wide, wall, rng.uniform(0.32, 0.40), ink)


def _tower(
    x: float, y: float, radius: float, tall: float, square: bool, pointed: bool, colour: Rgb, slate: Rgb, ink: Rgb
) -> list[Part]:
    shaft = box(radius * 1.9, radius * 1.9, tall) if square else cylinder(radius, tall)
    crown = box(radius * 2.3, radius * 2.3, 0.16) if square else cylinder(radius * 1.2, 0.16)
    parts = [
        Part("tower", shaft.moved(x, y), colour),
        Part("tower", crown.moved(x, y, tall - 0.05), shaded(colour, 0.92)),
    ]
    peak = 0.52 if pointed else 0.26
    roof = (
        box(radius * 2.2, radius * 2.2, peak, taper=(0.06, 0.06)) if square else lathe([(radius * 1.15, 0), (0, peak)])
    )
    parts.append(Part("roof", roof.moved(x, y, tall + 0.1), slate))
    side = np.sign(y) * radius
    return [*parts, Part("slit", box(0.10, 0.08, 0.22).moved(x, y + side, tall * 0.62), ink)]


def _gate(wide: float, wall: float, half: float, ink: Rgb) -> list[Part]:
    """A wooden door under a round arch."""
    arch = cylinder(half / 2, 0.10).turned("x", 90).moved(0, -wide / 2 + 0.05, wall * 0.52)
    door = box(half, 0.10, wall * 0.52).moved(0, -wide / 2)
    frame = box(half + 0.12, 0.06, wall * 0.85).moved(0, -wide / 2)
    return [Part("frame", frame, ink), Part("door", arch, BARK), Part("door", door, BARK)]


KIND = Kind(
    build,
    parts={"roof": ("roof",)},
    also=("fortress",),
    part_also={"top": "roof", "spires": "roof"},
)
