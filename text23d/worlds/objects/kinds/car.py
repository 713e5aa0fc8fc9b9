"""Cars: saloons, hatchbacks, vans, pickups and beetles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from text23d.worlds.objects.colours import LAMP, STEEL, TAIL_LAMP, TYRE, brightness, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Floats, Mesh, Part, Rgb, box, cylinder, extrude, loft

# Where the cabin starts and ends at its foot and at its roof, along the car from 0 (nose) to 1 (tail); its height.
TYRES = {"tyres": "wheels", "tires": "wheels"}
"""What else the wheels of any vehicle are called."""
CABINS = {
    "saloon": ((0.30, 0.82), (0.42, 0.70), 0.30),
    "hatchback": ((0.30, 0.97), (0.43, 0.88), 0.32),
    "van": ((0.12, 0.98), (0.24, 0.96), 0.46),
    "pickup": ((0.28, 0.60), (0.38, 0.57), 0.33),
    "beetle": ((0.26, 0.88), (0.42, 0.66), 0.36),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(CABINS)))
    length = rng.uniform(1.65, 2.0) * (0.9 if style == "beetle" else 1.0)
    width = rng.uniform(0.84, 0.98)
    wheel = rng.uniform(0.25, 0.28)
    floor, belt = wheel * 0.75, wheel * 2 + rng.uniform(0.06, 0.12)
    parts = [Part("body", _body(style, length, width, floor, belt), colour)]
    parts += _cabin(style, length, width, belt, colour, rng.uniform(0.9, 1.1))
    parts += wheels((-0.3 * length, 0.3 * length), width, wheel, rng.uniform(0.20, 0.24), colour)
    parts += _lamps(length, width, floor, belt, round_lamps=style == "beetle" or rng.random() < 0.4)
    if style == "pickup":
        parts.append(Part("bed", box(width * 0.8, length * 0.34, 0.04).moved(0, length * 0.29, belt), TYRE))
    return parts


def _body(style: str, length: float, width: float, floor: float, belt: float) -> Mesh:
    """The side profile (y, z) pushed across the car."""
    half, tall = length / 2, belt - floor
    nose = 0.62 if style in ("saloon", "beetle") else 0.80
    tail = 0.60 if style == "beetle" else 0.92
    profile = [
        (-half + 0.04, floor),
        (half - 0.04, floor),
        (half, floor + 0.25 * tall),
        (half - 0.02, floor + tail * tall),
        (half - 0.14, belt),
        (-half + 0.34 * length, belt),
        (-half + 0.10, floor + (nose + 0.14) * tall),
        (-half + 0.01, floor + nose * 0.8 * tall),
        (-half, floor + 0.25 * tall),
    ]
    return extrude(profile, -width / 2, width / 2, "x", bevel=0.16)


def _cabin(style: str, length: float, width: float, belt: float, colour: Rgb, tall: float) -> list[Part]:
    """A block of glass under a painted roof, with painted pillars at its middle; a van is painted from there back."""
    (foot_a, foot_b), (roof_a, roof_b), height = CABINS[style]
    height *= tall
    foot, roof = _along(length, foot_a, foot_b), _along(length, roof_a, roof_b)
    low, high = width * 0.44, width * 0.37
    edge = np.array([-0.025, 0.025])
    block = _slab(foot, roof, belt - 0.03, belt + height, low, high)
    cover = _slab(roof + edge, roof + edge * 0.2, belt + height - 0.03, belt + height + 0.08, high + 0.03, high - 0.03)
    parts = [Part("windows", block, glass(colour)), Part("roof", cover, colour)]
    share = 0.36 if style == "van" else 0.5
    middle, above = foot_a + share * (foot_b - foot_a), roof_a + share * (roof_b - roof_a)
    if style == "van":
        grow = np.array([0.0, 0.01])
        foot, roof = _along(length, middle, foot_b) + grow, _along(length, above, roof_b) + grow
        window = box(width * 0.6, 0.03, height * 0.5).moved(0, foot[1], belt + height * 0.3)
        parts.append(Part("rear window", window, glass(colour)))
    else:
        thick = np.array([-0.035, 0.035])
        foot, roof = _along(length, middle, middle) + thick, _along(length, above, above) + thick
    pillar = _slab(foot, roof, belt - 0.03, belt + height, low + 0.015, high + 0.015)
    return [*parts, Part("pillars", pillar, colour)]


def _along(length: float, *at: float) -> Floats:
    """Positions along the car, 0 (nose) to 1 (tail), as y."""
    return np.array(at) * length - length / 2


def _slab(foot: Floats, roof: Floats, low: float, high: float, wide: float, narrow: float) -> Mesh:
    """A block from y in foot and |x| < wide at z = low to y in roof and |x| < narrow at z = high."""
    ring = [
        [(-x, y[0], z), (x, y[0], z), (x, y[1], z), (-x, y[1], z)]
        for y, z, x in ((foot, low, wide), (roof, high, narrow))
    ]
    return loft(ring)


def rubber(body: Rgb) -> Rgb:
    """Dark tyres, or lighter ones where the body is too dark for dark tyres to show."""
    return (0.36, 0.36, 0.38) if brightness(body) < 0.15 else TYRE


def wheels(at: Sequence[float], width: float, radius: float, thick: float, body: Rgb) -> list[Part]:
    """A wheel on either side of a body of that width at each y of `at`, standing on z = 0."""
    parts = []
    for side in (-1, 1):
        for y in at:
            tyre = cylinder(radius, thick, bevel=0.03).moved(z=-thick / 2).turned("y", 90)
            hub = cylinder(radius * 0.5, thick + 0.05).moved(z=-thick / 2 - 0.025).turned("y", 90)
            x = side * (width / 2 - thick / 2 + 0.05)
            parts += [Part("tyre", tyre.moved(x, y, radius), rubber(body)), Part("hub", hub.moved(x, y, radius), STEEL)]
    return parts


def _lamps(length: float, width: float, floor: float, belt: float, round_lamps: bool) -> list[Part]:
    tall, parts = belt - floor, []
    for side in (-1, 1):
        x = side * width * 0.33
        lamp = cylinder(0.085, 0.08).turned("x", 90) if round_lamps else box(0.19, 0.08, 0.1).moved(0, -0.04, -0.05)
        parts.append(Part("headlamp", lamp.moved(x, -length / 2 + 0.06, floor + 0.52 * tall), LAMP))
        back = box(0.17, 0.06, 0.10).moved(x, length / 2, floor + 0.55 * tall)
        parts.append(Part("tail lamp", back, TAIL_LAMP))
    for end in (-1, 1):
        bumper = box(width * 0.9, 0.08, 0.09, bevel=0.02).moved(0, end * (length / 2 + 0.01), floor + 0.04)
        parts.append(Part("bumper", bumper, shaded(STEEL, 0.75)))
    return parts


KIND = Kind(
    build,
    parts={"wheels": ("tyre",), "roof": ("roof",)},
    also=("automobile",),
    part_also={**TYRES, "top": "roof"},
)
