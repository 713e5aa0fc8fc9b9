"""Guitars, standing upright: acoustic with a waist, electric with two horns, and small stout ukuleles."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, STEEL, TYRE, WOOD, brightness, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Floats, Part, Rgb, box, cylinder, extrude

# The body's outline as its distance from the middle, every 30 degrees from straight down round to straight up.
OUTLINES = {
    "acoustic": (0.60, 0.64, 0.59, 0.37, 0.48, 0.60, 0.56),
    "ukulele": (0.58, 0.62, 0.57, 0.40, 0.48, 0.56, 0.52),
    "electric": (0.58, 0.64, 0.60, 0.40, 0.56, 0.68, 0.46),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(OUTLINES)))
    outline = _outline(OUTLINES[style], rng.uniform(1.06, 1.22))
    top, foot = float(outline[:, 1].max()), float(outline[:, 1].min())
    deep = rng.uniform(0.26, 0.30) if style == "electric" else rng.uniform(0.30, 0.38)
    reach = rng.uniform(0.42, 0.52) if style == "ukulele" else rng.uniform(0.62, 0.78)
    dark = BARK if brightness(colour) > 0.4 else WOOD
    parts = [Part("body", extrude(outline, -deep / 2, deep / 2, "y", bevel=0.08), colour)]
    front = -deep / 2
    start = 0.22
    neck = box(0.20, 0.17, top + reach - start).moved(0, front + 0.02, start)
    parts.append(Part("neck", neck, dark))
    head = box(0.34, 0.14, 0.36, bevel=0.02, taper=(0.8, 1.0)).moved(0, front + 0.04, top + reach - 0.04)
    parts.append(Part("neck", head, dark))
    for z in (0.10, 0.25):
        peg = box(0.50, 0.09, 0.09).moved(0, front + 0.04, top + reach - 0.04 + z - 0.04)
        parts.append(Part("peg", peg, STEEL))
    parts += _electrics(front, colour) if style == "electric" else _sound_hole(front, colour)
    return [Part(p.name, p.mesh.moved(z=-foot), p.colour) for p in parts]


def _outline(radii: tuple[float, ...], wide: float) -> Floats:
    """The closed outline (x, z), smooth through those distances on both sides."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    knots = np.linspace(0, 2 * np.pi, 2 * len(radii) - 1)
    series = np.fft.rfft([*radii, *radii[-2:0:-1]])
    radius = np.fft.irfft(series, 48) * 48 / (len(knots) - 1)
    return np.stack([radius * np.sin(angle) * wide, -radius * np.cos(angle)], -1)


def _disc(radius: float, front: float, z: float, proud: float, name: str, colour: Rgb) -> Part:
    return Part(name, cylinder(radius, proud + 0.05).turned("x", 90).moved(0, front + 0.05, z), colour)


def _sound_hole(front: float, body: Rgb) -> list[Part]:
    """A dark hole in a pale ring, and the bridge with the strings between."""
    black = (0.05, 0.05, 0.05) if brightness(body) > 0.15 else (0.30, 0.30, 0.32)
    ring = BARK if is_pale(body) else IVORY
    strings = box(0.13, 0.08, 0.55).moved(0, front + 0.01, -0.32)
    bridge = box(0.42, 0.10, 0.11).moved(0, front, -0.36)
    return [
        _disc(0.25, front, 0.14, 0.02, "rosette", ring),
        _disc(0.18, front, 0.14, 0.04, "hole", black),
        Part("strings", strings, shaded(STEEL, 0.8)),
        Part("bridge", bridge, black),
    ]


def _electrics(front: float, body: Rgb) -> list[Part]:
    """Two pickups and a bridge on a pale or dark plate."""
    plate = TYRE if is_pale(body) else IVORY
    black = IVORY if is_pale(body) else TYRE
    board = extrude([(-0.26, -0.2), (0.26, -0.2), (0.22, 0.3), (-0.22, 0.3)], front - 0.02, front + 0.05, "y")
    parts = [Part("plate", board, plate)]
    for z in (-0.10, 0.10):
        parts.append(Part("pickup", box(0.34, 0.10, 0.09).moved(0, front, z), black))
    parts.append(Part("bridge", box(0.34, 0.10, 0.11).moved(0, front, -0.36), STEEL))
    return parts


KIND = Kind(
    build,
    parts={"neck": ("neck",)},
    front=True,
    part_also={"fingerboard": "neck", "fretboard": "neck"},
)
