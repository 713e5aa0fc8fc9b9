"""Mugs: straight, tapered, flared and barrel-shaped, the handle towards +X; some with coffee in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from text23d.worlds.objects.colours import brightness, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, cylinder, lathe, tube

COFFEE: Rgb = (0.30, 0.18, 0.10)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    tall, wall = rng.uniform(1.05, 1.45), rng.uniform(0.07, 0.10)
    foot, rim, belly = _style(rng)

    def radius(at: float) -> float:
        """The outer radius at height `at` in [0, 1]: a parabola through foot, belly and rim."""
        return foot * (1 - at) * (1 - 2 * at) + 4 * belly * at * (1 - at) + rim * at * (2 * at - 1)

    heights = np.linspace(0.06, 0.97, 9)
    outside = [(foot * 0.92, 0.0), *((radius(h), tall * h) for h in heights)]
    lip = [(radius(0.99) - wall * 0.3, tall), (radius(0.99) - wall * 0.8, tall)]
    inside = [(radius(h) - wall, tall * h) for h in heights[::-1] if h > 0.12]
    parts = [Part("cup", lathe([*outside, *lip, *inside], sides=28), colour)]
    parts.append(Part("lining", _lining(inside), shaded(colour, 0.70)))
    thick, reach = rng.uniform(0.12, 0.15), rng.uniform(0.46, 0.58)
    low, top = rng.uniform(0.18, 0.24), rng.uniform(0.80, 0.86)
    bow = loop(radius, tall, (low, top), reach, thick, power=rng.uniform(0.65, 1.0))
    parts.append(Part("handle", bow, contrasting(colour)))
    if rng.random() < 0.5:
        level = rng.uniform(0.74, 0.86)
        coffee = cylinder(radius(level) - wall * 0.9, 0.04, sides=28).moved(z=tall * level)
        parts.append(Part("coffee", coffee, COFFEE))
    return parts


def _style(rng: np.random.Generator) -> tuple[float, float, float]:
    """Outer radii at foot, rim and half height."""
    base = rng.uniform(0.46, 0.56)
    return {
        "straight": (base, base, base),
        "tapered": (base * 0.80, base * 1.05, base * 0.95),
        "flared": (base * 1.05, base * 0.90, base * 0.95),
        "barrel": (base * 0.85, base * 0.92, base * 1.10),
    }[str(rng.choice(["straight", "tapered", "flared", "barrel"]))]


def _lining(inside: list[tuple[float, float]]) -> Mesh:
    """A thin, darker skin on the cup's inner wall, from the rim down: no light is traced, so the hollow is painted."""
    low = inside[-1][1]
    outer, inner = [(r + 0.01, z) for r, z in inside[::-1]], [(r - 0.01, z) for r, z in inside]
    return lathe([(0.0, low - 0.02), *outer, *inner, (0.0, low + 0.02)], sides=28)


def contrasting(body: Rgb) -> Rgb:
    """The body's colour a little darker, or lighter where it is too dark for that to show."""
    return (0.24, 0.24, 0.25) if brightness(body) < 0.15 else shaded(body, 0.80)


def loop(
    radius: Callable[[float], float], tall: float, span: tuple[float, float], reach: float, thick: float, power: float
) -> Mesh:
    """A bent rod on the +X side of a body of radius(height in [0, 1]) and that height, between the heights `span`.

    It stands off the wall by `reach`; `power` 1 bends it in an ellipse, less makes it squarer.
    """
    turn = np.linspace(np.pi / 2, -np.pi / 2, 15)
    bend_x = np.abs(np.cos(turn)) ** power
    bend_z = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    height = (span[0] + span[1]) / 2 + (span[1] - span[0]) / 2 * bend_z
    wall = np.array([radius(float(h)) for h in height])
    path = np.stack([wall - 0.04 + reach * bend_x, np.zeros(15), tall * height], -1)
    return tube(path, thick, flatten=1.25)


KIND = Kind(
    build,
    parts={"handle": ("handle",)},
    also=("cup",),
    front=False,
    part_also={"grip": "handle"},
)
