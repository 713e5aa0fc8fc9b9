"""Cactuses in a pot, with a flower on top: ribbed saguaros with arms, and prickly pears of flat pads."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import IVORY, STEEL, TYRE, WOOD, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.tree import apart
from text23d.worlds.objects.parts import Mesh, Part, Rgb, cylinder, ellipsoid, lathe, loft, tube

CLAY: Rgb = (0.62, 0.36, 0.24)
SOIL: Rgb = (0.24, 0.17, 0.12)
BLOSSOM: Rgb = (0.94, 0.45, 0.62)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["saguaro", "saguaro", "pear"]))
    wide = rng.uniform(0.40, 0.48)
    high = rng.uniform(0.38, 0.48)
    pots = [(CLAY, WOOD, STEEL)[k] for k in rng.permutation(3)]
    parts = _pot(wide, high, apart(colour, *pots, IVORY, TYRE))
    grow = {"saguaro": _saguaro, "pear": _pear}[style]
    body, (x, top) = grow(rng, colour)
    parts += [Part(p.name, p.mesh.moved(z=high), p.colour) for p in body]
    petals = apart(colour, IVORY, BLOSSOM)
    return parts + [Part("flower", mesh.moved(x, 0, high + top), petals) for mesh in _flower(rng.uniform(0.27, 0.32))]


def _pot(wide: float, high: float, colour: Rgb) -> list[Part]:
    rim = cylinder(wide * 1.1, high * 0.32, bevel=0.02).moved(z=high * 0.68)
    soil = cylinder(wide * 0.95, 0.06).moved(z=high - 0.03)
    foot = cylinder(wide * 0.72, high * 0.8, top=1.38)
    return [Part("pot", foot, colour), Part("pot", rim, colour), Part("soil", soil, SOIL)]


def _flower(size: float) -> list[Mesh]:
    """Five round petals in a shallow cup."""
    petal = (
        ellipsoid(size * 0.62, size * 0.5, size * 0.34, sides=10).turned("y", -40).moved(size * 0.52, 0, size * 0.38)
    )
    return [petal.turned("z", 72 * k + 18) for k in range(5)]


def _ribbed(outline: list[tuple[float, float]], ribs: int, colour: Rgb) -> list[Part]:
    """A lathed body with that many ribs, and a darker core that shows in the grooves between them."""
    angle = np.linspace(0, 2 * np.pi, ribs * 6, endpoint=False)
    wave = 0.82 + 0.18 * np.abs(np.cos(angle * ribs / 2))
    circle = np.stack([np.cos(angle) * wave, np.sin(angle) * wave, np.zeros(len(angle))], -1)
    skin = loft([circle * r + (0, 0, z) for r, z in outline if r > 0], end=(0, 0, outline[-1][1]))
    core = lathe([(r * 0.89, z - 0.01) for r, z in outline], sides=24)
    groove = (0.30, 0.30, 0.31) if brightness(colour) < 0.15 else shaded(colour, 0.62)
    return [Part("body", skin, colour), Part("groove", core, groove)]


def _saguaro(rng: np.random.Generator, colour: Rgb) -> tuple[list[Part], tuple[float, float]]:
    """A ribbed column with bent arms."""
    thick, tall = rng.uniform(0.25, 0.31), rng.uniform(1.35, 1.75)
    turn = np.linspace(0, np.pi / 2, 6)[1:]
    dome = [(thick * float(np.cos(a)), tall - thick * (1 - float(np.sin(a)))) for a in turn[:-1]]
    outline = [(thick * 0.92, -0.1), (thick, tall * 0.4), (thick, tall - thick), *dome, (0.0, tall)]
    parts, twist = _ribbed(outline, int(rng.integers(7, 10)), colour), rng.uniform(-15, 15)
    count = 2 if rng.random() < 0.6 else 3
    heights = rng.permutation([0.30, 0.44, 0.36])
    for k in range(count):
        arm = _arm(thick * rng.uniform(0.58, 0.70), thick + rng.uniform(0.26, 0.34), rng.uniform(0.35, 0.55))
        for mesh in arm:
            turned = mesh.moved(z=tall * heights[k]).turned("z", twist + (25, 155, 270)[k])
            parts.append(Part("arm", turned, colour))
    return parts, (0.0, tall - 0.04)


def _arm(thick: float, out: float, up: float) -> list[Mesh]:
    """Outwards along X, then up, with a round end."""
    turn = np.linspace(0, np.pi / 2, 6)
    bend = [(out - 0.2 + 0.2 * np.sin(a), 0.0, 0.2 - 0.2 * np.cos(a)) for a in turn]
    path = [(0.0, 0.0, 0.0), (0.15, 0.0, 0.0), *bend, (out, 0.0, 0.2 + up)]
    return [tube(path, thick, sides=14), ellipsoid(thick, thick, thick, sides=14).moved(out, 0, 0.2 + up)]


def _pear(rng: np.random.Generator, colour: Rgb) -> tuple[list[Part], tuple[float, float]]:
    """A big upright pad with two or three smaller ones on its edge."""
    wide, half = rng.uniform(0.40, 0.48), rng.uniform(0.50, 0.60)
    pads, thick = [ellipsoid(wide, 0.27, half, sides=20).moved(z=half * 0.85)], 0.21
    for side in (-1, 1):
        size = rng.uniform(0.28, 0.34)
        ear = ellipsoid(size * 0.85, thick, size * 1.1).moved(z=size).turned("y", side * rng.uniform(32, 50))
        pads.append(ear.turned("z", rng.uniform(15, 40)).moved(side * wide * 0.62, 0, half * 1.42))
    pads.append(ellipsoid(0.26, thick, 0.30).moved(0, 0.05, half * 1.85 + 0.2))
    spine = apart(colour, IVORY, TYRE)
    dots = [(x, z) for x, z in ((0.0, 0.45), (-0.45, 0.85), (0.45, 0.85), (0.0, 1.25))]
    spines = [
        Part("spine", ellipsoid(0.07, 0.06, 0.07, sides=8).moved(x * wide, y, z * half), spine)
        for x, z in dots
        for y in (-0.24, 0.24)
    ]
    return [*(Part("body", pad, colour) for pad in pads), *spines], (0.0, half * 1.85 + 0.46)


KIND = Kind(
    build,
    parts={"pot": ("pot",), "flower": ("flower",)},
    front=False,
    part_also={"planter": "pot", "flowerpot": "pot", "bloom": "flower"},
)
