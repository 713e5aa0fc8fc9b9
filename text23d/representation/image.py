"""Pictures as phi: a grid of pixels, and a small network from places to colours. psi is where they are seen from, which
only the prior needs to know."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text23d.contracts import Shape, Views
from text23d.memory import expect_room, recomputed
from text23d.pictures import read_picture
from text23d.settings import number, whole

FIT_STEPS, FIT_RATE = 400, 0.01
PLACES = 1 << 16
"""Places of a picture that are asked for at once where no gradient is."""

Side = Annotated[int, whole(1, 4096)]
Width = Annotated[int, whole(1, 1024)]


class PixelImage(nn.Module):
    """A grid of pixels in picture space; implements `contracts.Representation`.

    size   side in pixels. start: a picture's file to begin with; None: zero, half covered by middle grey.
    Raises UserError where it would not fit into memory, and as `read_picture`.
    """

    def __init__(self, size: Side = 64, start: str | None = None) -> None:
        super().__init__()
        wanted = 4 * 16 * size**2  # with their gradient and Adam's moments
        expect_room(wanted, torch.device("cpu"), f"an image of {size} x {size} pixels", "lower representation.size")
        self.size = size
        self.pixels = nn.Parameter(torch.zeros(1, 4, size, size) if start is None else _started(start, size))

    @staticmethod
    def of(picture: Tensor) -> PixelImage:
        """A picture [4, S, S] that does not change."""
        image = PixelImage(picture.shape[-1])
        image.pixels.data = picture[None]
        return image.requires_grad_(False)

    def render(self, views: Views, shape: Shape) -> Tensor:
        """[B, 4, *shape], the same for each of the B views; linear in the pixels (see `resized`)."""
        return resized(self.pixels, shape).expand(len(views), -1, -1, -1)

    @torch.no_grad()
    def replace(self, views: Views, x0_hat: Tensor) -> None:
        """Set the pixels ([0045]) to what `views` should look like, x0_hat [B, 4, *S]: the mean over the views."""
        self.pixels.copy_(resized(x0_hat.mean(0, keepdim=True), tuple(self.pixels.shape[2:])))

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]:
        """One optimiser group, "grid"."""
        return [{"name": "grid", "params": [self.pixels], "lr": lr_grid}]


class MlpImage(nn.Module):
    """x(u) = W2 relu(W1 relu(W0 gamma(u))) in picture space, u in [-1, 1]^2, with biases and the Fourier features

        gamma(u) = [cos(2 pi B u), sin(2 pi B u)], B [features, 2] ~ N(0, bandwidth^2)

    (Tancik et al. 2020, Eq. 5). The last layer is zero at first, so the picture is half covered by middle grey.

    size       side in pixels of what is left of it; it renders at any size.
    features   frequencies; hidden: width of both hidden layers; bandwidth: cycles along half the picture's side.
    start      a picture's file that the network is fitted to at first.
    B and the weights come from torch's generator. Raises UserError where a fit of its own picture would not fit into
    memory, and as `read_picture`.

    `chunk` is the number of places that are asked for at once, for as much memory as those require: the gradient asks
    for each chunk once more instead of remembering it, and is the same up to rounding. None: all with gradient, and
    PLACES without.
    """

    frequencies: Tensor
    chunk: int | None = None

    def __init__(
        self,
        size: Side = 64,
        features: Width = 64,
        hidden: Width = 64,
        bandwidth: Annotated[float, number(above=0, most=1000)] = 2.0,
        start: str | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("frequencies", bandwidth * torch.randn(features, 2))
        last = nn.Linear(hidden, 4)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(
            nn.Linear(2 * features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
        )  # fmt: skip
        if start is not None:
            wanted = 4 * size**2 * (5 * features + 2 * hidden)  # phases, cosines and sines, both, and two layers
            what = f"to fit {size} x {size} pixels by a network of {features} features and {hidden} units"
            expect_room(wanted, torch.device("cpu"), what, "lower size, features or hidden")
            self._fit(_started(start, size))

    def query(self, u: Tensor) -> Tensor:
        """Places [N, 2] in [-1, 1]^2 (x to the right, y down) -> picture space [N, 4]."""
        phase = 2 * math.pi * (u @ self.frequencies.T)
        found: Tensor = self.mlp(torch.cat([phase.cos(), phase.sin()], -1))
        return found

    def render(self, views: Views, shape: Shape) -> Tensor:
        """[B, 4, *shape], the same for each of the B views: x at the pixels' centres."""
        return self._picture(shape).expand(len(views), -1, -1, -1)

    def _picture(self, shape: Shape) -> Tensor:
        """[1, 4, *shape]."""
        axes = [(2 * torch.arange(side).to(self.frequencies) + 1) / side - 1 for side in shape]
        row, column = torch.meshgrid(*axes, indexing="ij")
        return self._ask(torch.stack([column, row], -1).reshape(-1, 2)).T.reshape(1, 4, *shape)

    def _ask(self, u: Tensor) -> Tensor:
        """`query` of places [N, 2], in chunks."""
        if not torch.is_grad_enabled():
            return torch.cat([self.query(part) for part in u.split(min(self.chunk or PLACES, PLACES))])
        if self.chunk is None:
            return self.query(u)
        return torch.cat([recomputed(self.query, part) for part in u.split(self.chunk)])

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]:
        """One optimiser group, "mlp"."""
        return [{"name": "mlp", "params": list(self.mlp.parameters()), "lr": lr_mlp}]

    def _fit(self, picture: Tensor) -> None:
        adam = torch.optim.Adam(self.mlp.parameters(), FIT_RATE)
        for _ in range(FIT_STEPS):
            adam.zero_grad()
            (self._picture((self.size, self.size)) - picture).square().mean().backward()
            adam.step()


def resized(x: Tensor, shape: Shape) -> Tensor:
    """x [B, C, H, W] -> [B, C, *shape]: means over areas where it shrinks, bilinear where it grows."""
    if tuple(shape) == tuple(x.shape[2:]):
        return x
    if all(side <= own for side, own in zip(shape, x.shape[2:], strict=True)):
        return F.interpolate(x, size=shape, mode="area")
    return F.interpolate(x, size=shape, mode="bilinear", align_corners=False)


def _started(start: str, size: int) -> Tensor:
    return resized(read_picture(start, "representation.start")[None], (size, size))
