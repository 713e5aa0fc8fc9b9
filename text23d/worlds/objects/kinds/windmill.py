"""Windmills: a round or eight-sided tapering tower under a cap, four broad blades towards -Y, a door and windows."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, TYRE, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, box, cylinder, ellipsoid, lathe

CAPS: tuple[Rgb, ...] = ((0.45, 0.29, 0.20), (0.36, 0.36, 0.40), (0.28, 0.22, 0.18))
PANE: Rgb = (0.22, 0.30, 0.40)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    sides = int(rng.choice([8, 24]))
    foot, top, tall = rng.uniform(0.50, 0.60), rng.uniform(0.32, 0.38), rng.uniform(1.15, 1.4)
    cap = CAPS[int(rng.integers(len(CAPS)))]
    parts = [Part("tower", cylinder(foot, tall, top=top / foot, sides=sides).turned("z", 180 / sides), colour)]
    if rng.random() < 0.6:
        roof = lathe([(top * 0.8, 0.0), (top * 1.2, 0.0), (0.0, rng.uniform(0.45, 0.6))], sides=sides)
    else:
        roof = ellipsoid(top * 1.15, top * 1.25, 0.42, sides=20)
    parts.append(Part("roof", roof.moved(z=tall - 0.02), cap))
    parts += [
        Part("door", box(0.28, 0.14, 0.44).moved(0, -foot * 0.94), BARK),
        Part("window", box(0.18, 0.12, 0.20).moved(0, -foot * 0.80, tall * 0.55), PANE),
        Part("window", box(0.18, 0.12, 0.20).moved(0, foot * 0.80, tall * 0.55), PANE),
    ]
    cloth = (0.58, 0.50, 0.42) if is_pale(colour) else IVORY
    return parts + _blades(rng, top, tall, cloth)


def _blades(rng: np.random.Generator, top: float, tall: float, cloth: Rgb) -> list[Part]:
    """Four sails about an axle through the cap, each a broad board on a spar."""
    reach, broad, y, z = rng.uniform(0.85, 1.0), rng.uniform(0.26, 0.32), -top - 0.24, tall + 0.04
    axle = cylinder(0.09, 0.5).turned("x", 90).moved(0, y + 0.42, z)
    parts = [Part("axle", axle, TYRE), Part("hub", ellipsoid(0.13, 0.09, 0.13).moved(0, y, z), TYRE)]
    for turn in (45, 135, 225, 315):  # always, so that views agree
        spar = box(0.10, 0.10, reach).moved(y=0.03)
        sail = box(broad, 0.10, reach * 0.76).moved(broad * 0.36, 0, reach * 0.22)
        parts.append(Part("spar", spar.turned("y", turn).moved(0, y, z), shaded(BARK, 0.9)))
        parts.append(Part("blade", sail.turned("y", turn).moved(0, y, z), cloth))
    return parts


KIND = Kind(
    build,
    parts={"blades": ("blade",), "roof": ("roof",)},
    also=("mill",),
    part_also={
        "sails": "blades",
        "vanes": "blades",
        "wings": "blades",
        "rotor": "blades",
        "propeller": "blades",
        "cap": "roof",
        "top": "roof",
    },
)
