"""What every method of an iteration makes of a rendering: the picture it should have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from text23d.contracts import Stage, unwatched
from text23d.guide import Guide
from text23d.rng import Stream

Rng = Callable[[str], Stream]
"""purpose -> the stream, or one for each view, of a draw of this iteration."""


@dataclass(frozen=True)
class Proposal:
    """Where a method sends a rendering.

    target        [B, C, *S] x0_hat: a gradient g on x0 is the target x0 - g of the loss |x0 - x0_hat|^2 / 2.
    noise         [B, C, *S] n of the noisy picture it ended with, as (x - D'(x)) / sigma: what a camera bank keeps.
    nfe           network evaluations on the whole batch; a backward pass counts as 2.
    residual      [B] ||D'(x) - x0|| / ||D'(x0 + sigma n) - x0||; 1 where nothing is inverted.
    noise_ratio   [B] rms(x - D'(x)) over its value on real data at this sigma, or over sigma where that is not known.
    """

    target: Tensor
    noise: Tensor
    nfe: int
    residual: Tensor
    noise_ratio: Tensor


class Method(Protocol):
    """Algorithm 1, or a rival behind the same step."""

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        """x0 [B, C, *S] a rendering, sigma [] or [B], n [B, C, *S] the noise to begin with. No gradient flows through
        the denoisers to the representation. Called without gradients enabled."""
        ...
