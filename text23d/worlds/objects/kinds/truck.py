"""Trucks: a bonneted or flat-nosed cab before a box, a tank or a heaped tipper, on big wheels."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import LAMP, STEEL, TAIL_LAMP, WOOD, brightness, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.car import TYRES, rubber, wheels
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid, extrude

SAND: Rgb = shaded(WOOD, 1.1)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["box", "tank", "tipper"]))
    width, load, gap = rng.uniform(0.86, 0.98), rng.uniform(1.2, 1.5), rng.uniform(0.24, 0.30)
    nose = rng.uniform(0.38, 0.48) if rng.random() < 0.6 else 0.0
    cab, tall = rng.uniform(0.52, 0.62), rng.uniform(0.86, 0.98)
    wheel = rng.uniform(0.30, 0.34)
    deck = wheel * 1.8
    length = nose + cab + gap + load
    front = -length / 2
    steel = shaded(STEEL, 0.7 if brightness(colour) < 0.15 else 0.4)

    chassis = box(width * 0.7, length - 0.06, deck - wheel + 0.02).moved(z=wheel)
    parts = [Part("chassis", chassis, steel)]
    parts += [p for p in _cab(width, nose, cab, wheel, tall, colour, steel, front)]
    middle = length / 2 - load / 2
    parts += [Part(name, mesh.moved(y=middle, z=deck), c) for name, mesh, c in _load(rng, style, width, load, colour)]
    axles = [front + nose * 0.5 + 0.36, length / 2 - wheel - 0.1]
    if load > 1.4:
        axles.append(axles[-1] - 2 * wheel - 0.04)
    parts += wheels(axles, width, wheel, rng.uniform(0.24, 0.28), colour)
    for side in (-1, 1):
        lamp = box(0.22, 0.10, 0.16).moved(side * width * 0.34, length / 2, wheel * 1.1)
        parts.append(Part("tail lamp", lamp, TAIL_LAMP))
    return parts


def _cab(
    width: float, nose: float, cab: float, wheel: float, tall: float, colour: Rgb, steel: Rgb, front: float
) -> list[Part]:
    """A painted block with dark windows all round its upper half; a bonnet before it where `nose` is not 0."""
    floor, rear = wheel * 0.8, front + nose + cab
    top = floor + tall
    sill = floor + tall * 0.52
    slope = 0.10
    side = [
        (front + nose, floor),
        (rear, floor),
        (rear, top),
        (front + nose + slope, top),
        (front + nose, sill),
    ]
    parts = [Part("cab", extrude(side, -width / 2, width / 2, "x", bevel=0.06), colour)]
    middle = (front + nose + slope + rear) / 2
    pane = box(width + 0.05, cab * 0.56, tall * 0.32).moved(0, middle, sill)
    screen = extrude(
        [
            (front + nose - 0.03, sill + 0.01),
            (front + nose + 0.1, sill + 0.01),
            (front + nose + 0.17, top - 0.10),
            (front + nose + 0.05, top - 0.10),
        ],
        -width * 0.42,
        width * 0.42,
        "x",
    )
    parts += [Part("window", pane, glass(colour)), Part("window", screen, glass(colour))]
    if nose:
        bonnet = box(width * 0.86, nose + 0.2, sill - floor - 0.02, bevel=0.06)
        parts.append(Part("bonnet", bonnet.moved(0, front + nose / 2 + 0.1, floor), colour))
    grille = box(width * 0.44, 0.08, (sill - floor) * 0.62).moved(0, front + 0.015, floor + 0.12)
    parts.append(Part("grille", grille, steel))
    for x in (-1, 1):
        lamp = cylinder(0.095, 0.12).turned("x", 90).moved(x * width * 0.32, front + 0.06, floor + 0.26)
        parts.append(Part("headlamp", lamp, LAMP))
    bumper = box(width * 0.98, 0.14, 0.15, bevel=0.03).moved(0, front - 0.02, floor - 0.04)
    parts.append(Part("bumper", bumper, STEEL))
    return parts


def _load(
    rng: np.random.Generator, style: str, width: float, length: float, colour: Rgb
) -> list[tuple[str, Mesh, Rgb]]:
    """What the truck carries, standing on z = 0 and centred in x and y."""
    if style == "box":
        tall = rng.uniform(0.82, 1.05)
        shutter = box(width * 0.8, 0.06, tall * 0.72).moved(0, length / 2, tall * 0.08)
        return [("load", box(width * 1.04, length, tall, bevel=0.03), colour), ("shutter", shutter, STEEL)]
    if style == "tank":
        radius = width * 0.5
        tank = cylinder(radius, length, bevel=0.10).moved(z=-length / 2).turned("x", 90)
        hatch = cylinder(0.16, 0.14).moved(z=2 * radius - 0.05)
        return [("load", tank.moved(z=radius - 0.03), colour), ("hatch", hatch, STEEL)]
    tall = rng.uniform(0.54, 0.64)
    tub = box(width * 0.92, length * 0.90, tall, taper=(1.16, 1.11))
    ribs = [box(width * 1.10, 0.12, tall * 0.92).moved(y=length * at) for at in (-0.2, 0.2)]
    heap = ellipsoid(width * 0.47, length * 0.44, tall * 0.5).moved(z=tall * 0.94)
    return [("load", tub, colour), *(("rib", rib, rubber(colour)) for rib in ribs), ("heap", heap, SAND)]


KIND = Kind(
    build,
    parts={"wheels": ("tyre",), "trailer": ("load",)},
    also=("lorry",),
    front=True,
    part_also={**TYRES, "load": "trailer", "cargo": "trailer", "container": "trailer"},
)
