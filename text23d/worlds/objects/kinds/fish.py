"""Fat toy fish swimming towards -Y: round or long, with a forked or fan tail, fins all round, and big eyes."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, TYRE, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, ellipsoid, extrude, sections


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    length, wide, tall = rng.uniform(1.25, 1.5), rng.uniform(0.26, 0.36), rng.uniform(0.42, 0.58)
    shape = [
        (-0.5, 0.16),
        (-0.46, 0.42),
        (-0.36, 0.74),
        (-0.2, 0.96),
        (0.0, 1.0),
        (0.2, 0.82),
        (0.36, 0.5),
        (0.5, 0.24),
    ]
    parts = [Part("body", sections([(length * at, 0.0, wide * part, tall * part) for at, part in shape]), colour)]
    dark = brightness(colour) < 0.25
    web = shaded(colour, 0.62) if not dark else (0.38, 0.38, 0.42)
    parts.append(Part("tail", _tail(rng, length * 0.46, tall), web))
    crest = [
        (-length * 0.22, tall * 0.85),
        (length * 0.28, tall * 0.5),
        (length * 0.32, tall * 1.15),
        (-length * 0.02, tall * 1.42),
    ]
    parts.append(Part("fin", extrude(crest, -0.06, 0.06, "x"), web))
    keel = [(-length * 0.05, -tall * 0.9), (length * 0.25, -tall * 0.6), (length * 0.27, -tall * 1.2)]
    parts.append(Part("fin", extrude(keel, -0.06, 0.06, "x"), web))
    for side in (-1, 1):
        flap = ellipsoid(0.32, 0.2, 0.07).moved(x=0.24).turned("y", 28).moved(wide * 0.7, -length * 0.02, -tall * 0.2)
        parts.append(Part("fin", flap.scaled(side, 1, 1), web))
        at = side * wide * 0.68, -length * 0.31, tall * 0.24
        parts.append(Part("eye", ellipsoid(0.09, 0.14, 0.14).moved(*at), (0.95, 0.95, 0.95) if not dark else IVORY))
        parts.append(
            Part("pupil", ellipsoid(0.06, 0.075, 0.075).moved(at[0] + side * 0.055, at[1] - 0.02, at[2]), TYRE)
        )
    mouth = ellipsoid(wide * 0.34, 0.08, 0.07).moved(0, -length * 0.5, -0.02)
    return [*parts, Part("mouth", mouth, shaded(web, 0.8))]


def _tail(rng: np.random.Generator, root: float, tall: float) -> Mesh:
    """A flat fork or fan behind the body, upright."""
    reach, spread = rng.uniform(0.42, 0.55), tall * rng.uniform(0.9, 1.15)
    notch = rng.uniform(0.5, 1.0)
    fan = [(root, 0.12), (root + reach, spread), (root + reach * notch, 0.0), (root + reach, -spread), (root, -0.12)]
    return extrude(fan, -0.07, 0.07, "x")


KIND = Kind(
    build,
    parts={"tail": ("tail",), "fins": ("fin",)},
    part_also={"tailfin": "tail", "flippers": "fins"},
)
