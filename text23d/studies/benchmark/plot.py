"""Curves between logarithmic axes, drawn with what the project has: small panels side by side, as a PNG."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from text23d.files import atomic

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDE, HIGH = 460, 400
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 34, 44  # around the area between a panel's axes
LETTERS, FINE = 13, 3  # height of the letters; drawn so many times as large and made smaller, which smooths the lines
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by all eyes
GREY, INK = "#d8d8d8", "#202020"

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Values above 0; lines of one name share a colour; dashed sets a second line of that name apart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    across: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], path: str | os.PathLike[str], columns: int = 3) -> None:
    """Write the panels, `columns` in a row; y is in seconds. Raises UserError if the file cannot be written."""
    from PIL import Image, ImageDraw

    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    sheet = Image.new("RGB", (columns * WIDE * FINE, rows * HIGH * FINE), "white")
    canvas = ImageDraw.Draw(sheet)
    for index, panel in enumerate(panels):
        Axes(panel, (index % columns * WIDE, index // columns * HIGH)).draw(canvas)
    with atomic(path) as temporary:
        sheet.resize((columns * WIDE, rows * HIGH), Image.Resampling.LANCZOS).save(temporary, "PNG")


class Axes:
    """One panel, whose upper left corner lies at `corner`, in pixels of the finished picture."""

    def __init__(self, panel: Panel, corner: Point) -> None:
        self.panel, self.corner = panel, corner
        self.x = span([value for line in panel.lines for value in line.x])
        self.y = decades([value for line in panel.lines for value in line.y])

    def place(self, x: float, y: float) -> Point:
        """Where a pair of values lies."""
        right = (math.log10(x) - self.x[0]) / (self.x[1] - self.x[0])
        up = (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        wide, high = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
        return self.corner[0] + LEFT + right * wide, self.corner[1] + TOP + (1 - up) * high

    def draw(self, canvas: ImageDraw) -> None:
        bottom, top, left, right = 10 ** self.y[0], 10 ** self.y[1], 10 ** self.x[0], 10 ** self.x[1]
        for exponent in range(math.ceil(self.y[0]), math.floor(self.y[1]) + 1):
            x, y = self.place(left, 10.0**exponent)
            stroke(canvas, [(x, y), self.place(right, 10.0**exponent)], GREY, 1)
            write(canvas, (x - 6, y), in_seconds(10.0**exponent), "rm")
        for value in sorted({value for line in self.panel.lines for value in line.x}):
            x, y = self.place(value, bottom)
            stroke(canvas, [(x, y), self.place(value, top)], GREY, 1)
            write(canvas, (x, y + 6), in_thousands(value), "mt")
        names = list(dict.fromkeys(line.name for line in self.panel.lines))
        for line in self.panel.lines:
            colour = COLOURS[names.index(line.name) % len(COLOURS)]
            points = [self.place(x, y) for x, y in zip(line.x, line.y, strict=True)]
            stroke(canvas, dashes(points) if line.dashed else points, colour, 2, pairs=line.dashed)
            for point in points:
                dot(canvas, point, colour)
        x, y = self.place(left, top)
        for index, name in enumerate(names):
            write(canvas, (x + 8, y + 6 + 16 * index), name, "lt", COLOURS[index % len(COLOURS)])
        stroke(canvas, [self.place(left, top), self.place(left, bottom), self.place(right, bottom)], INK, 1)
        write(canvas, (self.corner[0] + LEFT, self.corner[1] + 8), self.panel.title, "lt")
        middle = self.corner[0] + (LEFT + WIDE - RIGHT) / 2
        write(canvas, (middle, self.corner[1] + HIGH - 6), self.panel.across, "mb")


def span(values: Sequence[float]) -> tuple[float, float]:
    """Decimal logarithms of the least and the largest value, with a little air on both sides."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def decades(values: Sequence[float]) -> tuple[float, float]:
    """As `span`, with room for the legend above and one whole power of ten inside at least."""
    low, high = span(values)
    low = min(low, math.ceil(high) - 1.0)
    return low, high + 0.35 * (high - low)


def dashes(points: Sequence[Point], length: float = 6.0) -> list[Point]:
    """A line through the points in pieces of `length` with gaps as long: begin, end, begin, end, ..."""
    pieces: list[Point] = []
    for (ax, ay), (bx, by) in pairwise(points):
        count = max(1, round(math.hypot(bx - ax, by - ay) / (2 * length)))
        for index in range(count):
            for part in (index / count, (index + 0.5) / count):
                pieces.append((ax + part * (bx - ax), ay + part * (by - ay)))
    return pieces


def stroke(canvas: ImageDraw, points: Sequence[Point], colour: str, width: float, pairs: bool = False) -> None:
    fine = [(x * FINE, y * FINE) for x, y in points]
    lines = [fine[start : start + 2] for start in range(0, len(fine), 2)] if pairs else [fine]
    for each in lines:
        canvas.line(each, colour, round(width * FINE), joint="curve")


def dot(canvas: ImageDraw, at: Point, colour: str, radius: float = 3.0) -> None:
    x, y = at
    canvas.ellipse([(c + s * radius) * FINE for s in (-1, 1) for c in (x, y)], colour)


def write(canvas: ImageDraw, at: Point, text: str, anchor: str, colour: str = INK) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(LETTERS * FINE)
    canvas.text((at[0] * FINE, at[1] * FINE), text, colour, font, anchor)


def in_seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= 0.999 * factor:
            return f"{value / factor:.0f} {unit}"
    return f"{value / 1e-9:.0f} ns"


def in_thousands(value: float) -> str:
    """Powers of two the way people write them: 4096 as 4k."""
    for unit, factor in (("M", 1 << 20), ("k", 1 << 10)):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"
