"""Snowmen of two or three balls, in a top hat, bobble cap, bucket or cone, with a scarf and arms of stick."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, STEEL, TYRE, WOOD, brightness
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.kinds.tree import apart
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, cylinder, ellipsoid, lathe, tube

CARROT: Rgb = (0.97, 0.56, 0.10)
RUST: Rgb = (0.55, 0.18, 0.04)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    head = rng.uniform(0.37, 0.43)
    sizes = [rng.uniform(0.60, 0.70), rng.uniform(0.46, 0.52), head] if rng.random() < 0.6 else [0.68, head * 1.1]
    parts, centres, z = [], [], 0.0
    for k, size in enumerate(sizes):
        z += size * 0.92 if k == 0 else size * 0.78
        centres.append(z)
        parts.append(Part("body", ellipsoid(size, size, size * 0.92, sides=24).moved(z=z), colour))
        z += size * 0.72
    coal = IVORY if brightness(colour) < 0.33 else (0.08, 0.08, 0.09)
    parts += _face(sizes[-1], centres[-1], coal, apart(colour, CARROT, RUST))
    parts += _buttons(sizes[-2], centres[-2], coal)
    wool, felt = ((WOOD, TYRE, STEEL, IVORY)[k] for k in rng.permutation(4)[:2])
    parts += _scarf(sizes[-1], centres[-1], apart(colour, wool, TYRE, IVORY))
    parts += _hat(rng, sizes[-1], centres[-1], apart(colour, felt, TYRE, IVORY))
    parts += _arms(rng, sizes[-2], centres[-2], apart(colour, BARK, WOOD))
    return parts


def _face(head: float, z: float, coal: Rgb, carrot: Rgb) -> list[Part]:
    nose = lathe([(head * 0.29, 0.0), (head * 0.27, 0.06), (0.0, head * 1.25)], sides=12).turned("x", 90)
    parts = [Part("nose", nose.moved(0, -head * 0.82, z - head * 0.08), carrot)]
    for side in (-1, 1):
        eye = ellipsoid(head * 0.19, head * 0.14, head * 0.19, sides=10)
        parts.append(Part("eye", eye.moved(side * head * 0.42, -head * 0.82, z + head * 0.22), coal))
    return parts


def _buttons(size: float, z: float, coal: Rgb) -> list[Part]:
    parts = []
    for angle in (-22, 18):
        a = np.deg2rad(angle)
        button = ellipsoid(0.085, 0.06, 0.085, sides=10)
        parts.append(Part("button", button.moved(0, -size * np.cos(a), z + size * 0.92 * np.sin(a)), coal))
    return parts


def _scarf(head: float, z: float, colour: Rgb) -> list[Part]:
    """A thick ring about the neck and an end that hangs down in front."""
    low, wide = z - head * 0.98, head * 1.08
    ring = lathe(
        [(wide * 0.8, low), (wide, low + 0.04), (wide * 1.02, low + 0.14), (wide * 0.85, low + 0.24)], sides=24
    )
    end = box(0.20, 0.13, 0.52, bevel=0.03).moved(z=-0.52).turned("x", -18).turned("y", -8)
    return [Part("scarf", ring, colour), Part("scarf", end.moved(wide * 0.45, -wide * 0.84, low + 0.18), colour)]


def _hat(rng: np.random.Generator, head: float, z: float, colour: Rgb) -> list[Part]:
    style, tall = str(rng.choice(["top", "bobble", "bucket", "cone"])), head * rng.uniform(0.95, 1.25)
    foot = z + head * 0.52
    meshes: list[Mesh] = []
    if style == "top":
        meshes = [cylinder(head * 1.2, 0.10, bevel=0.02), cylinder(head * 0.78, tall + 0.1, top=1.08)]
    elif style == "bobble":
        meshes = [
            cylinder(head * 0.98, 0.20, bevel=0.04),
            lathe([(head * 0.92, 0.0), (head * 0.90, head * 0.4), (head * 0.65, head * 0.78), (0.0, head * 0.92)]),
            ellipsoid(head * 0.36, head * 0.36, head * 0.36).moved(z=head * 1.1),
        ]
    elif style == "bucket":
        meshes = [cylinder(head * 1.04, 0.12, bevel=0.02), cylinder(head * 0.94, tall, top=0.72)]
    else:
        meshes = [lathe([(head * 1.0, 0.0), (head * 0.98, 0.1), (0.0, tall * 1.5)])]
    return [Part("hat", mesh.turned("y", 5).moved(0, 0, foot), colour) for mesh in meshes]


def _arms(rng: np.random.Generator, size: float, z: float, colour: Rgb) -> list[Part]:
    """A stick on either side, raised or lowered, with a thumb."""
    parts = []
    for side in (-1, 1):
        rise = rng.uniform(-0.15, 0.45)
        path = [(size * 0.8, 0.0, 0.0), (size + 0.2, 0.0, rise * 0.4), (size + 0.45, 0.0, rise)]
        thumb = [(size + 0.22, 0.0, rise * 0.45), (size + 0.26, 0.0, rise * 0.5 + 0.12), (size + 0.30, 0.0, rise + 0.2)]
        for line in (path, thumb):
            parts.append(Part("arm", tube(line, 0.065, sides=8).scaled(side, 1, 1).moved(z=z), colour))
    return parts


KIND = Kind(
    build,
    parts={"hat": ("hat",), "scarf": ("scarf",)},
    front=True,
    part_also={"cap": "hat", "muffler": "scarf", "shawl": "scarf"},
)
