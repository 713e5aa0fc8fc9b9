"""Things that stand in the landscapes, as small pictures: each is alpha [h, w] and albedo [h, w, 3], row 0 at the top,
and how much each pixel faces the sun, in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from text23d.worlds.landscapes.canvas import Array, Canvas
from text23d.worlds.landscapes.noise import lookup, smoothstep
from text23d.worlds.landscapes.palette import rgb

SNOW = rgb(0.93, 0.95, 1.0)
BARK = rgb(0.34, 0.23, 0.16)
ROOM = 72
"""Rows that shapes are drawn with once, before they are scaled."""
VARIANTS = 10


@dataclass(frozen=True)
class Shape:
    """alpha, leaf (which of it is leaf, not bark), bright (its own relief in [0, 1]), all [h, w]."""

    alpha: Array
    leaf: Array
    bright: Array

    def scaled(self, high: int, wide: int) -> Shape:
        rows = (np.arange(high) * len(self.alpha) // high)[:, None]
        columns = np.arange(wide) * self.alpha.shape[1] // wide
        return Shape(self.alpha[rows, columns], self.leaf[rows, columns], self.bright[rows, columns])


def _grid(wide: int) -> tuple[Array, Array]:
    """u [ROOM, wide] from -1 to 1 and v from 1 at the top to 0."""
    u = (np.arange(wide) + 0.5) / wide * 2 - 1
    v = 1 - (np.arange(ROOM) + 0.5) / ROOM
    return np.broadcast_to(u, (ROOM, wide)), np.broadcast_to(v[:, None], (ROOM, wide))


@cache
def conifer(variant: int) -> Shape:
    """Tiers that widen downwards, ragged at their edges."""
    rng = np.random.default_rng([11, variant])
    u, v = _grid(40)
    tiers = rng.uniform(4.0, 7.0)
    down = np.clip((0.97 - v) / 0.88, 0.0, 1.0)
    width = (0.08 + 0.80 * down**0.9) * (0.72 + 0.28 * ((down * tiers) % 1.0))
    ragged = lookup(u * 0.11, v * 0.11, 1.0, rng.random(2))
    leaf = (np.abs(u) < width * (1 + 0.16 * ragged)) & (v > 0.09) & (v < 0.97)
    trunk = (np.abs(u) < 0.09) & (v <= 0.12)
    bright = np.clip(0.55 + 0.25 * ragged + 0.35 * ((down * tiers) % 1.0 - 0.5), 0, 1)
    return Shape((leaf | trunk).astype(np.float32), leaf.astype(np.float32), bright.astype(np.float32))


@cache
def broadleaf(variant: int) -> Shape:
    """A crown of round clumps on a trunk."""
    rng = np.random.default_rng([12, variant])
    u, v = _grid(60)
    leaf, bright = np.zeros(u.shape, bool), np.zeros(u.shape)
    for _ in range(9):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.55)
        x, y, radius = far * np.cos(turn), 0.64 + 0.4 * far * np.sin(turn), rng.uniform(0.24, 0.42)
        here = ((u - x) / radius) ** 2 + ((v - y) / (0.55 * radius)) ** 2 < 1
        leaf |= here
        bright = np.where(here, np.clip(0.5 + 0.9 * (v - y) / radius, 0, 1), bright)
    ragged = lookup(u * 0.12, v * 0.12, 1.0, rng.random(2))
    trunk = (np.abs(u) < 0.07 + 0.05 * (v < 0.08)) & (v < 0.5)
    bright = np.clip(bright + 0.18 * ragged, 0, 1)
    return Shape((leaf | trunk).astype(np.float32), leaf.astype(np.float32), bright.astype(np.float32))


@cache
def palm(variant: int) -> Shape:
    """A leaning trunk with hanging fronds."""
    rng = np.random.default_rng([13, variant])
    u, v = _grid(64)
    lean = rng.uniform(0.1, 0.35) * rng.choice([-1, 1])
    trunk = (np.abs(u - lean * (v**1.7) * 1.2) < 0.055) & (v < 0.78)
    x0, y0, leaf, bright = lean * 0.78**1.7 * 1.2, 0.79, np.zeros(u.shape, bool), np.zeros(u.shape)
    for turn in np.linspace(0.0, 2 * np.pi, 9)[:-1] + rng.uniform(0, 0.7):
        reach, rise = 0.68 * np.cos(turn), 0.16 + 0.12 * np.sin(turn)
        along = (u - x0) / (reach if abs(reach) > 0.12 else np.copysign(0.12, reach))
        middle = y0 + rise * along * (1.0 - 1.25 * along)
        here = (along > 0) & (along < 1) & (np.abs(v - middle) < 0.045 * (1.25 - along))
        leaf |= here
        bright = np.where(here, 0.4 + 0.5 * (v > middle), bright)
    return Shape((leaf | trunk).astype(np.float32), leaf.astype(np.float32), bright.astype(np.float32))


@cache
def cactus(variant: int) -> Shape:
    """A column with two arms."""
    rng = np.random.default_rng([14, variant])
    u, v = _grid(48)
    body = (np.abs(u) < 0.17) & (v < 0.96 - 0.5 * u**2)
    for side in (-1, 1):
        low, tip = rng.uniform(0.3, 0.5), rng.uniform(0.65, 0.85)
        body |= (np.abs(v - low) < 0.055) & (side * u > 0) & (side * u < 0.62)
        body |= (np.abs(side * u - 0.55) < 0.1) & (v > low - 0.05) & (v < tip)
    ribs = 0.55 + 0.3 * np.cos(u * 40)
    return Shape(body.astype(np.float32), np.ones(u.shape, np.float32), ribs.astype(np.float32))


SHAPES = {"conifer": (conifer, 0.52), "broadleaf": (broadleaf, 0.85), "palm": (palm, 1.0), "cactus": (cactus, 0.62)}
"""Each with its width as a share of its height."""


def plant(
    canvas: Canvas, rng: np.random.Generator, kind: str, azimuth: float, base: float, height: float, albedo: Array,
    distance: float, snow: bool = False,
) -> None:  # fmt: skip
    """One of SHAPES on the canvas: its foot at azimuth and elevation `base`, so many degrees high."""
    make, share = SHAPES[kind]
    high = max(3, round(height / canvas.step))
    wide = max(3, round(high * share * rng.uniform(0.85, 1.15)))
    shape = make(int(rng.integers(VARIANTS))).scaled(high, wide)
    leaf = (albedo * (0.65 + 0.7 * shape.bright[..., None])).astype(np.float32)
    if snow:
        leaf += (SNOW - leaf) * smoothstep(0.42, 0.72, shape.bright)[..., None]
    colour = BARK + (leaf - BARK) * shape.leaf[..., None]
    u = np.linspace(-1, 1, wide, dtype=np.float32)
    canvas.paste(shape.alpha, canvas.lit(colour, sunlit(azimuth, u)), azimuth, base, distance)


def sunlit(azimuth: float, across: Array | float = 0.0) -> Array:
    """How much of a round thing at this azimuth faces the sun, at places across it, -1 to the left and 1 to the right:
    the sun is at azimuth 0, behind what stands there."""
    turn = np.deg2rad(azimuth)
    return np.clip(0.45 - 0.4 * np.cos(turn) - 0.45 * np.sin(turn) * np.asarray(across), 0.0, 1.0).astype(np.float32)


WALLS = (
    rgb(0.93, 0.88, 0.76), rgb(0.90, 0.72, 0.55), rgb(0.86, 0.55, 0.45), rgb(0.70, 0.79, 0.84), rgb(0.92, 0.82, 0.52),
    rgb(0.94, 0.93, 0.90), rgb(0.66, 0.76, 0.62), rgb(0.80, 0.62, 0.66),
)  # fmt: skip
ROOFS = rgb(0.66, 0.28, 0.20), rgb(0.52, 0.26, 0.22), rgb(0.36, 0.34, 0.40), rgb(0.58, 0.38, 0.26)
LAMP, GLASS = rgb(1.0, 0.80, 0.42), rgb(0.26, 0.33, 0.42)


def house(
    canvas: Canvas, rng: np.random.Generator, azimuth: float, base: float, height: float, distance: float,
    snow: bool = False, tower: bool = False,
) -> None:  # fmt: skip
    """A house with a roof, a door and windows, lit or not; as a tower, with a spire."""
    high = max(6, round(height / canvas.step))
    wide = max(5, round(high * (rng.uniform(0.26, 0.32) if tower else rng.uniform(0.75, 1.25))))
    eaves = rng.uniform(0.55, 0.68)
    v, u = 1 - (np.arange(high)[:, None] + 0.5) / high, (np.arange(wide) + 0.5) / wide * 2 - 1
    slope = np.clip((1 - v) / (1 - eaves), 0.0, 1.0)
    gable = tower or rng.random() < 0.5
    over = np.abs(u) < (slope if gable else 0.55 + 0.45 * slope)
    wall, roof = (v < eaves) & (np.abs(u) < 0.92), (v >= eaves) & over
    colour = np.empty((high, wide, 3), np.float32)
    colour[:] = WALLS[rng.integers(len(WALLS))] * rng.uniform(0.85, 1.05)
    tiles = SNOW if snow else ROOFS[rng.integers(len(ROOFS))] * rng.uniform(0.85, 1.1)
    colour[np.broadcast_to(v >= eaves, (high, wide))] = tiles
    side = sunlit(azimuth, 0.0)
    shown = canvas.lit(colour, side)
    storeys = max(1, round(high * eaves / 9)) if not tower else 2
    across = max(1, round(wide / 8)) if not tower else 1
    cell_u, cell_v = ((u + 0.92) / 1.84 * across) % 1.0, (v / eaves * storeys) % 1.0
    window = wall & (np.abs(cell_u - 0.5) < 0.22) & (np.abs(cell_v - 0.55) < 0.25)
    which = (v / eaves * storeys).astype(int).clip(0, storeys - 1) * across
    which = which + ((u + 0.92) / 1.84 * across).astype(int).clip(0, across - 1)
    on = (rng.random(storeys * across) < 0.7 * canvas.palette.lamps)[which]
    glass = canvas.lit(GLASS, side)
    shown[window] = np.where(on[..., None], LAMP, glass)[window]
    canvas.paste((wall | roof).astype(np.float32), shown, azimuth, base, distance)


def boat(canvas: Canvas, rng: np.random.Generator, azimuth: float, base: float, height: float, distance: float) -> None:
    """A hull with two sails."""
    high = max(6, round(height / canvas.step))
    wide = max(5, round(high * 0.8))
    v, u = 1 - (np.arange(high)[:, None] + 0.5) / high, (np.arange(wide) + 0.5) / wide * 2 - 1
    hull = (v < 0.18) & (np.abs(u) < 0.55 + 2.2 * v)
    sail = (v > 0.22) & (u > 0.04) & (u < 0.75 * (1.1 - v)) | (v > 0.22) & (u < -0.04) & (-u < 0.6 * (0.95 - v))
    white = rgb(0.97, 0.95, 0.92) if rng.random() < 0.7 else rgb(0.85, 0.35, 0.28)
    colour = np.where(hull[..., None], rgb(0.45, 0.25, 0.18), white).astype(np.float32)
    lit = np.maximum(sunlit(azimuth), 0.35)
    canvas.paste((hull | sail).astype(np.float32), canvas.lit(colour, lit), azimuth, base, distance)


def dome(
    canvas: Canvas, azimuth: float, base: float, height: float, wide: float, albedo: Array, distance: float
) -> None:
    """Half an ellipse: a bush, a rock or a haystack."""
    high, across = max(2, round(height / canvas.step)), max(3, round(wide / canvas.step))
    v, u = 1 - (np.arange(high)[:, None] + 0.5) / high, (np.arange(across) + 0.5) / across * 2 - 1
    inside = (u**2 + v**2 < 1).astype(np.float32)
    lit = np.clip(sunlit(azimuth, u) * 0.7 + 0.3 * v, 0, 1)
    canvas.paste(inside, canvas.lit(np.broadcast_to(albedo, (high, across, 3)), lit), azimuth, base, distance)
