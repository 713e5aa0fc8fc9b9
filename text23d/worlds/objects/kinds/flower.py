"""Flowers: daisies, pansies of five round petals and sunflowers, face forwards, growing from the ground or a pot."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, TYRE, WOOD, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.tree import apart
from text23d.worlds.objects.parts import Mesh, Part, Rgb, cylinder, ellipsoid, tube

LEAF: Rgb = (0.22, 0.46, 0.18)
SHOOT: Rgb = (0.42, 0.68, 0.30)
POLLEN: Rgb = (0.93, 0.74, 0.16)
SEED: Rgb = (0.30, 0.19, 0.10)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(["daisy", "pansy", "sunflower"]))
    tall, big = rng.uniform(0.85, 1.1), rng.uniform(0.78, 0.90)
    green = apart(colour, LEAF, SHOOT, BARK)
    parts = _stem(rng, tall, green)
    if rng.random() < 0.5:
        pot = apart(colour, *(WOOD, IVORY)[:: rng.choice([-1, 1])], TYRE)
        parts += [Part("pot", cylinder(0.24, 0.34, top=1.4), pot)]
        parts += [Part("pot", cylinder(0.38, 0.12, bevel=0.02).moved(z=0.28), pot)]
    else:
        parts.append(Part("mound", ellipsoid(0.42, 0.42, 0.14, sides=18), green))
    tilt = rng.uniform(12, 35)
    for part in _head(rng, style, big, colour, green):
        parts.append(Part(part.name, part.mesh.turned("x", 90 - tilt).moved(0, -0.12, tall + big * 0.55), part.colour))
    return parts


def _stem(rng: np.random.Generator, tall: float, colour: Rgb) -> list[Part]:
    """A thick stem with two leaves, one on either side."""
    parts = [Part("stem", tube([(0, 0, 0), (0, 0, tall * 0.5), (0, 0, tall + 0.45)], 0.10), colour)]
    for side in (-1, 1):
        size = rng.uniform(0.36, 0.44)
        leaf = ellipsoid(size, 0.19, 0.08, sides=14).moved(size).turned("y", -rng.uniform(25, 45))
        mirrored = leaf.scaled(side, 1, 1).moved(0, 0, tall * rng.uniform(0.32, 0.45))
        parts.append(Part("leaf", mirrored, colour))
    return parts


def _head(rng: np.random.Generator, style: str, big: float, colour: Rgb, green: Rgb) -> list[Part]:
    """Petals, centre and sepals of a flower that faces up, about the origin."""
    count = {"daisy": int(rng.integers(7, 10)), "pansy": 5, "sunflower": int(rng.integers(10, 14))}[style]
    hub = big * {"daisy": 0.37, "pansy": 0.36, "sunflower": 0.45}[style] * rng.uniform(0.95, 1.1)
    lift = rng.uniform(12, 28)
    parts = [Part("petal", petal, colour) for petal in _petals(style, count, big, lift)]
    if style == "sunflower":
        inner = _petals(style, count, big * 0.82, lift + 14)
        parts += [Part("petal", petal.turned("z", 180 / count), shaded(colour, 0.85)) for petal in inner]
    disc = apart(colour, SEED, POLLEN) if style == "sunflower" else apart(colour, POLLEN, IVORY, SEED)
    parts.append(Part("centre", ellipsoid(hub, hub, hub * 0.75, sides=18).moved(z=0.10), disc))
    return [*parts, Part("sepal", ellipsoid(hub * 1.2, hub * 1.2, 0.18).moved(z=-0.09), green)]


def _petals(style: str, count: int, big: float, lift: float) -> list[Mesh]:
    """A ring of petals that reach `big` from the middle, their tips lifted."""
    long = big * (0.36 if style == "pansy" else 0.43)
    wide = {"daisy": 2.6, "pansy": 2.05, "sunflower": 2.5}[style] * big / count
    petal = ellipsoid(long, wide, 0.12, sides=14).moved(big - long).turned("y", -lift)
    return [petal.turned("z", 90 + 360 * k / count) for k in range(count)]


KIND = Kind(
    build,
    parts={"centre": ("centre",), "stem": ("stem", "leaf", "sepal")},
    also=("blossom",),
    front=True,
    part_also={"middle": "centre", "stalk": "stem", "leaves": "stem", "leaf": "stem"},
)
