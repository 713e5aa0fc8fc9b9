"""Beds: single or double, with a panel, arched or padded headboard or with four posts."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, STEEL, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, ellipsoid, extrude


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["panel", "arch", "padded", "posts"]))
    double = rng.random() < 0.6
    width, length = rng.uniform(1.35, 1.6) if double else rng.uniform(0.95, 1.1), rng.uniform(1.85, 2.1)
    foot, rail, soft = rng.uniform(0.14, 0.24), rng.uniform(0.20, 0.26), rng.uniform(0.20, 0.28)
    top = foot + rail + soft - 0.04
    linen = shaded(STEEL, 0.62) if is_pale(colour) else IVORY
    parts = _frame(style, width, length, foot, rail, top + rng.uniform(0.38, 0.55), top + rng.uniform(0.0, 0.1), colour)
    mattress = box(width - 0.10, length - 0.06, soft, bevel=0.05).moved(z=foot + rail - 0.04)
    parts.append(Part("mattress", mattress, linen))
    cover = length * rng.uniform(0.60, 0.68)
    blanket = box(width - 0.04, cover, soft + 0.05, bevel=0.05).moved(0, (cover - length) / 2, foot + rail - 0.04)
    parts.append(Part("blanket", blanket, shaded(colour, 0.84)))
    return parts + [Part("pillow", mesh.moved(0, length / 2, top), linen) for mesh in _pillows(width, double)]


def _frame(
    style: str, width: float, length: float, foot: float, rail: float, head: float, end: float, colour: Rgb
) -> list[Part]:
    """Rails, a headboard `head` high at +Y, a footboard or posts `end` high at -Y, and feet."""
    parts = [Part("rail", box(width, length, rail, bevel=0.02).moved(z=foot), colour)]
    board = _headboard(style, width, head).moved(0, length / 2 + 0.04)
    parts.append(Part("headboard", board, colour))
    if style != "padded":
        low = foot * 0.6
        parts.append(Part("footboard", box(width, 0.14, end - low).moved(0, -length / 2 - 0.04, low), colour))
    for x in (-1, 1):
        for y in (-1, 1):
            tall = (head + 0.05 if y > 0 else end + 0.2) if style == "posts" else foot + 0.05
            at = x * (width / 2 - 0.06), y * (length / 2 + 0.02)
            parts.append(Part("post", box(0.20, 0.20, tall).moved(*at), colour))
            if style == "posts":
                parts.append(Part("knob", ellipsoid(0.14, 0.14, 0.14, sides=12).moved(*at, tall + 0.07), colour))
    return parts


def _headboard(style: str, width: float, tall: float) -> Mesh:
    if style in ("panel", "posts"):
        return box(width + 0.04, 0.16, tall)
    if style == "padded":
        return box(width + 0.16, 0.26, tall, bevel=0.09)
    angle = np.linspace(0, np.pi, 13)
    bow = np.stack([np.cos(angle) * (width / 2 + 0.02), tall * (0.72 + 0.38 * np.sin(angle))], -1)
    return extrude([(-width / 2 - 0.02, 0.0), (width / 2 + 0.02, 0.0), *bow], -0.08, 0.08, "y")


def _pillows(width: float, double: bool) -> list[Mesh]:
    """Leaning on a headboard at y = 0, standing on z = 0."""
    wide = (width - 0.14) / 2 if double else width * 0.74
    pillow = box(wide - 0.04, 0.24, 0.44, bevel=0.09).turned("x", -38).moved(0, -0.42, 0.06)
    return [pillow.moved(x * wide / 2) for x in ((-1, 1) if double else (0,))]


KIND = Kind(
    build,
    parts={"pillows": ("pillow",), "blanket": ("blanket",)},
    front=True,
    support="blanket",
    part_also={
        "cushions": "pillows",
        "cover": "blanket",
        "duvet": "blanket",
        "quilt": "blanket",
        "bedspread": "blanket",
    },
)
