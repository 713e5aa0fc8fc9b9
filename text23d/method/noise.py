"""Noise, and arithmetic one sample at a time, for pictures, volumes, sound or bare points alike: x is [B, C, *S]."""

from __future__ import annotations

import torch
from torch import Tensor

from text23d.rng import Stream


def gaussian(like: Tensor, stream: Stream) -> Tensor:
    """n ~ N(0, I) with the shape, type and device of `like` [B, C, *S], drawn on the CPU so that every device sees the
    same. stream: one generator, or one for each of the B samples."""
    if isinstance(stream, torch.Generator):
        return torch.randn(like.shape, generator=stream, dtype=like.dtype).to(like.device)
    rows = [torch.randn(like.shape[1:], generator=each, dtype=like.dtype) for each in stream]
    return torch.stack(rows).to(like.device)


def spread(value: Tensor, x: Tensor) -> Tensor:
    """A value [] or [B] shaped to multiply x [B, C, *S]: [1, 1, ...] or [B, 1, ...]."""
    return value.reshape(-1, *[1] * (x.dim() - 1))


def norm(x: Tensor) -> Tensor:
    """||x|| of each sample: [B, C, *S] -> [B]."""
    return x.flatten(1).norm(dim=1)


def rms(x: Tensor) -> Tensor:
    """Root mean square of each sample: [B, C, *S] -> [B]."""
    return x.flatten(1).square().mean(1).sqrt()
