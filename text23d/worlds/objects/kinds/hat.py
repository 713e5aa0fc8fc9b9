"""Hats: top hat, bowler, cowboy hat and pointed witch's hat, each with a brim and a ribbon round the crown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from text23d.worlds.objects.colours import IVORY, TYRE, brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, lathe

# The crown's (radius, height) profile; the brim's radius, and how far its rim rises.
STYLES = {
    "top": (((0.50, 0.0), (0.47, 0.45), (0.53, 0.92), (0.50, 0.96)), 0.82, 0.05),
    "bowler": (((0.58, 0.0), (0.58, 0.26), (0.53, 0.44), (0.42, 0.58), (0.25, 0.67), (0.0, 0.70)), 0.84, 0.12),
    "cowboy": (((0.52, 0.0), (0.50, 0.34), (0.46, 0.68), (0.38, 0.76), (0.0, 0.76)), 1.02, 0.0),
    "witch": (((0.55, 0.0), (0.42, 0.32), (0.27, 0.72), (0.13, 1.12), (0.05, 1.30), (0.0, 1.32)), 1.0, -0.04),
}


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    style = str(rng.choice(list(STYLES)))
    profile, reach, curl = STYLES[style]
    stretch, wide = rng.uniform(0.88, 1.15), rng.uniform(0.92, 1.10)
    crown = [(r, 0.05 + z * stretch) for r, z in profile]
    high = rng.uniform(0.20, 0.26)
    parts = [Part("crown", lathe([(crown[0][0], 0.0), *crown], sides=28), colour)]
    parts.append(Part("ribbon", _ribbon(crown, 0.08, 0.08 + high), _ribbon_colour(rng, colour)))
    parts.append(Part("brim", _brim(crown[0][0], reach * wide, curl), shaded(colour, 0.93)))
    if style != "cowboy":
        return parts
    roll = rng.uniform(0.22, 0.32)
    return [replace(part, mesh=_western(part, roll)) for part in parts]


def _ribbon(crown: list[tuple[float, float]], low: float, high: float) -> Mesh:
    """A band just outside the crown between two heights."""
    heights, radii = [z for _, z in crown], [r for r, _ in crown]
    levels = np.linspace(low, high, 3)
    return lathe([(float(np.interp(z, heights, radii)) + 0.035, float(z)) for z in levels], sides=28)


def _brim(inner: float, outer: float, curl: float) -> Mesh:
    """A thick disc whose rim rises by `curl`."""
    thick = 0.10
    bend = [(inner, 0.0), ((inner + outer) / 2, 0.25 * curl), (outer - 0.04, curl)]
    above = [(r, z + thick) for r, z in bend[::-1]]
    return lathe([*bend, (outer, curl + thick / 2), *above], sides=32)


def _western(part: Part, roll: float) -> Mesh:
    """Longer than wide, the brim rolled up at both sides, the crown creased from front to back."""
    points = part.mesh.vertices * (0.92, 1.12, 1.0)
    x, z = points[:, 0], points[:, 2]
    if part.name == "brim":
        points[:, 2] += roll * np.maximum(np.abs(x) - 0.40, 0.0) ** 1.5 * 2.5
    elif part.name == "crown":
        points[:, 2] -= 0.20 * np.maximum(1 - np.abs(x) / 0.3, 0.0) * (z > 0.5)
    return replace(part.mesh, vertices=points)


def _ribbon_colour(rng: np.random.Generator, body: Rgb) -> Rgb:
    """Black or ivory, whichever shows against the hat."""
    shows = [c for c in (TYRE, IVORY) if abs(brightness(c) - brightness(body)) > 0.3]
    return shows[int(rng.integers(len(shows)))]


KIND = Kind(
    build,
    parts={"ribbon": ("ribbon",), "brim": ("brim",)},
    front=False,
    part_also={"band": "ribbon", "hatband": "ribbon", "rim": "brim"},
)
