"""The two denoisers that an iteration evaluates ([0040]), with their conditioning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from text23d.contracts import Denoiser, Learner, Representation, Shape

Wrap = Callable[[Representation[Any]], Representation[Any]]


class Latents(Protocol):
    """How a prior of latents sees phi.

    encoded   phi, rendering to codes [B, C, *S]
    shown     phi, rendering to what the codes stand for, [B, 3, factor H, factor W] in [-1, 1]
    decode    codes -> the same
    factor    elements along an axis of what is shown for one of a code
    """

    @property
    def factor(self) -> int: ...

    def encoded(self, phi: Representation[Any]) -> Representation[Any]: ...

    def shown(self, phi: Representation[Any]) -> Representation[Any]: ...

    def decode(self, code: Tensor) -> Tensor: ...


class Footprint(Protocol):
    """Bytes that a prior takes beside its weights: one example in its network, one picture in its autoencoder with a
    gradient, and one code back to a picture."""

    @property
    def network(self) -> int: ...

    @property
    def encoding(self) -> int: ...

    @property
    def decoding(self) -> int: ...


@dataclass(frozen=True)
class Request:
    """What is asked of a prior: the prompt, the world whose captions prompts may be, all the words that views may say
    of themselves, and where to compute; and `others`: further prompts, for other parts of what is made."""

    prompt: str
    world: Any
    view_words: Sequence[str]
    device: torch.device
    others: Sequence[str] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        return (self.prompt, *self.others)


def unconditioned(views: Any) -> tuple[None, None]:
    """For denoisers without conditioning."""
    return None, None


@dataclass(frozen=True)
class Guide:
    """main = D is conditioned on the prompt; aux = D' moves between level 0 and level sigma ([0040]).

    c, c_aux        what they are conditioned on; see `conditioned_on`
    reference_rms   sigma -> rms(x - D'(x)) on real data; None where that is not known
    shape           S of what they see, [B, C, *S]
    conditions      views -> (c, c_aux), on the priors' device
    others          the same for each of the request's other prompts
    latents         how they see phi where they see no pictures; None: as it renders
    captions        what the prior's world understood of each prompt; empty for other priors
    complete        (c, known [B, C, *S], unknown [B, 1, *S]) -> c, told what is known, and 1 where it is not; None:
                    the prior cannot be told
    about           what a pretrained prior says of itself, such as its licence, for a person to see and to keep
    learner         what the method itself learns of the renderings; None: nothing
    group           examples that a denoiser sees together, one after another: batches are multiples of it
    watched         whether what the denoisers return is checked: see `sound`
    """

    main: Denoiser
    aux: Denoiser
    c: Any = None
    c_aux: Any = None
    reference_rms: Callable[[float], float] | None = None
    shape: Shape = ()
    conditions: Callable[[Any], tuple[Any, Any]] = unconditioned
    others: Sequence[Callable[[Any], tuple[Any, Any]]] = ()
    latents: Latents | None = None
    captions: Sequence[Any] = ()
    complete: Callable[[Any, Tensor, Tensor], Any] | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    learner: Learner | None = None
    footprint: Footprint | None = None
    group: int = 1
    watched: bool = False

    def conditioned_on(self, views: Any, learner: Learner | None = None) -> Guide:
        """The same, conditioned on these views."""
        c, c_aux = self.conditions(views)
        return replace(self, c=c, c_aux=c_aux, learner=learner)

    def wrap(self, phi: Representation[Any]) -> Representation[Any]:
        """phi, rendering to the priors' space."""
        return phi if self.latents is None else self.latents.encoded(phi)

    def sound(self, x0: Tensor) -> Tensor:
        """x0, as a denoiser returned it. Raises FloatingPointError, of a `watched` guide, for what no denoiser that
        works returns: values that are not finite, or one and the same everywhere."""
        if self.watched:
            low, high = x0.detach().aminmax()
            if not (high - low).isfinite():
                raise FloatingPointError("what the prior returned is not finite")
            if low == high:
                raise FloatingPointError(
                    f"the prior returned {low.item():.3g} everywhere: its weights are no network's"
                )
        return x0

    def D(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.sound(self.main(x, sigma, self.c))

    def D_aux(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.sound(self.aux(x, sigma, self.c_aux))

    @property
    def shared(self) -> bool:
        """Whether D is D', or D' guided, under the same conditioning: D'(x) is then a part of D(x)."""
        return self.c is self.c_aux and self.unguided is self.aux

    @property
    def unguided(self) -> Denoiser:
        """D without its guidance."""
        return getattr(self.main, "denoiser", self.main)

    def D_given(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
        """D(x) where denoised = D'(x) is known: what is `shared` is not evaluated again."""
        if not self.shared:
            return self.D(x, sigma)
        if self.main is self.aux:
            return denoised
        guided: Any = self.main
        return self.sound(guided(x, sigma, self.c, towards=denoised))

    def D_unconditional(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D without guidance and without the prompt, where its conditioning can leave that out."""
        c = self.c.unconditional() if hasattr(self.c, "unconditional") else self.c
        return self.sound(self.unguided(x, sigma, c))

    def with_guidance(self, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        """D under another guidance than its own: D_unconditional + scale (D(.; c) - D_unconditional)."""

        def conditional(x: Tensor, sigma: Tensor) -> Tensor:
            return self.sound(self.unguided(x, sigma, self.c))

        if scale in (0, 1):
            return conditional if scale else self.D_unconditional

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            unconditional = self.D_unconditional(x, sigma)
            return unconditional + scale * (conditional(x, sigma) - unconditional)

        return guided

    def expected_rms(self, sigma: Tensor) -> Tensor:
        """sigma [] or [B] -> the rms expected of x - D'(x), as sigma; sigma itself where no table is known."""
        if self.reference_rms is None:
            return sigma
        return sigma.new_tensor([self.reference_rms(level) for level in sigma.reshape(-1).tolist()])


def rows(c: Any, which: slice) -> Any:
    """What some of B examples are conditioned on, of what all are: None, [B, ...], or what has `rows` itself."""
    if c is None:
        return None
    return c[which] if isinstance(c, Tensor) else c.rows(which)


def cost(denoiser: Denoiser, sigma: Tensor | None = None) -> int:
    """Network evaluations a call of this denoiser makes: its `evaluations`, or 1. sigma: at these levels, where it
    makes fewer at some."""
    if sigma is not None and hasattr(denoiser, "evaluations_at"):
        found: int = denoiser.evaluations_at(sigma)
        return found
    return getattr(denoiser, "evaluations", 1)
