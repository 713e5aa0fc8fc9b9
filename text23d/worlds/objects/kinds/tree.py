"""Trees: conifers, round heads, crowns of several balls, poplars and layered cedars, on a thick trunk."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, WOOD, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, cylinder, ellipsoid, lathe

# How much of the trunk is bare, and how far up the foliage it goes on.
TRUNKS = {
    "conifer": (0.68, 0.3),
    "round": (0.68, 0.3),
    "crown": (0.72, 0.3),
    "poplar": (0.52, 0.3),
    "layered": (0.60, 0.3),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(TRUNKS)))
    bare, hidden = TRUNKS[style]
    bare *= rng.uniform(0.9, 1.2)
    thick = rng.uniform(0.17, 0.22) * (0.8 if style == "poplar" else 1.0)
    bark = shaded(apart(colour, BARK, WOOD), rng.uniform(0.9, 1.1))
    trunk = lathe([(thick * 1.5, 0), (thick * 1.1, 0.14), (thick, bare), (thick * 0.8, bare + hidden)])
    grow = {"conifer": _conifer, "round": _round, "crown": _crown, "poplar": _poplar, "layered": _layered}[style]
    return [Part("trunk", trunk, bark), *grow(rng, bare, colour)]


def apart(colour: Rgb, *choices: Rgb) -> Rgb:
    """The first of the choices that nobody takes for `colour`, or the last."""
    return next((c for c in choices if np.linalg.norm(np.subtract(c, colour)) > 0.42), choices[-1])


def _conifer(rng: np.random.Generator, low: float, colour: Rgb) -> list[Part]:
    """Skirts of foliage that narrow upwards, the last one pointed."""
    tiers, wide = int(rng.integers(3, 5)), rng.uniform(0.64, 0.78)
    total, shrink = rng.uniform(1.3, 1.8), rng.uniform(0.40, 0.55)
    step = total / (tiers + 0.6)
    parts = []
    for tier in range(tiers):
        radius, base = wide * (1 - shrink * tier / (tiers - 1)), low + tier * step
        height = step * 1.6
        skirt = [(radius * 0.55, base + 0.03), (radius, base), (radius * 0.92, base + 0.07), (0.0, base + height)]
        parts.append(Part("foliage", lathe(skirt), shaded(colour, 0.88 + 0.12 * tier / (tiers - 1))))
    return parts


def _round(rng: np.random.Generator, low: float, colour: Rgb) -> list[Part]:
    wide = rng.uniform(0.55, 0.70)
    high = wide * rng.uniform(0.95, 1.25)
    return [Part("foliage", ellipsoid(wide, wide, high, sides=24).moved(z=low + high * 0.88), colour)]


def _crown(rng: np.random.Generator, low: float, colour: Rgb) -> list[Part]:
    """A big ball with four to six smaller ones around its waist and one on its top."""
    core, count, twist = rng.uniform(0.46, 0.54), int(rng.integers(4, 7)), rng.uniform(0, 360)
    middle = low + core * 0.9
    parts = [Part("foliage", ellipsoid(core, core, core * 0.95, sides=20).moved(z=middle), colour)]
    for k in range(count):
        size, out = core * rng.uniform(0.58, 0.72), core * rng.uniform(0.68, 0.85)
        ball = ellipsoid(size, size, size * 0.95).moved(out, 0, middle + core * rng.uniform(-0.35, 0.15))
        ball = ball.turned("z", twist + 360 * k / count)
        parts.append(Part("foliage", ball, shaded(colour, rng.uniform(0.90, 1.03))))
    size = core * rng.uniform(0.65, 0.8)
    cap = ellipsoid(size, size, size).moved(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), middle + core * 0.62)
    return [*parts, Part("foliage", cap, colour)]


def _poplar(rng: np.random.Generator, low: float, colour: Rgb) -> list[Part]:
    """A tall drop, widest below its middle."""
    wide, tall = rng.uniform(0.36, 0.46), rng.uniform(1.5, 1.9)
    shape = [(0.0, 0.0), (0.62, 0.03), (0.90, 0.14), (1.0, 0.30), (0.92, 0.50), (0.70, 0.72), (0.36, 0.91), (0.0, 1.0)]
    return [Part("foliage", lathe([(r * wide, low + h * tall) for r, h in shape], sides=24), colour)]


def _layered(rng: np.random.Generator, low: float, colour: Rgb) -> list[Part]:
    """Three or four thick cushions with the trunk to be seen between them."""
    layers, wide = int(rng.integers(3, 5)), rng.uniform(0.72, 0.88)
    step, parts = rng.uniform(0.46, 0.54), []
    for layer in range(layers):
        radius, z = wide * (1 - 0.6 * layer / (layers - 1)), low + 0.16 + step * layer
        pad = [(0.0, -0.10), (0.7, -0.11), (0.95, -0.05), (1.0, 0.03), (0.86, 0.15), (0.5, 0.25), (0.0, 0.29)]
        cushion = lathe([(radius * r, z + h) for r, h in pad], sides=24)
        at = rng.uniform(-0.1, 0.1, 2)
        parts.append(Part("foliage", cushion.moved(at[0], at[1]), colour))
    return [*parts, Part("trunk", cylinder(0.14, step * layers * 0.8).moved(z=low), apart(colour, BARK, WOOD))]


KIND = Kind(
    build,
    parts={"trunk": ("trunk",)},
    front=False,
    part_also={"stem": "trunk"},
)
