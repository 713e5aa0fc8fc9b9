"""Toy rockets standing on three or four fins: fat or slim, with a pointed nose, a porthole and an engine."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, STEEL, TYRE, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, cylinder, extrude, lathe

PANE: Rgb = (0.35, 0.62, 0.80)
SIGNAL: Rgb = (0.85, 0.16, 0.12)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    belly, tall, base = rng.uniform(0.32, 0.42), rng.uniform(1.5, 1.8), rng.uniform(0.22, 0.32)
    straight = rng.random() < 0.4
    at = np.array([0.0, 0.10, 0.25, 0.42, 0.60, 0.72])
    shape = np.array([0.92, 0.97, 1.0, 1.0, 1.0, 1.0]) if straight else np.array([0.62, 0.80, 0.96, 1.0, 0.90, 0.76])
    body = [(belly * float(r), base + tall * float(z)) for z, r in zip(at, shape, strict=True)]
    trim = SIGNAL if is_pale(colour) else IVORY
    parts = [Part("body", lathe(body, sides=24), colour)]
    neck, z = body[-1]
    tip = [
        (neck * 1.03, z - 0.01),
        (neck * 0.80, z + tall * 0.13),
        (neck * 0.45, z + tall * 0.23),
        (0.0, z + tall * 0.32),
    ]
    parts.append(Part("nose", lathe(tip, sides=24), trim))
    parts.append(Part("engine", cylinder(belly * 0.40, 0.24, top=0.75).moved(z=base - 0.20), shaded(STEEL, 0.6)))
    count, turn = int(rng.integers(3, 5)), rng.uniform(0, 120)
    root, reach = belly * 0.55, belly + rng.uniform(0.32, 0.42)
    sweep = [
        (root, base + 0.05),
        (root, base + tall * 0.40),
        (reach, base * 0.9),
        (reach + 0.04, -0.05),
        (reach - 0.12, -0.05),
    ]
    for k in range(count):
        fin = extrude(sweep, -0.06, 0.06, "y").turned("z", turn + 360 * k / count)
        parts.append(Part("fin", fin, shaded(colour, 0.80)))
    for azimuth in (0, 180):
        for thick, size, tone in ((0.06, belly * 0.50, STEEL), (0.10, belly * 0.36, PANE)):
            ring = cylinder(size, thick).turned("x", 90).moved(0, -belly * 0.93, base + tall * 0.47)
            parts.append(Part("porthole", ring.turned("z", azimuth), tone))
    band = lathe(
        [
            (belly * 0.5, base + tall * 0.14),
            (belly * 1.02, base + tall * 0.14),
            (belly * 1.02, base + tall * 0.18),
            (belly * 0.5, base + tall * 0.18),
        ]
    )
    return [*parts, Part("band", band, TYRE)] if straight else parts


KIND = Kind(
    build,
    parts={"fins": ("fin",), "nose": ("nose",)},
    also=("spaceship",),
    front=False,
    part_also={"wings": "fins", "tip": "nose", "top": "nose"},
)
