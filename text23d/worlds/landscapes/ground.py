"""What lies below the horizon and around it: plains, water, hills and mountains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from text23d.worlds.landscapes.canvas import Array, Canvas
from text23d.worlds.landscapes.noise import lookup, profile, smoothstep
from text23d.worlds.landscapes.palette import mixed, rgb
from text23d.worlds.landscapes.sprites import SNOW

FARTHEST = 8.0
"""The distance at the horizon, for haze: it is not quite infinitely far."""


@cache
def plain(wide: int) -> tuple[Array, Array, Array]:
    """Of the pixels below the horizon, [wide / 4, wide]: x and y of the ground in heights of the eye, and
    [wide / 4, 1] the distance for haze, 1 for things 4 heights away."""
    down = (np.arange(wide // 4)[:, None] + 0.5) * (2 * np.pi / wide)
    far, turn = 1 / np.tan(down), (np.arange(wide) + 0.5) * (2 * np.pi / wide) - np.pi
    return (far * np.sin(turn)).astype(np.float32), (far * np.cos(turn)).astype(np.float32), near_of(far)


def near_of(far: Array | float) -> Array:
    """The distance for haze of what is `far` heights of the eye away."""
    return np.minimum(np.asarray(far, np.float32) / 4, FARTHEST)


def base_of(distance: float) -> float:
    """The elevation, in degrees, of the foot of what stands at a distance for haze."""
    return -float(np.rad2deg(np.arctan(1 / (4 * distance))))


def paint_plain(
    canvas: Canvas, rng: np.random.Generator, first: Array, second: Array, size: float = 6.0, rough: float = 0.5
) -> None:
    """Ground of two colours in patches of `size` heights of the eye, to the horizon."""
    x, y, near = plain(canvas.wide)
    offset = rng.random(2)
    patch = lookup(x / (8 * size), y / (8 * size), 1.5, offset)
    fine = lookup(x / 9, y / 9, 0.8, offset) * np.clip(1.2 / near, 0.0, 1.0)
    share = smoothstep(-0.8, 0.8, patch + 0.3 * fine)
    albedo = first + (second - first) * share[..., None]
    albedo = albedo * (1 + np.float32(rough * 0.22) * fine)[..., None]
    light = 0.42 + 0.25 * canvas.facing
    canvas.colour[canvas.horizon :] = canvas.hazed(canvas.lit(albedo, np.broadcast_to(light, share.shape)), near)


def paint_water(canvas: Canvas, rng: np.random.Generator, calm: float, until: Array | None = None) -> None:
    """Water to the horizon, or to the elevations `until` [wide] of its near shore: it mirrors what is above it, more so
    the flatter it is looked at, broken by waves. calm: 1 is a mirror, 0 the open sea."""
    p, horizon, (x, y, near) = canvas.palette, canvas.horizon, plain(canvas.wide)
    offset, depth = rng.random(2), np.arange(horizon)[:, None]
    waves = lookup(x / 14, y / 14, 1.0, offset) * np.clip(1.5 / near, 0.15, 1.0)
    amount = (1 - calm) * 0.5 + 0.06
    size = canvas.wide / 1024
    above = (horizon - 1 - depth * (1 + 0.5 * amount * waves) - 16 * size * amount * waves).astype(np.int32)
    columns = np.arange(canvas.wide) + (6 * size * amount * waves * int(rng.choice([-1, 1]))).astype(np.int32)
    mirrored = canvas.colour[above.clip(0, horizon - 1), columns % canvas.wide]
    down = -canvas.elevations[horizon:]
    share = 0.2 + 0.72 * np.exp(-down / (16.0 + 18.0 * calm))
    deep = mixed(rgb(0.03, 0.22, 0.34), rgb(0.05, 0.36, 0.42), rng.random())
    own = canvas.lit(deep, 0.75) * (1 + 0.25 * (1 - calm) * waves)[..., None]
    colour = own + (mirrored - own) * share[..., None].astype(np.float32)
    # Glitter: a road of light below the sun or the moon.
    road = np.exp(-((canvas.azimuths / (3.0 + 0.45 * down)) ** 2)) * smoothstep(0.2, 1.4, waves + 0.55)
    strength = 2.6 * np.clip(p.glow, 0.0, 0.4) * np.exp(-down / 26.0)[..., None]
    colour = colour + road[..., None] * strength * (0.6 + p.horizon * 0.4)
    colour = canvas.hazed(colour, 0.6 * near)
    if until is None:
        canvas.colour[horizon:] = colour
        return
    cover = np.clip((-down - until) / canvas.step + 0.5, 0.0, 1.0)[..., None]
    canvas.colour[horizon:] += (colour - canvas.colour[horizon:]) * cover


def hills(canvas: Canvas, rng: np.random.Generator, top: Array, first: Array, second: Array, distance: float) -> None:
    """A range of hills below the profile `top` [wide], of two colours in patches, its slopes lit by the sun."""
    bottom = float(top.min()) - 10.0
    rows = canvas.band(top, bottom)
    below = top - canvas.elevations[rows]
    patch = lookup(canvas.azimuths / 360 * 4 + 0 * below, below / 30, 1.3, rng.random(2))
    share = smoothstep(-0.7, 0.7, patch)
    slope = np.gradient(top) / canvas.step * np.sign(np.sin(np.deg2rad(canvas.azimuths)))
    light = np.clip(0.4 + 0.3 * canvas.facing + 0.5 * slope, 0.0, 1.0)
    light = np.clip(light + 0.25 * np.exp(-below / 1.5) - 0.1 + 0.1 * patch, 0.0, 1.0)
    albedo = first + (second - first) * share[..., None]
    canvas.silhouette(top, bottom, canvas.lit(albedo, light), distance, fade=6.0)


@dataclass(frozen=True)
class Peaks:
    """Tents around the horizon: azimuth, height and slope [K]."""

    azimuth: Array
    height: Array
    slope: Array

    @staticmethod
    def draw(rng: np.random.Generator, count: int, low: float, high: float) -> Peaks:
        azimuth = (np.arange(count) + rng.uniform(-0.45, 0.45, count)) * 360 / count - 180
        return Peaks(azimuth, rng.uniform(low, high, count), rng.uniform(0.55, 1.0, count))

    def top(self, canvas: Canvas, rng: np.random.Generator) -> tuple[Array, Array]:
        """The profile [wide] in degrees, and [wide] how far to the right of its peak each place is, in degrees."""
        apart = (canvas.azimuths - self.azimuth[:, None] + 180) % 360 - 180
        tents = self.height[:, None] - self.slope[:, None] * np.abs(apart)
        which = tents.argmax(0)
        line = 0.35 * profile(rng, canvas.wide, 20, 160, 0.9)
        columns = np.arange(canvas.wide)
        return (tents[which, columns] + line).astype(np.float32), apart[which, columns].astype(np.float32)


def mountains(
    canvas: Canvas, rng: np.random.Generator, peaks: Peaks, distance: float, snowline: float, rock: Array, wood: Array
) -> None:
    """A range of peaks: rock, wood below and snow above `snowline` degrees; one side of each peak is lit."""
    top, across = peaks.top(canvas, rng)
    top = np.maximum(top, 0.6)
    rows = canvas.band(top, -1.0)
    up = canvas.elevations[rows]
    below, x = top - up, canvas.azimuths / 360
    rough = lookup(x * 6 + 0 * up, up / 34, 1.3, rng.random(2))
    fine = lookup(x * 14 + 0 * up, up / 18, 0.9, rng.random(2))
    side = np.sin(np.deg2rad(canvas.azimuths))
    side = np.where(np.abs(side) < 0.25, np.copysign(0.25, side), side)
    ridge = (across + (0.5 + 0.28 * below) * rough) * -side
    light = 0.15 + 0.2 * canvas.facing + 0.75 * smoothstep(-0.7, 0.7, ridge) + 0.1 * fine
    snow = smoothstep(-0.5, 0.5, up - snowline + 1.1 * rough + 0.5 * fine + 0.8 * (light > 0.5))
    trees = smoothstep(-0.6, 0.6, 0.34 * snowline - up + 0.7 * fine)
    albedo = rock * (1 + 0.14 * fine)[..., None]
    albedo = albedo + (wood * (1 + 0.2 * fine)[..., None] - albedo) * trees[..., None]
    albedo = albedo + (SNOW - albedo) * snow[..., None]
    canvas.silhouette(top, -1.0, canvas.lit(albedo, np.clip(light, 0, 1)), distance)
