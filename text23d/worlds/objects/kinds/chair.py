"""Chairs: panel, arched, barred or splat backs, with arms or without, on painted or wooden legs."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, WOOD, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, extrude


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    width, depth = rng.uniform(0.82, 1.0), rng.uniform(0.80, 0.95)
    leg, thick = rng.uniform(0.17, 0.22), rng.uniform(0.15, 0.20)
    seat, back = rng.uniform(0.60, 0.76), rng.uniform(0.75, 1.0)
    lean = rng.uniform(0, 12)
    round_legs = rng.random() < 0.35
    wood = WOOD if brightness(colour) < 0.4 else BARK
    paint = shaded(colour, 0.92) if rng.random() < 0.5 else wood
    parts = _legs(width, depth, seat, leg, round_legs, rng.uniform(0, 0.05), paint)
    parts.append(Part("seat", box(width, depth, thick, bevel=0.03).moved(z=seat), colour))
    style = str(rng.choice(["panel", "arch", "bar", "splat"]))
    for piece in _back(style, width, back, leg):
        tilted = piece.turned("x", -lean).moved(0, depth / 2 - leg * 0.5, seat + thick * 0.7)
        parts.append(Part("back", tilted, colour))
    if rng.random() < 0.3:
        parts += _arms(width, depth, seat + thick, leg * 0.9, colour)
    return parts


def _legs(w: float, d: float, tall: float, leg: float, is_round: bool, splay: float, colour: Rgb) -> list[Part]:
    parts = []
    for x in (-1, 1):
        for y in (-1, 1):
            post = cylinder(leg * 0.46, tall + 0.05, top=1.25) if is_round else box(leg, leg, tall + 0.05)
            lean = np.rad2deg(splay / tall)
            post = post.turned("x", y * lean).turned("y", -x * lean)
            at = (x * (w / 2 - leg * 0.6 + splay), y * (d / 2 - leg * 0.6 + splay))
            parts.append(Part("leg", post.moved(*at), colour))
    return parts


def _back(style: str, width: float, tall: float, leg: float) -> list[Mesh]:
    """The pieces of an upright back, centred on x = 0, y = 0 and standing on z = 0."""
    thick = leg * 0.85
    if style == "panel":
        return [box(width * 0.98, thick, tall, bevel=0.03)]
    if style == "arch":
        angle = np.linspace(0, np.pi, 13)
        bow = np.stack([np.cos(angle) * width * 0.49, tall * (0.5 + 0.5 * np.sin(angle))], -1)
        return [extrude([(-width * 0.4, 0.0), (width * 0.4, 0.0), *bow], -thick / 2, thick / 2, "y")]
    posts = [box(leg, thick, tall).moved(x * (width / 2 - leg / 2)) for x in (-1, 1)]
    top = box(width, thick * 1.1, 0.2, bevel=0.02).moved(z=tall - 0.16)
    if style == "bar":
        middle = box(width - leg, thick * 0.7, 0.2).moved(z=tall * 0.55 - 0.16)
    else:
        middle = box(0.2, thick * 0.7, tall - 0.05)
    return [*posts, middle, top]


def _arms(width: float, depth: float, seat: float, leg: float, colour: Rgb) -> list[Part]:
    parts = []
    for x in (-1, 1):
        at = x * (width / 2 - leg / 2 + 0.02)
        parts.append(Part("arm", box(leg, depth * 0.92, 0.12, bevel=0.02).moved(at, 0.02, seat + 0.24), colour))
        parts.append(Part("arm", box(leg * 0.9, leg * 0.9, 0.30).moved(at, -depth * 0.36, seat - 0.04), colour))
    return parts


KIND = Kind(
    build,
    parts={"legs": ("leg",), "seat": ("seat",)},
    front=True,
    support="seat",
    part_also={"feet": "legs"},
)
