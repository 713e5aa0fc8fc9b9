"""Update unit ([0036]-[0037], [0045]): move phi so that its rendering approaches the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.contracts import Representation, Shape

Reduce = Callable[[Sequence[torch.nn.Parameter], float], float]
"""(parameters, loss) -> loss, where several processes share the views: puts the gradient of the mean over all views in
place of that over this process's, and returns the loss of all views."""
Gather = Callable[[Any, Tensor], tuple[Any, Tensor]]
"""(views, x0_hat) of this process -> those of all that share the views."""


class Updater(Protocol):
    def __call__(self, phi: Representation[Any], views: Any, x0_hat: Tensor, shape: Shape) -> list[float]:
        """Change phi in place towards x0_hat [B, C, *S], rendering `views` to `shape`; the losses met on the way."""
        ...


@dataclass
class Update:
    """`inner` steps of `optimizer` on mean((render(phi, views) - x0_hat)^2) + the sum of the penalties.

    The rendering of the update may be coarser or finer than the target ([0036]): the target is resampled by area to
    it. `penalties` return one number each, differentiable in phi: regularisers of the representation. `split` parts
    views into batches of one, which are rendered one after another while their gradients add up: on a CPU the
    temporaries of one view stay in its cache. None: all at once. `reduce`: see `Reduce`; None: all views are here.
    `fields` parts views into n that see every n-th row each, from the first, the second, ... on; the inner steps then
    look at one after another, for an n-th of the work. None, or a height that is no multiple of n: all rows.
    """

    optimizer: torch.optim.Optimizer
    inner: int = 2
    penalties: Sequence[Callable[[], Tensor]] = ()
    split: Callable[[Any], Sequence[Any]] | None = None
    reduce: Reduce | None = None
    fields: Callable[[Any], Sequence[Any]] | None = None

    def __call__(self, phi: Representation[Any], views: Any, x0_hat: Tensor, shape: Shape) -> list[float]:
        """x0_hat [B, C, *S] -> the total loss before each inner step.

        Raises FloatingPointError, before phi is touched by that inner step, when its loss or gradient is not finite.
        """
        x0_hat, parts = x0_hat.detach(), [views] if self.split is None else self.split(views)
        turns: list[tuple[Sequence[Any], Tensor, Shape]] = [(parts, x0_hat, shape)]
        fields = [] if self.fields is None else list(zip(*map(self.fields, parts), strict=True))
        if fields and shape[0] % len(fields) == 0:
            x0_hat, rows = resample(x0_hat, shape), (shape[0] // len(fields), *shape[1:])
            turns = [(seen, x0_hat[:, :, first :: len(fields)], rows) for first, seen in enumerate(fields)]
        return [self._descend(phi, *turns[step % len(turns)]) for step in range(self.inner)]

    def _descend(self, phi: Representation[Any], parts: Sequence[Any], x0_hat: Tensor, shape: Shape) -> float:
        self.optimizer.zero_grad()
        value, shares = 0.0, x0_hat.chunk(len(parts))
        for views, share in zip(parts, shares, strict=True):
            with torch.enable_grad():
                picture = phi.render(views, shape)
                loss = (picture - resample(share, picture.shape[2:])).square().mean() * (len(share) / len(x0_hat))
            value += self._add_gradient(loss)
        for penalty in self.penalties:
            with torch.enable_grad():
                loss = penalty()
            value += self._add_gradient(loss)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if self.reduce is not None:
            value = self.reduce(parameters, value)
            _require_finite(value, "loss")
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        _require_finite(float(torch.nn.utils.get_total_norm(grads)), "gradient norm")
        self.optimizer.step()
        return value

    @staticmethod
    def _add_gradient(loss: Tensor) -> float:
        value = loss.item()
        _require_finite(value, "loss")
        loss.backward()  # type: ignore[no-untyped-call]
        return value


@dataclass
class Replace:
    """phi takes the target as it is ([0045]): for renderings made of phi's own pixels, which phi lets be replaced by
    `phi.replace(views, x0_hat)`. `gather`: see `Gather`; None: all views are here."""

    gather: Gather | None = None

    @torch.no_grad()
    def __call__(self, phi: Representation[Any], views: Any, x0_hat: Tensor, shape: Shape) -> list[float]:
        """x0_hat [B, C, *S], of the rendering's own shape whatever `shape` -> the loss before. Raises
        FloatingPointError, before phi is touched, where it is not finite."""
        own: Any = phi
        if self.gather is not None:
            views, x0_hat = self.gather(views, x0_hat)
        loss = (phi.render(views, tuple(x0_hat.shape[2:])) - x0_hat).square().mean().item()
        _require_finite(loss, "loss")
        own.replace(views, x0_hat)
        return [loss]


@dataclass
class InPixels:
    """`update` with its loss in pixels, for a prior of latents: the target is decoded, and no rendering encoded.

    show    phi as colour [B, 3, factor H, factor W] in [-1, 1], for shapes in pixels.
    decode  codes [B, C, H, W] -> the same.
    factor  pixels along a side for one element of a code.
    project (colour, views) -> the colour as it should be instead, such as where pixels are known; None: as it is.
    """

    update: Updater
    show: Representation[Any]
    decode: Callable[[Tensor], Tensor]
    factor: int
    project: Callable[[Tensor, Any], Tensor] | None = None

    def __call__(self, phi: Representation[Any], views: Any, x0_hat: Tensor, shape: Shape) -> list[float]:
        """As `Update`; shape is the code's. phi, as the prior sees it, is not rendered."""
        with torch.no_grad():
            colour = self.decode(x0_hat)
            if self.project is not None:
                colour = self.project(colour, views)
        return self.update(self.show, views, colour, tuple(self.factor * side for side in shape))


def resample(x: Tensor, shape: Shape) -> Tensor:
    """x [B, C, *S] averaged over areas to [B, C, *shape]."""
    return x if tuple(x.shape[2:]) == tuple(shape) else F.interpolate(x, size=shape, mode="area")


def _require_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(f"the update's {what} is {value}")
