"""The light that the colours of a run may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text23d.artifact.albedo import Light
from text23d.contracts import World
from text23d.prior.builtin import guide
from text23d.settings import build, target_of


def light_of(cfg: Mapping[str, Any]) -> Light | None:
    """That of a configuration's world, on which the built-in prior is trained; None for other priors, whose light
    nobody knows, and where the world has none. Raises UserError for a world or a prior that cannot be built."""
    if not (cfg.get("world") and cfg.get("prior")) or target_of(cfg["prior"], "prior") is not guide.guide:
        return None
    world: World[Any] = build(cfg["world"], "world", World)
    return world.light
