"""How every task makes its phi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from text23d.errors import UserError
from text23d.rng import global_generator
from text23d.settings import build


def seeded(section: Mapping[str, Any], seed: int, device: torch.device, kinds: tuple[type, ...], task: str) -> Any:
    """phi as `section` describes it, its first values drawn from `seed`. Raises UserError where it is none of `kinds`,
    which `task` can make, and for values out of range."""
    with global_generator(seed):
        phi: Any = build(section, "representation", nn.Module).to(device)
    if type(phi) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"task={task} with representation {type(phi).__name__}: expected {names}; choose another")
    return phi
