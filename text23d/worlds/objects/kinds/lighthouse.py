"""Lighthouses: a tapering tower with bands, a gallery, a lantern and a roof, the door towards -Y; some on a rock."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, LAMP, TYRE, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, box, cylinder, ellipsoid, lathe

ROCK: Rgb = (0.42, 0.40, 0.38)
TARRED: Rgb = (0.32, 0.34, 0.38)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    foot, top, tall = rng.uniform(0.36, 0.44), rng.uniform(0.24, 0.28), rng.uniform(1.5, 1.9)
    stripe = TARRED if is_pale(colour) else IVORY
    parts = [Part("tower", lathe([(foot, 0), (top, tall)], sides=24), colour)]
    bands = int(rng.integers(2, 4))
    for k in range(bands):
        low = tall * (0.26 + 0.74 * (k + 0.25) / bands)
        high = low + tall * 0.74 / bands * 0.5
        ring = [(foot + (top - foot) * z / tall + 0.03, z) for z in (low, high)]
        parts.append(Part("stripe", lathe([(top * 0.8, low), *ring, (top * 0.8, high)], sides=24), stripe))
    parts += _lantern(rng, top, tall, shaded(colour, 0.85))
    door = [Part("door", box(0.24, 0.16, 0.40).moved(0, -foot * 0.95), BARK)]
    frame = Part("frame", box(0.32, 0.12, 0.46).moved(0, -foot * 0.95), shaded(stripe, 0.9))
    window = Part("window", box(0.13, 0.12, 0.17).moved(0, -(foot + top) / 2 * 0.95, tall * 0.56), TYRE)
    parts += [*door, frame, window]
    if rng.random() < 0.5:
        parts.append(Part("rock", ellipsoid(foot * 1.7, foot * 1.6, 0.20).moved(z=-0.06), ROCK))
    return parts


def _lantern(rng: np.random.Generator, top: float, tall: float, roof: Rgb) -> list[Part]:
    """A gallery with a rail, the lit room, and a dome or a cone over it."""
    rail = lathe([(top * 1.0, tall), (top * 1.45, tall + 0.02), (top * 1.45, tall + 0.14), (top * 1.0, tall + 0.14)])
    light = cylinder(top * 0.82, 0.34).moved(z=tall + 0.08)
    bars = [box(0.08, 0.08, 0.30).moved(top * 0.82, 0, tall + 0.10).turned("z", 90 * k + 45) for k in range(4)]
    parts = [Part("gallery", rail, TYRE), Part("light", light, LAMP)]
    parts += [Part("bar", bar, TYRE) for bar in bars]
    base = tall + 0.38
    cone = [(top * 0.6, base), (top * 1.25, base), (0.0, base + rng.uniform(0.36, 0.50))]
    dome = [
        (top * 0.6, base),
        (top * 1.15, base),
        (top * 1.0, base + 0.17),
        (top * 0.55, base + 0.29),
        (0.0, base + 0.36),
    ]
    parts.append(Part("roof", lathe(dome if rng.random() < 0.4 else cone), roof))
    return [*parts, Part("knob", ellipsoid(0.07, 0.07, 0.07).moved(z=base + 0.42), TYRE)]


KIND = Kind(
    build,
    parts={"stripes": ("stripe",), "roof": ("roof",)},
    part_also={"bands": "stripes", "rings": "stripes", "top": "roof"},
)
