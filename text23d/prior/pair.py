"""The two denoisers of a run ([0040]): D draws towards what was asked for, D' moves between level 0 and level sigma."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from text23d.cameras import Cameras
from text23d.contracts import Denoiser, Representation
from text23d.errors import UserError
from text23d.paths import weights_dir
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition
from text23d.prior.wrappers.guidance import Guided

AUXILIARY = ("full", "camera", "none")
SMALL = "small"


class Pair(Protocol):
    """What a run needs of its prior."""

    @property
    def main(self) -> Denoiser:
        """D."""
        ...

    @property
    def auxiliary(self) -> Denoiser:
        """D'."""
        ...

    @property
    def size(self) -> int:
        """Side of what the prior sees: of pictures, or of latents."""
        ...

    @property
    def reference_rms(self) -> Callable[[float], float] | None:
        """sigma -> rms(x - D'(x)) on real data; None where that is not known."""
        ...

    def conditions(self, cameras: Cameras) -> tuple[Any, Any]:
        """(c, c'): what D and D' are told, for cameras on the prior's device."""
        ...

    def wrap(self, phi: Representation[Cameras]) -> Representation[Cameras]:
        """phi, rendering to the prior's space."""
        ...


@dataclass(frozen=True)
class DenoiserPair:
    """The built-in prior as a `Pair`: what each denoiser is told for given cameras, and what D' leaves of real
    pictures' noise.

    size: side of the prior's pictures.
    """

    main: Denoiser
    auxiliary: Denoiser
    prior: builtin.BuiltinPrior
    prior_aux: builtin.BuiltinPrior
    words: tuple[str, ...]
    told: str

    @property
    def size(self) -> int:
        return self.prior.size

    def conditions(self, cameras: Cameras) -> tuple[Condition, Condition]:
        """(c, c') for D and D'; the same object where both are told the same."""
        c = self.prior.condition(self.words, cameras)
        c_aux = c if self.prior_aux is self.prior else self.prior_aux.condition(self.words, cameras)
        return c, hide(c_aux, self.told)

    def wrap(self, phi: Representation[Cameras]) -> Representation[Cameras]:
        """phi itself: this prior sees picture space."""
        return phi

    def reference_rms(self, sigma: float) -> float:
        """rms(x - D'(x)) on real pictures at this noise level."""
        return self.prior_aux.reference_rms(sigma, self.told)


def hide(c: Condition, told: str) -> Condition:
    """What is left of c when only `told` is told: full, camera or none."""
    if told == "full":
        return c
    return c.unconditional() if told == "camera" else c.unconditional().without_camera()


def shipped(weights: str | None) -> str | Path | None:
    """The file meant by a setting that may be SMALL."""
    return weights_dir() / "prior_small.safetensors" if weights == SMALL else weights


def builtin_pair(
    words: Sequence[str],
    device: torch.device,
    weights: str | None = None,
    guidance: float = 1.5,
    negative: Sequence[str] = (),
    auxiliary: str = "full",
    auxiliary_weights: str | None = None,
    precision: str = "auto",
) -> DenoiserPair:
    """The shipped prior as D with classifier-free guidance, and as D' without, told `auxiliary`.

    negative: words of what guidance moves away from; none: from no caption at all.
    weights, auxiliary_weights: files of D and of D'; None: the shipped prior, and the same as D. SMALL: the shipped
    small prior.
    precision: auto (bfloat16 where the processor multiplies it natively), float32 or bfloat16.
    Raises UserError for bad weights, unknown words, a negative guidance or another name.
    """
    if auxiliary not in AUXILIARY:
        raise UserError(f"prior.auxiliary={auxiliary}: expected one of {', '.join(AUXILIARY)}")
    if guidance < 0:
        raise UserError(f"prior.guidance={guidance}: expected 0 or more; 1 is no guidance, 1.5 to 4 are usual")
    dtypes = {"auto": builtin.fast_precision(device), "float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision not in dtypes:
        raise UserError(f"prior.precision={precision}: expected one of {', '.join(dtypes)}")
    prior = builtin.load(shipped(weights), device, dtypes[precision])
    prior_aux = builtin.load(shipped(auxiliary_weights), device, dtypes[precision]) if auxiliary_weights else prior
    for each in (prior, prior_aux):
        each.vocabulary.encode([words])
    unwanted = prior.vocabulary.encode([negative])[0]  # no words: no caption
    main = Guided(prior.denoiser, guidance, lambda c: c.saying(unwanted)) if guidance != 1 else prior.denoiser
    return DenoiserPair(main, prior_aux.denoiser, prior, prior_aux, tuple(words), auxiliary)
