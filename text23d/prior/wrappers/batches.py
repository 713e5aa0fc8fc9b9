"""Priors a few examples at a time, for as much memory as those require: D of a batch is that of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.guide import Guide, rows
from text23d.memory import recomputed
from text23d.prior.wrappers.codec import Codec, Latents
from text23d.prior.wrappers.guidance import Guided


@dataclass(frozen=True)
class Batched:
    """D(x; sigma, c) of `size` examples at a time. A gradient evaluates each part once more instead of remembering
    it."""

    inner: Denoiser
    size: int

    @property
    def evaluations(self) -> int:
        """Network evaluations a call makes, of the whole batch."""
        return getattr(self.inner, "evaluations", 1)

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B], c of length B -> x0 as x."""

        def part(which: slice) -> Tensor:
            return self.inner(x[which], sigma if sigma.numel() == 1 else sigma[which], rows(c, which))

        return in_parts(part, len(x), self.size, x.requires_grad)


@dataclass(frozen=True)
class BatchedCodec:
    """A codec of `size` examples at a time, as `Batched`."""

    inner: Codec
    size: int

    @property
    def factor(self) -> int:
        return self.inner.factor

    def encode(self, rgb: Tensor) -> Tensor:
        return in_parts(lambda which: self.inner.encode(rgb[which]), len(rgb), self.size, rgb.requires_grad)

    def decode(self, code: Tensor) -> Tensor:
        return in_parts(lambda which: self.inner.decode(code[which]), len(code), self.size, code.requires_grad)


def in_batches(guide: Guide, size: int) -> Guide:
    """The same guide, of `size` examples at a time, a multiple of those that it sees together; what was shared between
    D and D' still is."""
    aux, unguided, latents = Batched(guide.aux, size), guide.unguided, guide.latents
    main: Any = aux if unguided is guide.aux else Batched(unguided, size)
    if isinstance(guide.main, Guided):
        main = replace(guide.main, denoiser=main)
    if isinstance(latents, Latents):
        latents = replace(latents, codec=BatchedCodec(latents.codec, size))
    return replace(guide, main=main, aux=aux, latents=latents)


def in_parts(part: Callable[[slice], Tensor], count: int, size: int, learns: bool) -> Tensor:
    """part of the rows 0 to `count`, joined, of `size` rows at a time. learns: whether a gradient will be asked for."""
    parts = [slice(start, start + size) for start in range(0, count, size)]
    if not (learns and torch.is_grad_enabled()):
        return torch.cat([part(which) for which in parts])
    return torch.cat([recomputed(part, which) for which in parts])
