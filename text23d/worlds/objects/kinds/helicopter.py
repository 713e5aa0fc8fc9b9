"""Helicopters: a bubble or a box of a cabin, a tail boom with its own small rotor, a big rotor on top, skids below."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import STEEL, TYRE, brightness, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid, extrude, sections


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    length, wide, tall = rng.uniform(0.95, 1.2), rng.uniform(0.34, 0.40), rng.uniform(0.38, 0.45)
    parts = [Part("cabin", _cabin(str(rng.choice(["bubble", "box"])), length, wide, tall), colour)]
    screen = ellipsoid(wide * 0.92, length * 0.36, tall * 0.66).moved(0, -length * 0.27, tall * 0.22)
    parts.append(Part("windscreen", screen, glass(colour)))
    for side in (-1, 1):
        window = box(0.06, length * 0.24, tall * 0.55).moved(side * (wide - 0.045), length * 0.12, 0)
        parts.append(Part("window", window, glass(colour)))
    parts += _tail(rng, length, tall, colour)
    parts += _rotor(rng, tall, brightness(colour) < 0.2)
    return parts + _skids(length, wide, tall)


def _cabin(style: str, length: float, wide: float, tall: float) -> Mesh:
    if style == "bubble":
        return ellipsoid(wide, length / 2, tall, sides=20)
    shape = [(-0.5, 0.35), (-0.46, 0.60), (-0.36, 0.86), (-0.2, 1.0), (0.28, 1.0), (0.42, 0.8), (0.5, 0.5)]
    return sections([(length * at, 0.02 * part, wide * part, tall * part) for at, part in shape])


def _tail(rng: np.random.Generator, length: float, tall: float, colour: Rgb) -> list[Part]:
    """The boom, an upright fin at its end, a plane across it, and the small rotor at its side."""
    start, end = length * 0.36, length * 0.5 + rng.uniform(0.62, 0.80)
    rise = tall * 0.32
    boom = sections([(start, 0.06, 0.17, 0.18), (end - 0.2, rise * 0.8, 0.10, 0.11), (end, rise, 0.09, 0.10)])
    fin = extrude(
        [(end - 0.24, rise - 0.10), (end + 0.06, rise), (end + 0.20, rise + 0.46), (end, rise + 0.46)], -0.06, 0.06, "x"
    )
    plane = box(0.62, 0.22, 0.10).moved(0, end - 0.18, rise - 0.03)
    parts = [Part("tail", mesh, colour) for mesh in (boom, fin, plane)]
    for turn in (45, 135):
        blade = box(0.09, 0.14, 0.52).moved(z=-0.26).turned("x", turn)
        parts.append(Part("tail rotor", blade.moved(0.10, end + 0.06, rise + 0.26), STEEL))
    return parts


def _rotor(rng: np.random.Generator, tall: float, dark: bool) -> list[Part]:
    """Always of four blades that stand still at the same angles: of rotors that stand anyhow, views do not agree."""
    metal = STEEL if dark else (0.24, 0.24, 0.26)
    mast = cylinder(0.11, 0.34).moved(z=tall - 0.06)
    parts = [Part("mast", mast, metal), Part("rotor", cylinder(0.18, 0.16).moved(z=tall + 0.19), metal)]
    reach = rng.uniform(0.95, 1.1)
    for turn in (45, 135, 225, 315):
        blade = box(reach, 0.21, 0.11).moved(x=reach / 2).turned("z", turn)
        parts.append(Part("rotor", blade.moved(z=tall + 0.21), metal))
    return parts


def _skids(length: float, wide: float, tall: float) -> list[Part]:
    parts = []
    for side in (-1, 1):
        x = side * wide * 0.95
        parts.append(Part("skid", box(0.13, length * 1.1, 0.13).moved(x, 0, -tall - 0.26), TYRE))
        for y in (-0.25, 0.25):
            leg = (
                box(0.12, 0.13, 0.42)
                .moved(z=-0.42)
                .turned("y", -side * 18)
                .moved(x - side * 0.14, y * length, -tall * 0.6 + 0.02)
            )
            parts.append(Part("leg", leg, shaded(STEEL, 0.7)))
    return parts


KIND = Kind(
    build,
    parts={"rotor": ("rotor", "tail rotor"), "tail": ("tail",)},
    also=("chopper",),
    part_also={"blades": "rotor", "propeller": "rotor"},
)
