"""A world of any dimension, as small as a world can be: a bump somewhere along the first axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d.contracts import Example, Head, Label
from text23d.errors import UserError

SIDE = 16
SIZES, SIGNS = {"small": 1.5, "big": 3.0}, {"negative": -1.0, "positive": 1.0}


@dataclass(frozen=True)
class Bump:
    """Its caption."""

    size: str
    sign: str | None


@dataclass(frozen=True)
class Turns:
    """Its views: where the bump is along the first axis, as an angle [B] in degrees."""

    angle: Tensor

    def __len__(self) -> int:
        return len(self.angle)

    def rows(self, which: slice | Tensor) -> Turns:
        return Turns(self.angle[which])

    def to(self, device: torch.device | str) -> Turns:
        return Turns(self.angle.to(device))

    def words(self) -> list[str]:
        return [""] * len(self)

    def features(self) -> Tensor:
        turn = torch.deg2rad(self.angle)
        return torch.stack([turn.sin(), turn.cos()], -1)

    def given(self, shape: tuple[int, ...]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Bumps:
    """Implements `contracts.World` for examples [B, 2, *S] of 1 to 3 dimensions."""

    dimensions: int = 1
    negatives: bool = False

    name = "bumps"
    channels = 2
    medium = "bumps, conditioned on a caption and a turn"
    words = ("a", "big", "bump", "negative", "positive", "small")
    heads = (
        Head("size", "global", tuple(SIZES)),
        Head("sign", "located", tuple(SIGNS)),
        Head("turn", "circular", tuple(f"{45 * index}" for index in range(8))),
    )
    splits = {"training": 1, "validation": 2, "judge": 3, "judge_validation": 4}

    @property
    def shape(self) -> tuple[int, ...]:
        return (SIDE,) * self.dimensions

    @property
    def unseen(self) -> tuple[Bump, ...]:
        return () if self.negatives else (Bump("big", "negative"),)

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {"values": ((self.channels, *self.shape), "float32"), "turn": ((1,), "float32")}

    @property
    def light(self) -> None:
        return None

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(prompt.split())

    def read(self, prompt: str) -> Bump:
        size, sign = (next((w for w in prompt.split() if w in known), None) for known in (SIZES, SIGNS))
        if size is None:
            raise UserError(f"the prompt {prompt!r} names no size: small or big")
        return Bump(size, sign)

    def say(self, caption: Bump, rng: np.random.Generator | None = None) -> str:
        sign = "" if caption.sign is None or (rng is not None and rng.random() < 0.1) else f"{caption.sign} "
        return f"a {caption.size} {sign}bump"

    def caption(self, fields: Mapping[str, Any]) -> Bump:
        return Bump(**fields)

    def example(self, seed: int, index: int, views: int) -> Example:
        rng = np.random.default_rng([seed, index])
        caption = Bump(str(rng.choice(list(SIZES))), str(rng.choice(list(SIGNS))))
        if caption in self.unseen:
            caption = replace(caption, sign="positive")
        turn = rng.uniform(0.0, 360.0, (views, 1)).astype(np.float32)
        axis = np.arange(SIDE) + 0.5
        along = np.abs((axis - turn / 360 * SIDE + SIDE / 2) % SIDE - SIDE / 2)  # [views, SIDE], round a ring
        square = along.reshape(views, SIDE, *[1] * (self.dimensions - 1)) ** 2
        for each in range(1, self.dimensions):
            square = square + (axis - SIDE / 2).reshape(-1, *[1] * (self.dimensions - 1 - each)) ** 2
        bump = np.exp(-0.5 * square / SIZES[caption.size] ** 2)
        values = np.stack([SIGNS[caption.sign or "positive"] * bump, 2 * bump - 1], 1)
        return Example(caption, {"values": values.astype(np.float32), "turn": turn})

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Turns]:
        return torch.from_numpy(np.array(arrays["values"])), Turns(torch.from_numpy(np.array(arrays["turn"][:, 0])))

    def labels(self, caption: Bump) -> tuple[Label, ...]:
        return Label("size", caption.size), *((Label("sign", caption.sign),) if caption.sign else ())

    def angles(self, captions: Sequence[Bump], views: Turns) -> Mapping[str, Tensor]:
        return {"turn": views.angle}

    def judged(self) -> Bumps:
        return replace(self, negatives=True)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x[:, :, torch.randperm(SIDE, generator=generator)]

    def showcase(self) -> tuple[list[Bump], Turns]:
        return [Bump(size, sign) for size in SIZES for sign in SIGNS], Turns(torch.arange(4) * 90.0)

    def shown(self, x: Tensor) -> Tensor:
        """The first axis as a picture's width."""
        row = x.flatten(3).mean(-1) if x.dim() > 3 else x
        grey = row[:, :1, None, :].expand(-1, 3, 4, -1)
        return torch.cat([grey, torch.ones_like(grey[:, :1])], 1)

    def facts(self) -> list[str]:
        return [f"dimensions: {self.dimensions}"]
