"""Trees: conifers of stacked cones, round-headed trees, and crowns of several balls; the trunk is brown."""

from __future__ import annotations

import numpy as np

from text23d.world.colours import BARK, shaded
from text23d.world.parts import Part, Rgb, cylinder, ellipsoid, lathe


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    bark = shaded(BARK, rng.uniform(0.9, 1.15))
    style = str(rng.choice(["conifer", "conifer", "ball", "crown", "crown"]))
    thick = rng.uniform(0.13, 0.18)
    tall = rng.uniform(0.50, 0.70) if style == "conifer" else rng.uniform(0.65, 0.9)
    trunk = [Part("trunk", cylinder(thick * 1.25, tall + 0.25, top=0.75), bark)]
    if style == "conifer":
        return trunk + _conifer(rng, tall, colour)
    if style == "ball":
        wide, high = rng.uniform(0.55, 0.70), rng.uniform(0.55, 0.85)
        return [*trunk, Part("foliage", ellipsoid(wide, wide, high, sides=24).moved(z=tall + high * 0.85), colour)]
    return trunk + _crown(rng, tall, colour)


def _conifer(rng: np.random.Generator, tall: float, colour: Rgb) -> list[Part]:
    """Skirts of foliage that narrow upwards, the last one pointed."""
    tiers, wide = int(rng.integers(3, 5)), rng.uniform(0.60, 0.76)
    total, shrink = rng.uniform(1.4, 1.8), rng.uniform(0.40, 0.55)
    step = total / (tiers + 0.6)
    parts = []
    for tier in range(tiers):
        radius, base = wide * (1 - shrink * tier / (tiers - 1)), tall + tier * step
        height = step * 1.6
        skirt = [(radius * 0.55, base + 0.03), (radius, base), (radius * 0.92, base + 0.07), (0.0, base + height)]
        parts.append(Part("foliage", lathe(skirt), shaded(colour, 0.92 + 0.08 * tier / (tiers - 1))))
    return parts


def _crown(rng: np.random.Generator, tall: float, colour: Rgb) -> list[Part]:
    """A big ball with four to six smaller ones around its waist and one on its top."""
    core, count, twist = rng.uniform(0.46, 0.54), int(rng.integers(4, 7)), rng.uniform(0, 360)
    middle = tall + core * 0.9
    parts = [Part("foliage", ellipsoid(core, core, core * 0.95, sides=20).moved(z=middle), colour)]
    for k in range(count):
        size, out = core * rng.uniform(0.58, 0.72), core * rng.uniform(0.68, 0.85)
        ball = ellipsoid(size, size, size * 0.95).moved(out, 0, middle + core * rng.uniform(-0.35, 0.15))
        ball = ball.turned("z", twist + 360 * k / count)
        parts.append(Part("foliage", ball, shaded(colour, rng.uniform(0.92, 1.03))))
    size = core * rng.uniform(0.65, 0.8)
    cap = ellipsoid(size, size, size).moved(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), middle + core * 0.62)
    return [*parts, Part("foliage", cap, colour)]
