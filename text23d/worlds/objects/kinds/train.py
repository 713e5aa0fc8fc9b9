"""Trains: steam locomotives - tank engines, western ones with a cowcatcher, and ones with a tender of coal."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import LAMP, STEEL, brightness, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.car import TYRES, rubber, wheels
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid, lathe, loft

COAL: Rgb = (0.13, 0.13, 0.14)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["tank", "western", "tender"]))
    boiler, cab = rng.uniform(1.05, 1.3), rng.uniform(0.52, 0.66)
    radius, width = rng.uniform(0.33, 0.38), rng.uniform(0.84, 0.94)
    wheel = rng.uniform(0.26, 0.30)
    deck = wheel * 1.7
    axis, rear = deck + radius * 0.92, boiler + cab
    iron = shaded(STEEL, 0.75) if brightness(colour) < 0.15 else rubber(colour)

    parts = [
        Part(
            "frame",
            box(width * 0.62, rear - 0.06, deck - wheel * 0.8).moved(0, rear / 2, wheel * 0.8),
            shaded(colour, 0.7),
        )
    ]
    parts.append(
        Part("deck", box(width + 0.04, rear + 0.04, 0.12).moved(0, rear / 2, deck - 0.06), shaded(colour, 0.8))
    )
    parts.append(Part("boiler", _lying(cylinder(radius, boiler + 0.1, sides=24)).moved(0, 0.0, axis), colour))
    parts += _face(radius, width, deck, axis, iron)
    parts.append(Part("chimney", _chimney(rng, style).moved(0, 0.16, axis + radius * 0.85), iron))
    dome = ellipsoid(0.19, 0.19, 0.24).moved(0, boiler * 0.64, axis + radius * 0.92)
    parts.append(Part("dome", dome, STEEL))
    parts += _cab(rng, width, boiler, cab, deck, axis + radius, colour)
    rows = np.linspace(wheel + 0.02, rear - wheel - 0.04, 3)
    if style == "tank":
        for side in (-1, 1):
            tank = box(0.2, boiler * 0.62, radius * 1.15, bevel=0.04).moved(
                side * (width / 2 - 0.12), boiler * 0.68, deck
            )
            parts.append(Part("tank", tank, colour))
    if style == "western":
        parts.append(Part("cowcatcher", _cowcatcher(width, deck), STEEL))
    if style == "tender":
        parts += _tender(rng, width, rear, deck, wheel, colour, iron)
    parts += wheels([float(row) for row in rows], width, wheel, 0.20, colour)
    return parts


def _lying(mesh: Mesh) -> Mesh:
    """A solid standing on z = 0 laid along +Y from y = 0."""
    return mesh.turned("x", -90)


def _face(radius: float, width: float, deck: float, axis: float, iron: Rgb) -> list[Part]:
    """The smokebox with its round door, a lamp above it, and the buffer beam, all round y = 0."""
    parts = [Part("smokebox", _lying(cylinder(radius + 0.03, 0.28, bevel=0.04)).moved(0, -0.06, axis), iron)]
    parts.append(Part("smokebox door", _lying(cylinder(radius * 0.62, 0.1, sides=16)).moved(0, -0.11, axis), STEEL))
    parts.append(Part("beam", box(width, 0.14, 0.24).moved(0, -0.04, deck - 0.16), iron))
    for side in (-1, 1):
        buffer = _lying(cylinder(0.1, 0.16, sides=12)).moved(side * width * 0.32, -0.2, deck - 0.04)
        parts.append(Part("buffer", buffer, LAMP))
    return parts


def _chimney(rng: np.random.Generator, style: str) -> Mesh:
    """A stack standing on z = 0: a funnel on western engines, else a pipe with a rim."""
    tall, r = rng.uniform(0.52, 0.64), rng.uniform(0.15, 0.18)
    if style == "western":
        return lathe([(r, 0), (r, tall * 0.4), (r * 2.1, tall * 0.85), (r * 1.7, tall)])
    return lathe([(r * 1.15, 0), (r, tall * 0.7), (r * 1.45, tall * 0.72), (r * 1.45, tall)])


def _cab(
    rng: np.random.Generator, width: float, start: float, length: float, deck: float, boiler_top: float, colour: Rgb
) -> list[Part]:
    tall = boiler_top - deck + rng.uniform(0.22, 0.32)
    middle = start + length / 2
    parts = [Part("cab", box(width, length, tall).moved(0, middle, deck), colour)]
    window = box(width + 0.05, length * 0.58, tall * 0.34).moved(0, middle, deck + tall * 0.54)
    parts.append(Part("window", window, glass(colour)))
    end = box(width * 0.6, length + 0.05, tall * 0.34).moved(0, middle, deck + tall * 0.54)
    parts.append(Part("window", end, glass(colour)))
    roof = box(width + 0.2, length + 0.24, 0.17, bevel=0.06).moved(0, middle, deck + tall - 0.02)
    return [*parts, Part("roof", roof, colour)]


def _cowcatcher(width: float, deck: float) -> Mesh:
    """A wedge that runs forward and down from the beam."""
    high, low = deck - 0.05, 0.06
    back = [(-width / 2, 0.02, low), (width / 2, 0.02, low), (width / 2, 0.02, high), (-width / 2, 0.02, high)]
    tip = [(-0.08, -0.42, low), (0.08, -0.42, low), (0.08, -0.36, low + 0.12), (-0.08, -0.36, low + 0.12)]
    return loft([back, tip])


def _tender(
    rng: np.random.Generator, width: float, start: float, deck: float, wheel: float, colour: Rgb, iron: Rgb
) -> list[Part]:
    """A coal wagon coupled behind the cab."""
    length, tall, gap = rng.uniform(0.72, 0.86), rng.uniform(0.42, 0.5), 0.12
    middle = start + gap + length / 2
    parts = [Part("coupling", box(width * 0.4, gap + 0.2, 0.14).moved(0, start + gap / 2, deck - 0.2), iron)]
    parts.append(Part("tender", box(width, length, tall + 0.06).moved(0, middle, deck - 0.06), colour))
    parts.append(Part("coal", ellipsoid(width * 0.44, length * 0.44, 0.2).moved(0, middle, deck + tall), COAL))
    parts.append(
        Part(
            "frame",
            box(width * 0.62, length - 0.06, deck - wheel * 0.8).moved(0, middle, wheel * 0.8),
            shaded(colour, 0.7),
        )
    )
    return parts + wheels((middle - length * 0.26, middle + length * 0.26), width, wheel * 0.75, 0.2, colour)


KIND = Kind(
    build,
    parts={"wheels": ("tyre",), "chimney": ("chimney",), "roof": ("roof",)},
    also=("locomotive",),
    part_also={**TYRES, "funnel": "chimney", "smokestack": "chimney", "stack": "chimney", "top": "roof"},
)
