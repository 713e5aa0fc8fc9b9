"""Airplanes: airliners with swept wings and engines, and propeller planes with high or low wings."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import STEEL, TYRE, glass, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid, sections, wing


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["airliner", "propeller"]))
    length, radius = rng.uniform(1.65, 1.85), rng.uniform(0.22, 0.27)
    if style != "airliner":
        length *= 0.9
    parts = [Part("fuselage", _fuselage(length, radius, blunt=style != "airliner"), colour)]
    parts += _tail(rng, length, radius, colour)
    if style == "airliner":
        return parts + _airliner(rng, length, radius, colour)
    return parts + _propeller(rng, length, radius, colour)


def _fuselage(length: float, radius: float, blunt: bool) -> Mesh:
    """Elliptic sections from the nose at -length / 2 to a tail that rises as it narrows."""
    pointed = [(0.0, 0.15), (0.015, 0.42), (0.05, 0.72), (0.11, 0.94)]
    nose = [(0.0, 0.70), (0.02, 0.86), (0.08, 0.98)] if blunt else pointed
    shape = [*nose, (0.18, 1.0), (0.60, 1.0), (0.74, 0.84), (0.88, 0.52), (0.98, 0.26), (1.0, 0.14)]
    lift = [0.55 * (1 - part) if at > 0.5 else 0.0 for at, part in shape]
    return sections(
        [
            (length * (at - 0.5), radius * up, radius * part, radius * part)
            for (at, part), up in zip(shape, lift, strict=True)
        ]
    )


def _tail(rng: np.random.Generator, length: float, radius: float, colour: Rgb) -> list[Part]:
    chord, high = rng.uniform(0.30, 0.38), rng.uniform(0.36, 0.46)
    root = length / 2 - chord - 0.02
    fin = wing(chord, chord * 0.6, 2 * high, chord * 0.6, 0.11).turned("y", -90)
    fin = fin.moved(0, root, radius * 0.4)
    plane = wing(chord * 0.9, chord * 0.55, rng.uniform(0.72, 0.88), chord * 0.4, 0.09)
    plane = plane.moved(0, root + 0.04, radius * 0.45)
    return [Part("fin", fin, colour), Part("tailplane", plane, colour)]


def _airliner(rng: np.random.Generator, length: float, radius: float, colour: Rgb) -> list[Part]:
    """Swept wings low on the body, an engine or two under each, a band of windows and a windscreen."""
    chord, span = rng.uniform(0.50, 0.62), rng.uniform(1.65, 1.9)
    sweep, y, z = rng.uniform(0.22, 0.45), -length * rng.uniform(0.14, 0.20), -radius * 0.45
    wings = wing(chord, chord * rng.uniform(0.35, 0.55), span, sweep, 0.16, rise=rng.uniform(0.02, 0.10))
    parts = [Part("wings", wings.moved(0, y, z), colour)]
    for out in (0.38, 0.66) if rng.random() < 0.3 else (0.42,):
        for side in (-1, 1):
            pod = cylinder(0.12, 0.36, bevel=0.02).turned("x", 90).moved(0, 0.2, 0)
            mouth = cylinder(0.085, 0.38).turned("x", 90).moved(0, 0.2, 0)
            at = (side * out * span / 2, y + sweep * out, z - 0.12)
            parts += [Part("engine", pod.moved(*at), STEEL), Part("intake", mouth.moved(*at), TYRE)]
    for side in (-1, 1):
        band = box(0.04, length * 0.46, radius * 0.32).moved(side * (radius - 0.012), -length * 0.06, radius * 0.10)
        parts.append(Part("windows", band, glass(colour)))
    screen = ellipsoid(radius * 0.72, radius * 0.55, radius * 0.36).moved(0, -0.415 * length, radius * 0.52)
    return [*parts, Part("windscreen", screen, glass(colour))]


def _propeller(rng: np.random.Generator, length: float, radius: float, colour: Rgb) -> list[Part]:
    """Straight wings, a propeller on the nose, a canopy, and fixed wheels."""
    chord, span, y = rng.uniform(0.42, 0.52), rng.uniform(1.5, 1.75), -length * 0.26
    level = radius * rng.choice([-0.5, 0.85])
    wings = wing(chord, chord * rng.uniform(0.7, 0.95), span, 0.05, 0.17)
    parts = [Part("wings", wings.moved(0, y, level), colour)]
    nose = -length / 2
    parts.append(Part("spinner", ellipsoid(0.09, 0.13, 0.09).moved(0, nose - 0.02, 0), STEEL))
    for turn in (0, 120, 240):  # always, so that views agree
        blade = box(0.13, 0.08, 0.40, bevel=0.01).turned("y", turn)
        parts.append(Part("propeller", blade.moved(0, nose - 0.06, 0), TYRE))
    canopy = ellipsoid(radius * 0.72, 0.24, radius * 0.75).moved(0, -length * 0.06, radius * 0.75)
    parts.append(Part("canopy", canopy, glass(colour)))
    for side in (-1, 1):
        leg = box(0.09, 0.09, radius + 0.16).moved(side * radius * 0.9, y + 0.1, -radius - 0.16)
        tyre = cylinder(0.12, 0.13, bevel=0.02).moved(z=-0.065).turned("y", 90)
        parts.append(Part("leg", leg, shaded(STEEL, 0.8)))
        parts.append(Part("wheel", tyre.moved(side * (radius * 0.9 + 0.05), y + 0.1, -radius - 0.17), TYRE))
    return parts


KIND = Kind(
    build,
    parts={"wings": ("wings",), "tail": ("fin", "tailplane")},
    also=("plane", "aeroplane"),
    part_also={"fin": "tail", "tailplane": "tail", "rudder": "tail"},
)
