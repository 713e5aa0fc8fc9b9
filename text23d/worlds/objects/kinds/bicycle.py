"""Bicycles of thick tubes: a frame in the main colour between two wheels, a seat and a handlebar; the front is -Y."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, STEEL, TYRE, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.car import TYRES
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid

Point = tuple[float, float]


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    radius, base = rng.uniform(0.40, 0.46), rng.uniform(0.50, 0.56)
    thick, low_bar = rng.uniform(0.10, 0.12), rng.random() < 0.35
    rubber = (0.36, 0.36, 0.38) if brightness(colour) < 0.2 else TYRE
    parts = []
    for y in (-base, base):
        parts.append(Part("tyre", _ring(radius, 0.085).moved(0, y, radius), rubber))
        parts.append(Part("rim", _ring(radius * 0.82, 0.075).moved(0, y, radius), colour))
        disc = cylinder(radius * 0.30, 0.14).moved(z=-0.07).turned("y", 90)
        parts.append(Part("hub", disc.moved(0, y, radius), STEEL))
        for turn in (0, 60, 120):
            spoke = box(0.07, 0.07, radius * 1.5).moved(z=-radius * 0.75).turned("x", turn)
            parts.append(Part("spoke", spoke.moved(0, y, radius), shaded(STEEL, 0.9)))
    crank: Point = (-0.02, radius * 0.85)
    saddle: Point = (base * 0.46, radius + rng.uniform(0.44, 0.52))
    head: Point = (-base * 0.66, radius + rng.uniform(0.42, 0.50))
    middle = (saddle[0] * 0.5 + crank[0] * 0.5, saddle[1] * 0.45 + crank[1] * 0.55)
    bars = [
        (crank, saddle),
        (crank, head),
        (middle if low_bar else saddle, head),
        (crank, (base, radius)),
        (saddle, (base, radius)),
        (head, (-base, radius)),
    ]
    parts += [Part("frame", _bar(a, b, thick), colour) for a, b in bars]
    return parts + _seat(saddle) + _handlebar(rng, head, thick)


def _ring(radius: float, thick: float) -> Mesh:
    """A wheel's rim across X: a flat ring, its hole closed by nothing, as a loft round its section."""
    section = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    rings = []
    for a in np.linspace(0, 2 * np.pi, 29):
        r = radius - thick + thick * np.cos(section)
        rings.append(np.stack([thick * np.sin(section), r * np.cos(a), r * np.sin(a)], -1))
    return _closed(np.array(rings[:-1]))


def _closed(rings: np.ndarray) -> Mesh:
    """Rings joined in a circle: a torus."""
    count, around = rings.shape[:2]
    here = np.arange(count * around).reshape(count, around)
    right, ahead = np.roll(here, -1, 1), np.roll(here, -1, 0)
    corner = np.roll(ahead, -1, 1)
    faces = np.concatenate(
        [np.stack([here, right, corner], -1).reshape(-1, 3), np.stack([here, corner, ahead], -1).reshape(-1, 3)]
    )
    return Mesh(rings.reshape(-1, 3), faces).outward()


def _bar(a: Point, b: Point, radius: float) -> Mesh:
    """A round rod in the plane x = 0 between two points (y, z)."""
    along = np.subtract(b, a)
    angle = float(np.rad2deg(np.arctan2(-along[0], along[1])))
    return cylinder(radius, float(np.hypot(*along)), sides=10).turned("x", angle).moved(0, a[0], a[1])


def _seat(at: Point) -> list[Part]:
    post = cylinder(0.06, 0.20).moved(0, at[0], at[1] - 0.04)
    pad = [
        ellipsoid(0.17, 0.17, 0.08).moved(0, at[0] + 0.07, at[1] + 0.19),
        ellipsoid(0.10, 0.26, 0.075).moved(0, at[0] - 0.08, at[1] + 0.19),
    ]
    return [Part("post", post, STEEL), *(Part("seat", each, BARK) for each in pad)]


def _handlebar(rng: np.random.Generator, head: Point, thick: float) -> list[Part]:
    high, wide = rng.uniform(0.20, 0.30), rng.uniform(0.56, 0.70)
    stem = cylinder(0.07, high).moved(0, head[0] + 0.01, head[1] - 0.05)
    bar = cylinder(0.06, wide).moved(z=-wide / 2).turned("y", 90).moved(0, head[0] + 0.01, head[1] + high - 0.07)
    parts = [Part("stem", stem, STEEL), Part("handlebar", bar, STEEL)]
    for side in (-1, 1):
        grip = cylinder(0.085, 0.18).moved(z=-0.09).turned("y", 90).turned("z", side * 25)
        parts.append(Part("grip", grip.moved(side * wide / 2, head[0] + 0.04, head[1] + high - 0.07), TYRE))
    lamp = ellipsoid(0.10, 0.08, 0.10).moved(0, head[0] - 0.12, head[1] + 0.02)
    return [*parts, Part("lamp", lamp, (1.0, 0.96, 0.75))]


KIND = Kind(
    build,
    parts={"seat": ("seat",), "wheels": ("tyre",)},
    also=("bike",),
    part_also={**TYRES, "saddle": "seat"},
)
