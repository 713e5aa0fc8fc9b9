"""External constraints ([0003], [0041]): what is known beforehand, and stays, of what is being made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic

from torch import Tensor, lerp

from text23d.contracts import Psi, Representation, Shape

Wrap = Callable[[Representation[Psi]], Representation[Psi]]


class Unconstrained:
    """Nothing is known beforehand."""

    penalty = None

    def within(self, wrap: Wrap[Psi]) -> Unconstrained:
        return self

    def project(self, x0_hat: Tensor, views: Psi) -> Tensor:
        return x0_hat


@dataclass(frozen=True)
class Inpaint(Generic[Psi]):
    """Elements that are known, as a projection of the target: x0_hat <- m known + (1 - m) x0_hat.

    known  renders what is known.
    keep   (views, shape) -> m [B, 1, *shape], 1 where it is to be kept, 0 where it is not known.
    """

    known: Representation[Psi]
    keep: Callable[[Psi, Shape], Tensor]

    penalty = None

    def within(self, wrap: Wrap[Psi]) -> Inpaint[Psi]:
        return replace(self, known=wrap(self.known))

    def project(self, x0_hat: Tensor, views: Psi) -> Tensor:
        """The target x0_hat [B, C, *S], where m = 1 exactly what is known."""
        shape = tuple(x0_hat.shape[2:])
        return lerp(x0_hat, self.known.render(views, shape).to(x0_hat), self.keep(views, shape).to(x0_hat))


@dataclass(frozen=True)
class Reference(Generic[Psi]):
    """A picture that phi should look like from one view, as an extra loss of the update:

        weight sum(m (render(phi, view) - picture)^2) / sum(m)

    picture [1, C, *S]; mask [1, 1, *S]: m, 1 where the picture counts; view: one. The sums run over pixels and
    channels, so that with weight 1 it counts as much as all targets of the iteration together.
    """

    picture: Tensor
    mask: Tensor
    view: Psi
    weight: float

    def within(self, wrap: Wrap[Psi]) -> Reference[Psi]:
        return self

    def project(self, x0_hat: Tensor, views: Psi) -> Tensor:
        return x0_hat

    def penalty(self, phi: Representation[Psi]) -> Tensor:
        """The loss [], differentiable in phi."""
        error = (phi.render(self.view, tuple(self.picture.shape[2:])) - self.picture).square().mean(1, keepdim=True)
        return self.weight * (self.mask * error).sum() / self.mask.sum()
