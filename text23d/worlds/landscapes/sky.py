"""The sky: its gradient, the sun or the moon, stars and clouds; and what falls from it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from text23d.worlds.landscapes.canvas import Array, Canvas
from text23d.worlds.landscapes.noise import lookup, smoothstep
from text23d.worlds.landscapes.palette import Palette, mixed, rgb

LOWEST = -4.2
"""Degrees of elevation down to which the sky reaches: something always covers it there."""
STARS = 700
SUN_RADIUS, MOON_RADIUS = 2.6, 2.2


@cache
def directions(wide: int) -> Array:
    """Unit vectors [rows, wide, 3] of the sky's pixels, x right of the sun, y towards it, z up."""
    step = 2 * np.pi / wide
    turn = (np.arange(wide) + 0.5) * step - np.pi
    height = np.pi / 2 - (np.arange(round(wide * (90 - LOWEST) / 360))[:, None] + 0.5) * step
    parts = np.cos(height) * np.sin(turn), np.cos(height) * np.cos(turn), np.sin(height) + 0 * turn
    return np.stack(parts, -1).astype(np.float32)


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    p, way = canvas.palette, directions(canvas.wide)
    low = math.radians(p.height)
    apart = np.rad2deg(np.arccos(np.clip(way[..., 1] * math.cos(low) + way[..., 2] * math.sin(low), -1.0, 1.0)))
    up = np.maximum(canvas.elevations[: len(way)], 0.0)
    high = np.float32(1) - np.exp(-up / rng.uniform(14.0, 24.0))  # [rows, 1]
    # The side of the sun is warmer low above the horizon than the other one.
    toward = (0.5 + 0.5 * way[..., 1]) if not p.night else np.full_like(apart, 0.5)
    cool = mixed(p.horizon, p.zenith, 0.45)
    low_colour = cool + (p.horizon - cool) * (0.25 + 0.75 * toward)[..., None]
    sky = low_colour + (p.zenith - low_colour) * high[..., None]
    sky += p.glow * (np.exp(-apart / 14.0) + 0.5 * np.exp(-apart / 45.0))[..., None]
    if p.stars > 0:
        _stars(sky, p, rng)
    _disc(sky, way, apart, p, rng)
    _clouds(sky, way, apart, p, rng)
    canvas.colour[: len(way)] = sky


def _stars(sky: Array, p: Palette, rng: np.random.Generator) -> None:
    """Spread over the sphere evenly; a few are bright."""
    wide = sky.shape[1]
    row = ((0.25 - np.arcsin(rng.random(STARS)) / (2 * np.pi)) * wide).astype(np.int32).clip(0, wide // 4 - 2)
    column = rng.integers(0, wide - 1, STARS)
    light = (p.stars * (0.25 + 1.6 * rng.random(STARS) ** 4)).astype(np.float32)[:, None]
    tint = np.stack([rng.uniform(0.8, 1.0, STARS), np.full(STARS, 0.92), rng.uniform(0.85, 1.0, STARS)], -1)
    wide = light[:, 0] > 0.5 * p.stars
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        on = wide if right else slice(None)
        sky[(row + down)[on], (column + right)[on]] += (light * tint.astype(np.float32))[on]


def _disc(sky: Array, way: Array, apart: Array, p: Palette, rng: np.random.Generator) -> None:
    """The sun or the moon, fainter in bad weather."""
    radius = (MOON_RADIUS if p.night else SUN_RADIUS) * rng.uniform(0.85, 1.25)
    inside = np.clip((radius - apart) / 360.0 * sky.shape[1] + 0.5, 0.0, 1.0) * np.clip(p.glow.max() * 4.0, 0.0, 1.0)
    colour = rgb(0.98, 0.97, 0.88) if p.night else np.minimum(rgb(1.0, 0.96, 0.80) + p.glow * 0.3, 1.0)
    near = slice(*np.flatnonzero(inside.any(1))[[0, -1]] + [0, 1]) if inside.any() else slice(0)
    part, columns = inside[near][..., None], apart[near]
    face = np.ones_like(columns)
    if p.night:  # maria
        at = way[near] * np.float32(2.5)
        face = 0.9 + 0.1 * np.clip(lookup(at[..., 0], at[..., 2], 1.8, rng.random(2)), -1, 1)
    sky[near] += (colour * face[..., None] - sky[near]) * part


def _clouds(sky: Array, way: Array, apart: Array, p: Palette, rng: np.random.Generator) -> None:
    """A layer of noise at one height: it crowds together towards the horizon, and is bright around the sun."""
    if p.cover <= 0.03:
        return
    offset = rng.random(2)
    scale = rng.uniform(0.10, 0.2)
    flat = scale / (np.maximum(way[..., 2], 0.0) + 0.16)
    x, y = way[..., 0] * flat, way[..., 1] * flat * rng.uniform(1.0, 1.8)
    noise = lookup(x, y, 1.7, offset)
    # Shadow: noise a little farther from the sun subtracted from noise here.
    relief = noise - lookup(x, y + 0.014, 1.7, offset)
    level = 1.6 - 3.2 * p.cover
    thick = smoothstep(level, level + 0.9, noise)
    shade = np.clip(0.62 + 0.9 * relief - 0.22 * np.clip(noise - level, 0, 2), 0.0, 1.0)
    colour = p.dark + (p.bright - p.dark) * shade[..., None]
    colour += p.glow * (0.9 * np.exp(-apart / 20.0) * (1.2 - 0.8 * thick))[..., None]
    # Far clouds fade into the sky's own colour.
    fade = smoothstep(0.01, 0.157, way[..., 2])
    sky += (colour - sky) * (thick * (0.35 + 0.6 * fade))[..., None]


def paint_fall(canvas: Canvas, weather: str, rng: np.random.Generator) -> None:
    """Rain as slanting strokes, snow as flakes."""
    wide, high = canvas.wide, canvas.high
    if weather == "rainy":
        count, light = 900, 0.16 + 0.25 * canvas.palette.haze.mean()
        column = rng.integers(0, wide, count)
        row = ((0.25 - np.arcsin(rng.uniform(-0.7, 0.9, count)) / (2 * np.pi)) * wide).astype(np.int32)
        length, lean = rng.integers(8, 18, count), rng.uniform(0.1, 0.3)
        for step in range(18):
            on = step < length
            canvas.colour[(row + step)[on].clip(0, high - 1), (column - int(lean * step))[on] % wide] += light * 0.45
    if weather == "snowy":
        count = int(rng.integers(500, 1500))
        column = rng.integers(0, wide, count)
        row = (
            ((0.25 - np.arcsin(rng.uniform(-0.6, 0.9, count)) / (2 * np.pi)) * wide).astype(np.int32).clip(0, high - 3)
        )
        white = np.minimum(canvas.palette.ambient + canvas.palette.light + 0.25, 1.0)
        size = rng.integers(1, 4, count) - (rng.random(count) < 0.4)
        for down in range(3):
            for right in range(3):
                on = (down < size) & (right < size)
                there = row[on] + down, (column[on] + right) % wide
                canvas.colour[there] += (white - canvas.colour[there]) * np.float32(0.75)
