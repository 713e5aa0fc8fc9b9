"""The seven scenes: what stands where, painted from far to near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from text23d.worlds.landscapes.canvas import Array, Canvas
from text23d.worlds.landscapes.ground import Peaks, base_of, hills, mountains, paint_plain, paint_water
from text23d.worlds.landscapes.noise import profile
from text23d.worlds.landscapes.palette import mixed, palette, rgb
from text23d.worlds.landscapes.sky import paint_fall, paint_sky
from text23d.worlds.landscapes.sprites import SNOW, boat, dome, house, plant

Rng = np.random.Generator
GRASS, MOSS, EARTH = rgb(0.36, 0.58, 0.20), rgb(0.22, 0.42, 0.17), rgb(0.45, 0.34, 0.22)
PINE, LEAF = rgb(0.15, 0.33, 0.18), rgb(0.28, 0.50, 0.16)
SAND, DUNE = rgb(0.92, 0.80, 0.56), rgb(0.93, 0.66, 0.36)
ROCK = rgb(0.44, 0.42, 0.45)


def spread(rng: Rng, count: int) -> Array:
    """So many azimuths all around, neither in step nor crowded."""
    return (np.arange(count) + rng.uniform(-0.5, 0.5, count)) * 360 / count + rng.uniform(0, 360)


def shifted(rng: Rng, colour: Array, amount: float = 0.06) -> Array:
    """A colour a little different."""
    return np.clip(colour * (1 + rng.normal(0, amount, 3)), 0.02, 1.0).astype(np.float32)


def wavy(canvas: Canvas, rng: Rng, middle: float, amount: float, low: float, high: float, slope: float = 1.2) -> Array:
    """A profile [wide] around `middle` degrees."""
    return (middle + amount * profile(rng, canvas.wide, low, high, slope)).astype(np.float32)


def woods(
    canvas: Canvas, rng: Rng, kinds: dict[str, Array], count: int, distance: float, height: float, snow: bool
) -> None:
    """So many trees at about a distance, of heights in degrees around `height`."""
    names = list(kinds)
    for azimuth in rng.permutation(spread(rng, count)):
        kind = names[rng.integers(len(names))]
        far = distance * rng.uniform(0.85, 1.15)
        colour = shifted(rng, kinds[kind], 0.10)
        plant(canvas, rng, kind, azimuth, base_of(far), height * rng.uniform(0.65, 1.25), colour, far, snow)


def far_range(canvas: Canvas, rng: Rng, snow: bool, high: float = 5.0) -> None:
    """Blue hills at the horizon."""
    colour = SNOW * np.float32(0.9) if snow else shifted(rng, rgb(0.30, 0.42, 0.38))
    for far in (10.0, 6.5):
        top = np.maximum(wavy(canvas, rng, 0.45 * high, 0.3 * high, 3, 30), 0.2)
        hills(canvas, rng, top, colour, colour * np.float32(0.8), far)


def paint_mountains(canvas: Canvas, rng: Rng, snow: bool) -> None:
    rock, wood = shifted(rng, ROCK), SNOW * np.float32(0.8) if snow else shifted(rng, PINE)
    line = 1.5 if snow else rng.uniform(6.5, 11.0)
    mountains(canvas, rng, Peaks.draw(rng, int(rng.integers(14, 20)), 11.0, 19.0), 7.0, line, rock, wood)
    mountains(canvas, rng, Peaks.draw(rng, int(rng.integers(9, 15)), 6.0, 15.0), 3.5, line, rock * 0.9, wood)
    first, second = (SNOW, SNOW * np.float32(0.86)) if snow else (shifted(rng, GRASS), shifted(rng, MOSS))
    hills(canvas, rng, np.maximum(wavy(canvas, rng, 1.6, 0.8, 3, 20), 0.3), second, first, 2.5)
    if rng.random() < 0.45:
        paint_water(canvas, rng, rng.uniform(0.6, 1.0))
        hills(canvas, rng, wavy(canvas, rng, -13.0, 2.5, 2, 14), first, second, 1.0)
        near = base_of(0.85)
    else:
        paint_plain(canvas, rng, first, second)
        near = base_of(1.1)
    woods(canvas, rng, {"conifer": PINE}, int(rng.integers(20, 120)), 3.0, 4.4, snow)
    for azimuth in spread(rng, int(rng.integers(6, 34))):
        low = near - rng.uniform(0.0, 5.0)
        plant(canvas, rng, "conifer", azimuth, low, rng.uniform(8.0, 19.0), shifted(rng, PINE), 0.8, snow)


def paint_beach(canvas: Canvas, rng: Rng, snow: bool) -> None:
    islands = np.maximum(wavy(canvas, rng, -1.5, 2.2, 2, 20), -0.5)
    hills(canvas, rng, islands, shifted(rng, PINE), shifted(rng, MOSS), 7.0)
    shore = wavy(canvas, rng, -rng.uniform(6.0, 9.0), 1.6, 2, 8, 1.5)
    paint_plain(canvas, rng, shifted(rng, SAND, 0.03), shifted(rng, SAND * 0.9, 0.03), 2.0, 0.4)
    rows = slice(canvas.horizon, canvas.row_of(-22.5))  # that foam may be in
    up = canvas.elevations[rows]
    wet = np.exp(-np.maximum(shore - up, 0.0) / 1.6)
    canvas.colour[rows] *= 1 - np.float32(0.35) * wet[..., None]
    sand = wavy(canvas, rng, 0.0, 0.25, 10, 60)
    paint_water(canvas, rng, rng.uniform(0.1, 0.6), shore)
    white = canvas.lit(rgb(0.98, 0.99, 1.0), 0.7)
    for offset, share in ((0.0, 0.9), (1.3 + 0.4 * rng.random(), 0.5)):
        foam = np.abs(up - (shore + offset + sand)) < 0.42
        band = canvas.colour[rows]
        band += (white - band) * (foam * np.float32(share))[..., None]
    for azimuth in spread(rng, int(rng.integers(2, 9))):
        boat(canvas, rng, azimuth, -rng.uniform(0.6, 2.5), rng.uniform(1.8, 4.2), 3.0)
    for azimuth in spread(rng, int(rng.integers(9, 22))):
        low = float(shore.min()) - rng.uniform(1.0, 10.0)
        if rng.random() < 0.75:
            plant(canvas, rng, "palm", azimuth, low, rng.uniform(13.0, 22.0), shifted(rng, LEAF), 1.0)
        else:
            dome(canvas, azimuth, low, rng.uniform(1.5, 3.0), rng.uniform(3.0, 6.5), shifted(rng, ROCK), 1.0)


def paint_sea(canvas: Canvas, rng: Rng, snow: bool) -> None:
    if rng.random() < 0.6:
        islands = np.maximum(wavy(canvas, rng, -2.0, 2.4, 2, 24), -0.5)
        hills(canvas, rng, islands, shifted(rng, MOSS), shifted(rng, ROCK), 6.0)
    paint_water(canvas, rng, rng.uniform(0.0, 0.5))
    for azimuth in spread(rng, int(rng.integers(4, 13))):
        low = rng.uniform(0.8, 7.0)
        boat(canvas, rng, azimuth, -low, 1.6 + 1.1 * low * rng.uniform(0.8, 1.2), 5.0 / low)
    for azimuth in spread(rng, int(rng.integers(0, 8))):
        low = rng.uniform(3.0, 9.0)
        dome(canvas, azimuth, -low, 0.5 * low, low * rng.uniform(0.9, 1.8), shifted(rng, ROCK), 5.0 / low)


def paint_forest(canvas: Canvas, rng: Rng, snow: bool) -> None:
    soil = mixed(EARTH * 0.8, MOSS, 0.35)
    first, second = (SNOW, SNOW * np.float32(0.84)) if snow else (shifted(rng, MOSS), shifted(rng, soil))
    far_range(canvas, rng, snow, 6.0)
    hills(canvas, rng, np.maximum(wavy(canvas, rng, 1.2, 0.6, 3, 30), 0.2), first, second, 5.0)
    paint_plain(canvas, rng, first, second, 2.0, 1.0)
    autumn = rng.random() < 0.2 and not snow
    leaf = rgb(0.72, 0.40, 0.12) if autumn else LEAF
    choice = rng.random()
    kinds = {"conifer": PINE} if choice < 0.45 or snow else {"broadleaf": leaf, "conifer": PINE}
    kinds = {"broadleaf": leaf} if choice > 0.8 and not snow else kinds
    woods(canvas, rng, kinds, 200, 4.5, 7.5, snow)
    woods(canvas, rng, kinds, 120, 2.4, 11.0, snow)
    woods(canvas, rng, kinds, int(rng.integers(40, 64)), 1.3, 17.0, snow)
    woods(canvas, rng, kinds, int(rng.integers(8, 20)), 0.8, 28.0, snow)


def paint_desert(canvas: Canvas, rng: Rng, snow: bool) -> None:
    dune = shifted(rng, mixed(DUNE, SAND, rng.random() * 0.5), 0.04)
    if rng.random() < 0.6:
        table = wavy(canvas, rng, -0.2, 1.0, 3, 14)
        rise = np.clip((table - 0.25) * 8, 0, 1) * rng.uniform(4.0, 7.5)
        mesa = rise + 0.4 + wavy(canvas, rng, 0, 0.2, 20, 120)
        hills(canvas, rng, mesa.astype(np.float32), rgb(0.66, 0.34, 0.22), rgb(0.55, 0.27, 0.20), 6.0)
    for far, middle in ((6.0, 1.6), (3.5, 0.2), (2.0, -2.6)):
        line = wavy(canvas, rng, middle, 1.5, 3, 16, 1.5)
        crest = middle + 2.2 * (1 - np.abs(line - middle) / 1.5) * 0.8
        hills(canvas, rng, np.maximum(crest, -6.0 if far < 6 else 0.3), dune, dune * np.float32(0.92), far)
        if far == 3.5:
            for azimuth in spread(rng, int(rng.integers(0, 12))):
                plant(canvas, rng, "cactus", azimuth, -1.5, rng.uniform(2.5, 4.5), rgb(0.26, 0.42, 0.22), 3.0)
    ripple(canvas, rng, dune)
    for azimuth in spread(rng, int(rng.integers(4, 15))):
        low = rng.uniform(6.0, 14.0)
        if rng.random() < 0.8:
            plant(canvas, rng, "cactus", azimuth, -low, 0.9 * low * rng.uniform(0.8, 1.4), rgb(0.26, 0.44, 0.22), 1.2)
        else:
            dome(canvas, azimuth, -low, 0.2 * low, 0.5 * low, shifted(rng, rgb(0.6, 0.4, 0.28)), 1.2)


def ripple(canvas: Canvas, rng: Rng, dune: Array) -> None:
    """The sand nearby."""
    kept = canvas.colour[: canvas.row_of(-4.9)].copy()
    paint_plain(canvas, rng, dune, dune * np.float32(0.9), 1.5, 0.5)
    canvas.colour[: len(kept)] = kept
    hills(canvas, rng, wavy(canvas, rng, -5.2, 0.7, 3, 12, 1.5), dune * np.float32(1.02), dune * np.float32(0.94), 1.3)


def paint_town(canvas: Canvas, rng: Rng, snow: bool) -> None:
    grass = SNOW if snow else shifted(rng, GRASS * 0.9)
    street = SNOW * np.float32(0.85) if snow else shifted(rng, rgb(0.58, 0.55, 0.52))
    far_range(canvas, rng, snow, 6.5)
    paint_plain(canvas, rng, street, mixed(street, grass, 0.6), 3.0, 0.7)
    for far, count, height in ((4.2, 80, 7.0), (2.4, 56, 11.0), (1.35, 26, 16.0)):
        for azimuth in rng.permutation(spread(rng, count)):
            at = far * rng.uniform(0.92, 1.08)
            if rng.random() < 0.16:
                leaf = shifted(rng, LEAF)
                plant(canvas, rng, "broadleaf", azimuth, base_of(at), height * rng.uniform(0.7, 1.0), leaf, at, snow)
            elif far < 1.4 and rng.random() < 0.35:
                continue
            else:
                tower = rng.random() < 0.07 and far > 2
                tall = height * (1.7 if tower else rng.uniform(0.7, 1.15))
                house(canvas, rng, azimuth, base_of(at), tall, at, snow, tower)


def paint_meadow(canvas: Canvas, rng: Rng, snow: bool) -> None:
    green, other = shifted(rng, GRASS), shifted(rng, mixed(GRASS, rgb(0.78, 0.72, 0.30), rng.random() * 0.8))
    if snow:
        green, other = SNOW, SNOW * np.float32(0.88)
    far_range(canvas, rng, snow, 8.0)
    hills(canvas, rng, wavy(canvas, rng, 1.8, 1.2, 3, 12, 1.5), green, other, 4.0)
    woods(canvas, rng, {"broadleaf": LEAF}, int(rng.integers(20, 60)), 4.0, 3.0, snow)
    paint_plain(canvas, rng, green, other, 8.0, 0.8)
    hills(canvas, rng, wavy(canvas, rng, -2.5, 1.2, 3, 10, 1.5), green, other, 2.0)
    for azimuth in spread(rng, int(rng.integers(1, 6))):
        house(canvas, rng, azimuth, -4.5, rng.uniform(4.0, 6.0), 2.0, snow)
    woods(canvas, rng, {"broadleaf": LEAF}, int(rng.integers(8, 22)), 1.9, 7.0, snow)
    hills(canvas, rng, wavy(canvas, rng, -9.0, 1.4, 3, 9, 1.5), green * np.float32(1.02), other, 1.1)
    if not snow:
        flowers(canvas, rng)
    for azimuth in spread(rng, int(rng.integers(2, 9))):
        plant(
            canvas, rng, "broadleaf", azimuth, -rng.uniform(10, 14), rng.uniform(10, 18), shifted(rng, LEAF), 1.0, snow
        )


def flowers(canvas: Canvas, rng: Rng) -> None:
    """Dots of one or two colours in the grass, larger where they are nearer."""
    petals = rgb(0.9, 0.2, 0.2), rgb(0.98, 0.85, 0.2), rgb(0.95, 0.95, 0.98), rgb(0.6, 0.35, 0.8)
    for colour in rng.permutation(len(petals))[: rng.integers(0, 3)]:
        count = int(rng.integers(200, 900))
        column = rng.integers(0, canvas.wide, count)
        row = canvas.row_of(-9.8) + (31.6 / canvas.step * rng.random(count) ** 1.5).astype(int)
        shown = canvas.lit(petals[colour], 0.7)
        for down in (0, 1):
            for right in (0, 1):
                canvas.colour[row + down, (column + right) % canvas.wide] = shown


PAINTERS: dict[str, Callable[[Canvas, Rng, bool], None]] = {
    "mountains": paint_mountains,
    "beach": paint_beach,
    "sea": paint_sea,
    "forest": paint_forest,
    "desert": paint_desert,
    "town": paint_town,
    "meadow": paint_meadow,
}


def surroundings(scene: str, time: str, weather: str, rng: Rng, wide: int = 1024) -> Array:
    """What is seen all around, [wide / 2, wide, 3] in [0, 1], the sun's azimuth in the middle."""
    canvas = Canvas(palette(time, weather, rng), wide)
    paint_sky(canvas, rng)
    PAINTERS[scene](canvas, rng, weather == "snowy")
    paint_fall(canvas, weather, rng)
    return np.clip(canvas.colour, 0.0, 1.0)
