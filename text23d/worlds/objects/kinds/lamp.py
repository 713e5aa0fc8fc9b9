"""Table lamps: a vase, ball, cone, column or square block under a shade open at the top, glowing inside."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, LAMP, WOOD, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, lathe

# Radii of the body at even heights from its foot to its neck, for a body of widest radius 1.
BODIES = {
    "vase": (0.55, 0.85, 1.0, 0.90, 0.62, 0.40, 0.36),
    "ball": (0.50, 0.86, 1.0, 1.0, 0.86, 0.50, 0.30),
    "cone": (1.0, 0.88, 0.76, 0.64, 0.52, 0.40, 0.30),
    "column": (0.66, 0.66, 0.66, 0.66, 0.66, 0.66, 0.66),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice([*BODIES, "square"]))
    foot, body, shade = rng.uniform(0.14, 0.18), rng.uniform(0.80, 1.10), rng.uniform(0.52, 0.70)
    low, wide = rng.uniform(0.50, 0.60), rng.uniform(0.30, 0.38)
    high = low * rng.uniform(0.50, 0.78)
    plain = WOOD if brightness(colour) < 0.4 else BARK
    square = style == "square"
    parts = [Part("base", _drum(square, wide * 1.35, wide * 1.25, foot), plain)]
    if square:
        mesh = box(wide * 1.5, wide * 1.5, body, taper=(0.7, 0.7))
    else:
        radii = BODIES[style]
        mesh = lathe([(wide * r, body * i / (len(radii) - 1)) for i, r in enumerate(radii)])
    parts.append(Part("body", mesh.moved(z=foot), shaded(colour, 0.92)))
    start = foot + body - 0.06
    parts.append(Part("shade", _drum(square, low, high, shade).moved(z=start), colour))
    for radius, level in ((high * 0.82, start + shade - 0.04), (low * 0.86, start - 0.02)):
        parts.append(Part("glow", _drum(square, radius, radius, 0.06).moved(z=level), LAMP))
    return parts


def _drum(square: bool, low: float, high: float, tall: float) -> Mesh:
    """A round or square frustum on z = 0, of those half widths."""
    if square:
        return box(low * 1.8, low * 1.8, tall, taper=(high / low, high / low))
    return cylinder(low, tall, top=high / low, sides=28)


KIND = Kind(
    build,
    parts={"shade": ("shade",), "base": ("base",)},
    front=False,
    part_also={"lampshade": "shade", "foot": "base", "stand": "base"},
)
