"""Teapots: round, squat, tall and cone-shaped, the spout towards +X and the handle towards -X."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.mug import contrasting, loop
from text23d.worlds.objects.parts import Mesh, Part, Rgb, ellipsoid, lathe, loft

# Radii at even heights from foot to lid for a body of widest radius 1, and that radius's share of the body's height.
BODIES = {
    "round": ((0.58, 0.84, 0.98, 1.0, 0.94, 0.78, 0.52), 0.62),
    "squat": ((0.66, 0.92, 1.0, 0.98, 0.88, 0.72, 0.46), 0.80),
    "tall": ((0.86, 1.0, 0.98, 0.90, 0.80, 0.68, 0.54), 0.48),
    "cone": ((1.0, 0.99, 0.91, 0.82, 0.73, 0.64, 0.55), 0.62),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(BODIES)))
    radii, share = BODIES[style]
    tall = rng.uniform(1.0, 1.15) * (0.85 if style == "squat" else 1.0)
    wide = tall * share * rng.uniform(0.92, 1.08)
    levels = np.linspace(0, 1, len(radii))

    def radius(at: float) -> float:
        """The body's radius at height `at` in [0, 1]."""
        return wide * float(np.interp(at, levels, radii))

    profile = [(radius(float(at)), tall * float(at)) for at in np.linspace(0, 1, 13)]
    trim = contrasting(colour) if rng.random() < 0.6 else IVORY if brightness(colour) < 0.4 else BARK
    parts = [Part("body", lathe(profile, sides=28), colour)]
    parts += _lid(rng, radius(1.0), tall, trim)
    spout = _spout(rng, radius(0.3), tall, straight=style == "cone" or rng.random() < 0.3)
    parts.append(Part("spout", spout, shaded(colour, 0.94)))
    reach, thick = rng.uniform(0.40, 0.50), rng.uniform(0.10, 0.125)
    bow = loop(radius, tall, (rng.uniform(0.18, 0.26), rng.uniform(0.84, 0.92)), reach, thick, rng.uniform(0.7, 1.0))
    parts.append(Part("handle", bow.scaled(-1, 1, 1), trim))
    return parts


def _lid(rng: np.random.Generator, radius: float, tall: float, colour: Rgb) -> list[Part]:
    """A dome that overhangs the body's mouth, and a knob on it."""
    high, wide = rng.uniform(0.16, 0.24), radius + 0.05
    dome = [(wide, -0.04), (wide, 0.04), *((wide * c, 0.04 + high * s) for c, s in ((0.88, 0.5), (0.6, 0.85)))]
    knob = rng.uniform(0.11, 0.14)
    top = ellipsoid(knob, knob, knob).moved(z=tall + 0.04 + high + knob * 0.6)
    return [Part("lid", lathe([*dome, (0.0, 0.04 + high)]).moved(z=tall), colour), Part("lid", top, colour)]


def _spout(rng: np.random.Generator, wall: float, tall: float, straight: bool) -> Mesh:
    """A pipe that narrows from within the body's wall to a mouth near the lid's height; straight or swan-necked."""
    reach, rise = rng.uniform(0.50, 0.62), rng.uniform(0.86, 0.98) * tall
    low = 0.30 * tall
    along = np.linspace(0, 1, 9)
    x = wall - 0.12 + (reach + 0.12) * (along if straight else along + 0.13 * np.sin(2 * np.pi * along))
    z = low + (rise - low) * (along if straight else along**1.3)
    radius = np.interp(along, (0, 0.5, 1), (0.25, 0.17, 0.11))
    slope = np.stack([np.gradient(x), np.gradient(z)], -1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    rings = []
    for at_x, at_z, r, (dx, dz) in zip(x, z, radius, slope, strict=True):
        across = r * np.cos(angle)
        rings.append(np.stack([at_x + across * dz, r * np.sin(angle), at_z - across * dx], -1))
    return loft(rings)


KIND = Kind(
    build,
    parts={"handle": ("handle",), "lid": ("lid",), "spout": ("spout",)},
    also=("kettle",),
    front=False,
    part_also={"grip": "handle", "cap": "lid", "cover": "lid", "nozzle": "spout"},
)
