"""Boats: sailing boats, motor boats with a cabin, and tugs with a funnel; the bow points to -Y."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, STEEL, WOOD, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Floats, Mesh, Part, Rgb, box, cylinder, extrude, loft


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    length, beam, tall = rng.uniform(1.6, 1.85), rng.uniform(0.80, 0.95), rng.uniform(0.48, 0.60)
    style = str(rng.choice(["sail", "motor", "tug"]))
    sheer = rng.uniform(0.10, 0.22)
    parts = [
        Part("hull", _hull(length, beam, tall, sheer), colour),
        Part("deck", _deck(length, beam, tall), shaded(WOOD, rng.uniform(0.9, 1.1))),
    ]
    if style == "sail":
        return parts + _rig(rng, length, tall)
    return parts + _house(rng, style, length, beam, tall, colour)


def _half_beam(at: Floats) -> Floats:
    """The hull's half width along it, from 0 (bow) to 1 (stern), as a fraction of the greatest."""
    return np.where(at < 0.55, np.sin(np.pi / 2 * np.clip(at / 0.55, 0.0, 1.0)) ** 0.8, 1 - 0.6 * (at - 0.55) ** 2)


def _hull(length: float, beam: float, tall: float, sheer: float) -> Mesh:
    """Sections from bow to stern: keel, bilge, gunwale, and the well inside the gunwale."""
    rings = []
    for at in np.array([0.0, 0.06, 0.14, 0.24, 0.36, 0.5, 0.66, 0.82, 0.95, 1.0]):
        wide = max(float(_half_beam(at)) * beam / 2, 0.025)
        top = tall + sheer * (1 - at / 0.6) ** 2 * (at < 0.6)
        keel = tall * 0.75 * max(0.0, 1 - at / 0.18) ** 2
        inner = max(wide - 0.07, 0.012)
        floor = top - (0.14 if 0.1 < at < 0.99 else 0.0)
        y = length * (at - 0.5)
        outside = [(0.28 * wide, keel), (0.78 * wide, keel + 0.22 * (top - keel)), (wide, top)]
        right = [*outside, (inner, top), (inner * 0.98, floor)]
        rings.append([(x, y, z) for x, z in right] + [(-x, y, z) for x, z in right[::-1]])
    return loft(rings)


def _deck(length: float, beam: float, tall: float) -> Mesh:
    """A plank floor inside the hull, below the gunwale."""
    at = np.array([0.16, 0.24, 0.36, 0.5, 0.66, 0.82, 0.97])
    wide = _half_beam(at) * beam / 2 - 0.05
    rings = [
        [(-w, y, tall - 0.18), (w, y, tall - 0.18), (w, y, tall - 0.06), (-w, y, tall - 0.06)]
        for w, y in zip(wide, length * (at - 0.5), strict=True)
    ]
    return loft(rings)


def _rig(rng: np.random.Generator, length: float, tall: float) -> list[Part]:
    """A mast, a mainsail behind it with its boom, and a jib in front."""
    high, mast = rng.uniform(1.05, 1.3), -length * rng.uniform(0.06, 0.14)
    foot, cloth = tall + 0.22, shaded(IVORY, 1.03)
    back, front = length * rng.uniform(0.36, 0.44), -length * 0.44
    main = [(mast + 0.06, foot), (back, foot + 0.02), (mast + 0.06, high * 0.97 + tall - 0.1)]
    jib = [(front, foot), (mast - 0.07, foot), (mast - 0.07, high * 0.82 + tall - 0.1)]
    parts = [
        Part("mast", cylinder(0.045, high + 0.1).moved(0, mast, tall - 0.1), BARK),
        Part("boom", box(0.06, back - mast, 0.06).moved(0, (back + mast) / 2, foot - 0.07), BARK),
        Part("sail", extrude(main, -0.04, 0.04, "x"), cloth),
    ]
    if rng.random() < 0.8:
        parts.append(Part("jib", extrude(jib, -0.035, 0.035, "x"), cloth))
    return parts


def _house(rng: np.random.Generator, style: str, length: float, beam: float, tall: float, colour: Rgb) -> list[Part]:
    """A white cabin with a band of windows; a tug's is taller, with a funnel behind it."""
    tug = style == "tug"
    wide, deep = beam * rng.uniform(0.55, 0.65), length * (rng.uniform(0.24, 0.30) if tug else rng.uniform(0.32, 0.42))
    high = rng.uniform(0.52, 0.66) if tug else rng.uniform(0.36, 0.46)
    y, z = -length * (0.06 if tug else 0.02), tall - 0.1
    slope = 1.0 if tug else 0.9
    parts = [
        Part("cabin", box(wide, deep, high, bevel=0.02, taper=(slope, slope)).moved(0, y, z), IVORY),
        Part("windows", box(wide * 0.98, deep + 0.02, 0.17).moved(0, y, z + high * 0.5), glass(colour)),
        Part("windows", box(wide + 0.03, deep * 0.78, 0.17).moved(0, y, z + high * 0.5), glass(colour)),
        Part("roof", box(wide * 1.12, deep * 1.12, 0.07, bevel=0.02).moved(0, y, z + high - 0.01), shaded(IVORY, 0.85)),
    ]
    if tug:
        back = y + deep / 2 + 0.2
        parts.append(Part("funnel", cylinder(0.13, 0.62, top=0.9).moved(0, back, z), shaded(STEEL, 0.6)))
        parts.append(Part("funnel", cylinder(0.145, 0.12).moved(0, back, z + 0.42), colour))
    else:
        parts.append(Part("mast", cylinder(0.03, 0.35).moved(0, y + deep * 0.3, z + high), STEEL))
    return parts


KIND = Kind(
    build,
    parts={"deck": ("deck",)},
    also=("ship",),
    part_also={"floor": "deck"},
)
