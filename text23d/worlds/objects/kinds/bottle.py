"""Bottles: slender wine, sloping beer, stout milk and square flask, a label on the front and a cap on top."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, STEEL, TYRE, WOOD, brightness, is_pale
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, extrude, lathe

# Outline above the straight wall, as (share of the way from wall to neck, share of the shoulder's height); then the
# heights of wall, shoulder and neck, and the half widths of wall and neck.
SHOULDERS = {
    "wine": (((0.06, 0.35), (0.35, 0.75), (0.80, 0.95)), (1.05, 0.30, 0.50), (0.40, 0.18)),
    "beer": (((0.15, 0.25), (0.50, 0.50), (0.85, 0.78)), (0.90, 0.62, 0.26), (0.40, 0.17)),
    "milk": (((0.10, 0.35), (0.45, 0.70), (0.85, 0.92)), (0.90, 0.46, 0.20), (0.44, 0.23)),
    "flask": (((0.10, 0.30), (0.45, 0.75), (0.80, 0.95)), (1.05, 0.26, 0.26), (0.38, 0.15)),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(SHOULDERS)))
    curve, heights, (wide, neck) = SHOULDERS[style]
    wall, shoulder, throat = (h * rng.uniform(0.9, 1.1) for h in heights)
    wide, neck = wide * rng.uniform(0.94, 1.08), neck * rng.uniform(0.95, 1.1)
    square = style == "flask"
    outline = [(wide - 0.05, 0.0), (wide, 0.05), (wide, wall)]
    outline += [(wide + (neck - wide) * inwards, wall + shoulder * up) for inwards, up in curve]
    outline += [(neck, wall + shoulder), (neck, wall + shoulder + throat)]
    mesh = lathe(outline, sides=28)
    if square:
        mesh = lathe(outline, sides=4).turned("z", 45).scaled(2**0.5, 2**0.5, 1)
    parts = [Part("body", mesh, colour)]
    tall = rng.uniform(0.22, 0.30)
    cap = cylinder(neck + 0.06, tall, bevel=0.03).moved(z=wall + shoulder + throat - tall * 0.4)
    parts.append(Part("cap", cap, _cap_colour(rng, colour)))
    low, high = wall * rng.uniform(0.14, 0.22), wall * rng.uniform(0.80, 0.94)
    parts.append(Part("label", _label(wide, low, high, square), BARK if is_pale(colour) else IVORY))
    mark = cylinder((high - low) * 0.26, 0.06).moved(z=-0.03).turned("x", 90)
    parts.append(Part("mark", mark.moved(0, -wide - 0.02, (low + high) / 2), colour))
    return parts


def _cap_colour(rng: np.random.Generator, body: Rgb) -> Rgb:
    """Cork, metal, ivory or black, whichever shows against the body."""
    choice: list[Rgb] = [c for c in (WOOD, STEEL, IVORY, TYRE) if abs(brightness(c) - brightness(body)) > 0.22]
    return choice[int(rng.integers(len(choice)))]


def _label(wide: float, low: float, high: float, square: bool) -> Mesh:
    """A patch that stands a little off the front of the wall: a segment of a disc, or a slab on a square bottle."""
    if square:
        return box(wide * 1.7, 0.1, high - low).moved(0, -wide + 0.01, low)
    angle = np.deg2rad(np.linspace(-165, -15, 15))
    return extrude(np.stack([np.cos(angle), np.sin(angle)], -1) * (wide + 0.03), low, high, "z")


KIND = Kind(
    build,
    parts={"cap": ("cap",), "label": ("label",)},
    also=("flask",),
    front=True,
    part_also={"lid": "cap", "top": "cap", "stopper": "cap", "cork": "cap", "sticker": "label"},
)
