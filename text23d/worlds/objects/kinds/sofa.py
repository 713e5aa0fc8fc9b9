"""Sofas: square, rolled, low-armed and curved ones, with a row of back cushions or two loose ones."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, STEEL, WOOD, brightness, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, extrude


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["square", "rolled", "low", "curved"]))
    length, depth = rng.uniform(1.7, 2.4), rng.uniform(0.92, 1.05)
    foot, arm, back = rng.uniform(0.10, 0.16), rng.uniform(0.22, 0.30), rng.uniform(0.22, 0.28)
    seat = foot + rng.uniform(0.34, 0.42)
    high = seat + rng.uniform(0.42, 0.58)
    inside = length - 2 * arm
    base = box(length - 0.06, depth - 0.04, seat - foot - 0.12, bevel=0.02).moved(z=foot)
    parts = [Part("base", base, shaded(colour, 0.85))]
    parts.append(Part("back", _back(style, length, high - foot, back).moved(0, depth / 2 - back / 2, foot), colour))
    for x in (-1, 1):
        side = _arm(style, arm, depth, seat - foot, high - foot).moved(x * (length - arm) / 2, 0, foot)
        parts.append(Part("arm", side, shaded(colour, 0.95)))
    loose = rng.random() < 0.4
    pad = 0.0 if loose else 0.20
    reach = depth - back - pad + 0.04
    slab = box(inside + 0.02, reach, 0.18, bevel=0.05).moved(0, reach / 2 - depth / 2 - 0.02, seat - 0.15)
    parts.append(Part("seat", slab, colour))
    cover = shaded(colour, 0.72) if rng.random() < 0.3 else shaded(STEEL, 0.6) if is_pale(colour) else IVORY
    for cushion in _cushions(loose, inside, high - seat, int(rng.integers(2, 4))):
        parts.append(Part("cushion", cushion.moved(0, depth / 2 - back, seat), cover))
    return parts + _feet(length, depth, foot, WOOD if brightness(colour) < 0.4 else BARK)


def _back(style: str, length: float, tall: float, thick: float) -> Mesh:
    """The backrest, standing on z = 0 and centred on x = 0, y = 0."""
    if style != "curved":
        return box(length, thick, tall, bevel=0.06)
    angle = np.linspace(0, np.pi, 13)
    bow = np.stack([np.cos(angle) * length / 2, tall * (0.72 + 0.42 * np.sin(angle))], -1)
    return extrude([(-length / 2, 0.0), (length / 2, 0.0), *bow], -thick / 2, thick / 2, "y")


def _arm(style: str, thick: float, depth: float, seat: float, high: float) -> Mesh:
    """One arm, standing on z = 0."""
    tall = {"square": seat + 0.26, "rolled": seat + 0.30, "low": seat + 0.14, "curved": seat + 0.22}[style]
    if style in ("square", "low"):
        return box(thick, depth + 0.04, min(tall, high), bevel=0.04)
    angle = np.linspace(-0.2 * np.pi, 1.2 * np.pi, 13)
    bulge = thick * (0.66 if style == "rolled" else 0.52)
    roll = np.stack([np.cos(angle) * bulge, tall - bulge + np.sin(angle) * bulge], -1)
    return extrude([(-thick * 0.42, 0.0), (thick * 0.42, 0.0), *roll], -depth / 2 - 0.02, depth / 2 + 0.02, "y")


def _cushions(loose: bool, inside: float, tall: float, count: int) -> list[Mesh]:
    """Standing on z = 0 against a backrest at y = 0: one at either end, or a row that rises above the backrest."""
    if loose:
        size = min(0.54, inside * 0.36)
        pillow = box(size, 0.24, size, bevel=0.07).turned("x", -16)
        return [pillow.moved(x * (inside / 2 - size / 2), -0.22, 0.02) for x in (-1, 1)]
    wide = inside / count
    pillow = box(wide, 0.30, tall + 0.12, bevel=0.08)
    return [pillow.moved((i - (count - 1) / 2) * wide, -0.08) for i in range(count)]


def _feet(length: float, depth: float, tall: float, colour: Rgb) -> list[Part]:
    foot = box(0.18, 0.18, tall + 0.03)
    at = [(x * (length / 2 - 0.14), y * (depth / 2 - 0.12)) for x in (-1, 1) for y in (-1, 1)]
    return [Part("foot", foot.moved(*corner), colour) for corner in at]


KIND = Kind(
    build,
    parts={"cushions": ("cushion",), "arms": ("arm",)},
    also=("couch", "settee"),
    front=True,
    support="seat",
    part_also={"pillows": "cushions", "armrests": "arms"},
)
