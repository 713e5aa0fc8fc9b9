"""Buses: single-deckers, double-deckers, and school buses with a bonnet."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from text23d.worlds.objects.colours import IVORY, LAMP, STEEL, TAIL_LAMP, glass, is_pale
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.car import TYRES, rubber, wheels
from text23d.worlds.objects.parts import Part, Rgb, box, cylinder


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["single", "double", "school"]))
    nose = rng.uniform(0.38, 0.46) if style == "school" else 0.0
    length = {"single": rng.uniform(2.1, 2.5), "double": rng.uniform(1.7, 2.0), "school": rng.uniform(1.7, 2.0)}[style]
    width, wheel = rng.uniform(0.80, 0.90), rng.uniform(0.26, 0.29)
    floor = wheel * 0.75
    skirt, band = rng.uniform(0.40, 0.46), rng.uniform(0.30, 0.34)
    storeys = [floor + skirt]
    if style == "double":
        storeys.append(storeys[0] + band + rng.uniform(0.20, 0.24))
    top = storeys[-1] + band

    parts = [Part("body", box(width, length, skirt, bevel=0.04).moved(z=floor), colour)]
    for below, above in pairwise(storeys):
        parts.append(Part("body", box(width, length, above - below - band).moved(z=below + band), colour))
    for sill in storeys:
        parts += _windows(width, length, sill, band, colour, int(rng.integers(3, 5)))
    roof = box(width + 0.08, length + 0.08, 0.17, bevel=0.06).moved(z=top - 0.03)
    parts.append(Part("roof", roof, colour))
    parts += _door(width, length, floor, storeys[0] + band, colour)
    parts += _face(width, length, floor, skirt, nose, colour)
    if style != "school":
        sign = box(width * 0.62, 0.10, 0.16).moved(0, -length / 2 - 0.03, top - 0.06)
        parts.append(Part("sign", sign, rubber(colour) if is_pale(colour) else IVORY))
    front = -length / 2 - nose
    parts += wheels((front + 0.30 + nose * 0.2, length / 2 - 0.42), width, wheel, rng.uniform(0.22, 0.26), colour)
    return parts


def _windows(width: float, length: float, sill: float, tall: float, colour: Rgb, panes: int) -> list[Part]:
    """A block of glass behind painted pillars, the panes set back; a windscreen and a smaller rear one."""
    pane = glass(colour)
    start, end = -length / 2 + 0.055, length / 2 - 0.055
    band = box(width - 0.12, end - start, tall + 0.08).moved(0, 0, sill - 0.04)
    parts = [Part("window", band, pane)]
    for at in np.linspace(start, end, panes + 1):
        parts.append(Part("pillar", box(width, 0.11, tall + 0.08).moved(0, float(at), sill - 0.04), colour))
    screen = box(width * 0.86, 0.10, tall).moved(0, -length / 2 + 0.02, sill - 0.06)
    rear = box(width * 0.55, 0.10, tall * 0.7).moved(0, length / 2 - 0.02, sill + tall * 0.15)
    return [*parts, Part("window", screen, pane), Part("window", rear, pane)]


def _door(width: float, length: float, floor: float, top: float, colour: Rgb) -> list[Part]:
    """The door: on the bus's own right, behind the front wheel."""
    door = box(0.10, 0.30, top - floor - 0.09).moved(-width / 2, -length / 2 + 0.70, floor + 0.06)
    return [Part("door", door, glass(colour))]


def _face(width: float, length: float, floor: float, skirt: float, nose: float, colour: Rgb) -> list[Part]:
    """Bonnet (where `nose` is not 0), lamps and bumpers."""
    front, parts = -length / 2 - nose, []
    if nose:
        bonnet = box(width * 0.84, nose + 0.2, skirt - 0.06, bevel=0.07).moved(0, front + nose / 2 + 0.1, floor)
        parts.append(Part("bonnet", bonnet, colour))
        grille = box(width * 0.36, 0.08, skirt * 0.5).moved(0, front + 0.015, floor + 0.10)
        parts.append(Part("grille", grille, rubber(colour)))
    for side in (-1, 1):
        lamp = cylinder(0.085, 0.12).turned("x", 90).moved(side * width * 0.31, front + 0.06, floor + 0.22)
        tail = box(0.16, 0.08, 0.18).moved(side * width * 0.36, length / 2, floor + 0.14)
        parts += [Part("headlamp", lamp, LAMP), Part("tail lamp", tail, TAIL_LAMP)]
    for end in (front - 0.01, length / 2 + 0.01):
        parts.append(Part("bumper", box(width * 0.98, 0.12, 0.12, bevel=0.03).moved(0, end, floor - 0.02), STEEL))
    return parts


KIND = Kind(
    build,
    parts={"wheels": ("tyre",), "roof": ("roof",)},
    also=("coach",),
    front=True,
    part_also={**TYRES, "top": "roof"},
)
