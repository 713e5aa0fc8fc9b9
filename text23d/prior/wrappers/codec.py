"""Between rendering and a latent prior: pictures encoded, differentiably, into the space where the prior works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Protocol

import torch
from torch import Tensor

from text23d.contracts import Representation, Seen, Shape
from text23d.errors import UserError
from text23d.settings import Flag, whole


class Codec(Protocol):
    @property
    def factor(self) -> int:
        """Pixels along a side for one element of the code."""
        ...

    def encode(self, rgb: Tensor) -> Tensor:
        """Colour [B, 3, factor S, factor S] in [-1, 1] -> code [B, C, S, S], differentiable and not random."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """The way back: code [B, C, S, S] -> colour [B, 3, factor S, factor S] in about [-1, 1]."""
        ...


def factor_of(block_out_channels: Sequence[int]) -> int:
    """Pixels along a side for one latent of a diffusers AutoencoderKL with this setting."""
    return 2 ** (len(block_out_channels) - 1)


@dataclass(frozen=True)
class Autoencoding:
    """How an autoencoder computes.

    precision  of its weights and layers. float16 loses gradients: those of a mean over a batch of codes are below what
               it can hold, and the autoencoder of SDXL overflows in it. bfloat16 has the range of float32.
    tile       side in pixels of the tiles that are encoded and decoded one after another and blended where they
               overlap, by a quarter; None: whole pictures.
    recompute  whether a gradient computes each block's layers once more instead of remembering them.
    """

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    tile: Annotated[int, whole(32, 8192)] | None = None
    recompute: Flag = True

    def of(self, vae: Any, device: torch.device, side: int) -> Any:
        """A diffusers AutoencoderKL that computes so, of pictures of that side in pixels. Raises UserError for tiles
        that are no parts of them."""
        vae = vae.to(device, getattr(torch, self.precision))
        if self.recompute:
            vae.enable_gradient_checkpointing()
        if self.tile is not None:
            factor = factor_of(vae.config.block_out_channels)
            self.require_tiles(factor, side)
            vae.enable_tiling()
            vae.tile_sample_min_size, vae.tile_latent_min_size = self.tile, self.tile // factor
        return vae

    def require_tiles(self, factor: int, side: int) -> None:
        """Raises UserError for tiles that are no parts of pictures of that side, `factor` pixels a latent."""
        if self.tile is not None and (self.tile >= side or self.tile % (4 * factor)):
            raise UserError(
                f"prior.autoencoder.tile={self.tile}: expected a multiple of {4 * factor} below the {side} pixels "
                "that this prior sees, or null"
            )


WHOLE = Autoencoding()
"""Whole pictures in float32."""


@dataclass(frozen=True)
class LatentCodec:
    """A diffusers AutoencoderKL: the mean of its posterior (a random draw would be noise on the target), shifted and
    scaled to `std` on the autoencoder's own data. It computes in its own precision, and gives what it got."""

    vae: Any
    std: float = 1.0

    @property
    def factor(self) -> int:
        return factor_of(self.vae.config.block_out_channels)

    def encode(self, rgb: Tensor) -> Tensor:
        code = self.vae.encode(rgb.to(self._dtype(rgb))).latent_dist.mean.to(rgb.dtype)
        return (code - self._shift) * self._scale

    def decode(self, code: Tensor) -> Tensor:
        latent = code / self._scale + self._shift
        rgb: Tensor = self.vae.decode(latent.to(self._dtype(code))).sample.to(code.dtype)
        return rgb

    def _dtype(self, given: Tensor) -> torch.dtype:
        return getattr(self.vae, "dtype", given.dtype)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor * self.std)


class Pixels:
    """The codec of a prior that sees colour itself."""

    factor = 1

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb

    def decode(self, code: Tensor) -> Tensor:
        return code


@dataclass(frozen=True)
class Latents:
    """Implements `guide.Latents` with a codec; background in [0, 1] is the grey behind an object: 0 black, 1 white."""

    codec: Codec
    background: float = 0.5

    @property
    def factor(self) -> int:
        return self.codec.factor

    def encoded(self, phi: Representation[Any]) -> Encoded[Any]:
        return Encoded(phi, self.codec, self.background)

    def shown(self, phi: Representation[Any]) -> OnGrey[Any]:
        return OnGrey(phi, self.background)

    def decode(self, code: Tensor) -> Tensor:
        return self.codec.decode(code)


@dataclass(frozen=True)
class Encoded(Generic[Seen]):
    """phi as a latent prior sees it; implements `contracts.Representation`.

    phi renders to picture space; background in [0, 1] is the grey behind the object: 0 black, 1 white.
    """

    phi: Representation[Seen]
    codec: Codec
    background: float = 0.5

    def render(self, views: Seen, shape: Shape) -> Tensor:
        """`views` to codes [B, C, *shape], differentiable in phi's parameters."""
        pixels = tuple(self.codec.factor * side for side in shape)
        return self.codec.encode(on_grey(self.phi.render(views, pixels), self.background))

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        return self.phi.parameters()


@dataclass(frozen=True)
class OnGrey(Generic[Seen]):
    """phi as colour [B, 3, *shape] in [-1, 1] over a grey of `background`; implements `Representation` too."""

    phi: Representation[Seen]
    background: float = 0.5

    def render(self, views: Seen, shape: Shape) -> Tensor:
        return on_grey(self.phi.render(views, shape), self.background)

    def replace(self, views: Seen, colour: Tensor) -> None:
        """Have phi, which is colour itself, show this instead."""
        phi: Any = self.phi
        phi.replace(views, colour)

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        return self.phi.parameters()


def on_grey(x: Tensor, background: float) -> Tensor:
    """Picture space [B, 4, H, W] -> colour [B, 3, H, W] in [-1, 1] over a grey of `background` in [0, 1]; colour
    [B, 3, H, W] as it is."""
    if x.shape[1] == 3:
        return x
    transparency = (1 - x[:, 3:]) / 2
    return x[:, :3] + transparency * (2 * background - 1)  # picture space is already over a background of 0.5
