"""What a run will need of memory, beside what its parts hold already: refused where even the least of it cannot fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from text23d.engine.build import Parts
from text23d.engine.state import RunState
from text23d.engine.thrift import Economy, economies_of
from text23d.errors import TooLarge
from text23d.guide import Guide, cost
from text23d.kernels.backend import backend
from text23d.memory import free_bytes, gib
from text23d.prior.builtin.unet import UNet
from text23d.representation.image import MlpImage
from text23d.representation.nerf import Nerf

CERTAIN = 0.7
"""The share of an estimate that a run takes at the very least; see EXPERIMENTS.md, "Memory"."""
SHARE = 0.5
"""Of a ray's steps through the cube, those in the ball that an untrained field fills, for cameras that just see it."""
POINT = 32
"""Bytes that a sample of a ray holds: its place, ray, distance and step."""


@dataclass(frozen=True)
class Need:
    """size in bytes of what, which a lower `setting` makes less."""

    what: str
    setting: str
    size: float


def needs(state: RunState, parts: Parts, economy: Economy | None) -> list[Need]:
    """What an iteration and the copies of the state around it take, with what `economy` spares."""
    views, shape = len(parts.share), max(parts.update_shape(step / 100) for step in range(101))
    width = 8 if next(state.phi.parameters()).dtype == torch.float64 else 4
    chunk, batch = (economy.chunk, economy.batch) if economy else (None, None)
    at_once = 1 if parts.one_by_one or economy else views
    if parts.guide.latents is not None:
        shape = tuple(parts.guide.latents.factor * side for side in shape)
    places, pixels = at_once * math.prod(shape), math.prod(parts.guide.shape)
    seen = batch or views
    return [
        Need("phi's gradient, moments and copies", "the size of the representation", around_phi(state)),
        Need(
            f"the rendering of {at_once} x {' x '.join(map(str, shape))}",
            "method.size or representation.steps",
            rendering(state.phi, min(places, chunk or places), views * math.prod(shape) if chunk is None else 0)
            + 6 * 4 * width * places,
        ),
        Need(f"pictures of {views} views", "method.views", 20 * 4 * width * views * pixels),
        Need(f"the prior's layers for {seen} views", "method.views", seen * layers(parts.guide.unguided, pixels)),
        *pretrained(parts.guide, views, batch, at_once),
    ]


def pretrained(guide: Guide, views: int, batch: int | None, at_once: int) -> list[Need]:
    """What a pretrained prior takes for examples of `views`, of which its network sees `batch` at once, or None: all,
    each as often as guidance evaluates it; and what its autoencoder takes, which sees `at_once` pictures for a
    gradient."""
    found = guide.footprint
    if found is None:
        return []
    joined = views * cost(guide.main)
    seen, encoded = min(batch or joined, joined), min(batch or views, at_once)
    return [
        Need(f"the network's layers for {seen} examples", "method.views or prior.precision", seen * found.network),
        Need(
            f"the autoencoder's layers for {encoded} pictures",
            "prior.autoencoder.tile",
            max(encoded * found.encoding, (batch or views) * found.decoding),
        ),
    ]


def around_phi(state: RunState) -> float:
    """Beside phi: its gradient, the optimiser's moments, the copy of phi that a run keeps of its beginning, and two of
    all that changes, as when the copy of one iteration takes the place of that of the last."""
    phi = sum(each.nbytes for each in state.phi.parameters())
    moments = {torch.optim.Adam: 2, torch.optim.SGD: 1}.get(type(state.optimizer), 0)  # type: ignore[arg-type]
    kept = 1 + (state.average is not None)
    gradient = state.optimizer is not None
    return phi * (gradient + moments + kept + 2 * (kept + moments))


def rendering(phi: Any, at_once: float, remembered: float) -> float:
    """What a gradient through `at_once` rays or places of phi holds, and what is remembered of `remembered` rays."""
    if isinstance(phi, Nerf):
        features, steps = phi.encoding.out_features, SHARE * 2 / phi.dt
        network = 2 * features + 20 if backend() == "native" else 12 * features + 6 * phi.hidden
        return steps * (4 * at_once * (network + 8) + POINT * max(at_once, remembered))
    if isinstance(phi, MlpImage):
        features, hidden = len(phi.frequencies), phi.mlp[0].out_features  # type: ignore[union-attr]
        return 4 * at_once * (6 * features + 6 * int(hidden))  # type: ignore[arg-type]
    return 0.0


def layers(denoiser: Any, pixels: float) -> float:
    """What one example of so many pixels holds in the network at once; 0 for one of unknown layers."""
    network = getattr(denoiser, "network", None)
    if not isinstance(network, UNet):
        return 0.0
    return 10 * 4 * network.config.widths[0] * pixels / math.prod(network.config.patches)


def total(found: list[Need]) -> float:
    return sum(each.size for each in found)


def prepare(state: RunState, parts: Parts) -> str | None:
    """Choose what the run has to spare from its beginning, and return the line that tells it, if it is anything.

    On a machine without a limit of its own the system would end the process, rather than refuse it memory. Raises
    TooLarge where a run that spares all it can certainly does not fit.
    """
    free = free_bytes(parts.device)
    if free is None:
        return None
    ladder: list[Economy | None] = [None, *economies_of(state, parts)]
    estimates = [needs(state, parts, economy) for economy in ladder]
    least = min(estimates, key=total)
    if CERTAIN * total(least) > free:
        most = max(least, key=lambda need: need.size)
        raise TooLarge(
            f"the run needs about {gib(total(least))} more, and {parts.device} has {gib(free)} free: most of it, "
            f"{gib(most.size)}, is {most.what}; lower {most.setting}"
        )
    fits = (level for level, found in enumerate(estimates) if total(found) <= free)
    level = next(fits, estimates.index(least))
    if level <= state.thrift.level:
        return None
    state.thrift.level = level
    return f"the run would need about {gib(total(estimates[0]))}, and {gib(free)} are free: {ladder[level]}"


def needed(state: RunState, parts: Parts) -> float:
    """Bytes that the run needs beside what its parts hold already, with what it spares now."""
    return total(needs(state, parts, state.thrift.economy(state, parts)))


def outlook(state: RunState, parts: Parts) -> str:
    """What the run needs, and what there is, in a line."""
    free = free_bytes(parts.device)
    room = "" if free is None else f"; {gib(free)} are free"
    return f"memory: the run needs about {gib(needed(state, parts))} more{room}"
