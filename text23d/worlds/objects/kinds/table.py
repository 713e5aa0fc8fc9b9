"""Tables: four square or splayed legs under a rectangular top, round ones on a pedestal or three legs, trestles."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, WOOD, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, lathe


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["square", "splayed", "trestle", "pedestal", "round"]))
    length, width = rng.uniform(1.5, 2.2), rng.uniform(1.0, 1.25)
    tall, thick = rng.uniform(0.65, 0.92), rng.uniform(0.18, 0.24)
    leg = rng.uniform(0.17, 0.22)
    wood = WOOD if brightness(colour) < 0.4 else BARK
    paint = shaded(colour, 0.88) if rng.random() < 0.5 else wood
    if style in ("pedestal", "round"):
        radius = rng.uniform(0.68, 0.86)
        parts = [Part("top", cylinder(radius, thick, bevel=0.04, sides=28).moved(z=tall), colour)]
        apron = cylinder(radius * 0.84, 0.12, sides=28).moved(z=tall - 0.10)
        legs = (
            [_pedestal(radius, tall, leg)] if style == "pedestal" else _ring(radius, tall, leg, int(rng.integers(3, 5)))
        )
    else:
        parts = [Part("top", box(length, width, thick, bevel=0.03).moved(z=tall), colour)]
        apron = box(length - leg * 0.9, width - leg * 0.9, 0.22).moved(z=tall - 0.20)
        legs = _trestle(length, width, tall, leg) if style == "trestle" else _corners(style, length, width, tall, leg)
    parts.append(Part("apron", apron, shaded(colour, 0.88)))
    return parts + [Part("leg", mesh, paint) for mesh in legs]


def _corners(style: str, length: float, width: float, tall: float, leg: float) -> list[Mesh]:
    legs = []
    for x in (-1, 1):
        for y in (-1, 1):
            if style == "square":
                post, out = box(leg, leg, tall + 0.03), 0.0
            else:
                post = cylinder(leg * 0.42, tall + 0.03, top=1.45, sides=12).turned("x", y * 7).turned("y", -x * 7)
                out = tall * np.tan(np.deg2rad(7))
            at = x * (length / 2 - leg * 0.70 + out), y * (width / 2 - leg * 0.70 + out)
            legs.append(post.moved(*at))
    return legs


def _trestle(length: float, width: float, tall: float, leg: float) -> list[Mesh]:
    """A slab narrowing upwards at either end, and a beam between them."""
    slabs = [box(leg * 0.85, width * 0.92, tall + 0.03, taper=(1.0, 0.62)).moved(x * length * 0.36) for x in (-1, 1)]
    return [*slabs, box(length * 0.72, leg * 0.7, leg * 0.8).moved(z=tall * 0.3)]


def _pedestal(radius: float, tall: float, leg: float) -> Mesh:
    foot = radius * 0.68
    return lathe([(foot, 0), (foot, 0.09), (leg * 0.9, 0.24), (leg * 0.75, tall * 0.6), (leg * 1.3, tall + 0.03)])


def _ring(radius: float, tall: float, leg: float, count: int) -> list[Mesh]:
    post = cylinder(leg * 0.45, tall + 0.03, top=1.4, sides=12).turned("y", -9).moved(radius * 0.92)
    return [post.turned("z", 360 * (i + 0.5) / count - 90) for i in range(count)]


KIND = Kind(
    build,
    parts={"legs": ("leg",)},
    front=False,
    support="top",
    part_also={"feet": "legs"},
)
