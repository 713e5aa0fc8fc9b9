"""Toy robots: a boxy body on two legs or tracks, a head with eyes and an antenna, and a panel on the chest."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import LAMP, STEEL, TYRE, brightness, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Part, Rgb, box, cylinder, ellipsoid


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    metal = shaded(STEEL, 0.62) if is_pale(colour) or 0.4 < brightness(colour) < 0.6 else STEEL
    wide, deep, tall = rng.uniform(0.78, 0.95), rng.uniform(0.52, 0.66), rng.uniform(0.76, 0.95)
    hip = rng.uniform(0.36, 0.50)
    parts = _legs(rng, wide, deep, hip, metal)
    parts.append(
        Part("body", box(wide, deep, tall, bevel=0.06, taper=(rng.uniform(0.9, 1.1), 1.0)).moved(z=hip), colour)
    )
    panel = box(wide * 0.6, 0.08, tall * 0.42).moved(0, -deep / 2, hip + tall * 0.34)
    parts.append(Part("panel", panel, shaded(metal, 0.85)))
    for k, lamp in enumerate(((0.90, 0.20, 0.15), LAMP, (0.25, 0.75, 0.35))):
        knob = ellipsoid(0.065, 0.06, 0.065).moved((k - 1) * wide * 0.18, -deep / 2 - 0.04, hip + tall * 0.55)
        parts.append(Part("knob", knob, lamp))
    return parts + _arms(rng, wide, hip + tall, colour, metal) + _head(rng, wide, deep, hip + tall, colour, metal)


def _legs(rng: np.random.Generator, wide: float, deep: float, hip: float, metal: Rgb) -> list[Part]:
    parts = []
    for side in (-1, 1):
        x = side * wide * 0.27
        parts.append(Part("leg", box(wide * 0.30, deep * 0.5, hip + 0.05).moved(x), metal))
        parts.append(Part("leg", box(wide * 0.38, deep * 0.95, 0.16, bevel=0.03).moved(x, -0.06), shaded(metal, 0.8)))
    return parts


def _arms(rng: np.random.Generator, wide: float, shoulder: float, colour: Rgb, metal: Rgb) -> list[Part]:
    parts = []
    for side in (-1, 1):
        swing = float(rng.choice([0.0, 0.0, -55.0])) if side > 0 else 0.0
        x, z = side * (wide / 2 + 0.13), shoulder - 0.16
        arm = box(0.20, 0.24, 0.62, bevel=0.03).moved(z=-0.62).turned("x", swing)
        hand = ellipsoid(0.15, 0.16, 0.15).moved(z=-0.66).turned("x", swing)
        parts += [Part("arm", arm.moved(x, 0, z + 0.1), colour), Part("hand", hand.moved(x, 0, z + 0.1), metal)]
    return parts


def _head(rng: np.random.Generator, wide: float, deep: float, base: float, colour: Rgb, metal: Rgb) -> list[Part]:
    across, tall = wide * rng.uniform(0.62, 0.78), rng.uniform(0.42, 0.52)
    neck = Part("neck", cylinder(0.13, 0.16).moved(z=base - 0.04), shaded(metal, 0.8))
    boxy = rng.random() < 0.7
    skull = box(across, deep * 0.85, tall, bevel=0.05) if boxy else cylinder(across / 2, tall, bevel=0.05)
    z, front = base + 0.09, -deep * 0.85 / 2 if boxy else -across * 0.45
    parts = [neck, Part("head", skull.moved(z=z), shaded(colour, 0.98))]
    for side in (-1, 1):
        eye = ellipsoid(0.10, 0.08, 0.10).moved(side * across * 0.24, front + 0.01, z + tall * 0.62)
        pupil = ellipsoid(0.05, 0.05, 0.05).moved(side * across * 0.24, front - 0.05, z + tall * 0.62)
        parts += [Part("eye", eye, LAMP), Part("pupil", pupil, TYRE)]
    parts.append(Part("mouth", box(across * 0.5, 0.06, 0.07).moved(0, front, z + tall * 0.18), TYRE))
    parts.append(Part("antenna", cylinder(0.045, 0.20).moved(z=z + tall), metal))
    return [*parts, Part("antenna", ellipsoid(0.09, 0.09, 0.09).moved(z=z + tall + 0.24), (0.90, 0.20, 0.15))]


KIND = Kind(
    build,
    parts={"head": ("head",), "legs": ("leg",), "arms": ("arm",)},
    also=("android",),
    part_also={"feet": "legs"},
)
