"""Prompts for parts of a canvas, as a configuration says them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Shape
from text23d.errors import UserError
from text23d.settings import shown

ORDERS = (("left", "centre", "right"), ("left", "center", "right"), ("start", "middle", "end"))
"""Names of parts, in the order in which they lie; those that are named share the axis evenly."""
RANGE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*-\s*(\d+(?:\.\d*)?|\.\d+)\s*")
EXPECTED = (
    "expected a prompt for each part, by name as in regions='{left: ..., right: ...}', by range as in "
    "regions='{0-2.5: ..., 2.5-10: ...}', or by picture as in regions='[{mask: file, prompt: ...}, ...]'"
)
MOST = 64
CLOSE = 1e-6


@dataclass(frozen=True)
class Regions:
    """prompts: one for each of R regions. weights [R, *S]: how much each counts at each place of a canvas; they sum to
    1."""

    prompts: tuple[str, ...]
    weights: Tensor

    def alone(self, views: Any, shape: Shape) -> Tensor:
        """The region of which each of these views shows nothing else, [B] int64; -1: there are several."""
        seen = views.cut(self.weights, shape).flatten(2).mean(2)
        most, which = seen.max(1)
        return torch.where(most > 1 - CLOSE, which, -1)


@dataclass(frozen=True)
class Axis:
    """The long axis of a canvas of extent `shape`. unit: elements of what ranges are written in, such as a second's;
    of `units` in words; blend: elements over which one prompt passes into the next; wrap: whether the canvas goes on at
    its beginning."""

    shape: Shape
    axis: int
    unit: float
    units: str
    blend: int
    wrap: bool = False

    @property
    def extent(self) -> int:
        return self.shape[self.axis]


def read_regions(said: Any, axis: Axis, masks: Any = None) -> Regions | None:
    """`regions` of a configuration; None: the prompt is everywhere. masks: (path, setting, shape) -> [*S], of files;
    None: there are none in this medium. Raises UserError, in one line, for parts that overlap or leave holes, unknown
    names, and files that do not serve."""
    if said is None:
        return None
    if isinstance(said, Mapping) and 1 <= len(said) <= MOST:
        prompts = tuple(text(prompt, f"regions.{place}") for place, prompt in said.items())
        spans = [span(str(place), [str(each) for each in said], axis) for place in said]
        return Regions(prompts, stretched(spans, axis))
    pictures = isinstance(said, Sequence) and all(
        isinstance(each, Mapping) and set(each) == {"mask", "prompt"} for each in said
    )
    if masks is None or isinstance(said, str) or not pictures or not 1 <= len(said) <= MOST:
        raise UserError(f"regions={shown(said)}: {EXPECTED}")
    prompts = tuple(text(each["prompt"], f"regions.{index}.prompt") for index, each in enumerate(said))
    return Regions(prompts, drawn([str(each["mask"]) for each in said], axis.shape, masks))


def text(prompt: Any, setting: str) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{setting}={shown(prompt)}: expected a prompt")
    return prompt


def span(place: str, places: Sequence[str], axis: Axis) -> tuple[float, float]:
    """Where a part begins and ends, in elements. Raises UserError for a name or range that is none."""
    for order in ORDERS:
        if set(places) <= set(order):
            named = [each for each in order if each in places]
            index, share = named.index(place), axis.extent / len(named)
            return index * share, (index + 1) * share
    found = RANGE.fullmatch(place)
    if found is None:
        names = "; ".join(", ".join(order) for order in ORDERS)
        raise UserError(
            f"regions.{shown(place)}: expected a range such as 0-2.5 in {axis.units}, or all of one of {names}"
        )
    begin, end = (float(each) * axis.unit for each in found.groups())
    if not 0 <= begin < end <= axis.extent * (1 + CLOSE):
        whole = axis.extent / axis.unit
        raise UserError(f"regions.{place}: expected a rising range in {axis.units} within 0-{whole:g}")
    return begin, end


def stretched(spans: Sequence[tuple[float, float]], axis: Axis) -> Tensor:
    """Weights [R, *S] of parts that follow each other. Raises UserError where they overlap or leave holes."""
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    edges = [0.0, *(spans[index][1] for index in order)]
    for index, edge in zip(order, edges, strict=False):
        if abs(spans[index][0] - edge) > CLOSE * axis.extent:
            what = "overlap" if spans[index][0] < edge else "leave a hole"
            at = f"{min(spans[index][0], edge) / axis.unit:g} {axis.units}"
            raise UserError(
                f"regions {what} at {at}: each place needs one prompt; let each begin where the one before ends"
            )
    if abs(edges[-1] - axis.extent) > CLOSE * axis.extent:
        whole, ended = f"{axis.extent / axis.unit:g}", f"{edges[-1] / axis.unit:g}"
        raise UserError(f"regions end at {ended} of {whole} {axis.units}: let the last one end at {whole}")
    weights = torch.stack([ramped(*each, axis) for each in spans])
    weights = weights / weights.sum(0)
    view = [len(spans), *(axis.extent if each == axis.axis else 1 for each in range(len(axis.shape)))]
    return weights.reshape(view).expand(len(spans), *axis.shape).contiguous()


def ramped(begin: float, end: float, axis: Axis) -> Tensor:
    """1 inside, 0 outside, and linear over `blend` elements around either end, [extent]; an end of the canvas is none,
    unless it wraps."""
    place, half = torch.arange(axis.extent) + 0.5, axis.blend / 2
    found = torch.zeros(axis.extent)
    for turn in (-axis.extent, 0, axis.extent) if axis.wrap else (0,):
        low = -torch.inf if begin == 0 and not axis.wrap else begin + turn
        high = torch.inf if end >= axis.extent and not axis.wrap else end + turn
        rise = ((place - low) / (2 * half) + 0.5).clamp(0, 1) if half else (place >= low).float()
        fall = ((high - place) / (2 * half) + 0.5).clamp(0, 1) if half else (place < high).float()
        found += torch.minimum(rise, fall)
    return found.clamp(max=1)


def drawn(paths: Sequence[str], shape: Shape, masks: Any) -> Tensor:
    """Weights [R, *S] of pictures, white where each prompt is to be. Raises UserError where they overlap or leave
    holes."""
    pictures = torch.stack([masks(Path(path), f"regions.{index}.mask", shape) for index, path in enumerate(paths)])
    count = pictures.sum(0)
    for what, share in (("leave holes", (count < 0.5).float().mean()), ("overlap", (count > 1.5).float().mean())):
        if share > 0:
            raise UserError(
                f"regions: the masks {what} on {100 * share.item():.3g} % of the picture; expected each place white in "
                "exactly one of them"
            )
    return pictures
